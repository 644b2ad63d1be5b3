"""What one must know to repeat a run."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.data.datasets import DataSet
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.fingerprint import fingerprint, identity
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.correlation import tie_rate
from embedkit.evaluation.retrieval import DEPTH
from embedkit.files import rows_sha256
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.version import __version__

_LIBRARIES = ("torch", "tokenizers", "transformers", "numpy", "scikit-learn")


@dataclass(frozen=True)
class PairsUsed:
    """One set of pairs.

    Attributes:
        name: what its results are filed under.
        role: scored, selected on, or trained on.
        pairs: how many.
        distinct_sentences: in them.
        truncated_share: of the distinct sentences, those that were cut to the maximum length; of
            the pairs, where a cross-encoder scored them.
        tied_scores: share of pairs that have the same score as another pair.
        sha256: see `data_fingerprint`.
    """

    name: str
    role: str
    pairs: int
    distinct_sentences: int
    truncated_share: float
    tied_scores: float
    sha256: str


@dataclass(frozen=True)
class RetrievalUsed:
    """One retrieval set.

    Attributes:
        name: what its results are filed under.
        role: scored.
        queries: those that were judged.
        documents: how many.
        left_out: queries that are documents too, and were left out of their own rankings.
        missing_documents: judged relevant and not among the documents, so never retrieved.
        queries_without_relevant: judged queries without a relevant document, whose values are 0.
        distinct_texts: of queries and documents.
        truncated_share: of the distinct texts, those that were cut to the maximum length.
        sha256: see `data_fingerprint`.
    """

    name: str
    role: str
    queries: int
    documents: int
    left_out: int
    missing_documents: int
    queries_without_relevant: int
    distinct_texts: int
    truncated_share: float
    sha256: str


DataUsed: TypeAlias = PairsUsed | RetrievalUsed


def data_used(
    data: DataSet, role: str, truncated: NDArray[np.bool_], distinct: int | None = None
) -> DataUsed:
    """What was read.

    Args:
        data: a set.
        role: what it was read for.
        truncated: for each distinct text whether it was cut; or for each pair, with `distinct`.
        distinct: texts; None for as many as `truncated` has.
    """
    distinct, share = distinct or len(truncated), float(truncated.mean())
    sha256 = data_fingerprint(data)
    if isinstance(data, Pairs):
        ties = tie_rate(data.scores)
        return PairsUsed(data.name, role, len(data.scores), distinct, share, ties, sha256)
    sizes = len(data.judgements), len(data.documents), len(data.own_documents)
    lacking = data.missing_documents, data.queries_without_relevant
    return RetrievalUsed(data.name, role, *sizes, *lacking, distinct, share, sha256)


@dataclass(frozen=True)
class Search:
    """How retrieval sets are searched.

    Attributes:
        index: kind of it, see `nearest`.
        depth: of the rankings.
        query_prompt: put in front of each query.
        document_prompt: put in front of each document.
    """

    index: str
    depth: int
    query_prompt: str
    document_prompt: str


class ModelUsed(NamedTuple):
    """The model, as far as numbers depend on it.

    Attributes:
        device: that it ran on.
        precision: that it ran in.
        max_length: tokens of a text, or of a pair.
        sha256: of the whole model.
    """

    device: str
    precision: str
    max_length: int
    sha256: str

    @classmethod
    def of(cls, embedder: Embedder) -> ModelUsed:
        """That of an embedder; see `model_fingerprint`."""
        device, sha256 = str(embedder.encoder.device), model_fingerprint(embedder)
        return cls(device, embedder.precision, embedder.tokenizer.max_length, sha256)


@dataclass(frozen=True)
class Protocol:
    """How numbers came about.

    Attributes:
        prompt: put in front of each sentence of pairs.
        similarities: what was measured by.
        aggregation: what decides where pairs have subsets.
        head: the head of each recipe, as scikit-learn prints it, or None.
        threshold: of F1, or None.
        label_range: the lowest and the highest label that a head or cross-encoder was trained for.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        device: of the encoder.
        precision: of the encoder.
        max_length: tokens of a sentence.
        model_sha256: see `model_fingerprint`.
        data: what was read.
        search: how retrieval sets were searched; None where there are only pairs.
        versions: of embedkit, Python and the libraries that compute.
        command: as it was typed, or None for a call in Python.
    """

    prompt: str
    similarities: tuple[str, ...]
    aggregation: str
    head: str | None
    threshold: float | None
    resamples: int
    seed: int
    device: str
    precision: str
    max_length: int
    model_sha256: str
    data: tuple[DataUsed, ...]
    search: Search | None
    versions: dict[str, str]
    command: str | None = None
    label_range: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        model: ModelUsed,
        prompts: Mapping[str, str],
        data: tuple[DataUsed, ...],
        *,
        index: str,
        similarities: tuple[str, ...],
        aggregation: str,
        head: str | None,
        threshold: float | None,
        seed: int,
        label_range: tuple[float, float] | None = None,
    ) -> Protocol:
        """The protocol of a pass that was just made; `prompts` are by role."""
        searched = any(isinstance(used, RetrievalUsed) for used in data)
        search = Search(index, DEPTH, prompts["query"], prompts["document"]) if searched else None
        return cls(
            prompt=prompts["sentence"],
            similarities=similarities,
            aggregation=aggregation,
            head=head,
            threshold=threshold,
            label_range=label_range,
            resamples=RESAMPLES,
            seed=seed,
            device=model.device,
            precision=model.precision,
            max_length=model.max_length,
            model_sha256=model.sha256,
            data=data,
            search=search,
            versions={
                "embedkit": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in _LIBRARIES},
            },
        )


def model_fingerprint(embedder: Embedder) -> str:
    """SHA-256 of the whole model, whatever the recipe: weights, tokenizer, its own steps."""
    whole = Recipe(("mean",) if embedder.encoder.pooler is None else ("pooler",))
    own = embedder.own
    steps, learnt = ((), None) if own is None else (own.steps, own.token_weights)
    bound = BoundRecipe(whole, steps, learnt)
    return fingerprint(identity(embedder.encoder, embedder.tokenizer, bound, embedder.settings))


def data_fingerprint(data: DataSet) -> str:
    """SHA-256 of the data as they were read: a line of JSON each, in UTF-8.

    A line of pairs is a list of both sentences, the score and, where there are some, the subset. Of
    retrieval sets the lines are the queries and the documents (id and text), and the judgements
    (both ids and the relevance), as they were read.
    """
    return rows_sha256(_rows(data))


def _rows(data: DataSet) -> Iterator[tuple[object, ...]]:
    if isinstance(data, RetrievalSet):
        yield from data.queries.items()
        yield from data.documents.items()
        for query, judged in data.judgements.items():
            yield from ((query, document, relevance) for document, relevance in judged.items())
        return
    columns: list[Sequence[object]] = [data.sentence1, data.sentence2, data.scores.tolist()]
    if data.subsets is not None:
        columns.append(data.subsets)
    yield from zip(*columns, strict=True)
