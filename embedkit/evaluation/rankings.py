"""What is measured of rankings against judgements: a value a query, each in [0, 1].

Gains are relevance in the order of a ranking; `ideal` are those of all judged documents from the
highest down. Relevance below 0 counts as 0; padding with 0 changes nothing. Definitions are
trec_eval's, with its `ndcg_cut_10`, `recall_100`, `recip_rank` of the first ten and `map`, and so
those of BEIR (Thakur et al. 2021): a query without a relevant document has the value 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Gains = NDArray[np.int64]


def ndcg(gains: _Gains, ideal: _Gains, cut: int) -> _Array:
    """Normalized discounted cumulative gain (Jarvelin and Kekalainen 2002) of the first `cut`.

    The gain is the relevance itself, not 2^relevance - 1, and rank i is discounted by log2(i + 1).

    Args:
        gains: (queries, depth).
        ideal: (queries, judged documents).
        cut: ranks.

    Returns:
        (queries,).
    """
    return _divide(_dcg(gains[:, :cut]), _dcg(ideal[:, :cut]))


def recall(gains: _Gains, ideal: _Gains, cut: int) -> _Array:
    """The share of the relevant documents that are among the first `cut`; see `ndcg`."""
    return _divide((gains[:, :cut] > 0).sum(1), (ideal > 0).sum(1))


def reciprocal_rank(gains: _Gains, ideal: _Gains, cut: int) -> _Array:
    """1 over the rank of the first relevant document, 0 if it is beyond `cut`; see `ndcg`."""
    relevant = gains[:, :cut] > 0
    return np.where(relevant.any(1), 1 / (relevant.argmax(1) + 1), 0)


def average_precision(gains: _Gains, ideal: _Gains) -> _Array:
    """The mean over the relevant documents of the precision at the rank of each; see `ndcg`.

    A relevant document that is not in the ranking has the precision 0.
    """
    relevant = gains > 0
    precision = relevant.cumsum(1) / np.arange(1, gains.shape[1] + 1)
    return _divide((precision * relevant).sum(1), (ideal > 0).sum(1))


RANKING_METRICS: dict[str, Callable[[_Gains, _Gains], _Array]] = {
    "ndcg@10": partial(ndcg, cut=10),
    "recall@100": partial(recall, cut=100),
    "mrr@10": partial(reciprocal_rank, cut=10),
    "map": average_precision,
}


def _dcg(gains: _Gains) -> _Array:
    discounted: _Array = np.maximum(gains, 0) @ (1 / np.log2(np.arange(2, gains.shape[1] + 2)))
    return discounted


def _divide(x: NDArray[Any], y: NDArray[Any]) -> _Array:
    quotient: _Array = np.divide(x, y, out=np.zeros(len(x)), where=y > 0)
    return quotient
