"""How a training went: whether it was of use, its losses, and its scores on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from embedkit.evaluation.metric_delta import MetricDelta
from embedkit.evaluation.report.formatting import delta, number
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.report.locale import LANGUAGES, catalogue, translate_reason
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import PAIRS
from embedkit.tagging.entity_scores import EntityReport

# A row for each evaluation: `step`, the mean `loss` since the one before, the held-out metric.
Curve: TypeAlias = tuple[dict[str, float | None], ...]

# What models are compared to, as a key of the catalogue.
_ORIGINS = {"bi-encoder": "before_training", "head": "by_cosine", "token-classifier": "by_lookup"}
_TITLES = {PAIRS.main: PAIRS.title, "entity_f1": "F1"}  # in the catalogue, too


@dataclass(frozen=True, eq=False)
class TrainingOutcome:
    """How the training of a model went, which has it as its attribute `training`.

    The first delta decides: of Spearman's correlation to that before training, a head's to that of
    the cosine, or a token classifier's F1 to that of looking up the entities of the training data.
    A cross-encoder has nothing to be compared to, and so no delta.
    """

    trained: str  # a key of `_ORIGINS`, cross-encoder, or the recipe of an adapted encoder
    report: Report | EntityReport | None  # of the model on the held-out data
    deltas: tuple[MetricDelta, ...] = ()
    saved: bool = True
    curve: Curve = ()
    notes: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # keys of the catalogue, and values
    matryoshka: Mapping[int, MetricDelta] = field(default_factory=dict)  # by dimension

    @property
    def decision(self) -> str:
        """`improved`, `worse` (both significantly), `not_improved`, or `none` without a value.

        `single` where there is a score and nothing to compare it to.
        """
        if self.deltas:
            return self.deltas[0].decision
        return self.report.verdict.decision if isinstance(self.report, Report) else "none"

    def __str__(self) -> str:
        return self.in_words("en")

    def in_words(self, language: str) -> str:
        """The verdict in English (en) or Korean (ko)."""
        if not self.deltas:
            verdict = self.report.verdict if isinstance(self.report, Report) else None
            return "" if verdict is None else verdict.in_words(language)
        words, first = catalogue(language)["training"], self.deltas[0]
        named = self.trained in _ORIGINS
        saved = "saved" if self.decision == "improved" else "saved_anyway"
        return words[self.decision].format(
            model=words[self.trained] if named else words["recipe"].format(recipe=self.trained),
            dataset=first.dataset,
            metric=catalogue(language)["table"][_TITLES[first.metric]],
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
        return _ORIGINS.get(self.trained, "before_training")

    def notes_in(self, language: str) -> list[str]:
        """The notes in English (en) or Korean (ko)."""
        words = catalogue(language)["training"]
        return [words[key].format(**values) for key, values in self.notes]

    def matryoshka_grid(self, language: str = "en") -> Grid:
        """Spearman's correlation by dimension, before and after, in English (en) or Korean (ko)."""
        words = catalogue(language)
        keys = ("dimension", "before", "after", "difference")
        rows = []
        for size, one in self.matryoshka.items():
            values = [number(value, one.metric) for value in (one.before, one.after)]
            rows.append((f"{size:,}", *values, delta(one.difference, one.metric)))
        return Grid(tuple(words["training"][key] for key in keys), tuple(rows), frozenset())

    def to_dict(self) -> dict[str, Any]:
        """All but the report as JSON values."""
        verdict = self.report.to_dict()["verdict"] if isinstance(self.report, Report) else None
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
            "matryoshka": [{"dimension": n, **asdict(x)} for n, x in self.matryoshka.items()],
        }
