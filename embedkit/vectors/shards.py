"""The folder of a corpus's vectors: Parquet shards, and a manifest that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.files import new_file
from embedkit.manifest import (
    FileEntry,
    NoManifestError,
    collect,
    read_manifest,
    replace_manifest,
    typed,
)
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.vectors.corpus_shard import CorpusShard, Input
from embedkit.vectors.provenance import Provenance

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from embedkit.data.corpus import Document

MANIFEST = "manifest.json"  # of the last corpus that was encoded to its end
PARTIAL = "manifest.partial.json"  # of the rows so far, while a corpus is encoded
DTYPES = ("float32", "float16")
_BATCH = 8192  # rows read at once

Stored: TypeAlias = "NDArray[np.float32] | NDArray[np.float16]"


class Shard(NamedTuple):
    """A Parquet file of so many rows."""

    file: FileEntry
    rows: int


@dataclass(frozen=True)
class Store:
    """What a manifest records."""

    folder: Path
    provenance: Provenance  # the embedder behind the vectors; the key in the file is `origin`
    dimension: int
    dtype: str  # float32 or float16, as they are stored
    texts: bool
    integer_ids: bool  # whether ids are int64, not strings
    complete: bool = False  # whether the corpus was encoded to its end
    shards: tuple[Shard, ...] = ()
    next: int = 1  # number of the next shard, so that no name is used twice
    identity: str | None = None  # in the names of shards; None in older versions' folders
    shard: CorpusShard | None = None  # which part of the corpus this is; None for all of it
    input: Input | None = None  # the whole corpus, of a shard and of merged shards
    published: Callable[[Store], object] | None = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def entries(self) -> list[FileEntry]:
        return [shard.file for shard in self.shards]

    @classmethod
    def read(
        cls, folder: Path, *, partial: bool, hold: Callable[[int], object] = os.close
    ) -> Store:
        """The last complete state, or with `partial` the last one."""
        for name in (PARTIAL,) if partial else (MANIFEST, PARTIAL):
            with suppress(NoManifestError):
                return cls._read(folder, name, hold)
        # A writer that ends removes PARTIAL when MANIFEST is there.
        return cls._read(folder, MANIFEST, hold)

    @classmethod
    def _read(cls, folder: Path, name: str, hold: Callable[[int], object] = os.close) -> Store:
        def parse(content: dict[str, Any]) -> Store:
            store = cls(
                folder=folder,
                provenance=Provenance.from_json(content["origin"]),
                **typed(content, dimension=int, dtype=str, texts=bool, integer_ids=bool),
                **typed(content, complete=bool, next=int),
                shards=tuple(
                    Shard(FileEntry.parse(*file), **typed({"rows": rows}, rows=int))
                    for file, rows in content["shards"]
                ),
                identity=content.get("identity") and str(content["identity"]),
                shard=content.get("shard") and CorpusShard.parse(content["shard"]),
                input=content.get("input")
                and Input(**typed(content["input"], rows=int, sha256=str)),
            )
            for name, valid in (
                ("dtype", store.dtype in DTYPES),
                ("dimension", 0 < store.dimension < 1 << 31),
                ("rows", content["rows"] == store.rows),
            ):
                if not valid:
                    raise ValueError(f"{name} is {content[name]!r}")
            return store

        return read_manifest(folder, name, "a folder of embedkit encode", parse, hold)

    def commit(self, **changes: Any) -> Store:
        """Make a new state the last one, and hand it to `published`."""
        new = replace(self, **changes)
        content = {**vars(new), "origin": new.provenance.to_json(), "rows": new.rows}
        content["input"] = new.input and new.input._asdict()
        del content["folder"], content["provenance"], content["published"]
        content = {name: value for name, value in content.items() if value is not None}
        replace_manifest(self.folder / (MANIFEST if new.complete else PARTIAL), content)
        if new.complete:
            (self.folder / PARTIAL).unlink(missing_ok=True)
        if new.published is not None:
            new.published(new)
        return new

    def differences(self, other: Store) -> list[str]:
        """Why rows of `other` do not fit among these, in words."""
        differing = self.provenance.differences(other.provenance)
        if self.dtype != other.dtype:
            differing.append(f"dtype {other.dtype} instead of {self.dtype}")
        if self.texts != other.texts:
            differing.append("texts stored" if other.texts else "no texts stored")
        if self.integer_ids != other.integer_ids:
            differing.append("ids of another type")
        return differing

    def collect(self) -> None:
        """Remove files that no reader needs, as the sole writer."""
        collect(self.folder, (MANIFEST, PARTIAL), lambda name: self._read(self.folder, name))

    @property
    def schema(self) -> pa.Schema:
        """Columns of a shard: id, content (16 bytes of BLAKE2b of the text), embedding, text."""
        import pyarrow as pa

        number = pa.float16() if self.dtype == "float16" else pa.float32()
        columns: dict[str, pa.DataType] = {
            "id": pa.int64() if self.integer_ids else pa.string(),
            "content": pa.binary(16),
            "embedding": pa.list_(number, self.dimension),
        }
        if self.texts:
            columns["text"] = pa.string()
        return pa.schema([pa.field(name, kind, False) for name, kind in columns.items()])

    def path_of(self, number: int) -> Path:
        """The file of a new shard."""
        return self.folder / f"{number:06d}-{self.identity}.parquet"

    @contextmanager
    def writing(self, number: int) -> Iterator[ShardWriter]:
        """A new shard, for a `with` block; it is on disk when the block ends."""
        path = self.path_of(number)
        with new_file(path) as file:
            writer = ShardWriter(file, self)
            try:
                yield writer
            finally:
                writer.close()
        writer.shard = Shard(FileEntry.of(path), writer.rows)

    def batches(
        self, columns: Sequence[str] | None = None, shards: Sequence[Shard] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """All rows, or those of some shards, in batches of some thousands."""
        names = list(columns or self.schema.names)
        for shard in self.shards if shards is None else shards:
            with self.opened(shard, content=True) as file:
                # Arrow's threads can abort the process at its exit (apache/arrow#34314).
                yield from file.iter_batches(_BATCH, columns=names, use_threads=False)

    def vectors_of(self, shard: Shard, rows: NDArray[np.int64]) -> Matrix:
        """float32 (n, dim): n rows of a shard by number, without reading it whole."""
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        with self.opened(shard) as file:
            groups = range(file.metadata.num_row_groups)
            sizes = (file.metadata.row_group(group).num_rows for group in groups)
            for group, (inside, own) in enumerate(rows_of_parts(rows, sizes)):
                if len(inside):
                    table = file.read_row_group(group, ["embedding"], use_threads=False)
                    (batch,) = table.combine_chunks().to_batches()
                    vectors[inside] = vectors_of(batch)[own]
        return vectors

    @contextmanager
    def opened(self, shard: Shard, *, content: bool = False) -> Iterator[pq.ParquetFile]:
        """A shard of the rows and columns that the manifest names; `content`: and the bytes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = shard.file.check(self.folder, content=content)
        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                rows = file.metadata.num_rows
                if rows != shard.rows or not file.schema_arrow.equals(self.schema):
                    raise InputError(
                        f"{path}: got {rows:,} rows of {_columns(file.schema_arrow)}, expected "
                        f"{shard.rows:,} of {_columns(self.schema)} as in {MANIFEST}"
                    )
                yield file
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: is damaged ({error})") from error


