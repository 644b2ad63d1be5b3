"""What a model predicts for data sets: an embedder by similarities or heads, or a cross-encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.bootstrap import resamples_for
from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.error_analysis import Geometry
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.pair_scores import Predictions, similarities_of
from embedkit.evaluation.results import CROSS_ENCODER
from embedkit.evaluation.retrieval import IndexedQrels, Rankings
from embedkit.evaluation.run_metadata import ModelUsed
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
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


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """The predictions of a model for all data sets, which are named by their positions."""

    model: dict[str, Any]  # as a report describes it
    model_used: ModelUsed
    recipes: dict[str, Recipe]  # what is compared, by the names that results use
    prompts: Mapping[str, str]  # by role
    similarities: tuple[str, ...]  # as the run metadata list them
    decided_by: str  # the similarity that decides which recipe is best
    of_pairs: dict[int, list[Predictions]]  # for each set of scored or selecting pairs
    of_retrieval: dict[int, tuple[IndexedQrels, list[Rankings]]]  # for each retrieval set
    samples: dict[str, list[NDArray[np.float64]]]  # of each recipe, predictions to tell it by
    geometries: dict[int, dict[str, Geometry]]  # for each set of scored pairs, by recipe
    truncated: list[NDArray[np.bool_]]  # of each set, the distinct texts (cross-encoder: pairs)
    sentences: int  # in the data, queries and documents among them; two for each pair
    forward_passes: int  # distinct texts (of a cross-encoder: pairs) that the network ran
    truncations: int  # of these
    encode_seconds: float
    encoded_at: float  # when the network was ready, on the clock of `time.perf_counter`

    @property
    def resamples(self) -> int:
        """How many resamples score the recipes."""
        return resamples_for(len(self.recipes))


def predict_by_embeddings(
    embeddings: SetEmbeddings,
    bounds: Sequence[BoundRecipe],
    scorers: Sequence[list[PairScorer]],
    sets: EvaluationSets,
    options: Options,
    *,
    similarities: tuple[str, ...],
    decided_by: str,
) -> ModelPredictions:
    """The predictions of an embedder's recipes, each with the scorers of its pairs."""
    encoded_at = time.perf_counter()
    embedder, encoded = embeddings.embedder, embeddings.encoded.values()
    recipes = {str(bound.recipe): bound.recipe for bound in bounds}
    of_pairs: dict[int, list[Predictions]] = {}
    of_retrieval: dict[int, tuple[IndexedQrels, list[Rankings]]] = {}
    samples: dict[str, list[NDArray[np.float64]]] = {recipe: [] for recipe in recipes}
    for dataset, data in enumerate([*sets.scored, *sets.selecting]):
        if isinstance(data, RetrievalSet):
            qrels, rankings = IndexedQrels.of(data), list[Rankings]()
            of_retrieval[dataset] = qrels, rankings
            for position, recipe in enumerate(recipes):
                queries, documents = (
                    embeddings.texts(position, dataset, role) for role in ("query", "document")
                )
                rankings += qrels.rank(
                    recipe, queries, documents, options.similarities, options.index
                )
                samples[recipe] += [
                    _sample(name, queries, documents) for name in options.similarities
                ]
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
        model={
            "name": embedder.name,
            "family": embedder.encoder.family,
            "layers": embedder.encoder.num_layers,
            "width": embedder.encoder.dim,
            "pooler": embedder.encoder.pooler is not None,
            "recipe": None if embedder.own is None else str(embedder.own.recipe),
            "max_length": embedder.tokenizer.max_length,
            "precision": embedder.precision,
        },
        model_used=ModelUsed.of(embedder),
        recipes=recipes,
        prompts=embeddings.prompts,
        similarities=similarities,
        decided_by=decided_by,
        of_pairs=of_pairs,
        of_retrieval=of_retrieval,
        samples=samples,
        geometries={
            dataset: {
                recipe: embeddings.geometry(position, dataset)
                for position, recipe in enumerate(recipes)
            }
            for dataset, data in enumerate(sets.scored)
            if isinstance(data, Pairs)
        },
        truncated=[embeddings.truncated(dataset) for dataset in range(len(sets.all))],
        sentences=sum(len(of_prompt.distinct.inverse) for of_prompt in encoded),
        forward_passes=sum(len(of_prompt.distinct.texts) for of_prompt in encoded),
        truncations=sum(int(of_prompt.tokens.truncated.sum()) for of_prompt in encoded),
        encode_seconds=embeddings.seconds,
        encoded_at=encoded_at,
    )


def _sample(similarity: str, queries: Float32Array, documents: Float32Array) -> NDArray[np.float64]:
    """The similarities of up to 64 queries and 1,024 documents, evenly spaced."""
    rows = np.unique(np.linspace(0, len(queries) - 1, 64).astype(int))
    columns = np.unique(np.linspace(0, len(documents) - 1, 1024).astype(int))
    matrix = find_similarity(similarity).matrix
    return matrix(queries[rows].astype(np.float64), documents[columns].astype(np.float64))


def predict_by_cross_encoder(
    model: CrossEncoder,
    sets: Sequence[Pairs],
    metrics: tuple[str, ...],
    show_progress: bool | None = None,
) -> ModelPredictions:
    """The predictions of a cross-encoder, which reads both sentences of a pair at once."""
    from embedkit.tokenization.pairs import PairTokens

    recipe = str(model.described["recipe"])
    started = time.perf_counter()
    of_pairs, truncated = {}, []
    for dataset, pairs in enumerate(sets):
        both = list(zip(pairs.sentence1, pairs.sentence2, strict=True))
        tokens = PairTokens.of(model.tokenizer, both)
        values = model.predict_tokens(tokens, show_progress=show_progress)
        of_pairs[dataset] = [Predictions(recipe, CROSS_ENCODER, values, metrics)]
        truncated.append(tokens.truncated)
    encoded_at = time.perf_counter()
    total = sum(len(pairs.scores) for pairs in sets)
    return ModelPredictions(
        model=model.described,
        model_used=ModelUsed(
            str(model.device), "float32", model.tokenizer.max_length, model.fingerprint
        ),
        recipes={recipe: Recipe((recipe,))},
        prompts={"sentence": ""},
        similarities=(CROSS_ENCODER,),
        decided_by=CROSS_ENCODER,
        of_pairs=of_pairs,
        of_retrieval={},
        samples={recipe: [of_set[0].values for of_set in of_pairs.values()]},
        geometries={dataset: {} for dataset in of_pairs},
        truncated=truncated,
        sentences=2 * total,
        forward_passes=total,
        truncations=sum(int(of_set.sum()) for of_set in truncated),
        encode_seconds=encoded_at - started,
        encoded_at=encoded_at,
    )
