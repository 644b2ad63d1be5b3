"""How retrieval sets are searched: by embeddings, by BM25 or by both, and reranked or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.options import Options
from embedkit.retrieval.bm25 import Postings, TermCounts, search_terms
from embedkit.retrieval.fusion import BM25, DENSE, HYBRID, check_weights, fuse
from embedkit.retrieval.words import find_words
from embedkit.scoring.loading import Scorer

Positions = NDArray[np.int64]  # (queries, depth) of documents, the best first; -1 is none
Ranked = tuple[NDArray[np.float32], Positions]  # scores (queries, depth) too


class Stage(NamedTuple):
    """How a candidate ranks documents."""

    mode: str = DENSE
    reranked: bool = False

    def candidate(self, recipe: str) -> str:
        """What reports call a recipe that is searched like this; BM25 alone has none."""
        names = {DENSE: [recipe], HYBRID: [recipe, HYBRID], BM25: [BM25]}[self.mode]
        return " ".join([*names, *["rerank"] * self.reranked])


@dataclass(frozen=True, eq=False)
class SearchModes:
    """The ways of searching that are compared."""

    options: Options = field(default_factory=Options)
    reranker: Scorer | None = None  # each way is compared with and without it
    _lexical: dict[str, Ranked] = field(default_factory=dict)  # by data set
    _scores: dict[tuple[str, str], float] = field(default_factory=dict)  # of query and document

    @property
    def of_recipes(self) -> list[Stage]:
        """The ways that need embeddings."""
        return self._stages([mode for mode in self.options.modes if mode != BM25])

    @property
    def of_words(self) -> list[Stage]:
        """The ways that need none."""
        return self._stages([mode for mode in self.options.modes if mode == BM25])

    def _stages(self, modes: list[str]) -> list[Stage]:
        reranked = (False, True) if self.reranker is not None else (False,)
        return [Stage(mode, after) for mode in modes for after in reranked]

    def rank(
        self, stage: Stage, data: RetrievalSet, depth: int, dense: Ranked | None = None
    ) -> Positions:
        """The documents of each query; `dense` are those by embeddings, unless by BM25 alone."""
        searches = [] if stage.mode == BM25 or dense is None else [dense]
        if stage.mode != DENSE:
            searches.append(self._by_words(data, depth))
        weights = check_weights(self.options.weights)
        ranked = (searches[0] if len(searches) == 1 else fuse(searches, depth, weights))[1]
        return self._rerank(data, ranked) if stage.reranked else ranked

    def _by_words(self, data: RetrievalSet, depth: int) -> Ranked:
        if data.name not in self._lexical:
            words = find_words(self.options.words)
            postings = Postings.of([TermCounts.of(data.texts["document"], words)])
            queries = [words(text) for text in data.texts["query"]]
            every = [np.ones(postings.n, np.bool_)]
            self._lexical[data.name] = search_terms([postings], every, queries, depth)
        return self._lexical[data.name]

    def _rerank(self, data: RetrievalSet, ranked: Positions) -> Positions:
        """The first documents of each query in the reranker's order; a pair is scored once."""
        texts, queries = data.texts["document"], data.texts["query"]
        first = [row[row >= 0] for row in ranked[:, : self.options.rerank_depth]]
        pairs = [
            [(query, texts[position]) for position in row]
            for query, row in zip(queries, first, strict=True)
        ]
        known = self._scores
        lacking = [x for x in dict.fromkeys(chain.from_iterable(pairs)) if x not in known]
        if lacking and self.reranker is not None:
            known.update(zip(lacking, self.reranker(lacking).tolist(), strict=True))
        reranked = ranked.copy()
        for row, positions, own in zip(reranked, first, pairs, strict=True):
            order = np.argsort([-known[pair] for pair in own], kind="stable")
            row[: len(positions)] = positions[order]
        return reranked
