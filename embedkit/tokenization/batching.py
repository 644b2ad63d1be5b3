"""Batches of texts of about the same length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_count
from embedkit.errors import InputError

TOKEN_BUDGET = 4096
STREAM_BUDGET = 2048  # where several batches are under way
GPU_TOKEN_BUDGET = 65_536  # on out-of-memory, `Batches.halve` makes batches smaller
_EQUAL_TOKENS = 256


class Batches:
    """Indices of texts, longest first, in batches of at most `budget` tokens or one text.

    Texts of one length share an encoder's calls. Longest first shows at once whether memory is
    enough.
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
        """Take back a batch that ran out of memory; from now on batches have half its tokens."""
        self._budget = int(self._lengths[texts].sum()) // 2
        self._left = np.concatenate([texts, self._left])


def stream_budget(lengths: NDArray[np.int64], streams: int, most: int) -> int:
    """Tokens of a batch, at most `most`, that give streams about equal work."""
    tokens = int(lengths.sum())
    batches = streams * -(-tokens // (streams * most))
    return min(most, tokens // batches + int(lengths.max()))


def check_batch_tokens(batch_tokens: object, *, reproducible: bool) -> None:
    """Refuse what is no number of tokens, and any where batches have fixed shapes."""
    check_count("batch_tokens", batch_tokens)
    if reproducible:
        raise InputError(
            "got batch_tokens and reproducible; expected one of them: reproducible batches have "
            "fixed shapes"
        )


def padded(
    rows: Sequence[NDArray[np.integer[Any]]] | Sequence[NDArray[np.bool_]], fill: int
) -> NDArray[np.int64]:
    """(rows, longest): each row, padded on the right."""
    block = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        block[index, : len(row)] = row
    return block


def equal_batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Indices of texts, longest first, in batches that have one shape for each length of text.

    A matrix product sums in an order that depends on its shape. So a text gets the same bits
    whatever is encoded with it, if all batches of texts of its length have one shape. The last
    text is repeated until its batch is full.
    """
    order = np.argsort(-lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        count = max(1, _EQUAL_TOKENS // int(lengths[same[0]]))
        for start in range(0, len(same), count):
            batch = same[start : start + count]
            yield np.pad(batch, (0, count - len(batch)), mode="edge")
