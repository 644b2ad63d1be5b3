"""Which documents are nearest to each query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.recipes.steps import Float32Array
from embedkit.similarity import find_similarity

_QUERIES, _DOCUMENTS = 128, 8192  # in a block: 8 MB of similarities


EXACT = "flat"


def nearest(
    queries: Float32Array, documents: Float32Array, similarity: str, k: int, index: str = EXACT
) -> NDArray[np.int64]:
    """The k most similar documents of each query, by default exactly.

    Exact search needs memory for a block only. Its similarities are computed in float64 and
    compared in float32, so that equal texts tie; of documents that tie the earlier one comes first.

    Args:
        queries: (n, dim) float32, finite.
        documents: (m, dim) float32, finite.
        similarity: a name from the table of similarities.
        k: at least 1.
        index: `flat` for exact search, or another kind of `VectorIndex`.

    Returns:
        (n, min(k, m)) places of documents, the most similar first; where an index finds fewer, the
        last are -1.
    """
    if index != EXACT:
        return _approximate(queries, documents, similarity, k, index)
    matrix = find_similarity(similarity).matrix
    best = np.empty((len(queries), min(k, len(documents))), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES):
        block = queries[first : first + _QUERIES].astype(np.float64)
        kept = [_Best(k) for _ in block]
        for start in range(0, len(documents), _DOCUMENTS):
            others = documents[start : start + _DOCUMENTS].astype(np.float64)
            for row, scores in zip(kept, matrix(block, others).astype(np.float32), strict=True):
                row.add(scores, start)
        best[first : first + _QUERIES] = [row.places for row in kept]
    return best


def check_index(index: str, similarities: Sequence[str], dimensions: Iterable[int]) -> None:
    """Refuse a kind of index that there is not, before the vectors are made.

    Raises:
        InputError: FAISS has no such kind for one of the similarities and dimensions.
    """
    if index != EXACT:
        from embedkit.retrieval.faiss_index import new_index

        for dimension in dict.fromkeys(dimensions):
            for similarity in similarities:
                new_index(index, dimension, similarity)


def _approximate(
    queries: Float32Array, documents: Float32Array, similarity: str, k: int, index: str
) -> NDArray[np.int64]:
    from embedkit.retrieval.index import VectorIndex

    built = VectorIndex.build(documents, kind=index, similarity=similarity, show_progress=False)
    places = np.full((len(queries), min(k, len(documents))), -1, dtype=np.int64)
    for row, found in zip(places, built.search(queries, k).ids, strict=True):
        row[: len(found)] = found
    return places


class _Best:
    """The k best so far of one query, best first."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._scores = np.empty(0, dtype=np.float32)
        self.places = np.empty(0, dtype=np.int64)

    def add(self, scores: NDArray[np.float32], start: int) -> None:
        """Scores of the documents from place `start` on, which are later than all before."""
        if len(self.places) == self._k:
            new = np.flatnonzero(scores > self._scores[-1])
        else:
            new = np.arange(len(scores))
        scores = np.concatenate([self._scores, scores[new]])
        # Stable: of equal scores the earlier place stays in front.
        order = np.argsort(-scores, kind="stable")[: self._k]
        self._scores = scores[order]
        self.places = np.concatenate([self.places, new + start])[order]
