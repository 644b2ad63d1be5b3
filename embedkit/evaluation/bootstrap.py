"""The paired percentile bootstrap over sentence pairs or queries.

See Efron and Tibshirani 1993, chapter 13. A resample is a count for each pair.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedkit.data.pairs import Pairs
from embedkit.evaluation.correlation import pearson
from embedkit.evaluation.resampled_spearman import Order, Orders, divide, resampled_spearman
from embedkit.similarity import scaled

_Array = NDArray[np.float64]
_Rows = NDArray[np.int64]
_T = TypeVar("_T")

RESAMPLES = 10_000  # or more, see `resamples_for`
SEED = 0
Seed: TypeAlias = int | tuple[int, int]
NO_INTERVAL = "some resamples have no value"
# Samples for an interval: with five, even a sign test has p >= 2 / 2^5, above the 5 % level.
FEWEST = 6
# Where there is no difference, the bootstrap of the mean of 6 values still finds a significant one
# in 14 % of all simulations, of 10 values in 9 %, of 20 and 30 in 7 %; that of Spearman's
# correlation of as few pairs in 5 % or less.
FEW_QUERIES = 30
TOO_FEW = f"fewer than {FEWEST} samples are too few"
_BLOCK = 200_000  # counts in a block, which fit the cache; but at least 16 resamples
_ARRAYS = 8  # as large as a block's counts, that a thread holds at a time
_MEMORY = 1 << 30  # bytes that all threads hold together, where one of them needs no more
_CANCELLED = 1e-8  # of a mean square: what a variance below has lost half of its digits


@dataclass(frozen=True, eq=False)
class Resamples:
    """A block of resamples of n sentence pairs."""

    scores: _Array  # (n,) labels
    counts: _Array  # (n, resamples) how often each pair was drawn

    def within(self, rows: _Rows) -> Resamples:
        """The part of each resample that lies in a subset."""
        return Resamples(self.scores[rows], self.counts[rows])

    def values(self, metric: str, predictions: _Array, threshold: float | None = None) -> _Array:
        """(k, resamples) of a metric of predictions (k, n); NaN where it is undefined."""
        if metric == "spearman":
            return self.spearman(Orders.of(predictions))
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

    def spearman(self, predictions: Orders) -> _Array:
        """`values` of Spearman's correlation, for predictions that are sorted once for all."""
        return resampled_spearman(self.counts, Order.of(self.scores), predictions)

    @cached_property
    def _total(self) -> float:
        """Pairs in a resample."""
        return float(self.counts[:, 0].sum())

    def _mean(self, x: NDArray[Any]) -> _Array:
        return np.asarray(x.astype(np.float64) @ self.counts / self._total)

    def _pearson(self, predictions: _Array) -> _Array:
        # Centred first: moments of large numbers cancel badly.
        x, y = scaled(predictions), scaled(self.scores)
        x, y = x - x.mean(1, keepdims=True), y - y.mean()
        mean_x, mean_y = self._mean(x), self._mean(y)
        square_x, square_y = self._mean(x * x), self._mean(y * y)
        covariance = self._mean(x * y) - mean_x * mean_y
        spread_x, spread_y = square_x - mean_x**2, square_y - mean_y**2
        r = divide(covariance, spread_x * spread_y)
        # Such as resamples without an outlier, or of one value.
        cancelled = (spread_x <= _CANCELLED * square_x) | (spread_y <= _CANCELLED * square_y)
        is_constant = (predictions == predictions[:, :1]).all(1)
        constant = is_constant | (self.scores == self.scores[0]).all()
        r[constant] = np.nan
        for row, column in np.argwhere(cancelled & ~constant[:, None]):
            repeated = np.repeat(np.arange(len(y)), self.counts[:, column].astype(np.int64))
            value = pearson(predictions[row, repeated], self.scores[repeated]).value
            r[row, column] = np.nan if value is None else value
        return r


def resamples_for(recipes: int) -> int:
    """At least 200 for each comparison with a baseline, so that Holm's correction keeps power.

    Example:
        >>> resamples_for(7), resamples_for(81)
        (10000, 16000)
    """
    return max(RESAMPLES, 200 * (recipes - 1))


def seed_of(seed: int, dataset: int) -> Seed:
    """The seed of a data set by its position, so that several are resampled independently."""
    return seed if dataset == 0 else (seed, dataset)


