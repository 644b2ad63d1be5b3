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
) -> tuple[Float32Array, NDArray[np.int64]]:
    """Similarities and positions (n, min(k, m)) of the m documents, the most similar first.

    Exact search (`flat`) needs memory for a block only. It computes similarities in float64 and
    compares them in float32, so that equal texts tie; of tied documents the first comes first.
    Another kind of `VectorIndex` is approximate; where it finds fewer, -1 follows.
    """
    if index != EXACT:
        return _approximate(queries, documents, similarity, k, index)
    matrix = find_similarity(similarity).matrix
    best = np.empty((len(queries), min(k, len(documents))), dtype=np.int64)
    scores = np.empty(best.shape, np.float32)
    for first in range(0, len(queries), _QUERIES):
        block = queries[first : first + _QUERIES].astype(np.float64)
        kept = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(block)
        for start in range(0, len(documents), _DOCUMENTS):
            others = documents[start : start + _DOCUMENTS].astype(np.float64)
            rows = matrix(block, others).astype(np.float32)
            kept = [_best(k, *so_far, row, start) for so_far, row in zip(kept, rows, strict=True)]
        scores[first : first + _QUERIES] = [of_query for of_query, _ in kept]
        best[first : first + _QUERIES] = [positions for _, positions in kept]
    return scores, best


def check_index(index: str, similarities: Sequence[str], dimensions: Iterable[int]) -> None:
    """Refuse an index that FAISS does not have for one of the similarities and dimensions."""
    if index != EXACT:
        from embedkit.retrieval.faiss_index import new_index

        for dimension in dict.fromkeys(dimensions):
            for similarity in similarities:
                new_index(index, dimension, similarity)


def _approximate(
    queries: Float32Array, documents: Float32Array, similarity: str, k: int, index: str
) -> tuple[Float32Array, NDArray[np.int64]]:
    from embedkit.retrieval.index import VectorIndex

    built = VectorIndex.build(documents, kind=index, similarity=similarity, show_progress=False)
    positions = np.full((len(queries), min(k, len(documents))), -1, dtype=np.int64)
    hits = built.search(queries, k)
    for row, ids in zip(positions, hits.ids, strict=True):
        row[: len(ids)] = ids
    return hits.scores, positions


def _best(
    k: int, best: Float32Array, positions: NDArray[np.int64], scores: Float32Array, start: int
) -> tuple[Float32Array, NDArray[np.int64]]:
    """The k best scores of a query, best first: those so far, and of documents from `start` on."""
    new = np.flatnonzero(scores > best[-1]) if len(best) == k else np.arange(len(scores))
    scores = np.concatenate([best, scores[new]])
    # Stable: of equal scores the earlier document stays in front.
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], np.concatenate([positions, new + start])[order]
