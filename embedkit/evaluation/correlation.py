"""Metrics of predictions against labels, each with a reason where it is undefined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.similarity import scaled

_Array = NDArray[np.float64]

CORRELATIONS = ("spearman", "pearson")
AGGREGATIONS: dict[str, str] = {
    "all": "one value over the pairs of all subsets together",
    "mean": "the mean of the subsets' values",
    "wmean": "the mean of the subsets' values, weighted by their numbers of pairs",
}


class Value(NamedTuple):
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


def average_ranks(x: _Array) -> _Array:
    """Ranks from 1; equal values share the average of their ranks."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks: _Array = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def tie_rate(x: _Array) -> float:
    """Share of the values that are there more than once."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return float((counts[inverse] > 1).mean())


def pearson(x: _Array, y: _Array) -> Value:
    """Pearson's correlation of two (n,) arrays."""
    if len(x) < 3:
        return Value(None, f"{len(x)} pairs are too few")
    for values, name in ((x, "similarities"), (y, "scores")):
        if (values == values[0]).all():
            return Value(None, f"the {name} are all the same")
    x, y = scaled(x), scaled(y)
    x, y = x - x.mean(), y - y.mean()
    r = (x / np.linalg.norm(x)) @ (y / np.linalg.norm(y))
    return Value(float(np.clip(r, -1, 1)))


def measure(metric: str, x: _Array, y: _Array, threshold: float | None = None) -> Value:
    """A metric of predictions x (n,) against labels y (n,): spearman, pearson, mse or f1.

    F1 is that of "at least `threshold`".

    Example:
        >>> measure("mse", np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        Value(value=2.5, reason=None)
        >>> measure("pearson", np.array([0.1, 0.4]), np.array([0.0, 5.0]))
        Value(value=None, reason='2 pairs are too few')
    """
    if not np.isfinite(x).all():
        return Value(None, "the similarities are not all finite")
    if metric == "spearman":
        plain = pearson(x, y)
        return plain if plain.value is None else pearson(average_ranks(x), average_ranks(y))
    if metric == "pearson":
        return pearson(x, y)
    if metric == "mse":
        with np.errstate(over="ignore"):
            mse = float(np.mean((x - y) ** 2))
        return Value(mse) if np.isfinite(mse) else Value(None, "the squared errors are not finite")
    if threshold is None:
        raise ValueError("f1 needs a threshold")
    guess, truth = x >= threshold, y >= threshold
    total = int(guess.sum() + truth.sum())
    if total == 0:
        return Value(None, f"no score and no prediction is at least {threshold:g}")
    return Value(2 * int((guess & truth).sum()) / total)


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
