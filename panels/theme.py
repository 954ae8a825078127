"""Palette and type. System fonts alone: the page makes no request to anyone else."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parents[1] / "assets"
SCALE = "Cividis"  # told apart by colour-blind eyes, and in grey
INK = "#7b8494"  # readable on paper and on night
GRID = "rgba(128,128,128,0.2)"
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO = ("ui-monospace", "Consolas", "monospace")
CSS = [ASSETS / "css" / "lab.css"]
HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">\n<script>' + (ASSETS / "js" / "lab.js").read_text() + "</script>"


def theme() -> gr.themes.Base:
    """Paper and ink by day, the same ink inverted by night; one accent."""
    ink = gr.themes.Color(name="ink", c50="#f6f5f1", c100="#ecebe5", c200="#dddbd2", c300="#bfbdb4", c400="#8d9099", c500="#667080", c600="#4a5568",
                          c700="#333d4f", c800="#222a38", c900="#171d28", c950="#0f141c")
    accent = gr.themes.Color(name="accent", c50="#eef4fb", c100="#d9e6f5", c200="#b3cdeb", c300="#84acdc", c400="#5688c7", c500="#2f67ab", c600="#24528c",
                             c700="#1d4170", c800="#173355", c900="#11263f", c950="#0b1929")
    return gr.themes.Base(primary_hue=accent, secondary_hue=accent, neutral_hue=ink, font=FONTS, font_mono=MONO,
                          radius_size=gr.themes.sizes.radius_md, spacing_size=gr.themes.sizes.spacing_md).set(
        body_background_fill="#fbfaf7", body_background_fill_dark="#10151d", block_background_fill="#ffffff", block_background_fill_dark="#171d28",
        block_border_width="1px", block_shadow="none", block_label_text_weight="600", button_primary_background_fill="*primary_500",
        button_primary_background_fill_hover="*primary_600", button_primary_text_color="#ffffff", button_primary_background_fill_dark="*primary_500",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")
