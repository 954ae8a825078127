"""Who reads whom: the map of one head, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.attention._segments import HOW, NONE
from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

VARIANTS = ("raw", "value-weighted", "rollout")


@dataclass(frozen=True, kw_only=True)
class TokenMap(Experiment):
    """How much every token takes from every token before it, in one head of one layer, or in the mean over its heads.

    Raw weights say where a head looks. Value-weighted ones, ||a v W_O||, say how much it carries from there: many heads rest on the first token, whose
    value is short. Rollout multiplies the mean patterns of all layers up to this one, each half itself and half a copy. Of texts over 64 tokens the map is of
    parts of neighbours, with a window token by token. The entropy of every head, and its share on the first token, stand beside it.
    """

    title = "Attention map"
    paper = "Vaswani et al. 2017, arXiv 1706.03762; Kobayashi et al. 2020, arXiv 2004.10102; Abnar & Zuidema 2020, arXiv 2005.00928"
    direction = "higher: the token on the left takes more from the token below; a weight says where a head looks, not that the answer hangs on it"
    random = False
    prompt: str = setting("The capital of France is", "The text that is read", lines=3)
    answer: str = setting("Paris", "What follows it; may be empty")
    layer: int = setting(-1, "Which layer; 0 is the first, -1 the last", low=-200, high=199)
    head: int = setting(-1, "Which head; 0 is the first, -1 the mean over all", low=-1, high=255)
    variant: str = setting("raw", "Weights as they are, times what the values carry, or rolled out over all layers up to this one", choices=VARIANTS)
    mask_first: bool = setting(False, "Whether the first token, where heads rest, is left out; the shares of the others then sum to one")
    segments: str = setting(NONE, "How the text is cut, for colours beside the map; marked takes [[name: text]]", choices=(NONE, *HOW))
    marker: str = setting("Question:", "Words with which the question begins, for context, question")
    query: int = setting(-1, "Of a long text: the token around which the window lies; -1 is the last", low=-1, high=10**6)
    key: int = setting(-1, "Of a long text: the token that the window's columns lie around; -1 is the same", low=-1, high=10**6)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._mapped import mapped

        yield from mapped(self, model, data)
