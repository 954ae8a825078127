"""Nearest vectors by number: an index of faiss where it is installed, else a table of numpy; both exact."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from jaxtyping import Float


class Index:
    """Vectors of length one under numbers. `search` gives the nearest by cosine, the nearest first; of equal ones the lower number."""

    def __init__(self, size: int, faiss: bool | None = None) -> None:
        self._size = size
        self._held: dict[int, Float[np.ndarray, " size"]] = {}
        self._faiss = None
        if faiss if faiss is not None else importlib.util.find_spec("faiss") is not None:
            import faiss as library

            self._faiss = library.IndexIDMap2(library.IndexFlatIP(size))

    def __len__(self) -> int:
        return len(self._held)

    def add(self, number: int, vector: Float[np.ndarray, " size"]) -> None:
        self._held[number] = vector
        if self._faiss is not None:
            self._faiss.add_with_ids(vector[None].astype(np.float32), np.array([number], np.int64))

    def remove(self, number: int) -> None:
        del self._held[number]
        if self._faiss is not None:
            ids: Any = np.array([number], np.int64)
            self._faiss.remove_ids(ids)

    def search(self, vector: Float[np.ndarray, " size"], count: int) -> list[tuple[int, float]]:
        """(number, cosine) of the `count` nearest."""
        count = min(count, len(self._held))
        if count == 0:
            return []
        if self._faiss is not None:
            cosines, numbers = self._faiss.search(vector[None].astype(np.float32), count)
            found = list(zip(numbers[0].tolist(), cosines[0].tolist(), strict=True))
        else:
            found = [(n, float(v.astype(np.float32) @ vector.astype(np.float32))) for n, v in self._held.items()]
        return sorted(found, key=lambda pair: (-round(pair[1], 6), pair[0]))[:count]