def bootstrap(
    pairs: Pairs,
    statistic: Callable[[Resamples], _Array],
    resamples: int = RESAMPLES,
    seed: Seed = SEED,
) -> _Array:
    """A statistic (..., resamples) of resamples that are drawn within each subset of the pairs.

    Subsets of fewer than `FEWEST` pairs are resampled as one: a pair alone would never vary.
    The same pairs, number of resamples and seed give the same resamples. The statistic is called on
    blocks of them, in several threads.
    """
    subsets = list(subset_rows(pairs).values()) or [np.arange(len(pairs.scores))]
    strata = [rows for rows in subsets if len(rows) >= FEWEST]
    if small := [rows for rows in subsets if len(rows) < FEWEST]:
        strata.append(np.concatenate(small))
    return _in_blocks(lambda x: statistic(Resamples(pairs.scores, x)), strata, resamples, seed)


def bootstrap_means(values: _Array, resamples: int = RESAMPLES, seed: Seed = SEED) -> _Array:
    """(k, resamples) means of resamples of n queries, whose k values (k, n) are drawn together."""
    n = values.shape[1]
    return _in_blocks(lambda counts: values @ counts / n, [np.arange(n)], resamples, seed)


def bootstrap_spearman(
    predictions: _Array, scores: _Array, resamples: int, seed: Seed = SEED
) -> _Array:
    """(k, resamples) Spearman's correlations of predictions (k, n) with the scores (n,)."""
    right, orders = Order.of(scores), Orders.of(predictions)
    return _in_blocks(
        lambda counts: resampled_spearman(counts, right, orders),
        [np.arange(len(scores))],
        resamples,
        seed,
    )


def _in_blocks(
    statistic: Callable[[_Array], _Array], strata: Sequence[_Rows], resamples: int, seed: Seed
) -> _Array:
    """(..., resamples) of a statistic of counts (n, resamples of a block); NaN for a small n."""
    n = sum(map(len, strata))
    width = max(16, _BLOCK // n)
    sizes = [min(width, resamples - start) for start in range(0, resamples, width)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))

    def block(size: int, own_seed: np.random.SeedSequence) -> _Array:
        return statistic(_draw(strata, size, np.random.default_rng(own_seed)))

    blocks = in_threads(block, sizes, seeds, memory=_ARRAYS * 8 * n * width)
    values = np.concatenate(blocks, axis=-1)
    return values if n >= FEWEST else np.full_like(values, np.nan)


def in_threads(function: Callable[..., _T], *arguments: Iterable[Any], memory: int) -> list[_T]:
    """The results for each of the arguments; `memory` is what a call takes, in bytes."""
    threads = min(os.cpu_count() or 1, max(1, _MEMORY // memory))
    # BLAS's own threads would take the cores from these, waiting for its next product.
    with _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, *arguments))


@cache
def _blas() -> ThreadpoolController:
    """numpy's; to find it among all libraries takes longer than a small bootstrap."""
    return ThreadpoolController().select(user_api="blas")


def _draw(strata: Sequence[_Rows], resamples: int, generator: np.random.Generator) -> _Array:
    """(n, resamples) how often each of n things is drawn, as many of each stratum as it has."""
    counts = np.zeros((sum(map(len, strata)), resamples))
    at_once = max(1, _BLOCK // resamples)
    for rows in strata:
        for start in range(0, len(rows), at_once):
            size = min(at_once, len(rows) - start), resamples
            drawn = rows[generator.integers(len(rows), size=size)]
            cells = drawn * resamples + np.arange(resamples)
            np.add.at(counts.reshape(-1), cells.ravel(), 1.0)
    return counts


def subset_rows(pairs: Pairs) -> dict[str, _Rows]:
    """The rows of each subset's pairs; empty if there are no subsets."""
    names = np.array(pairs.subsets or ())
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(pairs.subsets or ())}


def why_no_interval(n: int) -> str:
    """Why the resampled values of n samples have no interval."""
    return TOO_FEW if n < FEWEST else NO_INTERVAL


def interval(values: _Array) -> tuple[float, float] | None:
    """The middle 95 % of resampled values; None where some are undefined."""
    if not np.isfinite(values).all():
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
