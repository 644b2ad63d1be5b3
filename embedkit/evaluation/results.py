"""Predictions for sentence pairs against their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CROSS_ENCODER = "cross-encoder"  # what results of one have for a similarity


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
        dataset: name of the pairs or the retrieval set.
        n: pairs, or queries.
        similarity: cosine, dot, euclidean or manhattan; or `head`, `line` (on the cosine) or
            `cross-encoder`.
        metric: spearman or pearson, of a head or line also mse and f1; of a retrieval set those of
            `RANKING_METRICS`.
        aggregation: all, mean or wmean (see `AGGREGATIONS`).
        value: or None.
        ci95: from bootstrap resamples of these, or None where some have no value.
        reason: why there is no value, or no interval.
        subsets: the same for each subset of the pairs, where they have subsets.
        ties: share of pairs that have the same prediction as another pair; None for queries.
        difference: a head's to a line on the cosine, of the same recipe.
        baseline: the difference to the same result of the recipe that others are held against.
        best_share: share of resamples in which no other recipe is better; those that tie share it.
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
    ties: float | None = None
    difference: Difference | None = None
    baseline: Difference | None = None
    best_share: float | None = None


@dataclass(frozen=True)
class Difference:
    """A value less another, from the same resamples.

    Attributes:
        to: the other recipe or similarity.
        value: or None.
        ci95: None where some resamples have no value.
        p: two-sided, see `p_value`.
        p_holm: corrected over the recipes that were compared; None outside such a family.
        reason: why there is no value, or no interval.
    """

    to: str
    value: float | None
    ci95: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    reason: str | None = None


class Scored(NamedTuple):
    """A result, and its values in each resample, where it has a value."""

    result: Result
    resampled: _Array | None


class Kind(NamedTuple):
    """A row of the table.

    Attributes:
        main: the metric that decides what is best.
        title: the same as titles say it.
        others: metrics that tables show beside.
        metrics: what all of them are called.
        units: what a value is made of, and intervals are drawn from.
    """

    main: str
    title: str
    others: tuple[str, ...]
    metrics: str
    units: str


PAIRS = Kind("spearman", "Spearman", ("pearson",), "correlations", "pairs")


RETRIEVAL = Kind(
    "ndcg@10", "nDCG@10", ("recall@100", "mrr@10", "map"), "retrieval metrics", "queries"
)


KINDS = (PAIRS, RETRIEVAL)


MAIN = tuple(kind.main for kind in KINDS)


OTHERS = tuple(metric for kind in KINDS for metric in kind.others)


def deciding(results: Iterable[Result], metrics: Sequence[str], aggregation: str) -> list[Result]:
    """Results of metrics in this aggregation, or in `all` where a dataset has no subsets."""
    results = list(results)
    with_subsets = {row.dataset for row in results if row.aggregation != "all"}
    return [
        row
        for row in results
        if row.metric in metrics
        and row.aggregation == (aggregation if row.dataset in with_subsets else "all")
    ]


def averages(
    results: Iterable[Result], recipes: Iterable[str], similarity: str, aggregation: str
) -> dict[str, float | None]:
    """What decides for each recipe: None where a dataset has no value."""
    values: dict[str, list[float | None]] = {recipe: [] for recipe in recipes}
    for result in deciding(results, MAIN, aggregation):
        if result.similarity == similarity:
            values[result.recipe].append(result.value)
    found: dict[str, float | None] = {}
    for recipe, of_recipe in values.items():
        defined = [value for value in of_recipe if value is not None]
        whole = 0 < len(defined) == len(of_recipe)
        found[recipe] = sum(defined) / len(defined) if whole else None
    return found


def ranked(averaged: dict[str, float | None], own: str | None) -> list[str]:
    """Recipes from best to worst; of those that agree to six digits the model's own first."""

    def key(recipe: str) -> tuple[bool, float, bool]:
        average = averaged[recipe]
        return average is None, -round(average or 0, 6), recipe != own

    return sorted(averaged, key=key)
