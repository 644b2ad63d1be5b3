"""One search of an index: by vectors, by words or by both, and perhaps reranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_count
from embedkit.data.texts import Texts, as_texts
from embedkit.errors import InputError
from embedkit.metadata.filter_language import Where
from embedkit.retrieval.bm25 import search_terms
from embedkit.retrieval.faiss_index import check_effort, new_index
from embedkit.retrieval.fusion import BM25, DENSE, DEPTH, HYBRID, check_mode, check_weights, fuse
from embedkit.retrieval.results import Hits
from embedkit.retrieval.rows import query_matrix
from embedkit.retrieval.segments import Segment, search_segments
from embedkit.retrieval.words import find_words
from embedkit.scoring.loading import LoadedModel, load_reranker

if TYPE_CHECKING:
    from embedkit.retrieval.index import VectorIndex

_Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores and rows, see `Hits`


@dataclass(frozen=True)
class Search:
    """The arguments of `VectorIndex.search` of the same names."""

    prompt: str | None = None
    prompt_name: str | None = None
    where: Where | None = None
    nprobe: int | None = None
    ef_search: int | None = None
    mode: str = DENSE
    weights: Sequence[float] | None = None
    rerank: str | Path | LoadedModel | None = None
    rerank_depth: int = 100

    def check(self, index: VectorIndex) -> None:
        """Refuse a mode that the index does not have, and options that the mode does not read."""
        if check_mode(self.mode) != DENSE and index.words is None:
            raise InputError(
                f"mode is {self.mode!r}, and the index has no BM25; build it with bm25=True "
                "(embedkit index build FILE --bm25)"
            )
        if self.rerank is not None and not index.has_texts:
            raise InputError(
                "got rerank, and the index has no texts; build it with texts (embedkit index build "
                "FILE, or embedkit encode --texts)"
            )
        if self.weights is not None and self.mode != HYBRID:
            raise InputError(f"got weights for mode {self.mode!r}; expected mode 'hybrid'")
        for name in ("prompt", "prompt_name", "nprobe", "ef_search"):
            if self.mode == BM25 and getattr(self, name) is not None:
                raise InputError(f"got {name} for mode 'bm25', which reads no vectors")
        check_weights(self.weights)
        check_count("rerank_depth", self.rerank_depth)
        if self.rerank is None and self.rerank_depth != Search.rerank_depth:
            raise InputError("got rerank_depth without rerank; expected both")
        self._effort(index)
        index.count(self.where)

    def hits(self, index: VectorIndex, queries: Any, k: int) -> Hits:
        """The k best rows of each query."""
        self.check(index)
        k, segments = check_count("k", k), index._segments
        chosen = index._filter(segments, self.where)
        depth = k if self.rerank is None else max(k, self.rerank_depth)
        of_each = max(depth, DEPTH) if self.mode == HYBRID else depth
        if self.mode != DENSE or self.rerank is not None:
            queries = as_texts(queries, "queries")
        rankings = []
        if self.mode != BM25:
            rankings.append(self._by_vectors(index, chosen, queries, of_each))
        if self.mode != DENSE:
            rankings.append(_by_words(segments, chosen, queries, of_each, str(index.words)))
        weights = check_weights(self.weights)
        scores, rows = rankings[0] if len(rankings) == 1 else fuse(rankings, depth, weights)
        hits = Hits(scores, rows, [segment.rows for segment in segments])
        return hits if self.rerank is None else _reranked(hits, queries, self.rerank, k)

    def _by_vectors(
        self, index: VectorIndex, segments: Sequence[Segment], queries: Any, k: int
    ) -> _Ranked:
        matrix = query_matrix(index, queries, self.prompt, self.prompt_name)
        rescore = None if index.tuning is None else index.tuning.rescore
        effort = self._effort(index)
        return search_segments(segments, index._ranking, matrix, k, effort, rescore)

    def _effort(self, index: VectorIndex) -> int | None:
        """How much of the index is looked at; InputError where its kind has no such option."""
        given = {"nprobe": self.nprobe, "ef_search": self.ef_search}
        if not any(value is not None for value in given.values()):
            return index.effort
        segments = index._segments
        inner = segments[0].index if segments else None
        inner = inner or new_index(index.kind, index.dimension, index.similarity)
        return check_effort(inner, index.kind, **given)


def _by_words(
    segments: Sequence[Segment], chosen: Sequence[Segment], queries: Texts, k: int, words: str
) -> _Ranked:
    """The terms of all live rows count, whatever rows are chosen."""
    split = find_words(words)
    live, wanted = ([~segment.removed for segment in of_all] for of_all in (segments, chosen))
    postings = [segment.postings for segment in segments if segment.postings is not None]
    return search_terms(postings, live, [split(text) for text in queries], k, wanted)


def _reranked(hits: Hits, queries: Texts, model: str | Path | LoadedModel, k: int) -> Hits:
    """The k hits of each query that a second model scores highest, with its scores."""
    texts = hits.texts or [[] for _ in queries]  # an index that is empty now has no column of them
    pairs = [(query, text) for query, own in zip(queries, texts, strict=True) for text in own]
    scores = np.full_like(hits.scores, -np.inf)
    if pairs:
        counts = [len(own) for own in texts]
        scores[np.arange(scores.shape[1]) < np.array(counts)[:, None]] = load_reranker(
            model, show_progress=False
        )(pairs)
    return hits.ordered(np.argsort(-scores, axis=1, kind="stable")[:, :k], scores)
