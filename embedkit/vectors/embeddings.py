"""`Vectors`: the embeddings of a corpus, read back from the folder that `encode_corpus` wrote."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedkit.embedder.folder_kind import check_kind
from embedkit.errors import InputError
from embedkit.html_table import html_table
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.vectors.provenance import Provenance
from embedkit.vectors.shards import Store, rows_of_parts, vectors_of

if TYPE_CHECKING:
    import pyarrow as pa


class VectorBatch(NamedTuple):
    """Some thousands of rows."""

    ids: pa.Array[pa.StringScalar] | pa.Array[pa.Int64Scalar]  # n strings or integers
    vectors: Matrix
    texts: pa.Array[pa.StringScalar] | None  # n, or None where they are not stored


class Vectors:
    """What `encode_corpus` wrote: open it with `Vectors.open`.

    Rows are in the order in which they were encoded: the corpus's own, until it changes. They stay
    as they were when they were opened, and so do their files, whatever is encoded since.

    Attributes:
        provenance: the embedder behind the vectors.
        dimension: numbers in a vector.
        has_texts: whether the texts are stored.
        complete: whether the corpus was encoded to its end.

    Example:
        >>> from pathlib import Path
        >>> from embedkit import Corpus, Embedder, Vectors, encode_corpus
        >>> _ = Path("corpus.txt").write_text("A cat sleeps.\\nA dog barks.\\nIt rains.\\n")
        >>> embedder = Embedder.from_pretrained("minilm")
        >>> _ = encode_corpus(embedder, Corpus(Path("corpus.txt")), "vectors", texts=True)
        >>> vectors = Vectors.open("vectors")
        >>> len(vectors), vectors.dimension
        (3, 384)
        >>> vectors.to_numpy().shape, vectors[1].shape, vectors.get([2, 0]).shape
        ((3, 384), (384,), (2, 384))
        >>> [batch.texts.to_pylist() for batch in vectors]
        [['A cat sleeps.', 'A dog barks.', 'It rains.']]
    """

    def __init__(self, store: Store, descriptor: int) -> None:
        """`descriptor` is of the manifest, and keeps the files that it names."""
        weakref.finalize(self, os.close, descriptor)
        self._store = store
        self.provenance: Provenance = store.provenance
        self.dimension = store.dimension
        self.has_texts = store.texts
        self.complete = store.complete

    @classmethod
    def open(cls, folder: str | Path, *, partial: bool = False) -> Vectors:
        """Open a folder.

        Args:
            folder: of `encode_corpus` or `embedkit encode`.
            partial: take the rows so far of a corpus that is not encoded to its end; without it,
                that is refused, or the state before is opened where a corpus is encoded again.

        Raises:
            InputError: no such folder, a damaged manifest, a shard that is absent or cut off, or a
                corpus that is not complete.
        """
        descriptors: list[int] = []
        check_kind(Path(folder).resolve(), "vectors")
        store = Store.read(Path(folder).resolve(), partial=partial, hold=descriptors.append)
        vectors = cls(store, *descriptors)
        if not (store.complete or partial):
            raise InputError(
                f"{folder}: its corpus was not encoded to the end, {store.rows:,} rows are there; "
                "run the same command again, or ask for what there is (partial=True)"
            )
        for shard in store.shards:
            with store.opened(shard):
                pass
        return vectors

    def __repr__(self) -> str:
        store = self._store
        partial = "" if self.complete else ", complete=False"
        return (
            f"Vectors({str(store.folder)!r}, rows={len(self)}, dimension={self.dimension}, "
            f"dtype={store.dtype!r}, model={self.provenance.model!r}{partial})"
        )

    def _repr_html_(self) -> str:
        """What notebooks show."""
        rows = (
            ("rows", f"{len(self):,} {'with' if self.has_texts else 'without'} texts"),
            ("dimension", f"{self.dimension:,}"),
            ("dtype", self._store.dtype),
            ("model", f"{self.provenance.model}, {self.provenance.recipe}"),
            ("complete", "yes" if self.complete else "no"),
        )
        return html_table(("Vectors", str(self._store.folder)), rows, {0, 1})

    @property
    def origin(self) -> Provenance:
        """The earlier name of `provenance`."""
        return self.provenance

    def __len__(self) -> int:
        return self._store.rows

    def __iter__(self) -> Iterator[VectorBatch]:
        """All rows, streamed."""
        for batch in self.record_batches():
            texts = batch.column("text") if self.has_texts else None
            yield VectorBatch(batch.column("id"), vectors_of(batch), texts)

    def record_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, streamed as Arrow: id, content, embedding, and text where it is stored."""
        return self._store.batches(columns)

    def to_numpy(self) -> Matrix:
        """float32 (n, dim): all vectors, in memory."""
        matrix = np.empty((len(self), self.dimension), dtype=np.float32)
        start = 0
        for batch in self._store.batches(["embedding"]):
            matrix[start : start + len(batch)] = vectors_of(batch)
            start += len(batch)
        return matrix

    def to_arrow(self) -> pa.Table:
        """All rows, as `record_batches` gives them; an embedding is a list of fixed size."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self.record_batches()), self._store.schema)

    @cached_property
    def ids(self) -> pa.ChunkedArray[pa.StringScalar] | pa.ChunkedArray[pa.Int64Scalar]:
        """n ids, in the order of the rows."""
        return self._column("id")

    @property
    def contents(self) -> pa.ChunkedArray[pa.BinaryScalar]:
        """n digests of texts, 16 bytes each; equal ones are of equal texts."""
        return self._column("content")

    def _column(self, name: str) -> pa.ChunkedArray[Any]:
        import pyarrow as pa

        columns = [batch.column(name) for batch in self.record_batches([name])]
        return pa.chunked_array(columns, self._store.schema.field(name).type)

    @cached_property
    def _row_of_id(self) -> dict[str | int, int]:
        ids: list[Any] = self.ids.to_pylist()
        return {name: row for row, name in enumerate(ids)}

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
            names = pa.array(ids, kind).to_pylist()
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise InputError(f"ids: got '{error}', expected ids of type {kind}") from None
        rows = np.array([self._row_of_id.get(name, -1) for name in names], np.int64)
        if (rows < 0).any():
            raise InputError(f"{self._store.folder}: has no id {names[int(rows.argmin())]!r}")
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        shards = self._store.shards
        parts = rows_of_parts(rows, (shard.rows for shard in shards))
        for shard, (inside, own) in zip(shards, parts, strict=True):
            if len(inside):
                vectors[inside] = self._store.vectors_of(shard, own)
        return vectors
