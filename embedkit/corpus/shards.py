"""The folder of a corpus's vectors: Parquet shards, and a manifest that names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.corpus.origin import Origin
from embedkit.durable import replacing
from embedkit.errors import InputError
from embedkit.manifest import FileEntry, read_manifest, write_manifest
from embedkit.steps import Vectors as Matrix

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MANIFEST = "manifest.json"
DTYPES = ("float32", "float16")
_BATCH = 8192  # rows read at once


class Shard(NamedTuple):
    """A Parquet file of rows.

    Attributes:
        file: as it was written.
        rows: in it.
    """

    file: FileEntry
    rows: int


@dataclass(frozen=True)
class Store:
    """What a manifest says.

    Attributes:
        folder: where it is.
        origin: the embedder.
        dimension: numbers in a vector.
        dtype: float32 or float16, as they are stored.
        texts: whether the texts are stored too.
        integer_ids: whether ids are whole numbers (int64), not strings.
        complete: whether the corpus was encoded to its end.
        shards: in order.
        next: number of the next shard, so that no name is used twice.
    """

    folder: Path
    origin: Origin
    dimension: int
    dtype: str
    texts: bool
    integer_ids: bool
    complete: bool = False
    shards: tuple[Shard, ...] = ()
    next: int = 1

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The last committed state.

        Raises:
            InputError: no manifest, or a damaged one.
        """

        def parse(said: dict[str, Any]) -> Store:
            return cls(
                folder=folder,
                origin=Origin.from_json(said["origin"]),
                dimension=said["dimension"],
                dtype=said["dtype"],
                texts=said["texts"],
                integer_ids=said["integer_ids"],
                complete=said["complete"],
                shards=tuple(Shard(FileEntry(*file), rows) for file, rows in said["shards"]),
                next=said["next"],
            )

        return read_manifest(folder, MANIFEST, "a folder of embedkit encode", parse)

    def commit(self, **changes: Any) -> Store:
        """Make a new state the one that readers see."""
        new = replace(self, **changes)
        said: Mapping[str, Any] = {
            "origin": new.origin.to_json(),
            "dimension": new.dimension,
            "dtype": new.dtype,
            "texts": new.texts,
            "integer_ids": new.integer_ids,
            "rows": new.rows,
            "complete": new.complete,
            "shards": new.shards,
            "next": new.next,
        }
        write_manifest(self.folder / MANIFEST, said)
        return new

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

    def batch(
        self,
        ids: Sequence[str | int],
        contents: Sequence[bytes],
        vectors: Matrix,
        texts: Sequence[str],
    ) -> pa.RecordBatch:
        """Rows of a shard; texts are left out where they are not stored."""
        import pyarrow as pa

        numbers = np.ascontiguousarray(vectors, dtype=self.dtype).reshape(-1)
        schema = self.schema
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(numbers), self.dimension)
        columns = [
            pa.array(ids, schema.field("id").type),
            pa.array(contents, pa.binary(16)),
            embedding,
        ]
        if self.texts:
            columns.append(pa.array(texts, pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    @contextmanager
    def writing(self, number: int) -> Iterator[ShardWriter]:
        """A new shard, for a `with` block; it is on disk when the block ends."""
        path = self.folder / f"{number:06d}.parquet"
        with replacing(path) as temporary:
            writer = ShardWriter(temporary, self.schema)
            try:
                yield writer
            finally:
                writer.close()
            writer.shard = Shard(FileEntry.of(temporary, path.name), writer.rows)

    def read_shard(self, shard: Shard, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Its rows in batches of some thousands.

        Raises:
            InputError: the file is damaged.
        """
        with _opened(shard.file.check(self.folder)) as file:
            # Arrow's threads can abort the process at its exit (apache/arrow#34314).
            yield from file.iter_batches(_BATCH, columns=list(columns), use_threads=False)

    def read_vectors(self, shard: Shard, rows: NDArray[np.int64]) -> Matrix:
        """float32 (n, dim): n rows of a shard by number, without reading it whole.

        Raises:
            InputError: the file is cut off.
        """
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        with _opened(shard.file.check_size(self.folder)) as file:
            start = 0
            for group in range(file.metadata.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                here = np.flatnonzero((rows >= start) & (rows < end))
                if len(here):
                    table = file.read_row_group(group, ["embedding"], use_threads=False)
                    (batch,) = table.combine_chunks().to_batches()
                    vectors[here] = embeddings(batch)[rows[here] - start]
                start = end
        return vectors


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is damaged ({error})") from error


def embeddings(batch: pa.RecordBatch) -> Matrix:
    """float32 (n, dim): the vectors of a batch."""
    column: Any = batch.column("embedding")
    numbers: Matrix = column.flatten().to_numpy().astype(np.float32, copy=False)
    return numbers.reshape(batch.num_rows, -1)


class ShardWriter:
    """Writes batches as row groups; `shard` is what came of it, after the `with` block."""

    shard: Shard

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        # The numbers of a vector look random: packing them costs time and saves nothing.
        packing: dict[str, Any] = dict.fromkeys(schema.names, "zstd")
        packing |= {"embedding.list.element": "none"}
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression=packing,
            use_dictionary=False,
            write_statistics=["id"],
        )
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        self._writer.close()
