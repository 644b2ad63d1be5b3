"""The verdict of a report: keep the baseline, or use what is significantly better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from embedkit.evaluation.bootstrap import FEW_QUERIES
from embedkit.evaluation.report.locale import LANGUAGES, catalogue, kind_words, translate_reason
from embedkit.evaluation.results import Scored
from embedkit.evaluation.selection import Selection
from embedkit.evaluation.significance import LEVEL, at_floor, difference, holm_of


@dataclass(frozen=True)
class Verdict:
    """What to use, and the statistics that it follows from.

    The decision is to `keep` the baseline; to `use` the best recipe that is significantly better;
    to `select` the recipe that was selected on other pairs and is significantly better here;
    `single` for one recipe alone; `none` if the baseline has no value, or nothing was selected.
    """

    decision: str
    recipe: str | None  # to use; None for `none`
    baseline: str | None = None  # what it was compared to; None for `single`
    contender: str | None = None  # what `difference` is of: the one to use, else the closest one
    score: float | None = None  # of `recipe`, the main metrics averaged over the data sets
    difference: float | None = None  # of the contender to the baseline
    ci95: tuple[float, float] | None = None  # of the difference; of the score for `single`
    p_holm: float | None = None  # of the difference, corrected over the recipes that are tested
    at_floor: bool = False  # whether no resample contradicts the difference: p is at most `p_holm`
    convention: bool = False  # whether nobody named the baseline, and the model has no own recipe
    reason: str | None = None  # why the contender could not be tested
    metrics: tuple[str, ...] = ()  # titles of the main metrics
    selected: str | None = None  # the recipe that was selected on other pairs
    selected_on: tuple[str, ...] = ()  # names of these pairs; empty without a selection
    few_queries: int | None = None  # in the smallest set, if too few for the p that decided
    kind: str = "recipe"  # what is compared and named above: recipe, model, or both (candidate)

    @property
    def text(self) -> dict[str, str]:
        """The sentence in each language."""
        return {language: self.in_words(language) for language in LANGUAGES}

    def __str__(self) -> str:
        return self.in_words("en")

    def in_words(self, language: str) -> str:
        """The sentence in English (en) or Korean (ko)."""
        texts, words = catalogue(language)["verdict"], catalogue(language)["table"]
        key = self._key
        single = self.decision == "single"
        number, value = ("{:.2f}", self.score) if single else ("{:+.2f}", self.difference)
        shown = "" if value is None else number.format(100 * value)
        if self.ci95 is not None:
            low, high = (number.format(100 * end) for end in self.ci95)
            shown = texts["closest" if key.startswith("keep") else "delta"].format(
                value=shown, low=low, high=high
            )
        p = "" if self.p_holm is None else f"{'<=' if self.at_floor else '='} {self.p_holm:.4f}"
        sentence: str = texts[key].format(
            recipe=self.recipe,
            baseline=texts["convention" if self.convention else "named"].format(name=self.baseline),
            contender=self.contender,
            delta=shown,
            p=p,
            reason=translate_reason(self.reason or "", language),
            metric=words["and"].join(words[title] for title in self.metrics),
            selected=self.selected,
            datasets=", ".join(self.selected_on),
            **kind_words(self.kind, language),
        )
        if self.few_queries is not None:
            sentence += f" {texts['few_queries'].format(count=self.few_queries)}"
        return sentence

    @property
    def _key(self) -> str:
        """Which of the texts says it."""
        if self.decision == "single":
            return "single" if self.score is not None else "single_none"
        if self.decision == "none":
            return "none_selected" if self.selected_on and self.selected is None else "none"
        if self.decision != "keep":
            return self.decision
        if self.selected_on:
            if self.reason is not None:
                return "keep_selected_untested"
            if self.contender is not None:
                despite = self.ci95 is not None and self.ci95[0] > 0
                return "keep_not_selected_despite" if despite else "keep_not_selected"
            return "keep_itself" if self.selected == self.baseline else "keep_selected"
        if self.contender is None:
            return "keep_alone"
        if self.ci95 is None:
            return "keep_untested"
        return "keep_despite" if self.ci95[0] > 0 else "keep"


def decide(
    means: Mapping[str, Scored],
    *,
    metrics: tuple[str, ...],
    baseline: str,
    convention: bool,
    equal: Mapping[str, str],
    selection: Selection | None,
    kind: str = "recipe",
    queries: int | None = None,
) -> Verdict:
    """The verdict on the recipes' `mean_scores` over data sets that were resampled independently.

    `metrics` are titles of the main ones. Recipes that are `equal` to another one are tested with
    it. A `selection` on other data leaves one recipe to test; without one all of them are.
    `queries` are those of the smallest retrieval set, if there is one.
    """
    verdict = Verdict("none", None, metrics=metrics, kind=kind)
    if selection is not None:
        verdict = replace(verdict, selected=selection.recipe, selected_on=selection.datasets)
    if len(means) == 1:
        (only,) = (one.result for one in means.values())
        return replace(
            verdict, decision="single", recipe=only.recipe, score=only.value, ci95=only.ci95
        )
    verdict = replace(verdict, baseline=baseline, convention=convention)
    own = equal.get(baseline, baseline)
    score = means[own].result.value
    if score is None or (selection is not None and selection.recipe is None):
        return verdict
    others = [recipe for recipe in means if recipe != own and recipe not in equal]
    deltas = {recipe: difference(means[recipe], means[own], baseline) for recipe in others}
    corrected = holm_of(deltas)
    if selection is not None:
        selected = equal.get(selection.recipe or "", selection.recipe)
        deltas = {recipe: delta for recipe, delta in deltas.items() if recipe == selected}
        corrected = holm_of(deltas) if selection.is_independent else corrected
    values = {name: delta.value for name, delta in deltas.items() if delta.value is not None}
    if not values:
        verdict = replace(verdict, decision="keep", recipe=baseline, score=score)
        without = [delta.reason for delta in deltas.values() if selection is not None]
        return replace(verdict, reason=without[0] if without else None)
    better = [name for name, x in values.items() if corrected.get(name, 1) < LEVEL and x > 0]
    contender = max(better or values, key=lambda name: values[name])
    chosen = contender if better else baseline
    delta, resampled = deltas[contender], means[contender].resampled
    return replace(
        verdict,
        decision=("use" if selection is None else "select") if better else "keep",
        recipe=chosen,
        contender=contender,
        score=means[equal.get(chosen, chosen)].result.value,
        difference=delta.value,
        ci95=delta.ci95,
        p_holm=corrected.get(contender),
        at_floor=resampled is not None and at_floor(delta, len(resampled)),
        reason=delta.reason,
        few_queries=queries if better and queries is not None and queries < FEW_QUERIES else None,
    )
