"""Error analysis of retrieval sets: the worst queries, documents they miss, values by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedkit.evaluation.bootstrap import SEED, Seed, bootstrap_means, interval
from embedkit.evaluation.error_analysis import BIN_RESAMPLES, WORST, Bin, cut, quarters
from embedkit.evaluation.ranking_metrics import IDEAL_DEPTH, RANKING_METRICS
from embedkit.evaluation.results import RETRIEVAL
from embedkit.evaluation.retrieval import IndexedQrels, Rankings

CUTOFF = IDEAL_DEPTH  # a relevant document at a larger rank is missed
LISTED = 3  # missed documents of a query
_MAIN = list(RANKING_METRICS).index(RETRIEVAL.main)
_PERFECT = 1 - 1e-9


@dataclass(frozen=True)
class MissedDocument:
    """A relevant document that is not among the first ten."""

    document: str  # its id
    relevance: int
    rank: int | None  # None beyond rank 1,000, or if it is not among the documents


@dataclass(frozen=True)
class QueryErrors:
    """A query whose nDCG@10 is below 1."""

    query: str  # its id
    value: float  # nDCG@10
    first_relevant: int | None  # rank of the first relevant document; None beyond rank 1,000
    first: str | None  # id of the document at rank 1
    relevant: int  # documents
    missed: int  # of these
    documents: tuple[MissedDocument, ...]  # the first three missed ones, the most relevant first


@dataclass(frozen=True)
class RecipeQueryErrors:
    """The errors of one recipe on one retrieval set."""

    recipe: str
    relevant: int  # documents of all queries
    missed: int  # of these, not among the first ten
    by_length: tuple[Bin, ...]  # bins of words a query, split at white space
    worst: tuple[QueryErrors, ...]  # lowest nDCG@10 first, then the latest first relevant document


@dataclass(frozen=True)
class QuotedText:
    """A query or document as a report quotes it, cut to 300 characters."""

    id: str
    text: str


@dataclass(frozen=True)
class RetrievalErrorAnalysis:
    """The errors of all recipes on one retrieval set."""

    dataset: str
    recipes: tuple[RecipeQueryErrors, ...]  # those that have values
    queries: tuple[QuotedText, ...]  # that they name
    documents: tuple[QuotedText, ...]  # likewise, if they are in the set


def analyse_retrieval_errors(
    qrels: IndexedQrels, rankings: Sequence[Rankings], seed: Seed = SEED
) -> RetrievalErrorAnalysis:
    """The errors of every recipe, by its rankings for n queries."""
    data = qrels.data
    values = {one.recipe: one.values[_MAIN] for one in rankings if one.values is not None}
    bins: dict[str, list[Bin]] = {recipe: [] for recipe in values}
    lengths = np.array([float(len(text.split())) for text in data.texts["query"]])
    for low, high, rows in quarters(lengths) if values else ():
        in_bin = np.stack([of_recipe[rows] for of_recipe in values.values()])
        resampled = bootstrap_means(in_bin, BIN_RESAMPLES, seed)
        for recipe, own, drawn in zip(values, in_bin, resampled, strict=True):
            bins[recipe].append(Bin(low, high, len(rows), float(own.mean()), None, interval(drawn)))
    relevant, recipes = int(qrels.counts.sum()), []
    for one in [one for one in rankings if one.recipe in values]:
        own = values[one.recipe]
        firsts = [min(ranks[ranks > 0].tolist(), default=np.inf) for ranks in one.ranks]
        # A query without relevant documents has the value 0, whatever its ranking.
        wrong = np.flatnonzero((own < _PERFECT) & (qrels.counts > 0)).tolist()
        wrong.sort(key=lambda row: (own[row], -firsts[row]))
        retrieved = sum(((ranks > 0) & (ranks <= CUTOFF)).sum() for ranks in one.ranks)
        recipes.append(
            RecipeQueryErrors(
                one.recipe,
                relevant,
                missed=relevant - int(retrieved),
                by_length=tuple(bins[one.recipe]),
                worst=tuple(_query_errors(qrels, one, row, own[row]) for row in wrong[:WORST]),
            )
        )
    worst = [error for one in recipes for error in one.worst]
    queries = dict.fromkeys(error.query for error in worst)
    documents = dict.fromkeys(
        name for error in worst for name in (error.first, *(x.document for x in error.documents))
    )
    return RetrievalErrorAnalysis(
        data.name,
        tuple(recipes),
        tuple(QuotedText(name, cut(data.queries[name])) for name in queries),
        tuple(
            QuotedText(name, cut(data.documents[name]))
            for name in documents
            if name is not None and name in data.documents
        ),
    )


def _query_errors(qrels: IndexedQrels, rankings: Rankings, row: int, value: float) -> QueryErrors:
    ids = qrels.data.document_ids
    query, judged = list(qrels.data.judgements.items())[row]
    first = rankings.first[row]
    positions, _ = qrels.relevant[row]
    named = (ids[position] for position in positions)
    ranks = dict(zip(named, rankings.ranks[row].tolist(), strict=True))
    missed = [
        MissedDocument(name, relevance, ranks.get(name) or None)
        for name, relevance in judged.items()
        if relevance > 0 and not 0 < ranks.get(name, 0) <= CUTOFF
    ]
    missed.sort(key=lambda document: -document.relevance)
    return QueryErrors(
        query,
        float(value),
        min((rank for rank in ranks.values() if rank), default=None),
        None if first < 0 else ids[first],
        int(qrels.counts[row]),
        len(missed),
        tuple(missed[:LISTED]),
    )
