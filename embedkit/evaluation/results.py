"""The records that an evaluation returns: results, differences, and the metrics of each task."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.bootstrap import interval

CROSS_ENCODER = "cross-encoder"  # the similarity of a cross-encoder's results


@dataclass(frozen=True)
class SubsetValue:
    """A metric within one subset of n pairs."""

    n: int
    value: float | None
    reason: str | None = None  # why there is no value


@dataclass(frozen=True)
class Difference:
    """A value minus another one, on the same resamples."""

    to: str  # the other candidate or similarity
    value: float | None
    ci95: tuple[float, float] | None = None  # None where some resamples have no value
    p: float | None = None  # two-sided, see `p_value`
    p_holm: float | None = None  # corrected over the candidates
    reason: str | None = None  # why there is no value, or no interval


@dataclass(frozen=True)
class Result:
    """One number of a report."""

    recipe: str  # in its canonical form
    dataset: str  # or the suite of an average
    n: int  # pairs, or queries
    similarity: str  # of vectors, or `head`, `line` (on the cosine) or `cross-encoder`
    metric: str  # spearman, pearson, mse or f1, or one of `RANKING_METRICS`
    aggregation: str  # all, mean or wmean, see `AGGREGATIONS`
    value: float | None
    ci95: tuple[float, float] | None = None  # None where some resamples have no value
    reason: str | None = None  # why there is no value, or no interval
    subsets: dict[str, SubsetValue] | None = None  # the metric within each subset of the pairs
    ties: float | None = None  # share of pairs with the same prediction as another pair
    difference: Difference | None = None  # of a head to a line on the cosine
    baseline: Difference | None = None  # to the baseline
    best_share: float | None = None  # of the resamples in which no other candidate is better
    equal_to: str | None = None  # the candidate whose row shows it, since both predict the same
    model: str | None = None  # of the candidate; in report.json where there are several
    candidate: str = ""  # what tables call it; by default the recipe

    def __post_init__(self) -> None:
        if not self.candidate:
            object.__setattr__(self, "candidate", self.recipe)


class Scored(NamedTuple):
    """A result with its value in each resample (resamples,), if it has a value."""

    result: Result
    resampled: NDArray[np.float64] | None


class Task(NamedTuple):
    """What one kind of data set is measured by."""

    main: str  # the metric that decides which recipe is best
    title: str  # the main metric as titles print it
    others: tuple[str, ...]
    metrics: str  # what all of its metrics are called
    units: str  # what a bootstrap resamples


PAIRS = Task("spearman", "Spearman", ("pearson",), "correlations", "pairs")
RETRIEVAL = Task(
    "ndcg@10", "nDCG@10", ("recall@100", "mrr@10", "map"), "retrieval metrics", "queries"
)
TASKS = (PAIRS, RETRIEVAL)
MAIN_METRICS = tuple(task.main for task in TASKS)
MEAN = "mean"  # the metric of an average over tasks of both kinds
OTHER_METRICS = tuple(metric for task in TASKS for metric in task.others)


def deciding(results: Iterable[Result], metrics: Sequence[str], aggregation: str) -> list[Result]:
    """The results of these metrics in one aggregation, or in `all` for data without subsets."""
    results = list(results)
    with_subsets = {row.dataset for row in results if row.aggregation != "all"}
    return [
        row
        for row in results
        if row.metric in metrics
        and row.aggregation == (aggregation if row.dataset in with_subsets else "all")
    ]


def mean_scores(
    scored: Sequence[Scored],
    recipes: Iterable[str],
    similarity: str,
    aggregation: str,
    *,
    suite: str = "",
    datasets: Collection[str] | None = None,
) -> dict[str, Scored]:
    """The main metric of each recipe averaged over the data sets, in each resample too."""
    results = (one.result for one in scored if one.result.similarity == similarity)
    wanted = [row for row in results if datasets is None or row.dataset in datasets]
    rows = deciding(wanted, MAIN_METRICS, aggregation)
    metrics, shown = {row.metric for row in rows}, {id(row) for row in rows}
    metric = metrics.pop() if len(metrics) == 1 else MEAN
    by_recipe: dict[str, list[Scored]] = {recipe: [] for recipe in recipes}
    for one in scored:
        if id(one.result) in shown:
            by_recipe[one.result.candidate].append(one)
    means = {}
    for recipe, of_sets in by_recipe.items():
        values = [one.result.value for one in of_sets if one.result.value is not None]
        resampled = [one.resampled for one in of_sets if one.resampled is not None]
        mean, of_resamples = None, None
        if 0 < len(values) == len(of_sets):
            mean = float(np.mean(values))
            if len(resampled) == len(values):
                of_resamples = np.mean(resampled, axis=0)
        ci95 = None if of_resamples is None else interval(of_resamples)
        reason = next((one.result.reason for one in of_sets if one.result.reason), None)
        result = Result(recipe, suite, len(of_sets), similarity, metric, "all", mean, ci95, reason)
        means[recipe] = Scored(result, of_resamples)
    return means


def mean_values(
    results: Iterable[Result], recipes: Iterable[str], similarity: str, aggregation: str
) -> dict[str, float | None]:
    """The values of `mean_scores`; None where one data set has no value."""
    scored = [Scored(row, None) for row in results]
    means = mean_scores(scored, recipes, similarity, aggregation)
    return {recipe: one.result.value for recipe, one in means.items()}


def ranked(means: dict[str, float | None], own: Collection[str]) -> list[str]:
    """Candidates from best to worst; a model's own recipe first among those equal to six digits."""

    def key(name: str) -> tuple[bool, float, bool]:
        mean = means[name]
        return mean is None, -round(mean or 0, 6), name not in own

    return sorted(means, key=key)
