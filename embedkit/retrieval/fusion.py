"""The modes of search, and rankings of several searches fused into one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError

DENSE, BM25, HYBRID = MODES = ("dense", "bm25", "hybrid")
RRF = 60  # Cormack, Clarke and Büttcher 2009
DEPTH = 100  # rows of each ranking that are fused, or k if that is more


def check_mode(mode: object) -> str:
    """The name of a mode; InputError where there is none."""
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    return str(mode)


def check_weights(weights: Sequence[float] | None) -> NDArray[np.float64] | None:
    """The weights of dense search and of BM25; InputError where they are not two."""
    if weights is None:
        return None
    try:
        given = np.array(weights, np.float64)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != (2,) or not np.isfinite(given).all() or given.min() < 0 or not given.any():
        raise InputError(
            f"weights is {weights!r}; expected two numbers from 0, of dense search and of BM25"
        )
    return given


def fuse(
    rankings: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    k: int,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best k rows by all rankings together.

    Args:
        rankings: of each search the scores (n, depth) and rows (n, depth), best first; -1 is none.
        k: rows of a query at most.
        weights: None for the sum of 1 / (60 + rank) (Cormack, Clarke and Büttcher 2009); else the
            weights of the scores, which are scaled from 0 to 1 among the rows of a ranking.

    Returns:
        Fused scores (n, k), -inf where there is none, and rows (n, k). Of equal rows the one comes
        first that the first ranking has, and the higher there.

    Example:
        >>> dense, words = np.array([[4, 7]]), np.array([[7, 9]])
        >>> none = np.zeros((1, 2), np.float32)
        >>> fuse([(none, dense), (none, words)], 3)[1].tolist()
        [[7, 4, 9]]
    """
    points = []
    for position, (scores, rows) in enumerate(rankings):
        if weights is None:
            points.append(np.broadcast_to(1 / (RRF + 1.0 + np.arange(rows.shape[1])), rows.shape))
            continue
        known = np.where(rows < 0, np.nan, scores).astype(np.float64)
        low, high = (x[:, None] for x in (np.fmin.reduce(known, 1), np.fmax.reduce(known, 1)))
        scaled = np.where(high > low, (known - low) / np.where(high > low, high - low, 1), 1.0)
        points.append(weights[position] * scaled)
    n = len(rankings[0][1])
    best_scores = np.full((n, k), -np.inf, np.float32)
    best_rows = np.full((n, k), -1, np.int64)
    gathered = (np.concatenate(x, axis=1) for x in (points, [rows for _, rows in rankings]))
    for query, (of_query, rows) in enumerate(zip(*gathered, strict=True)):
        there = np.flatnonzero(rows >= 0)
        distinct, first, inverse = np.unique(rows[there], return_index=True, return_inverse=True)
        sums = np.bincount(inverse, of_query[there], len(distinct))
        order = np.lexsort((first, -sums))[:k]
        best_scores[query, : len(order)], best_rows[query, : len(order)] = (
            sums[order],
            distinct[order],
        )
    return best_scores, best_rows
