"""Metrics of rankings against relevance judgements: one value in [0, 1] for each query.

Each takes `gains` (queries, depth), the relevance in the order of a ranking; `ideal`, that of the
judged documents from the highest down, at least the first `IDEAL_DEPTH`; and `relevant` (queries,),
how many are relevant. Negative relevance counts as 0; padding with 0 changes nothing.

The definitions are those of trec_eval (`ndcg_cut_10`, `recall_100`, `recip_rank` of the first ten,
`map`) and so of BEIR (Thakur et al. 2021): a query without a relevant document has the value 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Gains = NDArray[np.int64]

IDEAL_DEPTH = 10  # the largest cut of a metric of `ideal` gains


def ndcg_10(gains: _Gains, ideal: _Gains, relevant: _Gains) -> _Array:
    """Normalized discounted cumulative gain (Jarvelin and Kekalainen 2002) of the first ten.

    The gain is the relevance itself, not 2^relevance - 1, and rank i is discounted by log2(i + 1).

    Example:
        >>> ndcg_10(np.array([[0, 1]]), np.array([[1, 0]]), np.array([1])).round(4)
        array([0.6309])
    """
    return _divide(_dcg(gains), _dcg(ideal))


def recall_100(gains: _Gains, ideal: _Gains, relevant: _Gains) -> _Array:
    """The share of the relevant documents that are among the first hundred."""
    return _divide((gains[:, :100] > 0).sum(1), relevant)


def reciprocal_rank_10(gains: _Gains, ideal: _Gains, relevant: _Gains) -> _Array:
    """1 over the rank of the first relevant document, 0 if it is not among the first ten."""
    hits = gains[:, :10] > 0
    return np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0)


def average_precision(gains: _Gains, ideal: _Gains, relevant: _Gains) -> _Array:
    """The mean over the relevant documents of the precision at the rank of each, or 0 for none."""
    hits = gains > 0
    precision = hits.cumsum(1) / np.arange(1, gains.shape[1] + 1)
    return _divide((precision * hits).sum(1), relevant)


RANKING_METRICS: dict[str, Callable[[_Gains, _Gains, _Gains], _Array]] = {
    "ndcg@10": ndcg_10,
    "recall@100": recall_100,
    "mrr@10": reciprocal_rank_10,
    "map": average_precision,
}


def _dcg(gains: _Gains) -> _Array:
    first = gains[:, :IDEAL_DEPTH]
    discounted: _Array = np.maximum(first, 0) @ (1 / np.log2(np.arange(2, first.shape[1] + 2)))
    return discounted


def _divide(x: NDArray[Any], y: NDArray[Any]) -> _Array:
    quotient: _Array = np.divide(x, y, out=np.zeros(len(x)), where=y > 0)
    return quotient
