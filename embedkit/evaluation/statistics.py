"""Correlations, and what is said where there is none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

METRICS = ("spearman", "pearson")
AGGREGATIONS: dict[str, str] = {
    "all": "one correlation over the pairs of all subsets together",
    "mean": "the mean of the subsets' correlations",
    "wmean": "the mean of the subsets' correlations, weighted by their numbers of pairs",
}


class Value(NamedTuple):
    """A number in [-1, 1], or the reason why there is none."""

    value: float | None
    reason: str | None = None


def average_ranks(x: _Array) -> _Array:
    """Ranks from 1; equal values share the average of their ranks."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: _Array = (last - (counts - 1) / 2)[inverse]
    return ranks


def pearson(x: _Array, y: _Array) -> Value:
    """Pearson's correlation of two (n,) arrays."""
    if len(x) < 3:
        return Value(None, f"{len(x)} pairs are too few")
    for values, name in ((x, "similarities"), (y, "scores")):
        if not np.isfinite(values).all():
            return Value(None, f"the {name} are not all finite")
        if np.ptp(values) == 0:
            return Value(None, f"the {name} are all the same")
    x, y = x - x.mean(), y - y.mean()
    r = (x / np.linalg.norm(x)) @ (y / np.linalg.norm(y))
    return Value(float(np.clip(r, -1, 1)))


def spearman(x: _Array, y: _Array) -> Value:
    """Spearman's correlation: Pearson's of the average ranks."""
    plain = pearson(x, y)
    return plain if plain.value is None else pearson(average_ranks(x), average_ranks(y))


def correlation(metric: str, x: _Array, y: _Array) -> Value:
    """A metric of `METRICS` for two (n,) arrays."""
    return {"spearman": spearman, "pearson": pearson}[metric](x, y)


def aggregate(parts: dict[str, tuple[int, Value]], aggregation: str) -> Value:
    """`mean` or `wmean` of the subsets' (number of pairs, value).

    One undefined subset makes the whole undefined: leaving it out would be another average.
    """
    for name, (_, part) in parts.items():
        if part.value is None:
            return Value(None, f"subset {name}: {part.reason}")
    values = [part.value for _, part in parts.values() if part.value is not None]
    weights = [n for n, _ in parts.values()] if aggregation == "wmean" else None
    return Value(float(np.average(values, weights=weights)))
