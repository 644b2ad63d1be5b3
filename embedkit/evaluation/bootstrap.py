"""The paired bootstrap over sentence pairs (Efron and Tibshirani 1993, chapter 13: percentiles).

Queries are resampled likewise. A resample is a count for each of them, so ranks come from
cumulative sums and nothing is sorted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.data import Pairs

_Array = NDArray[np.float64]

RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of sentence pairs, drawn within each subset.

    Attributes:
        scores: (n,) labels.
        counts: (n, resamples) how often each pair was drawn.
    """

    scores: _Array
    counts: _Array

    @classmethod
    def of(cls, pairs: Pairs, resamples: int = RESAMPLES, seed: int = SEED) -> Resamples:
        """The same pairs, number and seed give the same resamples."""
        names = pairs.subsets or [""] * len(pairs.scores)
        return cls(pairs.scores, draw(names, resamples, seed))

    def within(self, chosen: NDArray[np.bool_]) -> Resamples:
        """The part of each resample that lies in a subset."""
        return Resamples(self.scores[chosen], self.counts[chosen])

    def values(self, metric: str, predictions: _Array, threshold: float | None = None) -> _Array:
        """(resamples,) of a metric; NaN where it is undefined."""
        if metric == "spearman":
            return self._spearman(predictions)
        if metric == "pearson":
            return self._pearson(predictions)
        if metric == "mse":
            return self._mean((predictions - self.scores) ** 2)
        if threshold is None:
            raise ValueError("f1 needs a threshold")
        guess, truth = predictions >= threshold, self.scores >= threshold
        with np.errstate(invalid="ignore"):
            f1: _Array = 2 * self._mean(guess & truth) / (self._mean(guess) + self._mean(truth))
        return f1

    @cached_property
    def _total(self) -> float:
        """Pairs in a resample."""
        return float(self.counts[:, 0].sum())

    def _mean(self, x: NDArray[Any]) -> _Array:
        mean: _Array = x.astype(np.float64) @ self.counts / self._total
        return mean

    def _pearson(self, x: _Array) -> _Array:
        # Centred first: moments of large numbers cancel badly.
        x, y = x - x.mean(), self.scores - self.scores.mean()
        mean_x, mean_y = self._mean(x), self._mean(y)
        covariance = self._mean(x * y) - mean_x * mean_y
        spread_x, spread_y = self._mean(x * x) - mean_x**2, self._mean(y * y) - mean_y**2
        # A resample that drew one value only has no spread but for rounding.
        one_value = (spread_x <= 1e-12 * x.var()) | (spread_y <= 1e-12 * y.var())
        return _divide(covariance, np.where(one_value, np.nan, spread_x * spread_y))

    def _spearman(self, x: _Array) -> _Array:
        order, ends = _ties(x)
        starts = np.concatenate([[0], ends[:-1] + 1])
        values = []
        for columns, (scores, spread) in zip(self._chunks, self._score_ranks, strict=True):
            ranks, drawn = _ranks(self.counts[order, columns], ends)
            of_ties = np.add.reduceat(scores[order], starts, axis=0)
            mean = (self._total + 1) / 2
            own_spread = ((ranks - mean) ** 2 * drawn).sum(0)
            values.append(_divide((ranks * of_ties).sum(0), own_spread * spread))
        return np.concatenate(values)

    @property
    def _chunks(self) -> list[slice]:
        """Columns that fit the cache."""
        width = max(16, 200_000 // len(self.scores))
        return [slice(k, k + width) for k in range(0, self.counts.shape[1], width)]

    @cached_property
    def _score_ranks(self) -> list[tuple[_Array, _Array]]:
        """For each chunk the centred ranks of the scores times their counts, and their spread."""
        order, ends = _ties(self.scores)
        group = np.empty(len(order), dtype=np.int64)
        group[order] = np.searchsorted(ends, np.arange(len(order)))
        chunks = []
        for columns in self._chunks:
            ranks, drawn = _ranks(self.counts[order, columns], ends)
            centred = ranks - (self._total + 1) / 2
            spread = (centred**2 * drawn).sum(0)
            chunks.append((centred[group] * self.counts[:, columns], spread))
        return chunks


def draw(groups: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> _Array:
    """(n, resamples) how often each of n things was drawn, within the group that each is in."""
    generator = np.random.default_rng(seed)
    names = np.array(groups)
    counts = np.zeros((len(names), resamples))
    for name in dict.fromkeys(names.tolist()):
        places = np.flatnonzero(names == name)
        shares = np.full(len(places), 1 / len(places))
        counts[places] = generator.multinomial(len(places), shares, size=resamples).T
    return counts


def interval(values: _Array) -> tuple[float, float] | None:
    """The middle 95 % of resampled values; None where some are undefined."""
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _ties(x: _Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of x, and the last place in it of each different value."""
    order = np.argsort(x, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(x[order]) != 0, True))


def _ranks(counts: _Array, ends: NDArray[np.int64]) -> tuple[_Array, _Array]:
    """Average rank of each different value in each resample, and how often it was drawn.

    Args:
        counts: (n, resamples), in the order of the values.
        ends: (values,) see `_ties`.
    """
    upto = np.cumsum(counts, axis=0)[ends]
    before = np.vstack([np.zeros((1, counts.shape[1])), upto[:-1]])
    return (before + upto + 1) / 2, upto - before


def _divide(covariance: _Array, spread: _Array) -> _Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        r: _Array = covariance / np.sqrt(np.where(spread > 0, spread, np.nan))
    return r
