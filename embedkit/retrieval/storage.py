"""An index on disk: segments in files that never change, and a manifest that names them.

A change writes new files and then the manifest, so a reader sees the state before or after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BufferedWriter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from embedkit.errors import InputError, first_line
from embedkit.files import new_file
from embedkit.manifest import (
    FileEntry,
    collect,
    new_identity,
    old_manifest,
    read_manifest,
    replace_manifest,
    typed,
    write_manifest,
)
from embedkit.retrieval.faiss_index import holds_vectors, read_faiss
from embedkit.retrieval.provenance import Origin
from embedkit.retrieval.segments import Files, Segment

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
        identity: of the index, and in the names of its files; None where an older version of
            embedkit wrote it, or before it is written.
        effort: of a search, where it is not the kind's default.
    """

    generation: int
    kind: str
    similarity: str
    dimension: int
    origin: Origin | None
    segments: tuple[Files, ...]
    identity: str | None = None
    effort: int | None = None

    @classmethod
    def read(
        cls, folder: Path, name: str = MANIFEST, hold: Callable[[int], object] = os.close
    ) -> State:
        """The last committed state.

        Raises:
            InputError: no manifest, or a damaged one.
        """

        def parse(said: dict[str, Any]) -> State:
            effort = said.get("effort")
            return cls(
                **typed(said, generation=int, kind=str, similarity=str, dimension=int),
                origin=None if said["origin"] is None else Origin.from_json(said["origin"]),
                segments=tuple(_files(*entries) for entries in said["segments"]),
                identity=said.get("identity") and str(said["identity"]),
                effort=None if effort is None else typed(said, effort=int)["effort"],
            )

        return read_manifest(folder, name, "a folder of an index", parse, hold)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        origin = None if self.origin is None else self.origin.to_json()
        return {**vars(self), "origin": origin}

    def check_latest(self, folder: Path) -> None:
        """Refuse to go on from a state that is not the last one.

        Raises:
            InputError: it is not, or the index is gone.
        """
        latest = State.read(folder)
        if latest.identity != self.identity:
            raise InputError(
                f"{folder}: another index took the place of the one that was opened; open it again"
            )
        if latest.generation != self.generation:
            raise InputError(
                f"{folder}: was changed by another since it was opened (generation "
                f"{latest.generation}, expected {self.generation}); open it again"
            )

    @property
    def entries(self) -> list[FileEntry]:
        """All files but the manifest."""
        return [entry for files in self.segments for entry in files if entry is not None]


def _files(faiss_: Any, rows: Any, vectors: Any, removed: Any) -> Files:
    """Where a segment is stored, from JSON."""
    others = (None if entry is None else FileEntry.parse(*entry) for entry in (vectors, removed))
    return Files(FileEntry.parse(*faiss_), FileEntry.parse(*rows), *others)


def read_index(folder: Path) -> tuple[State, list[Segment]]:
    """The last committed state, its files checked; they may be removed afterwards.

    Raises:
        InputError: no index, or a file that is absent or damaged.
    """
    with ExitStack() as held:
        state = State.read(folder, hold=lambda descriptor: held.callback(os.close, descriptor))
        return state, [_read(folder, files, state) for files in state.segments]


def collect_index(folder: Path) -> None:
    """Remove files that no reader needs, as the sole writer."""
    collect(folder, [MANIFEST], lambda name: State.read(folder, name))


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


def write_index(
    folder: Path, before: State, segments: Sequence[Segment]
) -> tuple[State, tuple[Segment, ...]]:
    """Make segments the state that readers see: the next one after `before`."""
    state = before
    if state.identity is None:
        # Said before there are files with it in their names, so that `collect` knows them.
        state = replace(state, identity=new_identity())
        write_manifest(old_manifest(folder / MANIFEST), state.to_json())
    generation = state.generation + 1
    stored = tuple(
        _write_segment(folder, f"{generation:06d}-{number}-{state.identity}", segment)
        for number, segment in enumerate(segments)
    )
    files = tuple(segment.files for segment in stored if segment.files is not None)
    state = replace(state, generation=generation, segments=files)
    replace_manifest(folder / MANIFEST, state.to_json())
    return state, stored


def _write_segment(folder: Path, name: str, segment: Segment) -> Segment:
    """Store a segment; of one that is stored only its removed rows, which alone can change."""

    def write(suffix: str, write_to: Callable[[BufferedWriter], None]) -> FileEntry:
        path = folder / f"{name}{suffix}"
        with new_file(path) as file:
            write_to(file)
        return FileEntry.of(path)

    def write_faiss(file: BufferedWriter) -> None:
        # FAISS, given a path, says nothing of a disk that is full for the last block.
        faiss.write_index(segment.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    files = segment.files or Files(
        write(".faiss", write_faiss),
        write(".arrow", lambda file: _write_rows(segment.rows, file)),
        None
        if segment.vectors is None
        else write(".npy", lambda file: _write_array(segment.vectors, file)),
        None,
    )
    removed = None
    if segment.removed.any():
        bits = np.packbits(segment.removed)
        removed = write(".removed.npy", lambda file: _write_array(bits, file))
    return replace(segment, files=files._replace(removed=removed))


def _write_array(array: Any, file: BufferedWriter) -> None:
    # Given a file, numpy writes past it, and says how many numbers fit instead of why.
    np.save(SimpleNamespace(write=file.write), array)


def _write_rows(rows: pa.Table, file: BufferedWriter) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
