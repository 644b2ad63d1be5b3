"""Heads in evaluations: fitted for each recipe, or loaded from a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.errors import InputError
from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.pairs import Predictions, similarities_of
from embedkit.evaluation.results import Scored
from embedkit.evaluation.significance import difference
from embedkit.recipes.steps import Float32Array

if TYPE_CHECKING:
    from embedkit.scoring.pair_regressor import PairRegressor


def head_metrics(threshold: float | None) -> tuple[str, ...]:
    """What predictions on the labels' scale are measured by."""
    return (*CORRELATIONS, "mse") if threshold is None else (*CORRELATIONS, "mse", "f1")


def train_head(
    head: PairRegressor, sets: list[Pairs], *, show_progress: bool | None = None
) -> None:
    """Fit a head on the pairs of all sets, encoded in one pass."""
    if head.embedder is None:
        raise ValueError("the head has no embedder")
    first = [text for pairs in sets for text in pairs.sentence1]
    second = [text for pairs in sets for text in pairs.sentence2]
    vectors = head.embedder.encode(first + second, prompt=head.prompt, show_progress=show_progress)
    both = np.stack([vectors[: len(first)], vectors[len(first) :]], axis=1)
    head.fit(both, np.concatenate([pairs.scores for pairs in sets]))


def check_threshold(threshold: float | None) -> None:
    """Refuse a threshold that nothing can reach or miss."""
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (is_number and math.isfinite(threshold)):
        raise InputError(f"threshold is {threshold!r}; expected a finite number")


def check_heads(head: Any, train: object, threshold: float | None) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: one of `head` and `train`, or `threshold` without them.
    """
    if (head is None) != (train is None):
        raise InputError("head and train go together: a head is fitted on the training pairs")
    if threshold is not None and head is None:
        raise InputError("threshold was given without a head; it is for predictions of heads")
    check_threshold(threshold)


@dataclass(frozen=True, eq=False)
class Training:
    """What heads are fitted on.

    Attributes:
        sets: the training pairs.
        head: a name or a regressor, see `PairRegressor`.
        labels: (n,) of all sets together.
    """

    sets: list[Pairs]
    head: Any
    labels: NDArray[np.float64]

    @classmethod
    def of(cls, sets: list[Pairs], head: Any) -> Training:
        """Check the head's name and the labels.

        Raises:
            InputError: an unknown head, or labels that no head can learn.
        """
        from embedkit.scoring.pair_regressor import PairRegressor

        labels = np.concatenate([pairs.scores for pairs in sets])
        PairRegressor(head=head).check(labels)
        return cls(sets, head, labels)

    @property
    def label_range(self) -> tuple[float, float]:
        """The lowest and the highest label."""
        return float(self.labels.min()), float(self.labels.max())

    def fit(self, vectors: list[Float32Array]) -> Fitted:
        """A head, and a line on the cosine, for one recipe's vectors (n, 2, dim) of each set."""
        from embedkit.scoring.pair_regressor import PairRegressor

        both = np.concatenate(vectors)
        cosines = similarities_of("cosine", both[:, 0], both[:, 1])
        constant = np.ptp(cosines) == 0  # cls@0 is one vector
        slope, intercept = (
            (0.0, self.labels.mean()) if constant else np.polyfit(cosines, self.labels, 1)
        )
        return Fitted(
            PairRegressor(head=self.head).fit(both, self.labels),
            (float(slope), float(intercept)),
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """One recipe's head, and what it is held against.

    Attributes:
        head: fitted on the training pairs.
        line: slope and intercept of the least-squares line on the training pairs' cosines; it is
            clipped to the labels' range, as the head is.
    """

    head: PairRegressor
    line: tuple[float, float]

    def predict(
        self, recipe: str, vectors: Float32Array, threshold: float | None
    ) -> tuple[Predictions, Predictions]:
        """The line's and the head's predictions for vectors (n, 2, dim)."""
        cosines = similarities_of("cosine", vectors[:, 0], vectors[:, 1])
        slope, intercept = self.line
        line = np.clip(slope * cosines + intercept, *self.head.range_)
        metrics = head_metrics(threshold)
        return (
            Predictions(recipe, "line", line, metrics),
            Predictions(recipe, "head", self.head.predict(vectors), metrics),
        )


def against_lines(scored: Sequence[Scored]) -> list[Scored]:
    """The same, each head's with the difference to the line of its recipe."""
    lines = {_place(one): one for one in scored if one.result.similarity == "line"}
    return [
        one._replace(
            result=replace(one.result, difference=difference(one, lines[_place(one)], "line"))
        )
        if one.result.similarity == "head"
        else one
        for one in scored
    ]


def _place(scored: Scored) -> tuple[str, ...]:
    result = scored.result
    return result.recipe, result.dataset, result.metric, result.aggregation
