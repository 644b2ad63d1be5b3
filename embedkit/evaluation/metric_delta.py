"""How much training changed the metrics of a recipe, on the same resamples of the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from embedkit.evaluation.bootstrap import seed_of
from embedkit.evaluation.error_analysis import PairPredictions
from embedkit.evaluation.pair_scores import Predictions, score_predictions
from embedkit.evaluation.report.formatting import delta, number
from embedkit.evaluation.report.locale import catalogue, translate_reason
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Difference, Scored, mean_scores
from embedkit.evaluation.significance import LEVEL, difference


@dataclass(frozen=True)
class MetricDelta:
    """One metric, before and after training."""

    dataset: str
    metric: str  # spearman or pearson
    before: float | None  # None where it is undefined
    after: float | None
    difference: Difference  # with its paired interval

    @property
    def decision(self) -> str:
        """`improved` or `worse` where the difference is significant, `not_improved`, or `none`."""
        value, p = self.difference.value, self.difference.p
        if value is None:
            return "none"
        if p is None or p >= LEVEL:
            return "not_improved"
        return "improved" if value > 0 else "worse"

    def __str__(self) -> str:
        return self.in_words("en")

    def in_words(self, language: str) -> str:
        """Both values and their difference, in English (en) or Korean (ko)."""
        words = catalogue(language)
        return words["training"]["delta" if self.decision != "none" else "no_delta"].format(
            dataset=self.dataset,
            metric=words["table"][self.metric],
            before=number(self.before, self.metric),
            after=number(self.after, self.metric),
            delta=delta(self.difference, self.metric),
            reason=translate_reason(self.difference.reason or "", language),
        )


def metric_deltas(before: Report, after: Report) -> list[MetricDelta]:
    """Both correlations on each set of pairs, from two reports of one recipe on the same sets."""
    scored = _scored(before.pair_predictions, after.pair_predictions, before.run_metadata.seed)
    return [_delta(two.result.dataset, one, two) for one, two in scored]


def mean_delta(
    before: Sequence[PairPredictions], after: Sequence[PairPredictions], seed: int
) -> MetricDelta:
    """Spearman's correlation of one recipe, averaged over at least one set of pairs."""
    scored = [one for both in _scored(before, after, seed) for one in both]
    one, two = mean_scores(scored, ("before", "after"), "cosine", "all").values()
    return _delta(", ".join(of_set.pairs.name for of_set in after), one, two)


def recipe_deltas(before: Report, after: Report) -> dict[str, MetricDelta]:
    """`mean_delta` of each recipe of two comparisons of the same data; empty without pairs."""
    old, new = before.pair_predictions, after.pair_predictions
    deltas = {}
    for recipe in before.rows():
        if old and all(recipe in one.values for one in (*old, *new)):
            alone = [
                [replace(one, values={recipe: one.values[recipe]}) for one in side]
                for side in (old, new)
            ]
            deltas[recipe] = mean_delta(alone[0], alone[1], before.run_metadata.seed)
    return deltas


def _delta(dataset: str, one: Scored, two: Scored) -> MetricDelta:
    values = one.result.value, two.result.value
    return MetricDelta(dataset, two.result.metric, *values, difference(two, one, "before"))


def _scored(
    before: Sequence[PairPredictions], after: Sequence[PairPredictions], seed: int
) -> Iterator[tuple[Scored, Scored]]:
    """Both correlations on each set, each set with its own resamples."""
    for position, (old, new) in enumerate(zip(before, after, strict=True)):
        ((one,), (two,)) = old.values.values(), new.values.values()
        predictions = [Predictions("before", "cosine", one), Predictions("after", "cosine", two)]
        scored = [
            row
            for row in score_predictions(new.pairs, predictions, seed=seed_of(seed, position))
            if row.result.aggregation == "all"
        ]
        half = len(scored) // 2
        yield from zip(scored[:half], scored[half:], strict=True)
