"""How much training changed the metrics of a recipe, on the same resamples of the pairs."""

from __future__ import annotations

from dataclasses import dataclass

from embedkit.evaluation.pair_scores import Predictions, score_predictions
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Difference
from embedkit.evaluation.significance import difference


@dataclass(frozen=True)
class MetricDelta:
    """One metric of the cosine, before and after training."""

    dataset: str
    metric: str  # spearman or pearson
    before: float | None  # None where it is undefined
    after: float | None
    difference: Difference  # with its paired interval

    def __str__(self) -> str:
        if self.before is None or self.after is None or self.difference.value is None:
            return f"{self.dataset}: no {self.metric}, because {self.difference.reason}"
        text = (
            f"{self.dataset}: {self.metric} {100 * self.before:.2f} before, "
            f"{100 * self.after:.2f} after, {100 * self.difference.value:+.2f}"
        )
        if self.difference.ci95 is None:
            return text
        low, high = self.difference.ci95
        return f"{text} [{100 * low:+.2f}, {100 * high:+.2f}] (95 %, paired)"


def metric_deltas(before: Report, after: Report) -> list[MetricDelta]:
    """Both correlations on each set of pairs, from two reports of one recipe on the same sets.

    Args:
        before: of the embedder that training began with; its seed is that of the resamples.
        after: of the trained one.
    """
    deltas = []
    for old, new in zip(before.pair_predictions, after.pair_predictions, strict=True):
        predictions = [
            Predictions(name, "cosine", values)
            for name, of_set in (("before", old), ("after", new))
            for values in of_set.values.values()
        ]
        scored = score_predictions(new.pairs, predictions, seed=before.run_metadata.seed)
        half = len(scored) // 2
        deltas += [
            MetricDelta(
                new.pairs.name,
                two.result.metric,
                one.result.value,
                two.result.value,
                difference(two, one, "before"),
            )
            for one, two in zip(scored[:half], scored[half:], strict=True)
            if two.result.aggregation == "all"
        ]
    return deltas
