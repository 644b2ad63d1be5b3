"""Growth: new rows become a segment, and small segments are rewritten as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import faiss

from embedkit.progress import progress
from embedkit.retrieval.bm25 import TermCounts
from embedkit.retrieval.faiss_index import find_ranking, new_index, train
from embedkit.retrieval.rows import NewRows, RowBatch
from embedkit.retrieval.segments import Segment
from embedkit.retrieval.storage import State
from embedkit.retrieval.words import find_words

_TRAINING = 200_000  # vectors that a kind is trained on at most


def grown(
    state: State,
    segments: Sequence[Segment],
    rows: NewRows,
    show_progress: bool | None,
) -> list[Segment]:
    """Segments with more rows.

    The last segments are rewritten with them while they have no more rows than the new one: so
    there are few segments, and a row is rewritten few times.
    """
    kept, n = [segment for segment in segments if segment.live], len(rows)
    absorbed: list[Segment] = []
    while kept and kept[-1].live <= n:
        absorbed.insert(0, kept.pop())
        n += absorbed[0].live
    trained = segments[0].index if any(x.live for x in segments) else None  # all trained alike
    return [*kept, merged(state, absorbed, rows, show_progress, trained)]


def merged(
    state: State,
    segments: Sequence[Segment],
    rows: NewRows | None,
    show_progress: bool | None,
    trained: Any = None,  # a FAISS index of the same training; None for the first segment's
) -> Segment:
    """The rows of segments, and new rows, as one segment."""
    if trained is None and segments:
        trained = segments[0].index
    ranking = find_ranking(state.similarity)
    empty = _empty_index(state, trained)
    if not empty.is_trained and rows is not None:
        train(empty, rows.sample(ranking, _TRAINING), state.kind)
    n = len(rows or ()) + sum(segment.live for segment in segments)
    batches = chain.from_iterable(segment.batches() for segment in segments)
    if rows is not None:
        new = rows.batches(ranking)
        batches = chain(batches, new if state.words is None else _counted(new, state.words))
    with progress(n, "vectors", show=show_progress) as advance:
        return Segment.of(empty, state.kind, batches, n, advance, state.dtype)


def living(state: State, segments: Sequence[Segment]) -> list[Segment]:
    """The segments that have rows; of an index without rows one that keeps its columns, if any."""
    live = [segment for segment in segments if segment.live]
    keeps = [x for x in segments[:1] if x.rows.num_columns > 1]
    return live or [x.emptied(_empty_index(state, x.index)) for x in keeps]


def _empty_index(state: State, trained: Any) -> Any:
    """A FAISS index without vectors, trained as another one where the kind is trained."""
    empty = new_index(state.kind, state.dimension, state.similarity)
    if not empty.is_trained and trained is not None:
        empty = faiss.clone_index(trained)
        empty.reset()
    return empty


def _counted(batches: Iterable[RowBatch], words: str) -> Iterator[RowBatch]:
    """The batches with the terms of their texts."""
    split = find_words(words)
    for batch in batches:
        texts: Any = batch.rows.column("text").to_pylist()
        yield batch._replace(terms=TermCounts.of(texts, split))
