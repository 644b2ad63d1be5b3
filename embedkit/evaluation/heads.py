"""Regression heads in evaluations: fitted for each recipe, beside a line on the cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.errors import InputError
from embedkit.evaluation.model_predictions import PairScorer
from embedkit.evaluation.pair_scores import similarities_of
from embedkit.evaluation.results import Scored
from embedkit.evaluation.significance import difference
from embedkit.recipes.steps import Float32Array


@dataclass(frozen=True, eq=False)
class HeadTraining:
    """What the heads of all recipes are fitted on."""

    head: Any  # a name or a regressor, see `PairRegressor`
    labels: NDArray[np.float64]  # (n,) of all training pairs
    metrics: tuple[str, ...]  # of the predictions

    @classmethod
    def of(cls, head: Any, sets: Sequence[Pairs], metrics: tuple[str, ...]) -> HeadTraining | None:
        """None where there are neither a head nor training pairs; refuses one without the other."""
        if (head is None) != (not sets):
            raise InputError("head and train go together: a head is fitted on the training pairs")
        if head is None:
            return None
        from embedkit.scoring.pair_regressor import PairRegressor

        labels = np.concatenate([pairs.scores for pairs in sets])
        PairRegressor(head=head).check(labels)
        return cls(head, labels, metrics)

    @property
    def range_(self) -> tuple[float, float]:
        """The lowest and the highest label."""
        return float(self.labels.min()), float(self.labels.max())

    def fit(self, vectors: Float32Array) -> list[PairScorer]:
        """A line on the cosine, and a head, fitted on the embeddings (n, 2, dim) of the pairs.

        The line is that of least squares, clipped to the labels' range as the head is.
        """
        from embedkit.scoring.pair_regressor import PairRegressor

        cosines, slope, intercept = _cosines(vectors), 0.0, self.labels.mean()
        if np.ptp(cosines) > 0:  # cls@0 is one vector
            slope, intercept = np.polyfit(cosines, self.labels, 1)
        head = PairRegressor(head=self.head).fit(vectors, self.labels)

        def line(others: Float32Array) -> NDArray[np.float64]:
            values: NDArray[np.float64] = slope * _cosines(others) + intercept
            return values.clip(*head.range_)

        return [
            PairScorer("line", self.metrics, line),
            PairScorer("head", self.metrics, head.predict),
        ]


def with_line_differences(scored: Sequence[Scored]) -> list[Scored]:
    """The same results, those of heads with the difference to the line of their recipe."""

    def key(one: Scored) -> tuple[str, ...]:
        result = one.result
        return result.recipe, result.dataset, result.metric, result.aggregation

    lines = {key(one): one for one in scored if one.result.similarity == "line"}
    if not lines:
        return list(scored)
    deltas = [
        difference(one, lines[key(one)], "line") if one.result.similarity == "head" else None
        for one in scored
    ]
    return [
        one._replace(result=replace(one.result, difference=delta))
        for one, delta in zip(scored, deltas, strict=True)
    ]


def _cosines(vectors: Float32Array) -> NDArray[np.float64]:
    return similarities_of("cosine", vectors[:, 0], vectors[:, 1])
