"""What a model predicts for data sets: an embedder by similarities or heads, or a cross-encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.bootstrap import resamples_for
from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.error_analysis import Geometry
from embedkit.evaluation.models import ModelSettings
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.pair_scores import Predictions, similarities_of
from embedkit.evaluation.results import CROSS_ENCODER
from embedkit.evaluation.retrieval import DEPTH, IndexedQrels, Rankings
from embedkit.evaluation.run_metadata import ModelRun, ModelUsed
from embedkit.evaluation.search_modes import SearchModes, Stage
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.retrieval.fusion import BM25
from embedkit.similarity import find_similarity

if TYPE_CHECKING:
    from embedkit.scoring.cross_encoder import CrossEncoder


class PairScorer(NamedTuple):
    """One way to score the embeddings of sentence pairs: a similarity, a line or a head."""

    name: str
    metrics: tuple[str, ...]
    score: Callable[[Float32Array], NDArray[np.float64]]  # (n, 2, dim) -> (n,)


def similarity_scorers(names: Sequence[str]) -> list[PairScorer]:
    """The scorers of similarities."""

    def score(name: str, vectors: Float32Array) -> NDArray[np.float64]:
        return similarities_of(name, vectors[:, 0], vectors[:, 1])

    return [PairScorer(name, CORRELATIONS, partial(score, name)) for name in names]


class Candidate(NamedTuple):
    """What is compared: a model with a recipe, and how it ranks documents."""

    model: str
    recipe: Recipe | None  # None for BM25 alone
    stage: Stage = Stage()

    @property
    def shown(self) -> str:
        """What reports call its recipe."""
        return self.stage.candidate(str(self.recipe))


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """The predictions of a model, or of several, for all data sets, which are named by position."""

    models: dict[str, ModelRun]  # by the names that results use
    recipes: dict[str, Candidate]  # what is compared, by the names that results use
    similarities: tuple[str, ...]  # as the run metadata list them
    decided_by: str  # the similarity that decides which candidate is best
    of_pairs: dict[int, list[Predictions]]  # for each set of scored or selecting pairs
    of_retrieval: dict[int, tuple[IndexedQrels, list[Rankings]]]  # for each retrieval set
    samples: dict[str, list[NDArray[np.float64]]]  # of each candidate, predictions to tell it by
    geometries: dict[int, dict[str, Geometry]]  # for each set of scored pairs, by candidate
    truncated: list[NDArray[np.bool_]]  # of each set, the distinct texts (cross-encoder: pairs)
    score_seconds: float
    baseline: str = ""  # the candidate that the others of its model are compared with
    missing: dict[str, Candidate] = field(default_factory=dict)  # that the model does not have
    fitted: dict[str, BoundRecipe] = field(default_factory=dict)  # for this evaluation
    head: object = None  # of each recipe, or of the model
    label_range: tuple[float, float] | None = None  # that it was trained on

    @property
    def resamples(self) -> int:
        """How many resamples score the candidates."""
        return resamples_for(len(self.recipes))

    @property
    def own(self) -> list[str]:
        """The candidates that are the recipe of their model's folder."""
        recipes = {name: run.described["recipe"] for name, run in self.models.items()}
        return [name for name, x in self.recipes.items() if x.shown == recipes[x.model]]

    @property
    def kind(self) -> str:
        """What differs between the candidates: recipe, model, or both (candidate)."""
        if len(self.models) == 1 and all(x.stage == Stage() for x in self.recipes.values()):
            return "recipe"
        return "model" if [*self.recipes] == [*self.models] else "candidate"

    @classmethod
    def joined(cls, parts: Sequence[ModelPredictions]) -> ModelPredictions:
        """Those of several models on the same data sets."""
        first, *others = parts
        for part in others:
            first = replace(
                first,
                **{
                    name: getattr(first, name) | getattr(part, name)
                    for name in ("models", "recipes", "samples", "missing", "fitted")
                },
                of_pairs={at: [*x, *part.of_pairs[at]] for at, x in first.of_pairs.items()},
                of_retrieval={
                    at: (qrels, [*x, *part.of_retrieval[at][1]])
                    for at, (qrels, x) in first.of_retrieval.items()
                },
                geometries={at: x | part.geometries[at] for at, x in first.geometries.items()},
                score_seconds=first.score_seconds + part.score_seconds,
            )
        return first


