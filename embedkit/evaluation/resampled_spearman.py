"""Spearman's correlation in many resamples at once, each given by how often it drew each pair.

Predictions are sorted once for all resamples: ranks among the drawn pairs are cumulative sums of
the counts in that order. All terms are halves of integers, which float64 adds without rounding.
Arrays are (pairs, resamples), so that numpy gathers and adds whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Rows = NDArray[np.int64]
_Counts = NDArray[np.int32]

_STRIDE = 16  # pairs whose counts are added one after the other, for all such groups at once


@dataclass(frozen=True, eq=False)
class Order:
    """How n values order the pairs; equal ones are a run."""

    pairs: _Rows  # from the lowest value: first pairs of all groups of _STRIDE, second pairs, ...
    ends: _Rows  # (runs,) the position of each run's last pair in it
    runs: _Rows  # (n,) the run of each pair
    tied_runs: _Rows  # those of several pairs
    tied_pairs: _Rows  # and the pairs

    @classmethod
    def of(cls, x: _Array) -> Order:
        """Of values (n,)."""
        order = np.argsort(x, kind="stable")
        last = np.flatnonzero(np.append(np.diff(x[order]) != 0, True))
        sizes = np.diff(last, prepend=-1)
        runs = np.empty_like(order)
        runs[order] = np.repeat(np.arange(len(last)), sizes)
        groups = -(-len(x) // _STRIDE)
        pairs = np.resize(order, groups * _STRIDE).reshape(groups, _STRIDE).T.ravel()
        ends = last % _STRIDE * groups + last // _STRIDE
        tied = sizes > 1
        return cls(pairs, ends, runs, np.flatnonzero(tied), np.flatnonzero(tied[runs]))

    def ranks(self, counts: _Counts) -> tuple[_Counts, _Counts]:
        """(runs, resamples): pairs drawn up to the end of each run; and the runs' ranks, doubled.

        A rank is the number of pairs up to a value less half of those with it.
        """
        up_to = np.take(counts, self.pairs, axis=0).reshape(_STRIDE, -1, counts.shape[1])
        for row in range(1, _STRIDE):
            up_to[row] += up_to[row - 1]
        up_to[:, 1:] += np.cumsum(up_to[-1, :-1], axis=0, dtype=np.int32)
        up_to = np.take(up_to.reshape(-1, counts.shape[1]), self.ends, axis=0)
        doubled = up_to.copy()
        doubled[1:] += up_to[:-1]
        return up_to, doubled


@dataclass(frozen=True, eq=False)
class Orders:
    """The orders of k predictions, such as those of `mean` and `mean_sqrt_len`, which are one."""

    distinct: Sequence[Order]
    rows: Sequence[int]  # (k,) which of them each prediction has

    @classmethod
    def of(cls, predictions: _Array) -> Orders:
        """Of predictions (k, n)."""
        orders = [*map(Order.of, predictions)]
        keys = [order.runs.tobytes() for order in orders]
        distinct = dict(zip(keys, orders, strict=True))
        return cls([*distinct.values()], [[*distinct].index(key) for key in keys])


def resampled_spearman(counts: _Array, scores: Order, predictions: Orders) -> _Array:
    """(k, resamples) from counts (n, resamples); NaN where ranks do not vary.

    Covariance of the ranks over their spreads. Centred ranks of the scores, times counts, sum to
    zero: those of predictions need no centring.
    """
    drawn = counts.astype(np.int32)
    total = float(drawn[:, 0].sum())
    up_to, doubled = scores.ranks(drawn)
    weights = np.take((doubled - total) / 2, scores.runs, axis=0) * drawn
    spread = _spread(total, _cubes(2 * up_to - doubled))
    untied = _cubes(drawn)
    values = np.empty((len(predictions.distinct), drawn.shape[1]))
    for row, order in enumerate(predictions.distinct):
        up_to, doubled = order.ranks(drawn)
        covariance = np.einsum("ij,ij->j", weights, np.take(doubled, order.runs, axis=0)) / 2
        together = 2 * up_to[order.tied_runs] - doubled[order.tied_runs]
        cubes = untied - _cubes(drawn[order.tied_pairs]) + _cubes(together)
        values[row] = divide(covariance, _spread(total, cubes) * spread)
    return values[predictions.rows]


def _cubes(counts: _Counts) -> _Array:
    """(resamples,): the sum of the cubes, which rounds as N^3 does where there is one."""
    t = counts.astype(np.float64)
    cubes: _Array = np.einsum("ij,ij,ij->j", t, t, t)
    return cubes


def _spread(total: float, cubes: _Array) -> _Array:
    """Sum of squared deviations of average ranks (Kendall 1945): (N^3 - sum of t^3) / 12."""
    spread: _Array = (total * total * total - cubes) / 12
    return spread


def divide(covariance: _Array, spread: _Array) -> _Array:
    """The correlation, from the product of two spreads; NaN where one is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        r: _Array = covariance / np.sqrt(np.where(spread > 0, spread, np.nan))
    return r
