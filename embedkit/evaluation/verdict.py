"""The verdict of a report: keep the baseline, or use what is significantly better."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embedkit.evaluation.bootstrap import interval
from embedkit.evaluation.report.locale import LANGUAGES, catalogue, kind_words, translate_reason
from embedkit.evaluation.results import MAIN_METRICS, MEAN, TASKS, Result, Scored, deciding
from embedkit.evaluation.selection import Selection
from embedkit.evaluation.significance import LEVEL, at_floor, difference, holm


@dataclass(frozen=True)
class Verdict:
    """What to use, and the statistics that it follows from.

    Attributes:
        decision: `keep` the baseline; `use` the best recipe that is significantly better; `select`
            the recipe that was selected on other pairs and is significantly better here; `single`
            for one recipe alone; `none` if the baseline has no value, or nothing was selected.
        recipe: to use; None for `none`.
        baseline: what it was compared to; None for `single`.
        contender: the recipe that `difference` is of: the one to use, else the closest one.
        score: of `recipe`, the main metrics averaged over the data sets.
        difference: of the contender to the baseline.
        ci95: of the difference; of the score for `single`.
        p_holm: of the difference, corrected over the recipes; a selection leaves one hypothesis.
        at_floor: whether no resample contradicts the difference, so that p is at most `p_holm`.
        convention: whether nobody named the baseline, and the model has no recipe of its own.
        reason: why the contender could not be tested.
        metrics: titles of the main metrics.
        selected: the recipe that was selected on other pairs.
        selected_on: names of these pairs; empty without a selection.
        kind: what is compared: recipe, model, or both (candidate); a `recipe` above is one of them.
    """

    decision: str
    recipe: str | None
    baseline: str | None = None
    contender: str | None = None
    score: float | None = None
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    p_holm: float | None = None
    at_floor: bool = False
    convention: bool = False
    reason: str | None = None
    metrics: tuple[str, ...] = ()
    selected: str | None = None
    selected_on: tuple[str, ...] = ()
    kind: str = "recipe"

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
        closest = key in ("keep", "keep_despite", "keep_untested")
        number = "{:.2f}" if self.decision == "single" else "{:+.2f}"
        value = self.score if self.decision == "single" else self.difference
        shown = "" if value is None else number.format(100 * value)
        if self.ci95 is not None:
            low, high = (number.format(100 * end) for end in self.ci95)
            shown = texts["closest" if closest else "delta"].format(value=shown, low=low, high=high)
        p = "" if self.p_holm is None else f"{'<=' if self.at_floor else '='} {self.p_holm:.4f}"
        return texts[key].format(
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
                return "keep_not_selected"
            return "keep_itself" if self.selected == self.baseline else "keep_selected"
        if self.contender is None:
            return "keep_alone"
        if self.ci95 is None:
            return "keep_untested"
        return "keep_despite" if self.ci95[0] > 0 else "keep"


def decide(
    scored: Sequence[Scored],
    recipes: Sequence[str],
    *,
    similarity: str,
    aggregation: str,
    baseline: str,
    convention: bool,
    equal: Mapping[str, str],
    selection: Selection | None,
    kind: str = "recipe",
) -> Verdict:
    """The verdict on results whose data sets were resampled independently.

    `similarity` and `aggregation` are those that decide. Recipes that are `equal` to another one
    are tested with it. A `selection` leaves one recipe to test; without one all of them are.
    """
    means = {
        recipe: mean_score(recipe, scored, similarity, aggregation)
        for recipe in recipes
        if recipe not in equal
    }
    shown = {one.result.metric for one in scored}
    verdict = Verdict(
        "none",
        None,
        baseline=baseline,
        convention=convention,
        metrics=tuple(task.title for task in TASKS if task.main in shown),
        selected=None if selection is None else selection.recipe,
        selected_on=() if selection is None else selection.datasets,
        kind=kind,
    )
    if len(recipes) == 1:
        only = means[recipes[0]].result
        return replace(
            verdict,
            decision="single",
            recipe=only.recipe,
            baseline=None,
            convention=False,
            score=only.value,
            ci95=only.ci95,
        )
    own = equal.get(baseline, baseline)
    if means[own].result.value is None or (selection is not None and selection.recipe is None):
        return verdict
    contenders = [recipe for recipe in means if recipe != own]
    if selection is not None:
        selected = equal.get(str(selection.recipe), str(selection.recipe))
        contenders = [recipe for recipe in contenders if recipe == selected]
    deltas = {recipe: difference(means[recipe], means[own], baseline) for recipe in contenders}
    tested = {recipe: delta.p for recipe, delta in deltas.items() if delta.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))

    def key(recipe: str) -> float:
        value = deltas[recipe].value
        return -np.inf if value is None else value

    better = [recipe for recipe, p in corrected.items() if p < LEVEL and key(recipe) > 0]
    valued = [recipe for recipe in deltas if deltas[recipe].value is not None]
    if not valued:
        verdict = replace(verdict, decision="keep", recipe=baseline, score=means[own].result.value)
        without = [delta.reason for delta in deltas.values() if selection is not None]
        return replace(verdict, reason=without[0] if without else None)
    contender = max(better or valued, key=key)
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
    )


def mean_score(
    recipe: str,
    scored: Sequence[Scored],
    similarity: str,
    aggregation: str,
    *,
    suite: str = "",
    datasets: Collection[str] | None = None,
) -> Scored:
    """The main metric of a recipe averaged over the data sets, in each resample too."""
    wanted = [
        one
        for one in scored
        if one.result.similarity == similarity
        and (datasets is None or one.result.dataset in datasets)
    ]
    shown = {id(row) for row in deciding([one.result for one in wanted], MAIN_METRICS, aggregation)}
    of_sets = [one for one in wanted if id(one.result) in shown and one.result.recipe == recipe]
    values = [one.result.value for one in of_sets]
    resampled = [one.resampled for one in of_sets if one.resampled is not None]
    defined = [value for value in values if value is not None]
    complete = bool(values) and len(defined) == len(values)
    mean = float(np.mean(defined)) if complete else None
    of_resamples = (
        np.mean(resampled, axis=0) if complete and len(resampled) == len(values) else None
    )
    ci95 = None if of_resamples is None else interval(of_resamples)
    metrics = {one.result.metric for one in of_sets}
    metric = next(iter(metrics)) if len(metrics) == 1 else MEAN
    result = Result(recipe, suite, len(values), similarity, metric, "all", mean, ci95=ci95)
    return Scored(result, of_resamples)
