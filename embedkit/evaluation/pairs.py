"""Predictions for sentence pairs against their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.evaluation.bootstrap import (
    NO_INTERVAL,
    RESAMPLES,
    SEED,
    Resamples,
    bootstrap,
    interval,
    subset_places,
)
from embedkit.evaluation.correlation import AGGREGATIONS, CORRELATIONS, aggregate, measure, tie_rate
from embedkit.evaluation.results import Result, Scored, SubsetValue
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import find_similarity

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one recipe says of n pairs.

    Attributes:
        recipe: what the results are filed under.
        similarity: what the predictions are, see `Result`.
        values: (n,).
        metrics: see `measure`.
    """

    recipe: str
    similarity: str
    values: _Array
    metrics: tuple[str, ...] = CORRELATIONS


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


def predict(recipe: str, vectors: Float32Array, similarities: Sequence[str]) -> list[Predictions]:
    """The similarities of sentence pairs; vectors are (n, 2, dim) float32."""
    left, right = vectors[:, 0], vectors[:, 1]
    return [Predictions(recipe, name, similarities_of(name, left, right)) for name in similarities]


def score_predictions(
    pairs: Pairs,
    predictions: Sequence[Predictions],
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Scored]:
    """For each of the predictions, metrics and aggregations (where there are subsets) a result.

    Args:
        pairs: n of them.
        predictions: of these pairs.
        threshold: for f1.
        resamples: the same ones for all predictions.
        seed: of the resamples.
    """
    values = _resampled(pairs, predictions, threshold, resamples, seed)
    scored = []
    for number, predicted in enumerate(predictions):
        for result in measured(pairs, predicted, threshold):
            resampled = values.get((number, result.metric, result.aggregation))
            if result.value is None or resampled is None:
                scored.append(Scored(result, None))
            else:
                ci95 = interval(resampled)
                reason = NO_INTERVAL if ci95 is None else None
                scored.append(Scored(replace(result, ci95=ci95, reason=reason), resampled))
    return scored


def measured(
    pairs: Pairs, predicted: Predictions, threshold: float | None = None
) -> Iterator[Result]:
    """The results of `score_predictions` without their intervals."""
    x, scores, chosen = predicted.values, pairs.scores, subset_places(pairs)
    ties = tie_rate(x)
    for metric in predicted.metrics:
        parts = {
            name: (len(places), measure(metric, x[places], scores[places], threshold))
            for name, places in chosen.items()
        }
        subsets = {name: SubsetValue(n, *value) for name, (n, value) in parts.items()} or None
        for aggregation in AGGREGATIONS if parts else ("all",):
            whole = aggregation == "all"
            value, reason = (
                measure(metric, x, scores, threshold) if whole else aggregate(parts, aggregation)
            )
            yield Result(
                predicted.recipe,
                pairs.name,
                len(scores),
                predicted.similarity,
                metric,
                aggregation,
                value,
                reason=reason,
                subsets=subsets,
                ties=ties,
            )


def _resampled(
    pairs: Pairs,
    predictions: Sequence[Predictions],
    threshold: float | None,
    resamples: int,
    seed: int,
) -> dict[tuple[int, str, str], _Array]:
    """(resamples,) by number of the predictions, metric and aggregation; finite ones only."""
    chosen = subset_places(pairs)
    sizes = [len(places) for places in chosen.values()]
    numbers: dict[str, list[int]] = {}
    for number, predicted in enumerate(predictions):
        if np.isfinite(predicted.values).all():
            for metric in predicted.metrics:
                numbers.setdefault(metric, []).append(number)
    if not numbers:
        return {}
    together = {
        metric: np.stack([predictions[number].values for number in found])
        for metric, found in numbers.items()
    }
    keys = [
        (number, metric, aggregation)
        for metric, found in numbers.items()
        for aggregation in (AGGREGATIONS if chosen else ("all",))
        for number in found
    ]

    def statistic(block: Resamples) -> _Array:
        within = [(block.within(places), places) for places in chosen.values()]
        rows = []
        for metric, x in together.items():
            rows.append(block.values(metric, x, threshold))
            if within:
                parts = [part.values(metric, x[:, places], threshold) for part, places in within]
                rows += [np.mean(parts, axis=0), np.average(parts, axis=0, weights=sizes)]
        return np.concatenate(rows)

    return dict(zip(keys, bootstrap(pairs, statistic, resamples, seed), strict=True))


def absent(recipe: str, pairs: Pairs, similarities: Sequence[str], reason: str) -> list[Result]:
    """The rows of a recipe that the model does not have."""
    n = len(pairs.scores)
    return [
        Result(recipe, pairs.name, n, name, metric, aggregation, None, reason=reason)
        for name in similarities
        for metric in CORRELATIONS
        for aggregation in (AGGREGATIONS if pairs.subsets else ("all",))
    ]
