"""How a training went: whether it was of use, its losses, and its scores on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from embedkit.evaluation.metric_delta import MetricDelta
from embedkit.evaluation.report.formatting import delta, number
from embedkit.evaluation.report.locale import LANGUAGES, catalogue, translate_reason
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import PAIRS

# A row for each evaluation: `step`, the mean `loss` since the one before, the held-out metric.
Curve: TypeAlias = tuple[dict[str, float | None], ...]


@dataclass(frozen=True, eq=False)
class TrainingOutcome:
    """How the training of a model went, which has it as its attribute `training`.

    The first delta decides: of Spearman's correlation to that before training, or a head's to that
    of the cosine. A cross-encoder has nothing to be compared to, and so no delta.
    """

    trained: str  # bi-encoder, cross-encoder or head, or the recipe of an adapted encoder
    report: Report | None  # of the model on the held-out pairs
    deltas: tuple[MetricDelta, ...] = ()
    saved: bool = True
    curve: Curve = ()
    notes: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # keys of the catalogue, and values

    @property
    def decision(self) -> str:
        """`improved`, `worse` (both significantly), `not_improved`, or `none` without a value.

        `single` where there is a score and nothing to compare it to.
        """
        if self.deltas:
            return self.deltas[0].decision
        return "none" if self.report is None else self.report.verdict.decision

    def __str__(self) -> str:
        return self.in_words("en")

    def in_words(self, language: str) -> str:
        """The verdict in English (en) or Korean (ko)."""
        if not self.deltas:
            return "" if self.report is None else self.report.verdict.in_words(language)
        words, first = catalogue(language)["training"], self.deltas[0]
        named = self.trained in ("bi-encoder", "head")
        saved = "saved" if self.decision == "improved" else "saved_anyway"
        return words[self.decision].format(
            model=words[self.trained] if named else words["recipe"].format(recipe=self.trained),
            dataset=first.dataset,
            metric=catalogue(language)["table"][PAIRS.title],
            delta=delta(first.difference, first.metric),
            origin=words[self.origin],
            before=number(first.before, first.metric),
            after=number(first.after, first.metric),
            reason=translate_reason(first.difference.reason or "", language),
            saved=words[saved if self.saved else "not_saved"],
        )

    @property
    def origin(self) -> str:
        """What the deltas are to, as a key of the catalogue."""
        return "by_cosine" if self.trained == "head" else "before_training"

    def notes_in(self, language: str) -> list[str]:
        """The notes in English (en) or Korean (ko)."""
        words = catalogue(language)["training"]
        return [words[key].format(**values) for key, values in self.notes]

    def to_dict(self) -> dict[str, Any]:
        """All but the report as JSON values."""
        verdict = None if self.report is None else self.report.to_dict()["verdict"]
        if self.deltas:
            first = asdict(self.deltas[0])
            change = first.pop("difference")
            verdict = {
                "decision": self.decision,
                **first,
                "difference": change["value"],
                "ci95": change["ci95"],
                "p": change["p"],
                "text": {language: self.in_words(language) for language in LANGUAGES},
            }
        return {
            "verdict": verdict,
            "saved": self.saved,
            "curve": list(self.curve),
            "gain": [asdict(one) for one in self.deltas],
        }
