"""Pictures and words as tokens of one readable text: `<|start|> <pic> <p31> <p31> ... </pic> dog face <|start|>`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from models.organisms.interleave.pictures import CELLS, COLOURS, Picture, pictures
from models.organisms.interleave.recipe import UNDERSTANDING

START, UNKNOWN, OPEN, CLOSE = "<|start|>", "<unk>", "<pic>", "</pic>"
SPECIAL = (START, UNKNOWN, OPEN, CLOSE, *(f"<p{c}>" for c in range(COLOURS)))
FIRST_CELL = SPECIAL.index("<p0>")
FIRST_WORD = len(SPECIAL)


@functools.cache
def vocabulary() -> dict[str, int]:
    """Token -> id: the special ones, the colours from `FIRST_CELL` on, then all words of captions in alphabetical order from `FIRST_WORD` on."""
    words = sorted({w for p in pictures() for w in p.caption.split()})
    return {token: i for i, token in enumerate((*SPECIAL, *words))}


def tokenizer() -> Tokenizer:
    """Reads and writes rows as text: tokens with blanks between them. It begins a text with the start token, as the rows of training do."""
    made = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 0)])
    return made


@dataclass(frozen=True)
class Rows:
    """Rows of one task. `answer[r, t]`: token t is one that the net has to write; `other[r, t]`: token t is one of the other modality, which it reads.

    A position before an answer token is a query: from there the net writes it.
    """

    task: str
    ids: Tensor  # int (rows, tokens), filled on the right with the start token
    answer: Tensor  # bool (rows, tokens)
    other: Tensor  # bool (rows, tokens)

    @property
    def queries(self) -> Tensor:
        """bool (rows, tokens): positions from which an answer token is written."""
        return torch.cat([self.answer[:, 1:], torch.zeros_like(self.answer[:, :1])], 1)

    def take(self, index: Tensor) -> Rows:
        """The rows `index`, cut to the longest of them."""
        ids, answer, other = (x[index] for x in (self.ids, self.answer, self.other))
        width = int(answer.any(0).nonzero().max()) + 1
        return Rows(self.task, ids[:, :width], answer[:, :width], other[:, :width])


def words(caption: str) -> list[int]:
    return [vocabulary()[w] for w in caption.split()]


def cells(picture: Picture) -> list[int]:
    return [FIRST_CELL + c for c in picture.cells]


def rows(task: str, chosen: Sequence[Picture]) -> Rows:
    """Understanding reads a picture and writes its caption and the start token, as an end; generation reads a caption and writes the cells."""
    asked = [[0, 2, *cells(p), 3] if task == UNDERSTANDING else [0, *words(p.caption), 2] for p in chosen]
    answers = [[*words(p.caption), 0] if task == UNDERSTANDING else cells(p) for p in chosen]
    longest = max(len(q) + len(a) for q, a in zip(asked, answers, strict=True))
    ids = torch.zeros(len(asked), longest, dtype=torch.long)
    answer, other = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    for i, (q, a) in enumerate(zip(asked, answers, strict=True)):
        ids[i, : len(q) + len(a)] = torch.tensor(q + a)
        answer[i, len(q) : len(q) + len(a)] = True
        read = (2, 2 + CELLS) if task == UNDERSTANDING else (1, len(q) - 1)
        other[i, read[0] : read[1]] = True
    return Rows(task, ids, answer, other)
