"""Score predictions for sentence pairs: every metric, with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.evaluation.bootstrap import (
    FEWEST,
    RESAMPLES,
    SEED,
    TOO_FEW,
    Resamples,
    Seed,
    bootstrap,
    interval,
    subset_rows,
    why_no_interval,
)
from embedkit.evaluation.correlation import AGGREGATIONS, CORRELATIONS, aggregate, measure, tie_rate
from embedkit.evaluation.resampled_spearman import Orders
from embedkit.evaluation.results import Result, Scored, SubsetValue
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import find_similarity

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one recipe for n pairs."""

    recipe: str
    similarity: str  # what the predictions are, see `Result`
    values: _Array  # (n,)
    metrics: tuple[str, ...] = CORRELATIONS  # see `measure`


def similarities_of(name: str, left: Float32Array, right: Float32Array) -> _Array:
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


def score_predictions(
    pairs: Pairs,
    predictions: Sequence[Predictions],
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: Seed = SEED,
) -> list[Scored]:
    """A result for each of the predictions, their metrics and (with subsets) each aggregation.

    All predictions are scored on the same resamples of the pairs.
    """
    values = _resampled(pairs, predictions, threshold, resamples, seed)
    scored = []
    for index, predicted in enumerate(predictions):
        for result in measured(pairs, predicted, threshold):
            resampled = values.get((index, result.metric, result.aggregation))
            if result.value is None or resampled is None:
                scored.append(Scored(replace(result, reason=result.reason or TOO_FEW), None))
                continue
            ci95 = interval(resampled)
            reason = None if ci95 else why_no_interval(result.n)
            scored.append(Scored(replace(result, ci95=ci95, reason=reason), resampled))
    return scored


def measured(
    pairs: Pairs, predicted: Predictions, threshold: float | None = None
) -> Iterator[Result]:
    """The results of `score_predictions` without their intervals."""
    x, labels, subsets = predicted.values, pairs.scores, subset_rows(pairs)
    ties = tie_rate(x)
    for metric in predicted.metrics:
        parts = {
            name: (len(rows), measure(metric, x[rows], labels[rows], threshold))
            for name, rows in subsets.items()
        }
        of_subsets = {name: SubsetValue(n, *value) for name, (n, value) in parts.items()}
        for aggregation in AGGREGATIONS if subsets else ("all",):
            if aggregation == "all":
                value, reason = measure(metric, x, labels, threshold)
            else:
                value, reason = aggregate(parts, aggregation)
            yield Result(
                predicted.recipe,
                pairs.name,
                len(labels),
                predicted.similarity,
                metric,
                aggregation,
                value,
                reason=reason,
                subsets=of_subsets or None,
                ties=ties,
            )


def _resampled(
    pairs: Pairs,
    predictions: Sequence[Predictions],
    threshold: float | None,
    resamples: int,
    seed: Seed,
) -> dict[tuple[int, str, str], _Array]:
    """(resamples,) by index of the finite predictions, metric and aggregation.

    Subsets that are too small to be resampled leave no interval of their mean.
    """
    subsets = subset_rows(pairs)
    if any(len(rows) < FEWEST for rows in subsets.values()):
        subsets = {}
    sizes = [len(rows) for rows in subsets.values()]
    by_metric: dict[str, dict[int, _Array]] = {}
    for index, predicted in enumerate(predictions):
        if np.isfinite(predicted.values).all():
            for metric in predicted.metrics:
                by_metric.setdefault(metric, {})[index] = predicted.values
    if not by_metric:
        return {}

    def scorer(metric: str, x: _Array) -> Callable[[Resamples], _Array]:
        if metric == "spearman":
            orders = Orders.of(x)
            return lambda block: block.spearman(orders)
        return lambda block: block.values(metric, x, threshold)

    scorers = [
        (scorer(metric, x), [scorer(metric, x[:, rows]) for rows in subsets.values()])
        for metric, values in by_metric.items()
        for x in [np.stack([*values.values()])]
    ]
    keys = [
        (index, metric, aggregation)
        for metric, values in by_metric.items()
        for aggregation in (AGGREGATIONS if subsets else ("all",))
        for index in values
    ]

    def statistic(block: Resamples) -> _Array:
        within = [block.within(rows) for rows in subsets.values()]
        values = []
        for score, of_subsets in scorers:
            values.append(score(block))
            if within:
                parts = [own(part) for own, part in zip(of_subsets, within, strict=True)]
                values += [np.mean(parts, axis=0), np.average(parts, axis=0, weights=sizes)]
        return np.concatenate(values)

    return dict(zip(keys, bootstrap(pairs, statistic, resamples, seed), strict=True))
