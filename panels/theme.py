"""Palette and type. System fonts alone: the page makes no request to anyone else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).parents[1] / "assets"
SCALE = "Cividis"  # told apart by colour-blind eyes, and in grey
INK = "#4a5568"  # of exported figures; on the page the text takes the page's own colour
NIGHT, PAPER = "#222a38", "#fbfaf7"  # ground and type of what a pointer brings up, over cells of any colour
GOLD = "#d9a514"  # what is known, chosen or pointed at
EDGE = "#bfbdb4"  # of windows that the first or last layer cuts off
FAINT = "rgba(128,128,128,0.25)"  # of rules behind a figure, on light ground and dark
# Below zero, zero, above: what is near zero has the colour of the ground, so the same scale serves by day and by night
DIVERGING = [(0.0, "rgba(38,101,214,1)"), (0.25, "rgba(70,130,225,0.62)"), (0.44, "rgba(70,130,225,0.26)"), (0.5, "rgba(128,128,128,0.13)"),
             (0.56, "rgba(232,142,40,0.26)"), (0.75, "rgba(232,142,40,0.62)"), (1.0, "rgba(222,110,6,1)")]
LINES = ("#3b7fd0", "#e0861a", "#2a9d76", "#b9609f", "#8a8f98", "#c9a400")  # told apart by colour-blind eyes, on light and dark
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
RULED: dict[str, Any] = {"gridcolor": FAINT, "zerolinecolor": FAINT, "fixedrange": True}  # an axis of numbers
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO = ("ui-monospace", "Consolas", "monospace")
CSS = [ASSETS / "css" / "lab.css"]
HEAD = f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<script>{(ASSETS / "js" / "lab.js").read_text()}</script>'
ICON = ASSETS / "css" / "mark.svg"
MARK = ICON.read_text()


def theme() -> gr.themes.Base:
    """Paper and ink by day, the same ink inverted by night; one accent."""
    ink = gr.themes.Color(name="ink", c50="#f6f5f1", c100="#ecebe5", c200="#dddbd2", c300="#bfbdb4", c400="#9aa0ab",
                          c500="#5d6675", c600="#4a5568", c700="#333d4f", c800="#222a38", c900="#171d28", c950="#0f141c")
    accent = gr.themes.Color(name="accent", c50="#eef4fb", c100="#d9e6f5", c200="#b3cdeb", c300="#84acdc", c400="#5688c7",
                             c500="#2f67ab", c600="#24528c", c700="#1d4170", c800="#173355", c900="#11263f", c950="#0b1929")
    return gr.themes.Base(primary_hue=accent, secondary_hue=accent, neutral_hue=ink, font=FONTS, font_mono=MONO,
                          radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_md).set(
        body_background_fill="#fbfaf7", body_background_fill_dark="#10151d",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_shadow="none", block_padding="0", form_gap_width="0px",
        input_background_fill="#ffffff", input_background_fill_dark="#1a2130", input_border_width="1px", input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700", input_border_color_focus="*primary_500", input_border_color_focus_dark="*primary_400",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400", block_info_text_size="12px",
        block_title_text_weight="600", block_title_text_size="*text_sm", block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        button_primary_background_fill="*primary_500", button_primary_background_fill_hover="*primary_600",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark="*primary_500", button_primary_background_fill_hover_dark="*primary_400",
        button_secondary_background_fill="transparent", button_secondary_background_fill_dark="transparent",
        button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="*neutral_600",
        button_secondary_background_fill_hover="*neutral_100", button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_text_color="*neutral_800", button_secondary_text_color_dark="*neutral_100", button_border_width="1px")


def words(page: str) -> dict[str, str]:
    """The texts of a page from assets/words: a comment that stands alone on its line names the text below it."""
    found = re.split(r"^<!-- (.+) -->$", (ASSETS / "words" / f"{page}.md").read_text(), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(found[1::2], found[2::2], strict=True)}
