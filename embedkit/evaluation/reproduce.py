"""Look for the difference of protocol that explains a gap to a published value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache as memory
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.data.datasets import DataSet, read_named_sets
from embedkit.data.named_files import find_files
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.embedder.cache import EmbeddingCache, open_cache
from embedkit.embedder.embedder import Embedder
from embedkit.evaluation.correlation import AGGREGATIONS
from embedkit.evaluation.pair_scores import Predictions, measured, similarities_of
from embedkit.evaluation.published import (
    OTHER_VERSIONS,
    TOLERANCE,
    Comparison,
    compare_with_published,
)
from embedkit.evaluation.results import RETRIEVAL
from embedkit.evaluation.retrieval import IndexedQrels
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.similarity import SIMILARITIES

if TYPE_CHECKING:
    from embedkit.evaluation.report.report import Report

# "first" is hidden state 1, the output of the first layer, or 0, which is before it.
_RECIPES = ("mean@1,-1", "mean@0,-1", "mean", "cls", "max")

Tried = Iterator[tuple[str, float | None]]


def explain_differences(
    report: Report,
    sets: Sequence[DataSet],
    load: Callable[[str], Embedder],
    published: str | None = None,
    *,
    cache: bool | str | Path = False,
    show_progress: bool | None = None,
) -> Report:
    """The report of these sets, with the reasons why values differ from the published ones.

    Protocols that differ in one respect from the one that was measured are tried until one gives
    the published value: the version of the data set, the prompt, the hidden states, the
    aggregation, the similarity, the pooling. With the cache that `evaluate` filled, only what a
    protocol changes is encoded. `load` gives the embedder that the report calls so.
    """
    by_name, load = {data.name: data for data in sets}, memory(load)
    comparisons = []
    with open_cache(cache) as store:
        for comparison in compare_with_published(report, published, any_recipe=True):
            if comparison.verdict != "differs":
                comparisons.append(comparison)
                continue
            embedder, data = load(comparison.model), by_name[comparison.dataset]
            tried = _protocols(report, comparison, embedder, data, store, show_progress)
            comparisons.append(_explained(comparison, tried))
    return replace(report, comparisons=tuple(comparisons))


def _explained(comparison: Comparison, tried: Tried) -> Comparison:
    values = {}
    for protocol, value in tried:
        values[protocol] = value
        if value is not None and abs(value - comparison.published) <= TOLERANCE:
            return replace(comparison, verdict="explained", explanation=protocol, tried=values)
    return replace(comparison, verdict="not_reproduced", tried=values)


def _prompts(report: Report, model: str) -> Mapping[str, str]:
    """The prompt of each role, as it was measured."""
    if model in report.models:
        return report.models[model].prompts
    metadata, search = report.run_metadata, report.run_metadata.search
    prompts = {"sentence": metadata.prompt}
    if search is not None:
        prompts |= {"query": search.query_prompt, "document": search.document_prompt}
    return prompts


def _protocols(
    report: Report,
    comparison: Comparison,
    embedder: Embedder,
    data: DataSet,
    cache: EmbeddingCache | None,
    show_progress: bool | None,
) -> Tried:
    """Protocols that differ in one respect, and their values; vectors are made when needed."""
    own, prompts = embedder.bind(comparison.recipe), _prompts(report, comparison.model)

    def encoded(data: DataSet, prompts: Mapping[str, str], *recipes: str) -> SetEmbeddings:
        bounds = [own, *map(embedder.bind, recipes)]
        return SetEmbeddings.of(
            embedder, [data], bounds, prompts, cache=cache, show_progress=show_progress
        )

    def value(embeddings: SetEmbeddings, recipe: int = 0, **changed: str) -> float | None:
        used = {"similarity": report.decided_by, "aggregation": report.aggregation, **changed}
        return _value(embeddings, recipe, data, **used)

    if (other := OTHER_VERSIONS.get(data.name)) is not None:
        of_version = None
        if find_files(other) is not None:
            (version,) = read_named_sets([other])
            of_version = _value(encoded(version, prompts), 0, version, report.decided_by, "all")
        yield f"data {other}", of_version
    for changed in _other_prompts(embedder, comparison, data, prompts):
        shown = " and ".join(repr(text) for text in changed.values())
        yield f"prompt {shown}", value(encoded(data, {**prompts, **changed}))
    known = [*_RECIPES] if embedder.own is None else [*_RECIPES, str(embedder.own.recipe)]
    recipes = [recipe for recipe in known if embedder.bind(recipe).recipe != own.recipe]
    embeddings = encoded(data, prompts, *recipes)
    values = {recipe: value(embeddings, position) for position, recipe in enumerate(recipes, 1)}
    yield from ((f"recipe {recipe}", values[recipe]) for recipe in recipes if "," in recipe)
    if not isinstance(data, RetrievalSet) and data.subsets is not None:
        for aggregation in [x for x in AGGREGATIONS if x != report.aggregation]:
            yield f"aggregation {aggregation}", value(embeddings, aggregation=aggregation)
    by_similarity = {name: value(embeddings, similarity=name) for name in SIMILARITIES}
    if report.decided_by != "cosine":
        yield "similarity cosine", by_similarity["cosine"]
    defined = [one for one in by_similarity.values() if one is not None]
    yield f"maximum over {', '.join(SIMILARITIES)}", max(defined, default=None)
    yield from ((f"recipe {recipe}", values[recipe]) for recipe in recipes if "," not in recipe)


def _other_prompts(
    embedder: Embedder, comparison: Comparison, data: DataSet, prompts: Mapping[str, str]
) -> list[dict[str, str]]:
    """The published prompts, none, and for sentences each of the model's, but for those in use."""
    if isinstance(data, RetrievalSet):
        pairs = dict.fromkeys((comparison.prompts, ("", "")))
        changed = [{"query": query, "document": document} for query, document in pairs]
    else:
        texts = dict.fromkeys((comparison.prompts[0], "", *embedder.settings.prompts.values()))
        changed = [{"sentence": text} for text in texts]
    return [one for one in changed if not one.items() <= prompts.items()]


def _value(
    embeddings: SetEmbeddings, recipe: int, data: DataSet, similarity: str, aggregation: str
) -> float | None:
    """The main metric, without an interval."""
    if isinstance(data, RetrievalSet):
        queries, documents = (embeddings.texts(recipe, 0, role) for role in ("query", "document"))
        qrels = IndexedQrels.of(data)
        (rankings,) = qrels.rank("", queries, documents, [similarity])
        return next(x.value for x in qrels.results(rankings) if x.metric == RETRIEVAL.main)
    vectors = embeddings.pairs(recipe, 0)
    predictions = similarities_of(similarity, vectors[:, 0], vectors[:, 1])
    results = measured(data, Predictions("", similarity, predictions, ("spearman",)))
    by_aggregation = {row.aggregation: row.value for row in results}
    return by_aggregation.get(aggregation, by_aggregation["all"])  # without subsets it is all
