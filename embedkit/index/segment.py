"""A part of an index: rows that were added together, never changed but for what is removed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.corpus.vectors import VectorBatch
from embedkit.durable import disk_errors
from embedkit.index.kinds import add, holds_vectors
from embedkit.manifest import FileEntry
from embedkit.steps import Vectors as Matrix

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 8192


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

    def search(self, queries: Matrix, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's distances and rows, (queries, k) or fewer columns, best first; -1 for no row.

        Not every kind of FAISS can pass over rows: more are asked for, twice as many each time,
        until k of each query are left.
        """
        live = self.live
        k = min(k, live)
        if live == len(self):
            found: tuple[NDArray[np.float32], NDArray[np.int64]] = self.index.search(queries, k)
            return found
        ask = min(len(self), 2 * k + 16)
        while True:
            distances, rows = self.index.search(queries, ask)
            good = (rows >= 0) & ~self.removed[rows]
            if ask == len(self) or (good.sum(1) >= k).all():
                break
            ask = min(len(self), 2 * ask)
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]
        rows = np.where(good, rows, -1)
        return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
