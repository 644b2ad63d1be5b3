"""Scores of sentence vectors on sentence pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.data import Pairs
from embedkit.evaluation.statistics import AGGREGATIONS, METRICS, Value, aggregate, correlation
from embedkit.similarity import find_similarity
from embedkit.steps import Vectors


@dataclass(frozen=True)
class Result:
    """One number of a report.

    Attributes:
        recipe: as it prints against the model.
        dataset: name of the pairs.
        n: pairs.
        similarity: a name from the table of similarities.
        metric: spearman or pearson.
        aggregation: all, mean or wmean (see `AGGREGATIONS`).
        value: in [-1, 1], or None.
        reason: why there is no value.
        subsets: the same for each subset of the pairs, where they have subsets.
    """

    recipe: str
    dataset: str
    n: int
    similarity: str
    metric: str
    aggregation: str
    value: float | None
    reason: str | None = None
    subsets: dict[str, SubsetValue] | None = None


@dataclass(frozen=True)
class SubsetValue:
    """A result within one subset of n pairs."""

    n: int
    value: float | None
    reason: str | None = None


def score_pairs(
    recipe: str,
    pairs: Pairs,
    left: Vectors,
    right: Vectors,
    similarities: Sequence[str],
) -> list[Result]:
    """All metrics and aggregations of one recipe's vectors, both float32 (n, dim)."""
    results = []
    for name in similarities:
        exact = find_similarity(name).pairwise(left.astype(np.float64), right.astype(np.float64))
        similarity = _float32_resolution(exact)
        for metric in METRICS:
            results += _aggregations(recipe, pairs, similarity, name, metric)
    return results


def absent(recipe: str, pairs: Pairs, similarities: Sequence[str], reason: str) -> list[Result]:
    """The rows of a recipe that the model does not have."""
    return [
        Result(recipe, pairs.name, len(pairs.scores), name, metric, aggregation, None, reason)
        for name in similarities
        for metric in METRICS
        for aggregation in (AGGREGATIONS if pairs.subsets else ("all",))
    ]


def _float32_resolution(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make values equal that differ by less than float32 vectors can tell.

    The cosine of two equal sentences is 1 in theory and 1 +- 1e-16 in practice, and ranks would
    order that noise: it moves Spearman's correlation on STS12, which has 61 such pairs, by 2e-5.
    """
    largest = np.abs(similarity).max()
    step = float(np.finfo(np.float32).eps) * largest
    if not np.isfinite(step) or step == 0:
        return similarity
    rounded: NDArray[np.float64] = np.round(similarity / step) * step
    return rounded


def _aggregations(
    recipe: str, pairs: Pairs, similarity: NDArray[np.float64], name: str, metric: str
) -> list[Result]:
    def result(aggregation: str, value: Value) -> Result:
        n = len(pairs.scores)
        return Result(recipe, pairs.name, n, name, metric, aggregation, *value, subsets=subsets)

    subsets: dict[str, SubsetValue] | None = None
    whole = correlation(metric, similarity, pairs.scores)
    if pairs.subsets is None:
        return [result("all", whole)]
    of_pair = np.array(pairs.subsets)
    parts: dict[str, tuple[int, Value]] = {}
    for subset in dict.fromkeys(pairs.subsets):
        chosen = of_pair == subset
        value = correlation(metric, similarity[chosen], pairs.scores[chosen])
        parts[subset] = (int(chosen.sum()), value)
    subsets = {subset: SubsetValue(n, *value) for subset, (n, value) in parts.items()}
    return [
        result(aggregation, whole if aggregation == "all" else aggregate(parts, aggregation))
        for aggregation in AGGREGATIONS
    ]
