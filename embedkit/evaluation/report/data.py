"""The values of a report, and what follows from them: ranking, best recipe, marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from embedkit.evaluation.error_analysis import ErrorAnalysis, PairPredictions
from embedkit.evaluation.fitting import ON_DATA
from embedkit.evaluation.published import Comparison, compare_with_published
from embedkit.evaluation.results import (
    MAIN_METRICS,
    TASKS,
    Result,
    Task,
    deciding,
    mean_values,
    ranked,
)
from embedkit.evaluation.retrieval_errors import RetrievalErrorAnalysis
from embedkit.evaluation.run_metadata import ModelRun, RunMetadata
from embedkit.evaluation.selection import Selection
from embedkit.evaluation.verdict import Verdict
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe


@dataclass(frozen=True)
class ReportData:
    """What compare and evaluate found."""

    model: dict[str, Any]  # of the baseline: name, family, layers, width, own recipe, ...
    results: tuple[Result, ...]
    compared: dict[str, Recipe | None]  # by the names of the candidates; None is BM25's
    fitted: dict[str, BoundRecipe]  # those fitted for the report, for `Embedder.with_recipe`
    decided_by: str  # the similarity (or head, cross-encoder) that decides which recipe is best
    run_metadata: RunMetadata
    sentences: int  # in the data, queries and documents among them
    forward_passes: int  # distinct texts (of a cross-encoder: pairs) that the model ran
    truncated: int  # of these
    seconds: dict[str, float]  # spent encoding and scoring
    pair_predictions: tuple[PairPredictions, ...]  # of each set of pairs; not in report.json
    error_analyses: tuple[ErrorAnalysis, ...]  # of each set of pairs
    verdict: Verdict  # what to use
    comparisons: tuple[Comparison, ...] = ()  # with published values, after `reproduce`
    retrieval_error_analyses: tuple[RetrievalErrorAnalysis, ...] = ()  # of each retrieval set
    equal: dict[str, str] = field(default_factory=dict)  # recipes that share the row of another
    baseline: str | None = None  # what differences are to, if several candidates are compared
    own: frozenset[str] = frozenset()  # candidates that are the recipe of their model's folder
    selection: Selection | None = None  # if the best was not selected on the data that scores it
    averages: tuple[Result, ...] = ()  # of each candidate over each suite, or over all data sets
    models: dict[str, ModelRun] = field(default_factory=dict)  # if there are several, by name
    cached: int = 0  # of the distinct texts, those whose embeddings came from the cache

    @property
    def model_names(self) -> str:
        """The name of the model, or the short names of several."""
        return ", ".join(self.models) or str(self.model["name"])

    @property
    def kind(self) -> str:
        """What differs between the candidates: recipe, model, or both (candidate)."""
        return self.verdict.kind

    @property
    def aggregation(self) -> str:
        """The aggregation that decides, and that tables show, for data with subsets."""
        return self.run_metadata.aggregation

    @property
    def best(self) -> Recipe | None:
        """The selected recipe, or else the one with the highest main metric (see `MAIN_METRICS`).

        The metric is averaged over the data sets, by the similarity and the aggregation that
        decide; of recipes that agree to six digits the model's own wins. None if no recipe has a
        value on every data set, or if BM25 is the best.
        """
        return None if self.best_name is None else self.compared[self.best_name]

    @cached_property
    def best_name(self) -> str | None:
        """`best` as results name it."""
        first = self.ranking()[0] if self.selection is None else self.selection.recipe
        if first is None or (self.selection is None and self.means[first] is None):
            return None
        return self.row_of(first)

    def row_of(self, recipe: str) -> str:
        """The recipe whose row shows this one: itself, unless it predicts the same as another."""
        return self.equal.get(recipe, recipe)

    def rows(self) -> list[str]:
        """The recipes that have a row of their own, from best to worst."""
        return [recipe for recipe in self.ranking() if recipe not in self.equal]

    def equals(self, recipe: str) -> list[str]:
        """The other recipes that the row of this one shows."""
        return [other for other, row in self.equal.items() if row == recipe]

    def ranking(self) -> list[str]:
        """The names of the recipes from best to worst; those without a value last."""
        return ranked(self.means, self.own)

    @cached_property
    def means(self) -> dict[str, float | None]:
        """The main metric of each recipe, averaged over the data sets."""
        return mean_values(self.results, self.compared, self.decided_by, self.aggregation)

    def winners(self) -> dict[str, str]:
        """The best recipe on each data set that has one."""
        best = {}
        for dataset in self.datasets:
            values = {name: row.value for name, row in self.scores(dataset).items()}
            first = ranked(values, self.own)[0]
            if values[first] is not None:
                best[dataset] = self.row_of(first)
        return best

    def marks(self, recipe: str) -> list[str]:
        """What tables mark a recipe with: best or selected, own, fitted, fitted_on_the_data."""
        several = len(self.compared) > 1
        best = "best" if self.selection is None else "selected"
        marks = [best] * (several and recipe == self.best_name)
        marks += ["own"] * (recipe in self.own and self.kind != "model")
        if self.fit is not None and recipe in self.fitted:
            marks.append("fitted_on_the_data" if self.fit["on_data"] else "fitted")
        return marks

    def deciding(self, *metrics: str) -> list[Result]:
        """The results of metrics in the report's aggregation, or `all` if there are no subsets."""
        return deciding(self.results, metrics, self.aggregation)

    def scores(self, dataset: str) -> dict[str, Result]:
        """The main metric of each recipe on a data set, by the similarity that decides."""
        rows = (row for row in self.deciding(*MAIN_METRICS) if row.dataset == dataset)
        return {row.candidate: row for row in rows if row.similarity == self.decided_by}

    @property
    def datasets(self) -> list[str]:
        """Names of the scored data sets."""
        return list(dict.fromkeys(row.dataset for row in self.results))

    @property
    def tasks(self) -> list[Task]:
        """Those of the data sets."""
        metrics = {result.metric for result in self.results}
        return [task for task in TASKS if task.main in metrics]

    @property
    def published(self) -> tuple[Comparison, ...]:
        """Published values of the model beside the measured ones."""
        return self.comparisons or compare_with_published(self)

    @property
    def has_heads(self) -> bool:
        """Whether a head was fitted for each recipe."""
        return any(result.similarity == "line" for result in self.results)

    @property
    def fit(self) -> dict[str, Any] | None:
        """What recipes were fitted on, and what a reader must know of each; None if none was."""
        fits = {name: bound.fit for name, bound in self.fitted.items() if bound.fit}
        if not fits:
            return None
        first = next(iter(fits.values()))  # one reading of the texts serves all
        return {
            "source": first.source,
            "texts": first.texts,
            "sha256": first.sha256,
            "on_data": first.source == ON_DATA,
            "recipes": {name: list(fit.notes) for name, fit in fits.items()},
        }
