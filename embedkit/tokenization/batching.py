"""Which texts run together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOKEN_BUDGET = 4096


# A GPU is only busy with more; one that is too small for it makes `Batches` smaller.
GPU_TOKEN_BUDGET = 65_536


_EQUAL_TOKENS = 256


class Batches:
    """Numbers of texts, longest first, in batches of at most `budget` tokens or one text.

    Neighbours are of one length or nearly, and texts of one length share an encoder's calls.
    Longest first shows at once whether memory is enough.

    Args:
        lengths: (n,) tokens of each text.
        budget: tokens of a batch.
    """

    def __init__(self, lengths: NDArray[np.int64], budget: int = TOKEN_BUDGET) -> None:
        self._lengths = lengths
        self._budget = budget
        self._left = np.argsort(-lengths, kind="stable")

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        while len(self._left):
            count = max(1, self._budget // int(self._lengths[self._left[0]]))
            texts, self._left = self._left[:count], self._left[count:]
            yield texts

    def halve(self, texts: NDArray[np.int64]) -> None:
        """Take back a batch that memory did not hold; this one and those to come are smaller."""
        self._budget = int(self._lengths[texts].sum()) // 2
        self._left = np.concatenate([texts, self._left])


def padded(
    rows: Sequence[NDArray[np.integer[Any]]] | Sequence[NDArray[np.bool_]], fill: int
) -> NDArray[np.int64]:
    """(rows, longest): each row, filled up on the right."""
    block = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for place, row in zip(block, rows, strict=True):
        place[: len(row)] = row
    return block


def equal_batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Numbers of texts, longest first, in batches whose shape says the length of their texts.

    A matrix product sums in an order that depends on its shape, so a text has the same bits
    whatever is encoded with it where its batches always have one shape: texts of its length, and as
    many of them as there always are. The last text fills up its batch by being there repeatedly.
    """
    order = np.argsort(-lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        count = max(1, _EQUAL_TOKENS // int(lengths[same[0]]))
        for start in range(0, len(same), count):
            batch = same[start : start + count]
            yield np.pad(batch, (0, count - len(batch)), mode="edge")