def rows_of_parts(
    rows: NDArray[np.int64], sizes: Iterable[int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each of some parts, which of `rows` lie in it, and their numbers there.

    The rows are counted through the parts, one part after another.
    """
    start = 0
    for size in sizes:
        inside = np.flatnonzero((rows >= start) & (rows < start + size))
        yield inside, rows[inside] - start
        start += size


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def vectors_of(batch: pa.RecordBatch) -> Matrix:
    """float32 (n, dim): the vectors of a batch."""
    column: Any = batch.column("embedding")
    values: Matrix = column.flatten().to_numpy().astype(np.float32, copy=False)
    return values.reshape(batch.num_rows, -1)


def rounded(vectors: Matrix, dtype: str) -> Stored:
    """The vectors in a data type, contiguous; InputError if float16 cannot hold a number."""
    with np.errstate(over="ignore"):
        stored: Stored = np.ascontiguousarray(vectors, dtype)
    if dtype == "float16" and not np.isfinite(stored).all():
        most = float(np.abs(vectors).max())
        raise InputError(
            f"vectors: got a number of size {most:g}, expected at most 65504 (float16)"
        )
    return stored


class ShardWriter:
    """Writes batches as row groups; `shard` describes the file after the `with` block."""

    shard: Shard

    def __init__(self, file: BufferedWriter, store: Store) -> None:
        import pyarrow.parquet as pq

        self._store, self._schema, self.rows = store, store.schema, 0
        # The numbers of a vector look random: packing them costs time and saves nothing.
        packing: dict[str, Any] = dict.fromkeys(self._schema.names, "zstd")
        packing |= {"embedding.list.element": "none"}
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression=packing,
            use_dictionary=False,
            write_statistics=["id"],
        )

    def write_rows(self, documents: Sequence[Document], vectors: Matrix) -> None:
        """Write new rows; texts are left out where they are not stored."""
        import pyarrow as pa

        values = pa.array(rounded(vectors, self._store.dtype).reshape(-1))
        columns: list[pa.Array[Any]] = [
            pa.array([document.id for document in documents], self._schema.field("id").type),
            pa.array([document.content for document in documents], pa.binary(16)),
            pa.FixedSizeListArray.from_arrays(values, self._store.dimension),
        ]
        if self._store.texts:
            columns.append(pa.array([document.text for document in documents], pa.string()))
        self.write(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it tries again when it is collected
