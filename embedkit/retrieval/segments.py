"""Segments: parts of an index, whose rows were added together and may only be removed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from embedkit.files import disk_errors
from embedkit.manifest import FileEntry
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.bm25 import Postings, TermCounts
from embedkit.retrieval.faiss_index import (
    Effort,
    Ranking,
    add,
    deserialized,
    held_vectors,
    holds_vectors,
    is_flat,
    probed_lists,
    rows_of_lists,
    scores_exactly,
    search_parameters,
    selector_of,
)
from embedkit.retrieval.rows import RowBatch
from embedkit.vectors.shards import Stored, rounded

if TYPE_CHECKING:
    import pyarrow as pa

RESCORE = 10  # candidates of a hit that are rescored

_BATCH = 8192
_CELLS = 1 << 22  # queries x candidates of one search of FAISS: 48 MiB
_SPARSE = 16  # rows for a live one, from which on a flat index is faster without a selector
_EXACT = 16  # rows that HNSW compares for a candidate, about


class Files(NamedTuple):
    """Where a segment is stored; `vectors` and `removed` are there where they are needed."""

    faiss: FileEntry
    rows: FileEntry | None  # None where the rows have changed since
    vectors: FileEntry | None
    removed: FileEntry | None
    postings: FileEntry | None = None  # in an index that BM25 can search


class Attempt(NamedTuple):
    """A search of FAISS, and when a query's answer is enough."""

    ask: int  # candidates of a query
    depth: int  # how much FAISS looks at, see `Effort`
    live: int  # candidates that must be live
    in_lists: int = 0  # live rows that the probed lists must have


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows of an index."""

    index: Any  # FAISS's, of n prepared vectors
    rows: pa.Table  # n rows of the columns that `rows.row_schema` says
    vectors: Stored | None  # (n, dim), where FAISS keeps them only approximately
    removed: NDArray[np.bool_]  # (n,) bool, rows that search passes over
    postings: Postings | None = None  # in an index that BM25 can search
    files: Files | None = None  # where it is stored, if it is; `removed` may be an older state

    def __len__(self) -> int:
        return len(self.removed)

    @cached_property
    def live(self) -> int:
        """Rows that are not removed."""
        return len(self) - int(np.count_nonzero(self.removed))

    @property
    def has_removed(self) -> bool:
        return self.live < len(self)

    @classmethod
    def of(
        cls,
        empty: Any,  # a trained FAISS index, which is filled
        kind: str,
        batches: Iterable[RowBatch],  # the rows, their vectors prepared
        n: int,
        advance: Callable[[int], None],  # told the rows of each batch
        dtype: str = "float32",  # of the vectors on disk
    ) -> Segment:
        """A segment of n rows."""
        import pyarrow as pa

        keeps = holds_vectors(empty)
        tables, terms = [], []
        with ExitStack() as scratch:
            if not keeps:
                scratch.enter_context(disk_errors("the temporary folder (TMPDIR)"))
                file = scratch.enter_context(tempfile.TemporaryFile())
            for rows, matrix, counted in batches:
                add(empty, matrix, kind)
                if not keeps:  # written, for a full disk kills who assigns to a memory map
                    file.write(rounded(matrix, dtype).data)
                tables.append(rows)
                terms += [] if counted is None else [counted]
                advance(len(matrix))
            vectors = None
            if not keeps:
                file.flush()
                vectors = np.memmap(file, dtype, "r", shape=(n, empty.d))
        return cls(
            empty,
            pa.concat_tables(tables).combine_chunks(),
            vectors,
            np.zeros(n, dtype=np.bool_),
            Postings.of(terms) if terms else None,
        )

    def rows_of(self, ids: pa.Array[Any]) -> NDArray[np.int64]:
        """The rows that have these ids and are not removed."""
        import pyarrow.compute as pc

        among = pc.is_in(self.rows.column("id"), value_set=ids).to_numpy()
        return np.flatnonzero(among & ~self.removed)

    def without(self, rows: NDArray[np.int64]) -> Segment:
        """The segment with more rows removed."""
        removed = self.removed.copy()
        removed[rows] = True
        return replace(self, removed=removed)

    def only(self, rows: NDArray[np.bool_]) -> Segment:
        """The segment for a search that passes over all other rows, as over removed ones."""
        return replace(self, removed=self.removed | ~rows)

    def emptied(self, index: Any) -> Segment:
        """No rows, in the same columns; `index` is an empty one of FAISS."""
        terms = None if self.postings is None else Postings.of([TermCounts.of((), str.split)])
        vectors = None if self.vectors is None else self.vectors[:0]
        rows = self.rows.schema.empty_table()
        return Segment(index, rows, vectors, np.zeros(0, np.bool_), terms)

    def with_rows(self, rows: pa.Table) -> Segment:
        """The segment with other metadata."""
        return replace(self, rows=rows, files=self.files and self.files._replace(rows=None))

    def vectors_of(self, rows: NDArray[np.int64] | slice) -> Matrix:
        """float32 (..., dim): the prepared vectors of some rows."""
        whole = held_vectors(self.index) if self.vectors is None else self.vectors
        return np.ascontiguousarray(whole[rows], np.float32)

    def batches(self) -> Iterator[RowBatch]:
        """The rows that are not removed, with their prepared vectors."""
        for start in range(0, len(self), _BATCH):
            count = min(_BATCH, len(self) - start)
            live = np.flatnonzero(~self.removed[start : start + count])
            if len(live) == 0:
                continue
            terms = None if self.postings is None else self.postings.take(start + live)
            rows = self.rows.slice(start, count).take(live)
            yield RowBatch(rows, self.vectors_of(start + live), terms)

    def search(
        self, queries: Matrix, k: int, effort: int | None = None, rescore: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and rows, (queries, k) or as many columns as rows, best first.

        Where FAISS compares with approximate vectors, it gives `rescore` candidates for a hit, and
        the stored vectors decide.
        """
        if self.vectors is None or scores_exactly(self.index):
            return self._search(queries, k, effort)
        _, candidates = self._search(queries, k * (rescore or RESCORE), effort, k)
        return self._rescored(queries, candidates, min(k, self.live))

    def _search(
        self, queries: Matrix, k: int, effort: int | None, needed: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's distances and rows, (queries, k) or as many columns as rows, best first.

        The more rows are removed, the more FAISS looks at, so that as many live candidates are
        compared as when none is removed. Queries that get fewer than `needed` are asked again with
        four times the effort, until comparing them with all live rows is cheaper.
        """
        k = min(k, self.live)
        needed = min(needed or k, k)
        distances = np.empty((len(queries), k), np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        waiting = np.arange(len(queries) if k else 0)
        for attempt in self._attempts(k, needed, effort, len(queries)):
            if len(waiting) == 0:
                break
            near, candidates, enough = self._ask(queries[waiting], k, attempt)
            if len(waiting) == len(queries) and enough.all():
                return near, candidates
            distances[waiting[enough]] = near[enough]
            rows[waiting[enough]] = candidates[enough]
            waiting = waiting[~enough]
        if len(waiting):
            distances[waiting], rows[waiting] = self.exact(queries[waiting], k)
        return distances, rows

    def _attempts(self, k: int, needed: int, effort: int | None, queries: int) -> Iterator[Attempt]:
        """Ever more effort; after the last one, comparing with all live rows is cheaper."""
        gathers = queries > 1 or self.live * _SPARSE < len(self)  # live rows, once for all queries
        if k == 0 or (gathers and self.has_removed and is_flat(self.index)):
            return
        usual = Effort.of(self.index)
        effort = effort or usual.value
        filters = not self.has_removed or self._selector is not None
        widening = len(self) / self.live
        while True:
            depth = max(1, min(usual.most, math.ceil(effort * widening)))
            if widening > 1 and (usual.option == "ef_search" or not filters):
                candidates = max(2 * k + 16, effort)
                ask = math.ceil(candidates * widening)
                if ask * _EXACT >= self.live:
                    return
                yield Attempt(ask, depth, candidates // 2)
            else:
                in_lists = 0
                if usual.option == "nprobe" and self.has_removed:
                    in_lists = int(effort / usual.most * self.live)
                yield Attempt(k, depth, needed, in_lists)
                if effort * widening >= usual.most:
                    return
            widening *= 4

    def _ask(
        self, queries: Matrix, k: int, attempt: Attempt
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Distances (n, k) and live rows (n, k) of FAISS, and (n,) whether they are enough."""
        parameters = search_parameters(self.index, attempt.depth, self._selector)
        size = max(1, _CELLS // max(attempt.ask, attempt.depth))
        answers = []
        for start in range(0, len(queries), size):
            part = queries[start : start + size]
            distances, rows = self.index.search(part, attempt.ask, params=parameters)
            live = rows >= 0
            if self.has_removed:
                live &= ~self.removed[rows]
            enough = live.sum(1) >= attempt.live
            if attempt.in_lists:
                lists = probed_lists(self.index, part, attempt.depth)
                enough &= self._live_of_lists[lists].sum(1) >= attempt.in_lists
            if attempt.ask > k or not live.all():
                distances, rows = _best(~live, k, distances, np.where(live, rows, -1))
            answers.append((distances, rows, enough))
        if len(answers) == 1:
            return answers[0]
        distances, rows, enough = map(np.concatenate, zip(*answers, strict=True))
        return distances, rows, enough

    @cached_property
    def _live_of_lists(self) -> NDArray[np.int64]:
        """(lists,): the live rows of each list of an IVF index."""
        return np.array([int((~self.removed[rows]).sum()) for rows in rows_of_lists(self.index)])

    @cached_property
    def _selector(self) -> Any:
        return selector_of(self.index, self.removed) if self.has_removed else None

    def _rescored(
        self, queries: Matrix, candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best candidates by their stored vectors, and their distances."""
        distances = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        size = max(1, _CELLS // (candidates.shape[1] * self.index.d + 1))
        for start in range(0, len(queries), size):
            part = slice(start, start + size)
            among = np.sort(candidates[part], axis=1)  # as they lie on disk
            vectors, asked = self.vectors_of(among), queries[part, :, None]
            if self.index.metric_type == faiss.METRIC_L2:
                near = np.square(vectors - asked.transpose(0, 2, 1)).sum(axis=2)
                worse = near
            else:
                near = (vectors @ asked)[:, :, 0]
                worse = -near
            worse = np.where(among < 0, np.inf, worse)
            distances[part], rows[part] = _best(worse, k, near, among)
        return distances, rows

    def exact(self, queries: Matrix, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What `search` gives at most, from comparing the queries with all live rows."""
        k = min(k, self.live)
        metric, live = self.index.metric_type, np.flatnonzero(~self.removed)
        distances = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        for start in range(0, len(live), _BATCH):
            part = live[start : start + _BATCH]
            whole = part[-1] - part[0] < len(part)
            block = self.vectors_of(slice(part[0], part[-1] + 1) if whole else part)
            near, nearest = faiss.knn(queries, block, min(k, len(part)), metric=metric)
            distances = np.concatenate([distances, near], axis=1)
            rows = np.concatenate([rows, np.where(nearest < 0, -1, part[nearest])], axis=1)
            worse = distances if metric == faiss.METRIC_L2 else -distances
            distances, rows = _best(worse, k, distances, rows)
        return distances, rows

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made anew when it is needed."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**state, "index": faiss.serialize_index(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, index=deserialized(state["index"]))


def live_ids(segments: Iterable[Segment]) -> pa.ChunkedArray[Any]:
    """The ids of the rows that are not removed."""
    import pyarrow as pa

    columns = [x.rows.column("id").filter(pa.array(~x.removed)) for x in segments]
    kind = columns[0].type if columns else pa.string()
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], kind)


def without(
    segments: Iterable[Segment], ids: pa.Array[Any]
) -> tuple[list[Segment], dict[str | int, None]]:
    """The segments without rows of these ids, and the ids that they had, in their order."""
    left: list[Segment] = []
    removed: dict[Any, None] = {}
    for segment in segments:
        rows = segment.rows_of(ids)
        removed |= dict.fromkeys(segment.rows.column("id").take(rows).to_pylist())
        left.append(segment.without(rows) if len(rows) else segment)
    return left, removed


def search_segments(
    segments: Sequence[Segment],
    ranking: Ranking,
    queries: Matrix,
    k: int,
    effort: int | None = None,
    rescore: int | None = None,
    *,
    exact: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows, counted through all segments; see `Hits`."""
    all_scores = [np.empty((len(queries), 0), np.float32)]
    all_rows = [np.empty((len(queries), 0), np.int64)]
    prepared = ranking.prepare(queries)
    start = 0
    for segment in segments:
        if exact:
            distances, rows = segment.exact(prepared, k)
        else:
            distances, rows = segment.search(prepared, k, effort, rescore)
        all_scores.append(np.where(rows < 0, -np.inf, ranking.score(distances)))
        all_rows.append(np.where(rows < 0, -1, rows + start))
        start += len(segment)
    scores, rows = np.concatenate(all_scores, axis=1), np.concatenate(all_rows, axis=1)
    return _best(-scores, k, scores, rows) if len(segments) > 1 else (scores, rows)


def _best(
    worse: NDArray[Any], k: int, scores: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k columns that are least by `worse`; of equal ones the first."""
    order = np.argsort(worse, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
