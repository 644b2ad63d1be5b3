"""An index on disk: segments in files that never change, and a manifest that names them.

A change writes new files and then the manifest, so a reader sees the state before or after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from embedkit.corpus.origin import Origin
from embedkit.durable import replacing, sweep
from embedkit.errors import InputError, first_line
from embedkit.index.kinds import holds_vectors, read_faiss
from embedkit.index.segment import Files, Segment
from embedkit.manifest import FileEntry, read_manifest, write_manifest

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "index.json"


@dataclass(frozen=True)
class State:
    """What a manifest says.

    Attributes:
        generation: how many changes were committed; it numbers the files too.
        kind: of FAISS's indexes.
        similarity: what is ranked by.
        dimension: numbers in a vector.
        origin: the embedder, where it is known.
        segments: where they are.
        effort: of a search, where it is not the kind's default.
    """

    generation: int
    kind: str
    similarity: str
    dimension: int
    origin: Origin | None
    segments: tuple[Files, ...]
    effort: int | None = None

    @classmethod
    def read(cls, folder: Path) -> State:
        """The last committed state.

        Raises:
            InputError: no manifest, or a damaged one.
        """

        def parse(said: dict[str, Any]) -> State:
            return cls(
                said["generation"],
                said["kind"],
                said["similarity"],
                said["dimension"],
                None if said["origin"] is None else Origin.from_json(said["origin"]),
                tuple(_files(*entries) for entries in said["segments"]),
                said.get("effort"),  # since 0.9
            )

        return read_manifest(folder, MANIFEST, "a folder of an index", parse)

    def commit(self, folder: Path) -> None:
        """Make this the state that readers see, and remove the files of others."""
        write_manifest(
            folder / MANIFEST,
            {
                "generation": self.generation,
                "kind": self.kind,
                "similarity": self.similarity,
                "dimension": self.dimension,
                "origin": None if self.origin is None else self.origin.to_json(),
                "segments": self.segments,
                "effort": self.effort,
            },
        )
        sweep(folder, {entry.name for entry in self.entries})

    @property
    def entries(self) -> list[FileEntry]:
        """All files but the manifest."""
        return [entry for files in self.segments for entry in files if entry is not None]


def _files(faiss_: Any, rows: Any, vectors: Any, removed: Any) -> Files:
    """Where a segment is stored, from JSON."""
    others = (None if entry is None else FileEntry(*entry) for entry in (vectors, removed))
    return Files(FileEntry(*faiss_), FileEntry(*rows), *others)


def read_index(folder: Path) -> tuple[State, list[Segment]]:
    """The last committed state, its files checked.

    Raises:
        InputError: no index, or a file that is absent or damaged.
    """
    while True:
        state = State.read(folder)
        try:
            return state, [_read(folder, files, state) for files in state.segments]
        except InputError:
            if State.read(folder).generation == state.generation:
                raise
            # A writer replaced the files in between.


def _read(folder: Path, files: Files, state: State) -> Segment:
    for entry in files:
        if entry is not None:
            entry.check(folder)
    path = folder / files.faiss.name
    with _readable(path):
        index = read_faiss(path, state.kind, state.dimension, state.similarity)
    with _readable(folder / files.rows.name):
        rows = _read_rows(folder / files.rows.name)
        _agree("rows", len(rows), index.ntotal)
    vectors = None
    if files.vectors is not None:
        with _readable(folder / files.vectors.name):
            vectors = np.load(folder / files.vectors.name, mmap_mode="r")
            _agree("vectors", (vectors.dtype, vectors.shape), (np.float32, (len(rows), index.d)))
    elif not holds_vectors(index):
        raise InputError(f"{path}: is damaged, the manifest names no file of vectors for it")
    removed = np.zeros(len(rows), dtype=np.bool_)
    if files.removed is not None:
        with _readable(folder / files.removed.name):
            bits = np.load(folder / files.removed.name)
            _agree("bits", (bits.dtype, bits.shape), (np.uint8, (-(-len(rows) // 8),)))
            removed = np.unpackbits(bits, count=len(rows)).astype(np.bool_)
    return Segment(index, rows, vectors, removed, files)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a library raises means that a file is not what we wrote."""
    try:
        yield
    except (ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: is damaged ({first_line(error)})") from error
    except (AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({first_line(error)})") from error


def _agree(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise ValueError(f"got {what} {got}, expected {expected} as in the index")


def _read_rows(path: Path) -> pa.Table:
    import pyarrow as pa

    rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    rows.validate(full=True)
    kinds = {name: str(rows.schema.field(name).type) for name in rows.column_names}
    if kinds.get("id") not in ("string", "int64") or {**kinds, "id": "", "text": "string"} != {
        "id": "",
        "text": "string",
    }:
        raise ValueError(f"got columns {kinds}, expected id and perhaps text")
    if any(column.null_count for column in rows.columns):
        raise ValueError("got a null, expected none")
    return rows


def write_segment(folder: Path, name: str, segment: Segment) -> Segment:
    """Store a segment; of one that is stored only its removed rows, which alone can change."""
    files = segment.files or Files(
        _write(folder / f"{name}.faiss", lambda path: faiss.write_index(segment.index, path)),
        _write(folder / f"{name}.arrow", lambda path: _write_rows(segment.rows, path)),
        None
        if segment.vectors is None
        else _write(folder / f"{name}.npy", lambda path: _write_array(segment.vectors, path)),
        None,
    )
    removed = None
    if segment.removed.any():
        bits = np.packbits(segment.removed)
        removed = _write(folder / f"{name}.removed.npy", lambda path: _write_array(bits, path))
    return replace(segment, files=files._replace(removed=removed))


def _write(path: Path, write: Callable[[str], None]) -> FileEntry:
    with replacing(path) as temporary:
        try:
            write(str(temporary))
        except RuntimeError as error:  # of FAISS, for a full disk
            raise OSError(f"{path}: cannot be written ({error})") from error
        return FileEntry.of(temporary, path.name)


def _write_rows(rows: pa.Table, path: str) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(path, rows.schema) as writer:
        writer.write_table(rows)


def _write_array(array: Any, path: str) -> None:
    with open(path, "wb") as file:
        np.save(file, array)
