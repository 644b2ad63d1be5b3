"""Run metadata: data, model, options and versions, so that a run can be repeated."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.data.datasets import DataSet
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.embedder import Embedder
from embedkit.evaluation.correlation import tie_rate
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.files import rows_sha256
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.retrieval.fusion import DENSE
from embedkit.version import __version__

_LIBRARIES = ("torch", "tokenizers", "transformers", "numpy", "scikit-learn")


@dataclass(frozen=True)
class PairsUsed:
    """A set of sentence pairs."""

    name: str
    role: str  # see `EvaluationSets.roles`
    pairs: int
    distinct_sentences: int
    truncated_share: float  # of the distinct sentences; of the pairs of a cross-encoder
    tied_scores: float  # share of pairs that have the same label as another pair
    sha256: str  # see `data_fingerprint`


@dataclass(frozen=True)
class RetrievalUsed:
    """A retrieval set."""

    name: str
    role: str  # see `EvaluationSets.roles`
    queries: int  # those that were judged
    documents: int
    left_out: int  # queries that are documents too, left out of their own rankings
    missing_documents: int  # judged relevant and not among the documents
    queries_without_relevant: int  # judged, without a relevant document: their values are 0
    distinct_texts: int
    truncated_share: float  # of the distinct texts
    sha256: str  # see `data_fingerprint`


DataUsed: TypeAlias = PairsUsed | RetrievalUsed


def data_used(data: DataSet, role: str, truncated: NDArray[np.bool_]) -> DataUsed:
    """The metadata of a set; `truncated` is of each distinct text, or pair of a cross-encoder."""
    share, sha256 = float(truncated.mean()), data_fingerprint(data)
    if isinstance(data, Pairs):
        distinct, ties = len({*data.sentence1, *data.sentence2}), tie_rate(data.scores)
        return PairsUsed(data.name, role, len(data.scores), distinct, share, ties, sha256)
    return RetrievalUsed(
        data.name,
        role,
        queries=len(data.judgements),
        documents=len(data.documents),
        left_out=len(data.own_documents),
        missing_documents=data.missing_documents,
        queries_without_relevant=data.queries_without_relevant,
        distinct_texts=len(truncated),
        truncated_share=share,
        sha256=sha256,
    )


@dataclass(frozen=True)
class Search:
    """How retrieval sets are searched."""

    index: str  # its kind, see `nearest`
    depth: int  # of the rankings
    query_prompt: str
    document_prompt: str
    modes: tuple[str, ...] = (DENSE,)
    words: str | None = None  # how BM25 splits texts
    reranker: str | None = None
    rerank_depth: int | None = None
    weights: tuple[float, ...] | None = None  # of dense and BM25 in hybrid; None fuses by rank


class ModelUsed(NamedTuple):
    """What the numbers depend on, of the model."""

    device: str
    precision: str
    max_length: int  # tokens of a text, or of a pair
    sha256: str  # of the whole model


@dataclass(frozen=True)
class ModelRun:
    """A model of an evaluation, and its passes over the data."""

    described: dict[str, Any]  # as a report describes it
    used: ModelUsed
    prompts: Mapping[str, str]  # by role
    sentences: int  # in the data, queries and documents among them; two for each pair
    forward_passes: int  # distinct texts of each data set (of a cross-encoder: pairs)
    truncated: int  # of these
    cached: int  # of these, those that the network did not run
    seconds: float  # that the passes took

    @classmethod
    def of(cls, embeddings: SetEmbeddings) -> ModelRun:
        embedder, encoder = embeddings.embedder, embeddings.embedder.encoder
        max_length, precision = embedder.tokenizer.max_length, embedder.precision
        described = {
            "name": embedder.name,
            "family": encoder.family,
            "layers": encoder.num_layers,
            "width": encoder.dim,
            "pooler": encoder.pooler is not None,
            "recipe": None if embedder.own is None else str(embedder.own.recipe),
            "max_length": max_length,
            "precision": precision,
            "engine": embedder.engine,
        }
        truncated = [embeddings.truncated(dataset) for dataset in range(len(embeddings.rows))]
        return cls(
            described,
            ModelUsed(str(encoder.device), precision, max_length, model_fingerprint(embedder)),
            embeddings.prompts,
            sentences=sum(len(rows) for of_set in embeddings.rows for rows in of_set.values()),
            forward_passes=sum(map(len, truncated)),
            truncated=sum(int(of_set.sum()) for of_set in truncated),
            cached=embeddings.cached,
            seconds=embeddings.seconds,
        )


@dataclass(frozen=True)
class RunMetadata:
    """What one must know to repeat a run; `protocol` in report.json."""

    prompt: str  # put in front of each sentence of pairs
    similarities: tuple[str, ...]
    aggregation: str
    head: str | None  # of each recipe, as scikit-learn prints it
    threshold: float | None  # of F1
    resamples: int
    seed: int  # of the bootstrap
    device: str
    precision: str
    max_length: int  # tokens of a sentence
    model_sha256: str  # see `model_fingerprint`
    data: tuple[DataUsed, ...]
    search: Search | None  # None if there are only pairs
    versions: dict[str, str]  # of embedkit, Python and the libraries that compute
    date: str  # when the run ended, in ISO 8601 with its time zone
    command: str | None = None  # as it was typed, or None for a call in Python
    label_range: tuple[float, float] | None = None  # that a head or cross-encoder was trained on
    trained_pairs: int = 0  # scored pairs that are also among those the heads were trained on


def library_versions() -> dict[str, str]:
    """Of embedkit, Python and the libraries that compute."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"embedkit": __version__, "python": platform.python_version(), **libraries}


def model_fingerprint(embedder: Embedder) -> str:
    """SHA-256 of the whole model, whatever the recipe: weights, tokenizer, its own steps."""
    whole = Recipe(("mean",) if embedder.encoder.pooler is None else ("pooler",))
    own = embedder.own
    bound = BoundRecipe(whole, ()) if own is None else replace(own, recipe=whole)
    return embedder.fingerprint_of(bound)


def data_fingerprint(data: DataSet) -> str:
    """SHA-256 of the data as they were read, as lines of JSON in UTF-8.

    Each pair is a list of both sentences, the label and, if there are subsets, its subset. Of
    retrieval sets the lines are the queries and the documents (id and text), and the qrels (both
    ids and the relevance).
    """
    return rows_sha256(_rows(data))


def _rows(data: DataSet) -> Iterator[tuple[object, ...]]:
    if isinstance(data, RetrievalSet):
        yield from data.queries.items()
        yield from data.documents.items()
        for query, judged in data.judgements.items():
            yield from ((query, document, relevance) for document, relevance in judged.items())
        return
    subsets = [] if data.subsets is None else [data.subsets]
    yield from zip(data.sentence1, data.sentence2, data.scores.tolist(), *subsets, strict=True)
