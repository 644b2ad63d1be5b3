"""Score rankings of a retrieval set's documents against its qrels (relevance judgements)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.bootstrap import (
    RESAMPLES,
    SEED,
    Seed,
    bootstrap_means,
    interval,
    why_no_interval,
)
from embedkit.evaluation.exact_search import EXACT, nearest
from embedkit.evaluation.ranking_metrics import IDEAL_DEPTH, RANKING_METRICS
from embedkit.evaluation.results import Result, Scored
from embedkit.evaluation.search_modes import SearchModes
from embedkit.recipes.steps import Float32Array

DEPTH = 1000  # of a ranking, trec_eval's and BEIR's


@dataclass(frozen=True, eq=False)
class Rankings:
    """How one recipe ranks the documents for each of n queries, by one similarity."""

    recipe: str
    similarity: str
    values: NDArray[np.float64] | None  # (metrics, n) of `RANKING_METRICS`; None for a reason
    ranks: Sequence[NDArray[np.int64]] = ()  # by query, of `IndexedQrels.relevant`; 0 beyond DEPTH
    first: Sequence[int] = ()  # by query, the position of the document at rank 1; -1 for none
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class IndexedQrels:
    """The qrels of n queries, with documents by their positions in `RetrievalSet.document_ids`."""

    data: RetrievalSet
    relevant: list[tuple[NDArray[np.int64], NDArray[np.int64]]]  # positions and gains, by query
    ideal: NDArray[np.int64]  # (n, IDEAL_DEPTH) the highest gains of all judged, padded with 0
    counts: NDArray[np.int64]  # (n,) relevant documents, with those that are not in the set
    itself: NDArray[np.int64]  # (n,) the query's own document, to leave out; -1 if it has none

    @classmethod
    def of(cls, data: RetrievalSet) -> IndexedQrels:
        positions = {name: position for position, name in enumerate(data.document_ids)}
        relevant = []
        ideal = np.zeros((len(data.judgements), IDEAL_DEPTH), np.int64)
        counts = np.zeros(len(ideal), np.int64)
        for query, judged in enumerate(data.judgements.values()):
            positive = {name: gain for name, gain in judged.items() if gain > 0}
            gains = {positions[name]: gain for name, gain in positive.items() if name in positions}
            highest = sorted(positive.values(), reverse=True)
            ideal[query, : len(highest)] = highest[:IDEAL_DEPTH]
            counts[query] = len(highest)
            relevant.append((np.array([*gains], np.int64), np.array([*gains.values()], np.int64)))
        itself = [
            positions[query] if query in data.own_documents else -1 for query in data.judgements
        ]
        return cls(data, relevant, ideal, counts, np.array(itself))

    def rank(
        self,
        recipe: str,
        queries: Float32Array,
        documents: Float32Array,
        similarities: Sequence[str],
        index: str = EXACT,
        modes: SearchModes | None = None,
    ) -> list[Rankings]:
        """The rankings of a recipe by each similarity, searched in each of the ways of `modes`.

        `queries` are (n, dim) and `documents` (m, dim) float32.
        """
        reason = None
        if not (np.isfinite(queries).all() and np.isfinite(documents).all()):
            reason = "the similarities are not all finite"
        elif len(documents) > 1 and (documents == documents[0]).all():
            reason = "the similarities are all the same"
        modes = modes or SearchModes()
        rankings = []
        for similarity in similarities:
            # One more than the depth, for the query itself may have to go.
            dense = None
            if reason is None:
                dense = nearest(queries, documents, similarity, DEPTH + 1, index)
            for stage in modes.of_recipes:
                name = stage.candidate(recipe)
                if dense is None:
                    rankings.append(Rankings(name, similarity, None, reason=reason))
                else:
                    ranked = modes.rank(stage, self.data, DEPTH + 1, dense)
                    rankings.append(self.measured(name, similarity, ranked))
        return rankings

    def results(self, rankings: Rankings) -> list[Result]:
        """Each metric as its mean over the queries, without an interval."""
        n = len(self.relevant)
        values = [None] * len(RANKING_METRICS) if rankings.values is None else rankings.values
        return [
            Result(
                rankings.recipe,
                self.data.name,
                n,
                rankings.similarity,
                metric,
                "all",
                None if of_queries is None else float(of_queries.mean()),
                reason=rankings.reason,
            )
            for metric, of_queries in zip(RANKING_METRICS, values, strict=True)
        ]

    def score(
        self, rankings: Rankings, *, resamples: int = RESAMPLES, seed: Seed = SEED
    ) -> list[Scored]:
        """The results with their intervals, on the same resamples of the queries for all."""
        results = self.results(rankings)
        if rankings.values is None:
            return [Scored(result, None) for result in results]
        resampled = bootstrap_means(rankings.values, resamples, seed)
        reason = why_no_interval(len(self.relevant))
        return [
            Scored(replace(result, ci95=ci95, reason=None if ci95 else reason), row)
            for result, row in zip(results, resampled, strict=True)
            for ci95 in [interval(row)]
        ]

    def measured(self, recipe: str, similarity: str, rankings: NDArray[np.int64]) -> Rankings:
        """Of rankings (n, k) of positions."""
        gains = np.zeros((len(rankings), DEPTH), dtype=np.int64)
        ranks, first = [], []
        for row, ranked, itself, (positions, relevance) in zip(
            gains, rankings, self.itself, self.relevant, strict=True
        ):
            others = ranked[ranked != itself][:DEPTH]
            at, which = np.nonzero(others[:, None] == positions)
            row[at] = relevance[which]
            ranks.append(np.zeros(len(positions), np.int64))
            ranks[-1][which] = at + 1
            first.append(int(others[0]) if len(others) else -1)
        values = [measure(gains, self.ideal, self.counts) for measure in RANKING_METRICS.values()]
        return Rankings(recipe, similarity, np.stack(values), ranks, first)