def predict_by_embeddings(
    embeddings: SetEmbeddings,
    bounds: Sequence[BoundRecipe],
    scorers: Sequence[list[PairScorer]],
    sets: EvaluationSets,
    options: Options,
    *,
    similarities: tuple[str, ...],
    decided_by: str,
    settings: ModelSettings,
    modes: SearchModes | None = None,
) -> ModelPredictions:
    """The predictions of an embedder's recipes, each with the scorers of its pairs.

    `modes` are the ways to search retrieval sets; where there is more than one, sets of pairs have
    been refused.
    """
    started = time.perf_counter()
    model, modes = settings.name or embeddings.embedder.name, modes or SearchModes()
    recipes = {
        stage.candidate(settings.candidate(bound.recipe)): Candidate(model, bound.recipe, stage)
        for bound in bounds
        for stage in modes.of_recipes
    }
    of_pairs: dict[int, list[Predictions]] = {}
    of_retrieval: dict[int, tuple[IndexedQrels, list[Rankings]]] = {}
    samples: dict[str, list[NDArray[np.float64]]] = {recipe: [] for recipe in recipes}
    for dataset, data in enumerate([*sets.scored, *sets.selecting]):
        if isinstance(data, RetrievalSet):
            qrels, rankings = IndexedQrels.of(data), list[Rankings]()
            of_retrieval[dataset] = qrels, rankings
            for position, bound in enumerate(bounds):
                queries, documents = (
                    embeddings.texts(position, dataset, role) for role in ("query", "document")
                )
                name = settings.candidate(bound.recipe)
                rankings += qrels.rank(
                    name, queries, documents, options.similarities, options.index, modes
                )
                for similarity in options.similarities:
                    sample = _sample(similarity, queries, documents)
                    for number, stage in enumerate(modes.of_recipes):
                        # Only recipes that are searched alike can predict the same.
                        samples[stage.candidate(name)].append(np.append(sample, number))
            continue
        of_pairs[dataset] = []
        for position, (recipe, own) in enumerate(zip(recipes, scorers, strict=True)):
            vectors = embeddings.pairs(position, dataset)
            of_pairs[dataset] += [
                Predictions(recipe, scorer.name, scorer.score(vectors), scorer.metrics)
                for scorer in own
            ]
        for predicted in of_pairs[dataset]:
            samples[predicted.recipe].append(predicted.values)
    return ModelPredictions(
        models={model: ModelRun.of(embeddings)},
        recipes=recipes,
        similarities=similarities,
        decided_by=decided_by,
        of_pairs=of_pairs,
        of_retrieval=of_retrieval,
        samples=samples,
        geometries={
            dataset: dict(zip(recipes, embeddings.geometries(dataset), strict=True))
            for dataset, data in enumerate(sets.scored)
            if isinstance(data, Pairs)
        },
        truncated=[embeddings.truncated(dataset) for dataset in range(len(sets.all))],
        score_seconds=time.perf_counter() - started,
    )


def _sample(similarity: str, queries: Float32Array, documents: Float32Array) -> NDArray[np.float64]:
    """The similarities of up to 64 queries and 1,024 documents, evenly spaced."""
    rows = np.unique(np.linspace(0, len(queries) - 1, 64).astype(int))
    columns = np.unique(np.linspace(0, len(documents) - 1, 1024).astype(int))
    matrix = find_similarity(similarity).matrix
    return matrix(queries[rows].astype(np.float64), documents[columns].astype(np.float64))


