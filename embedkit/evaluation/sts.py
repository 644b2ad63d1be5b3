"""Predictions for sentence pairs against their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.bootstrap import Resamples, interval
from embedkit.evaluation.data import Pairs
from embedkit.evaluation.statistics import (
    AGGREGATIONS,
    CORRELATIONS,
    Value,
    aggregate,
    measure,
)
from embedkit.similarity import find_similarity
from embedkit.steps import Vectors

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class SubsetValue:
    """A result within one subset of n pairs."""

    n: int
    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Result:
    """One number of a report.

    Attributes:
        recipe: as it prints against the model.
        dataset: name of the pairs.
        n: pairs.
        similarity: cosine, dot, euclidean or manhattan; or `head`, or `line` (on the cosine).
        metric: spearman or pearson, of a head or line also mse and f1.
        aggregation: all, mean or wmean (see `AGGREGATIONS`).
        value: or None.
        ci95: from 1,000 bootstrap resamples of the pairs, or None where some have no value.
        reason: why there is no value.
        subsets: the same for each subset of the pairs, where they have subsets.
        difference: to another similarity of the same recipe, with its paired interval.
    """

    recipe: str
    dataset: str
    n: int
    similarity: str
    metric: str
    aggregation: str
    value: float | None
    ci95: tuple[float, float] | None = None
    reason: str | None = None
    subsets: dict[str, SubsetValue] | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class Difference:
    """A value less that of another similarity, from the same resamples."""

    to: str
    value: float
    ci95: tuple[float, float] | None


def similarities_of(name: str, left: Vectors, right: Vectors) -> _Array:
    """(n,) similarities of two (n, dim) arrays, equal where float32 cannot tell them apart.

    The cosine of two equal sentences is 1 in theory and 1 +- 1e-16 in practice, and ranks would
    order that noise: it moves Spearman's correlation on STS12, which has 61 such pairs, by 2e-5.
    """
    exact = find_similarity(name).pairwise(left.astype(np.float64), right.astype(np.float64))
    step = float(np.finfo(np.float32).eps) * np.abs(exact).max()
    if not np.isfinite(step) or step == 0:
        return exact
    rounded: _Array = np.round(exact / step) * step
    return rounded


def score_vectors(
    recipe: str,
    pairs: Pairs,
    vectors: Vectors,
    similarities: Sequence[str],
    resamples: Resamples,
) -> list[Result]:
    """The correlations of each similarity; vectors are (n, 2, dim) float32."""
    results: list[Result] = []
    for name in similarities:
        predictions = similarities_of(name, vectors[:, 0], vectors[:, 1])
        results += score_predictions(recipe, pairs, name, predictions, CORRELATIONS, resamples)
    return results


def score_predictions(
    recipe: str,
    pairs: Pairs,
    similarity: str,
    predictions: _Array,
    metrics: Sequence[str],
    resamples: Resamples,
    *,
    threshold: float | None = None,
) -> list[Result]:
    """A result for each metric and, where the pairs have subsets, each aggregation.

    Args:
        recipe: what the results are filed under.
        pairs: n of them.
        similarity: what the predictions are.
        predictions: (n,).
        metrics: see `measure`.
        resamples: of `pairs`.
        threshold: for f1.
    """
    results: list[Result] = []
    names = np.array(pairs.subsets or ())
    chosen = {name: names == name for name in dict.fromkeys(pairs.subsets or ())}
    for metric in metrics:
        parts: dict[str, tuple[int, Value]] = {}
        for name, places in chosen.items():
            value = measure(metric, predictions[places], pairs.scores[places], threshold)
            parts[name] = (int(places.sum()), value)
        subsets = {name: SubsetValue(n, *value) for name, (n, value) in parts.items()} or None
        for aggregation in AGGREGATIONS if chosen else ("all",):
            if aggregation == "all":
                value = measure(metric, predictions, pairs.scores, threshold)
            else:
                value = aggregate(parts, aggregation)
            ci95 = None
            if value.value is not None:
                ci95 = interval(
                    _resampled(metric, aggregation, predictions, resamples, chosen, threshold)
                )
            results.append(
                Result(
                    recipe,
                    pairs.name,
                    len(pairs.scores),
                    similarity,
                    metric,
                    aggregation,
                    value.value,
                    ci95,
                    value.reason,
                    subsets,
                )
            )
    return results


def difference(
    result: Result,
    to: Result,
    predictions: _Array,
    others: _Array,
    resamples: Resamples,
    threshold: float | None = None,
) -> Difference | None:
    """`result` less `to`, both over all pairs and of one metric, with a paired interval."""
    if result.value is None or to.value is None:
        return None
    first, second = (resamples.values(result.metric, x, threshold) for x in (predictions, others))
    return Difference(to.similarity, result.value - to.value, interval(first - second))


def _resampled(
    metric: str,
    aggregation: str,
    predictions: _Array,
    resamples: Resamples,
    chosen: dict[str, NDArray[np.bool_]],
    threshold: float | None,
) -> _Array:
    if aggregation == "all":
        return resamples.values(metric, predictions, threshold)
    parts = [
        resamples.within(places).values(metric, predictions[places], threshold)
        for places in chosen.values()
    ]
    weights = [int(places.sum()) for places in chosen.values()]
    average: _Array = np.average(parts, axis=0, weights=weights if aggregation == "wmean" else None)
    return average


def absent(recipe: str, pairs: Pairs, similarities: Sequence[str], reason: str) -> list[Result]:
    """The rows of a recipe that the model does not have."""
    n = len(pairs.scores)
    return [
        Result(recipe, pairs.name, n, name, metric, aggregation, None, reason=reason)
        for name in similarities
        for metric in CORRELATIONS
        for aggregation in (AGGREGATIONS if pairs.subsets else ("all",))
    ]
