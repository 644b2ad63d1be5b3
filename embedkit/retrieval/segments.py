"""A part of an index: rows that were added together, never changed but for what is removed."""

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
from embedkit.retrieval.embeddings import VectorBatch
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
    search_parameters,
    selector_of,
)

if TYPE_CHECKING:
    import pyarrow as pa


_BATCH = 8192


_CELLS = 1 << 22  # queries x candidates of one search of FAISS: 48 MiB


_EXACT = 16  # rows that HNSW compares for a candidate, about


class Files(NamedTuple):
    """Where a segment is stored; `vectors` and `removed` are there where they are needed."""

    faiss: FileEntry
    rows: FileEntry
    vectors: FileEntry | None
    removed: FileEntry | None


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows of an index.

    Attributes:
        index: FAISS's, of n prepared vectors.
        rows: n rows of `id` and, in an index with texts, `text`.
        vectors: (n, dim) as they were added, where FAISS keeps them only approximately.
        removed: (n,) bool, rows that search passes over.
        files: where it is stored, if it is; of the removed rows perhaps an older state.
    """

    index: Any
    rows: pa.Table
    vectors: Matrix | None
    removed: NDArray[np.bool_]
    files: Files | None = None

    def __len__(self) -> int:
        return len(self.removed)

    @property
    def live(self) -> int:
        """Rows that are not removed."""
        return len(self) - int(np.count_nonzero(self.removed))

    @classmethod
    def of(
        cls,
        empty: Any,
        kind: str,
        batches: Iterable[VectorBatch],
        n: int,
        advance: Callable[[int], None],
    ) -> Segment:
        """A segment of n rows.

        Args:
            empty: a trained FAISS index, which is filled.
            kind: for errors.
            batches: the rows, their vectors prepared.
            n: of rows.
            advance: told the rows of each batch.
        """
        import pyarrow as pa

        keeps = holds_vectors(empty)
        tables = []
        with ExitStack() as scratch:
            if not keeps:
                scratch.enter_context(disk_errors("the temporary folder (TMPDIR)"))
                file = scratch.enter_context(tempfile.TemporaryFile())
            for ids, matrix, texts in batches:
                add(empty, matrix, kind)
                if not keeps:  # written, for a full disk kills who assigns to a memory map
                    file.write(np.ascontiguousarray(matrix, np.float32).data)
                columns = {"id": ids} if texts is None else {"id": ids, "text": texts}
                tables.append(pa.table(columns))
                advance(len(matrix))
            vectors = None
            if not keeps:
                file.flush()
                vectors = np.memmap(file, np.float32, "r", shape=(n, empty.d))
        return cls(
            empty, pa.concat_tables(tables).combine_chunks(), vectors, np.zeros(n, dtype=np.bool_)
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

    def batches(self) -> Iterator[VectorBatch]:
        """The rows that are not removed, with their prepared vectors."""
        for start in range(0, len(self), _BATCH):
            count = min(_BATCH, len(self) - start)
            live = np.flatnonzero(~self.removed[start : start + count])
            if len(live) == 0:
                continue
            if self.vectors is None:
                matrix = self.index.reconstruct_n(start, count)[live]
            else:
                matrix = np.asarray(self.vectors[start : start + count])[live]
            (rows,) = self.rows.slice(start, count).take(live).combine_chunks().to_batches()
            texts = rows.column("text") if "text" in rows.schema.names else None
            yield VectorBatch(rows.column("id"), matrix, texts)

    def search(
        self, queries: Matrix, k: int, effort: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's distances and rows, (queries, k) or as many columns as rows, best first.

        The more rows are removed, the more FAISS looks at, so that as many live candidates are
        compared as when none is removed. Queries with too few are asked again, with four times the
        effort, until comparing them with all live rows is cheaper.
        """
        n, live = len(self), self.live
        k = min(k, live)
        distances = np.empty((len(queries), k), np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        waiting = np.arange(len(queries) if k else 0)
        usual = Effort.of(self.index)
        effort = effort or usual.value
        widen = n / live if live else 1
        wanted = int(effort / max(1, usual.most) * live)  # live rows of the lists that are probed
        exact = live < n and is_flat(self.index)
        while len(waiting) and not exact:
            ask = looked = k  # candidates asked for, and those that must be live
            if widen > 1 and (usual.option == "ef_search" or (live < n and not self._selector)):
                looked = 2 * k + 16
                if usual.option == "ef_search":
                    looked = max(looked, effort)
                ask, looked = math.ceil(looked * widen), looked // 2
                if ask * _EXACT >= live:
                    break
            depth = max(1, min(usual.most, math.ceil(effort * widen)))
            parameters = search_parameters(self.index, depth, self._selector)
            size = max(1, _CELLS // max(ask, depth))
            short = []
            for start in range(0, len(waiting), size):
                part = waiting[start : start + size]
                near, found = self.index.search(queries[part], ask, params=parameters)
                good = found >= 0
                if live < n:
                    good &= ~self.removed[found]
                if not good.all():
                    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
                    near, found = (np.take_along_axis(x, order, 1) for x in (near, found))
                elif len(part) == len(queries) and ask == k and live == n:
                    return near, found
                enough = good.sum(1) >= looked
                if usual.option == "nprobe" and live < n:
                    probed = self._live_of_lists[probed_lists(self.index, queries[part], depth)]
                    enough &= probed.sum(1) >= wanted
                done = part[enough]
                distances[done], rows[done] = near[enough, :k], found[enough, :k]
                short.append(part[~enough])
            waiting = np.concatenate(short)
            exact = ask == k and effort * widen >= usual.most
            widen *= 4
        if len(waiting):
            distances[waiting], rows[waiting] = self._exact(queries[waiting], k)
        return distances, rows

    @cached_property
    def _live_of_lists(self) -> NDArray[np.int64]:
        """(lists,): the live rows of each list of an IVF index."""
        return np.array([int((~self.removed[rows]).sum()) for rows in rows_of_lists(self.index)])

    @cached_property
    def _selector(self) -> Any:
        return selector_of(self.index, self.removed) if self.removed.any() else None

    def _exact(self, queries: Matrix, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same from comparing the queries with all live rows."""
        vectors = held_vectors(self.index) if self.vectors is None else self.vectors
        metric, live = self.index.metric_type, np.flatnonzero(~self.removed)
        distances = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        for start in range(0, len(live), _BATCH):
            part = live[start : start + _BATCH]
            whole = part[-1] - part[0] < len(part)
            block = vectors[part[0] : part[-1] + 1] if whole else vectors[part]
            near, found = faiss.knn(queries, block, min(k, len(part)), metric=metric)
            distances = np.concatenate([distances, near], axis=1)
            rows = np.concatenate([rows, np.where(found < 0, -1, part[found])], axis=1)
            worse = distances if metric == faiss.METRIC_L2 else -distances
            order = np.argsort(worse, axis=1, kind="stable")[:, :k]
            distances = np.take_along_axis(distances, order, 1)
            rows = np.take_along_axis(rows, order, 1)
        return distances, rows

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made anew when it is needed."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**state, "index": faiss.serialize_index(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, index=deserialized(state["index"]))


def without(
    segments: Iterable[Segment], ids: pa.Array[Any]
) -> tuple[list[Segment], dict[str | int, None]]:
    """The segments without rows of these ids, and the ids that they had, in their order."""
    left: list[Segment] = []
    found: dict[Any, None] = {}
    for segment in segments:
        rows = segment.rows_of(ids)
        found |= dict.fromkeys(segment.rows.column("id").take(rows).to_pylist())
        left.append(segment.without(rows) if len(rows) else segment)
    return left, found


def search_segments(
    segments: Sequence[Segment], ranking: Ranking, queries: Matrix, k: int, effort: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows, counted through all segments; see `Hits`."""
    scores = [np.empty((len(queries), 0), np.float32)]
    rows = [np.empty((len(queries), 0), np.int64)]
    prepared = ranking.prepare(queries)
    start = 0
    for segment in segments:
        distances, found = segment.search(prepared, k, effort)
        scores.append(np.where(found < 0, -np.inf, ranking.score(distances)))
        rows.append(np.where(found < 0, -1, found + start))
        start += len(segment)
    both, numbers = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
    if len(segments) > 1:
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        both, numbers = np.take_along_axis(both, order, 1), np.take_along_axis(numbers, order, 1)
    return both, numbers


def _on_disk(shape: tuple[int, int]) -> Matrix:
    """An array in a file without a name, which goes with it."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