def predict_by_words(
    sets: EvaluationSets, options: Options, modes: SearchModes
) -> ModelPredictions:
    """The rankings of BM25, which reads retrieval sets only and needs no model."""
    started = time.perf_counter()
    candidates = {stage.candidate(BM25): Candidate(BM25, None, stage) for stage in modes.of_words}
    of_retrieval = {}
    texts = [{text for of_role in data.texts.values() for text in of_role} for data in sets.all]
    for dataset, data in enumerate([*sets.scored, *sets.selecting]):
        if not isinstance(data, RetrievalSet):
            continue
        qrels = IndexedQrels.of(data)
        of_retrieval[dataset] = (
            qrels,
            [
                # Rows of one table have one similarity, and that of words would be none of them.
                qrels.measured(name, similarity, ranked)
                for name, x in candidates.items()
                for ranked in [modes.rank(x.stage, data, DEPTH + 1)]
                for similarity in options.similarities
            ],
        )
    described = {"name": BM25, "family": BM25, "layers": 0, "width": 0, "pooler": False}
    described |= {"recipe": None, "max_length": 0, "precision": "float64"}
    run = ModelRun(
        described,
        ModelUsed("cpu", "float64", 0, ""),
        dict.fromkeys(("sentence", "query", "document"), ""),
        sentences=0,
        forward_passes=0,
        truncated=0,
        cached=0,
        seconds=0.0,
    )
    return ModelPredictions(
        models={BM25: run},
        recipes=candidates,
        similarities=tuple(options.similarities),
        decided_by=options.similarities[0],
        of_pairs={},
        of_retrieval=of_retrieval,
        samples={
            name: [np.array([-1.0 - number]) for _ in of_retrieval for _ in options.similarities]
            for number, name in enumerate(candidates)
        },
        geometries={},
        truncated=[np.zeros(len(distinct), np.bool_) for distinct in texts],
        score_seconds=time.perf_counter() - started,
        baseline=next(iter(candidates)),
    )


def predict_by_cross_encoder(
    model: CrossEncoder,
    sets: Sequence[Pairs],
    metrics: tuple[str, ...],
    show_progress: bool | None,
    settings: ModelSettings,
) -> ModelPredictions:
    """The predictions of a cross-encoder, which reads both sentences of a pair at once."""
    from embedkit.tokenization.pairs import PairTokens

    name, recipe = settings.name or model.name, str(model.described["recipe"])
    own = settings.candidate(recipe)
    started = time.perf_counter()
    of_pairs, truncated = {}, []
    for dataset, pairs in enumerate(sets):
        both = list(zip(pairs.sentence1, pairs.sentence2, strict=True))
        tokens = PairTokens.of(model.tokenizer, both)
        values = model.predict_tokens(tokens, show_progress=show_progress)
        of_pairs[dataset] = [Predictions(own, CROSS_ENCODER, values, metrics)]
        truncated.append(tokens.truncated)
    total = sum(len(pairs.scores) for pairs in sets)
    used = ModelUsed(str(model.device), "float32", model.tokenizer.max_length, model.fingerprint)
    run = ModelRun(
        model.described,
        used,
        {"sentence": ""},
        sentences=2 * total,
        forward_passes=total,
        truncated=sum(int(of_set.sum()) for of_set in truncated),
        cached=0,
        seconds=time.perf_counter() - started,
    )
    return ModelPredictions(
        models={name: run},
        recipes={own: Candidate(name, Recipe((recipe,)))},
        similarities=(CROSS_ENCODER,),
        decided_by=CROSS_ENCODER,
        of_pairs=of_pairs,
        of_retrieval={},
        samples={own: [of_set[0].values for of_set in of_pairs.values()]},
        geometries={dataset: {} for dataset in of_pairs},
        truncated=truncated,
        score_seconds=0.0,
        baseline=own,
        label_range=model.label_range,
    )
