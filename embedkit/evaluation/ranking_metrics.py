"""Metrics of rankings against relevance judgements: one value in [0, 1] for each query.

Gains are the relevance in the order of a ranking; `ideal` holds those of all judged documents from
the highest down, at least the first `IDEAL_DEPTH` if `relevant` counts the relevant ones. Negative
relevance counts as 0; padding with 0 changes nothing. The definitions are those of trec_eval
(`ndcg_cut_10`, `recall_100`, `recip_rank` of the first ten, `map`) and so of BEIR (Thakur et al.
2021): a query without a relevant document has the value 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Gains = NDArray[np.int64]

IDEAL_DEPTH = 10  # the largest cut of a metric of `ideal` gains


def ndcg(gains: _Gains, ideal: _Gains, relevant: _Gains | None = None, *, cut: int) -> _Array:
    """Normalized discounted cumulative gain (Jarvelin and Kekalainen 2002) of the first `cut`.

    The gain is the relevance itself, not 2^relevance - 1, and rank i is discounted by log2(i + 1).

    Args:
        gains: (queries, depth).
        ideal: (queries, judged documents).
        relevant: (queries,) relevant documents; None for as many as `ideal` has.
        cut: ranks.

    Example:
        >>> ndcg(np.array([[0, 1]]), np.array([[1, 0]]), cut=10).round(4)
        array([0.6309])
    """
    return _divide(_dcg(gains[:, :cut]), _dcg(ideal[:, :cut]))


def recall(gains: _Gains, ideal: _Gains, relevant: _Gains | None = None, *, cut: int) -> _Array:
    """The share of the relevant documents that are among the first `cut`; see `ndcg`."""
    return _divide((gains[:, :cut] > 0).sum(1), _count(ideal, relevant))


def reciprocal_rank(gains: _Gains, *_: _Gains | None, cut: int) -> _Array:
    """1 over the rank of the first relevant document, 0 if it is beyond `cut`; see `ndcg`."""
    hits = gains[:, :cut] > 0
    return np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0)


def average_precision(gains: _Gains, ideal: _Gains, relevant: _Gains | None = None) -> _Array:
    """The mean over the relevant documents of the precision at the rank of each; see `ndcg`.

    A relevant document that is not in the ranking has the precision 0.
    """
    hits = gains > 0
    precision = hits.cumsum(1) / np.arange(1, gains.shape[1] + 1)
    return _divide((precision * hits).sum(1), _count(ideal, relevant))


RANKING_METRICS: dict[str, Callable[..., _Array]] = {
    "ndcg@10": partial(ndcg, cut=IDEAL_DEPTH),
    "recall@100": partial(recall, cut=100),
    "mrr@10": partial(reciprocal_rank, cut=10),
    "map": average_precision,
}


def _count(ideal: _Gains, relevant: _Gains | None) -> _Gains:
    return (ideal > 0).sum(1) if relevant is None else relevant


def _dcg(gains: _Gains) -> _Array:
    discounted: _Array = np.maximum(gains, 0) @ (1 / np.log2(np.arange(2, gains.shape[1] + 2)))
    return discounted


def _divide(x: NDArray[Any], y: NDArray[Any]) -> _Array:
    quotient: _Array = np.divide(x, y, out=np.zeros(len(x)), where=y > 0)
    return quotient
