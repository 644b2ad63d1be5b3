"""Rankings of a retrieval set's documents against its judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.bootstrap import RESAMPLES, SEED, bootstrap_means, interval
from embedkit.evaluation.exact_search import EXACT, nearest
from embedkit.evaluation.ranking_metrics import IDEAL_DEPTH, RANKING_METRICS
from embedkit.evaluation.results import Result, Scored
from embedkit.recipes.steps import Float32Array

DEPTH = 1000  # of a ranking, trec_eval's and BEIR's


@dataclass(frozen=True, eq=False)
class Judged:
    """The judgements of a retrieval set of n queries, by places.

    Attributes:
        name: of the set.
        relevant: for each query the places and the gains of the documents judged relevant, but for
            those that are not in the set.
        ideal: (n, IDEAL_DEPTH) the highest gains of all judged, padded with 0.
        counts: (n,) how many are relevant, those that are not in the set among them.
        itself: (n,) the place of the query's own document, to leave out; -1 where there is none.
    """

    name: str
    relevant: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ideal: NDArray[np.int64]
    counts: NDArray[np.int64]
    itself: NDArray[np.int64]

    @classmethod
    def of(cls, data: RetrievalSet) -> Judged:
        places = {name: place for place, name in enumerate(data.document_ids)}
        relevant = []
        ideal = np.zeros((len(data.judgements), IDEAL_DEPTH), np.int64)
        counts = np.zeros(len(ideal), np.int64)
        for query, judged in enumerate(data.judgements.values()):
            gains = {
                places[name]: gain for name, gain in judged.items() if gain > 0 and name in places
            }
            highest = sorted((gain for gain in judged.values() if gain > 0), reverse=True)
            ideal[query, : len(highest)] = highest[:IDEAL_DEPTH]
            counts[query] = len(highest)
            relevant.append((np.array([*gains], np.int64), np.array([*gains.values()], np.int64)))
        itself = [places[query] if query in data.own_documents else -1 for query in data.judgements]
        return cls(data.name, relevant, ideal, counts, np.array(itself))

    def score(
        self,
        recipe: str,
        queries: Float32Array,
        documents: Float32Array,
        similarities: Sequence[str],
        index: str = EXACT,
        *,
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> list[Scored]:
        """The metrics of each similarity, means over the queries.

        Args:
            recipe: what the results are filed under.
            queries: (n, dim) float32.
            documents: (m, dim) float32, in the order of `RetrievalSet.document_ids`.
            similarities: names from the table of similarities.
            index: see `nearest`.
            resamples: of the queries, the same ones for all recipes.
            seed: of the resamples.
        """
        if not (np.isfinite(queries).all() and np.isfinite(documents).all()):
            return self.absent(recipe, similarities, "the similarities are not all finite")
        if len(documents) > 1 and (documents == documents[0]).all():
            return self.absent(recipe, similarities, "the similarities are all the same")
        values, results = [], []
        for similarity in similarities:
            # One more than the depth, for the query itself may have to go.
            gains = self._gains(nearest(queries, documents, similarity, DEPTH + 1, index))
            for metric, measure in RANKING_METRICS.items():
                of_queries = measure(gains, self.ideal, self.counts)
                n, value = len(of_queries), float(of_queries.mean())
                values.append(of_queries)
                results.append(Result(recipe, self.name, n, similarity, metric, "all", value))
        resampled = bootstrap_means(np.stack(values), resamples, seed)
        return [
            Scored(replace(result, ci95=interval(row)), row)
            for result, row in zip(results, resampled, strict=True)
        ]

    def absent(self, recipe: str, similarities: Sequence[str], reason: str) -> list[Scored]:
        """The rows of a recipe that has no values."""
        n = len(self.relevant)
        return [
            Scored(
                Result(recipe, self.name, n, similarity, metric, "all", None, reason=reason), None
            )
            for similarity in similarities
            for metric in RANKING_METRICS
        ]

    def _gains(self, rankings: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, DEPTH) gains in the order of rankings (n, k) of places."""
        gains = np.zeros((len(rankings), DEPTH), dtype=np.int64)
        for row, ranked, itself, relevant in zip(
            gains, rankings, self.itself, self.relevant, strict=True
        ):
            others = ranked[ranked != itself][:DEPTH]
            for place, gain in zip(*relevant, strict=True):
                row[: len(others)][others == place] = gain
        return gains
