"""The one flow of compare and evaluate: models are loaded in turn, each predicts, one report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.data.datasets import only_pairs
from embedkit.embedder.cache import EmbeddingCache, open_cache
from embedkit.embedder.embedder import Embedder
from embedkit.errors import InputError
from embedkit.evaluation.candidates import Candidates
from embedkit.evaluation.exact_search import check_index
from embedkit.evaluation.fitting import FitTexts, fit_recipes
from embedkit.evaluation.heads import HeadTraining
from embedkit.evaluation.model_predictions import (
    Candidate,
    ModelPredictions,
    PairScorer,
    predict_by_cross_encoder,
    predict_by_embeddings,
    predict_by_words,
    similarity_scorers,
)
from embedkit.evaluation.models import ModelSettings
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run import report_of
from embedkit.evaluation.search_modes import SearchModes, Stage
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.recipes.recipe import Recipe
from embedkit.scoring.loading import load_reranker

if TYPE_CHECKING:
    from embedkit.scoring.pair_regressor import PairRegressor

# The candidates of an embedder, among them a recipe to compare with if one is named.
Choose = Callable[[Embedder, ModelSettings, Recipe | None], Candidates]


@dataclass(frozen=True)
class Work:
    """What is done with each model."""

    sets: EvaluationSets
    options: Options  # of all models
    choose: Choose | None = None  # None for the model's own recipe, and for models of other kinds
    given: Collection[str] = ()  # options that only embedders have, as error messages name them
    fit: FitTexts | None = None
    training: HeadTraining | None = None  # if heads are compared
    show_progress: bool | None = None

    def report(
        self,
        models: Sequence[ModelSettings],
        baseline: str | Recipe | None,
        cache: bool | str | Path | None,
    ) -> Report:
        """Predict by one model after another; `baseline` is a model, a recipe, or both."""
        self.options.check_data(self.sets.all)
        if self.choose is not None and self.training is None:
            self.options.check_no_threshold()
        reranker = None
        if self.options.rerank is not None:
            settings = ModelSettings.of(self.options.rerank)
            model: Any = settings.model
            reranker = load_reranker(model, show_progress=self.show_progress, **settings.loading)
        modes = SearchModes(self.options, reranker)
        stages = [*modes.of_recipes, *modes.of_words]
        if self.choose is not None and not modes.of_recipes:
            raise InputError("got bm25 alone, which has no recipes; expected dense or hybrid too")
        if models and not modes.of_recipes:
            raise InputError("got a model for bm25 alone, which needs none; expected no model")
        if modes.of_recipes and not models:
            raise InputError("there is no model; expected at least one")
        stage, named = _named_stage(stages, baseline, self.options.modes[0])
        against, recipe = None, None
        if modes.of_recipes:
            against, recipe = _baseline(models, named, crossed=self.choose is not None)
        parts = []
        with open_cache(len(models) > 1 if cache is None else cache) as store:
            for settings in models if modes.of_recipes else ():
                own = recipe if settings is against else None
                parts.append(self._predict(settings, own, store, modes))
        base = "" if against is None else parts[models.index(against)].baseline
        if modes.of_words:
            parts.append(predict_by_words(self.sets, self.options, modes))
        return report_of(
            ModelPredictions.joined(parts),
            self.sets,
            self.options,
            baseline=stage.candidate(base),
            convention=baseline is None and len(models) == 1 and len(stages) == 1,
        )

    def _predict(
        self,
        settings: ModelSettings,
        baseline: Recipe | None,
        cache: EmbeddingCache | None,
        modes: SearchModes,
    ) -> ModelPredictions:
        model: Any = settings.load(embedder=self.choose is not None)
        sets, options, progress = self.sets, settings.options(self.options), self.show_progress
        if model.kind == "cross-encoder":
            pairs = only_pairs(sets.scored, "a cross-encoder scores sentence pairs")
            if self.given:
                raise InputError("got a similarity or a prompt for a cross-encoder; it has neither")
            return predict_by_cross_encoder(model, pairs, options.head_metrics, progress, settings)
        embedder, similarities, head = model, tuple(options.similarities), None
        if model.kind == "head":
            head, embedder, similarities = model, model.embedder, ("head",)
            options = replace(options, prompt=self._prompt_of_head(head), prompt_name=None)
        elif self.training is None:
            options.check_no_threshold()
        prompts = options.prompts_of(embedder)
        if self.choose is None:
            chosen = Candidates.own(embedder)
        else:
            chosen = self.choose(embedder, settings, baseline)
        dims = [bound.dim(embedder.encoder.dim) for bound in chosen.bounds]
        check_index(options.index, options.similarities, dims)
        bounds = fit_recipes(
            embedder, chosen.bounds, self.fit, sets.scored, prompts, show_progress=progress
        )
        embeddings = SetEmbeddings.of(
            embedder, sets.all, bounds, prompts, cache=cache, show_progress=progress
        )
        scorers = [similarity_scorers(similarities) for _ in bounds]
        if head is not None:
            scorers = [[PairScorer("head", options.head_metrics, head.predict)]]
        if self.training is not None:
            scorers = [
                [*own, *self.training.fit(embeddings.training_pairs(position, sets))]
                for position, own in enumerate(scorers)
            ]
        trained: Any = head or self.training
        return replace(
            predict_by_embeddings(
                embeddings,
                bounds,
                scorers,
                sets,
                options,
                similarities=similarities,
                decided_by=similarities[0] if self.training is None else "head",
                settings=settings,
                modes=modes,
            ),
            baseline=settings.candidate(chosen.baseline),
            missing={
                settings.candidate(recipe): Candidate(settings.name or embedder.name, recipe)
                for recipe in chosen.missing
            },
            fitted={
                settings.candidate(bound.recipe): bound
                for bound, before in zip(bounds, chosen.bounds, strict=True)
                if before.unfitted
            },
            head=trained and trained.head,
            label_range=trained and trained.range_,
        )

    def _prompt_of_head(self, head: PairRegressor) -> str | None:
        """The prompt of a head, which is scored on pairs by its own predictions."""
        only_pairs(self.sets.scored)
        if "similarity" in self.given:
            raise InputError("got a similarity for a head; a head is scored by its predictions")
        if "prompt" in self.given:
            raise InputError("got a prompt for a head; it uses the one that it was trained with")
        if head.embedder is None:
            raise InputError("the head has no embedder; expected one that can read texts")
        return head.prompt


def _named_stage(
    stages: Sequence[Stage], baseline: str | Recipe | None, mode: str
) -> tuple[Stage, str | Recipe | None]:
    """How the baseline is searched, by default in the first mode; and its name without that."""
    suffixes = {f" {stage.candidate('').strip()}": stage for stage in stages if stage != Stage()}
    for suffix in sorted(suffixes, key=len, reverse=True):
        if (name := f" {baseline}").endswith(suffix):
            return suffixes[suffix], name.removesuffix(suffix).strip() or None
    return Stage(mode), baseline


def _baseline(
    models: Sequence[ModelSettings], baseline: str | Recipe | None, *, crossed: bool
) -> tuple[ModelSettings, Recipe | None]:
    """The model that the others are compared with, and its recipe if that is named."""
    if baseline is None or (len(models) == 1 and crossed):
        return models[0], None if baseline is None else Recipe.of(baseline)
    for settings in models:
        if settings.name and str(baseline) in (settings.name, str(settings.model)):
            return settings, None
        if crossed and str(baseline).startswith(f"{settings.name} "):
            return settings, Recipe.parse(str(baseline).removeprefix(f"{settings.name} "))
    if not crossed and not models[0].name:
        raise InputError("got a baseline for one model; expected several models")
    if not crossed:
        names = ", ".join(settings.name for settings in models)
        raise InputError(f"baseline is {baseline!r}; expected one of the models: {names}")
    return models[0], Recipe.of(baseline)
