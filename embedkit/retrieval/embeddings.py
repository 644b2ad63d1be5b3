"""The vectors of a corpus, read back."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedkit.errors import InputError
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.provenance import Origin
from embedkit.retrieval.shards import Store, embeddings

if TYPE_CHECKING:
    import pyarrow as pa


class VectorBatch(NamedTuple):
    """Some thousands of rows.

    Attributes:
        ids: n strings or whole numbers.
        vectors: float32 (n, dim).
        texts: n, or None where they are not stored.
    """

    ids: pa.Array[pa.StringScalar] | pa.Array[pa.Int64Scalar]
    vectors: Matrix
    texts: pa.Array[pa.StringScalar] | None


class Vectors:
    """What `encode_corpus` wrote: open it with `Vectors.open`.

    Rows stand in the order in which they were encoded: the corpus's own, until it changes. They
    stay as they were when they were opened, and so do their files, whatever is encoded since.

    Attributes:
        origin: the embedder behind the vectors.
        dimension: numbers in a vector.
        has_texts: whether the texts are stored.
        complete: whether the corpus was encoded to its end.
    """

    def __init__(self, store: Store, descriptor: int) -> None:
        """`descriptor` is of the manifest, and keeps the files that it names."""
        weakref.finalize(self, os.close, descriptor)
        self._store = store
        self.origin: Origin = store.origin
        self.dimension = store.dimension
        self.has_texts = store.texts
        self.complete = store.complete

    @classmethod
    def open(cls, folder: str | Path, *, partial: bool = False) -> Vectors:
        """Open a folder.

        Args:
            folder: of `encode_corpus` or `embedkit encode`.
            partial: take what there is of a corpus that is not encoded to its end; without it,
                that is refused, or what there was before where a corpus is encoded again.

        Raises:
            InputError: no such folder, a damaged manifest, a shard that is absent or cut off, or a
                corpus that is not complete.
        """
        descriptors: list[int] = []
        store = Store.read(Path(folder).resolve(), partial=partial, hold=descriptors.append)
        vectors = cls(store, *descriptors)
        if not (store.complete or partial):
            raise InputError(
                f"{folder}: its corpus was not encoded to the end, {store.rows:,} rows are there; "
                "run the same embedkit encode again, or ask for what there is (partial=True)"
            )
        for shard in store.shards:
            with store.opened(shard):
                pass
        return vectors

    def __len__(self) -> int:
        return self._store.rows

    def __iter__(self) -> Iterator[VectorBatch]:
        """All rows, streamed.

        Raises:
            InputError: a damaged shard, when the iterator gets there.
        """
        for shard in self._store.shards:
            for batch in self._store.read_shard(shard, self._store.schema.names):
                yield VectorBatch(
                    batch.column("id"),
                    embeddings(batch),
                    batch.column("text") if self.has_texts else None,
                )

    def to_numpy(self) -> Matrix:
        """float32 (n, dim): all vectors, in memory."""
        matrix = np.empty((len(self), self.dimension), dtype=np.float32)
        start = 0
        for batch in self:
            matrix[start : start + len(batch.vectors)] = batch.vectors
            start += len(batch.vectors)
        return matrix

    def to_arrow(self) -> pa.Table:
        """All rows: id, content, embedding (fixed-size list), and text where it is stored."""
        import pyarrow as pa

        batches = [
            batch
            for shard in self._store.shards
            for batch in self._store.read_shard(shard, self._store.schema.names)
        ]
        return pa.Table.from_batches(batches, self._store.schema)

    @cached_property
    def ids(self) -> pa.ChunkedArray[pa.StringScalar] | pa.ChunkedArray[pa.Int64Scalar]:
        """n ids, in the order of the rows."""
        import pyarrow as pa

        columns = [
            batch.column("id")
            for shard in self._store.shards
            for batch in self._store.read_shard(shard, ["id"])
        ]
        return pa.chunked_array(columns, self._store.schema.field("id").type)

    @cached_property
    def _rows(self) -> dict[str | int, int]:
        """The row of each id."""
        names: list[Any] = self.ids.to_pylist()
        return {name: row for row, name in enumerate(names)}

    def __getitem__(self, name: str | int) -> Matrix:
        """float32 (dim,): the vector of an id."""
        vector: Matrix = self.get([name])[0]
        return vector

    def get(self, ids: Sequence[str | int]) -> Matrix:
        """float32 (n, dim): the vectors of n ids, in their order.

        Raises:
            InputError: an id that is not there.
        """
        import pyarrow as pa

        kind = self._store.schema.field("id").type
        try:
            wanted = pa.array(ids, kind).to_pylist()
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise InputError(f"ids: got '{error}', expected ids of type {kind}") from None
        rows = np.array([self._rows.get(name, -1) for name in wanted], np.int64)
        if (rows < 0).any():
            raise InputError(f"{self._store.folder}: has no id {wanted[int(rows.argmin())]!r}")
        found = np.empty((len(rows), self.dimension), dtype=np.float32)
        start = 0
        for shard in self._store.shards:
            here = np.flatnonzero((rows >= start) & (rows < start + shard.rows))
            if len(here):
                found[here] = self._store.read_vectors(shard, rows[here] - start)
            start += shard.rows
        return found
