"""What training brought: one recipe before and after, on the same resamples of the pairs."""

from __future__ import annotations

from dataclasses import dataclass

from embedkit.evaluation.pairs import Predictions, score_predictions
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Difference
from embedkit.evaluation.significance import difference


@dataclass(frozen=True)
class Gain:
    """One metric of the cosine.

    Attributes:
        dataset: name of the pairs.
        metric: spearman or pearson.
        before: None where it is undefined.
        after: likewise.
        difference: with its paired interval.
    """

    dataset: str
    metric: str
    before: float | None
    after: float | None
    difference: Difference

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


def gains(before: Report, after: Report) -> list[Gain]:
    """Both correlations on each set of pairs, from two reports of one recipe on the same sets.

    Args:
        before: of the embedder that training began with; its seed is that of the resamples.
        after: of what came of it.
    """
    found = []
    for old, new in zip(before.evidence, after.evidence, strict=True):
        predictions = [
            Predictions(name, "cosine", values)
            for name, evidence in (("before", old), ("after", new))
            for values in evidence.predictions.values()
        ]
        scored = score_predictions(new.pairs, predictions, seed=before.protocol.seed)
        half = len(scored) // 2
        found += [
            Gain(
                new.pairs.name,
                two.result.metric,
                one.result.value,
                two.result.value,
                difference(two, one, "before"),
            )
            for one, two in zip(scored[:half], scored[half:], strict=True)
            if two.result.aggregation == "all"
        ]
    return found
