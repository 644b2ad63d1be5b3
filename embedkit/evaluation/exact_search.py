"""Find the documents that are most similar to each query, exactly or by a FAISS index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.recipes.steps import Float32Array
from embedkit.similarity import find_similarity

EXACT = "flat"
_QUERIES, _DOCUMENTS = 128, 8192  # in a block: 8 MB of similarities


def nearest(
    queries: Float32Array, documents: Float32Array, similarity: str, k: int, index: str = EXACT
) -> NDArray[np.int64]:
    """Positions (n, min(k, m)) of the m documents, for each of n queries the most similar first.

    Exact search (`flat`) needs memory for a block only. It computes similarities in float64 and
    compares them in float32, so that equal texts tie; of tied documents the first comes first.
    Another kind of `VectorIndex` is approximate; where it finds fewer, -1 follows.
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
        best[first : first + _QUERIES] = [row.positions for row in kept]
    return best


def check_index(index: str, similarities: Sequence[str], dimensions: Iterable[int]) -> None:
    """Refuse an index that FAISS does not have for one of the similarities and dimensions."""
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
    positions = np.full((len(queries), min(k, len(documents))), -1, dtype=np.int64)
    for row, ids in zip(positions, built.search(queries, k).ids, strict=True):
        row[: len(ids)] = ids
    return positions


class _Best:
    """The k best so far of one query, best first."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._scores = np.empty(0, dtype=np.float32)
        self.positions = np.empty(0, dtype=np.int64)

    def add(self, scores: NDArray[np.float32], start: int) -> None:
        """Scores of the documents from position `start` on, which come after all before."""
        if len(self.positions) == self._k:
            new = np.flatnonzero(scores > self._scores[-1])
        else:
            new = np.arange(len(scores))
        scores = np.concatenate([self._scores, scores[new]])
        # Stable: of equal scores the earlier document stays in front.
        order = np.argsort(-scores, kind="stable")[: self._k]
        self._scores = scores[order]
        self.positions = np.concatenate([self.positions, new + start])[order]
