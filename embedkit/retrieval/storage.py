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

from embedkit.embedder.folder_kind import check_kind
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
from embedkit.metadata.columns import check_columns
from embedkit.retrieval.bm25 import Postings
from embedkit.retrieval.faiss_index import (
    check_effort,
    check_equal,
    check_trainable,
    holds_vectors,
    new_index,
    read_faiss,
    scores_exactly,
)
from embedkit.retrieval.segments import Files, Segment
from embedkit.retrieval.tune import Tuning, as_kind
from embedkit.retrieval.words import UNICODE, check_bm25
from embedkit.vectors.provenance import Provenance
from embedkit.vectors.shards import DTYPES

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "index.json"
ENCODING = "encoding"  # the folder of vectors inside an index's, while texts are encoded for it
_SCHEMA = 2  # of an index with metadata, BM25 or float16, which earlier versions cannot read


@dataclass(frozen=True)
class State:
    """What a manifest records."""

    kind: str
    similarity: str
    dimension: int
    provenance: Provenance | None  # `origin` in the file
    effort: int | None = None  # of a search, where it is not the kind's default
    tuning: Tuning | None = None  # what the effort was tuned on, if it was
    words: str | None = None  # how BM25 splits texts, see `find_words`; None for no BM25
    generation: int = 0  # how many changes were committed; it numbers the files too
    segments: tuple[Files, ...] = ()
    identity: str | None = None  # in the names of files; None in older versions' indexes
    columns: tuple[tuple[str, ...], str | None] | None = None  # of text and id in a file of texts
    dtype: str = "float32"  # of the vectors on disk that compressed kinds rescore from

    @classmethod
    def of(
        cls,
        rows: int,
        dimension: int,
        provenance: Provenance | None,
        *,
        has_texts: bool,
        kind: str = "flat",
        similarity: str | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        memory: float | None = None,
        dtype: str = "float32",
        bm25: bool = False,
        words: str = UNICODE,
    ) -> State:
        """The state of a new index, by the arguments of `VectorIndex.build`."""
        if similarity is None:
            similarity = "cosine" if provenance is None else provenance.similarity
        kind = as_kind(kind, rows, dimension, memory)
        empty = new_index(kind, dimension, similarity)
        check_trainable(empty, rows, kind)
        effort = check_effort(empty, kind, nprobe=nprobe, ef_search=ef_search)
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
        if dtype != "float32" and scores_exactly(empty):
            raise InputError(
                f"got dtype {dtype!r} for kind {kind!r}, which searches float32 vectors; expected "
                "a kind that compresses them, such as SQ8 or IVF256,PQ48"
            )
        terms = check_bm25(bm25, words, has_texts=has_texts)
        return cls(kind, similarity, dimension, provenance, effort, words=terms, dtype=dtype)

    @classmethod
    def read(
        cls, folder: Path, name: str = MANIFEST, hold: Callable[[int], object] = os.close
    ) -> State:
        """The last committed state."""

        def parse(content: dict[str, Any]) -> State:
            origin, effort = content["origin"], content.get("effort")
            return cls(
                **typed(content, generation=int, kind=str, similarity=str, dimension=int),
                provenance=None if origin is None else Provenance.from_json(origin),
                effort=None if effort is None else typed(content, effort=int)["effort"],
                tuning=Tuning.from_json(content.get("tuning")),
                words=None if (words := content.get("words")) is None else str(words),
                segments=tuple(_parse_files(*entries) for entries in content["segments"]),
                identity=content.get("identity") and str(content["identity"]),
                columns=_parse_columns(*(content.get("columns") or ((), None))),
                dtype=str(content.get("dtype", "float32")),
            )

        return read_manifest(folder, name, "a folder of an index", parse, hold, _SCHEMA)

    def to_json(self) -> dict[str, Any]:
        content = {**vars(self), "origin": self.provenance and self.provenance.to_json()}
        del content["provenance"]
        content["tuning"] = self.tuning and self.tuning.to_json()
        if self.words is None:  # as earlier versions read it
            del content["words"]
            content["segments"] = [files[:4] for files in self.segments]
        if self.dtype == "float32":
            del content["dtype"]
        return content

    def check_latest(self, folder: Path) -> None:
        """Refuse to go on from a state that is not the last one."""
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


def _parse_files(index: Any, rows: Any, *optional: Any) -> Files:
    others = (None if entry is None else FileEntry.parse(*entry) for entry in optional)
    return Files(FileEntry.parse(*index), FileEntry.parse(*rows), *others)


def _parse_columns(texts: Any, ids: Any) -> tuple[tuple[str, ...], str | None] | None:
    return (tuple(map(str, texts)), None if ids is None else str(ids)) if texts else None


def read_index(folder: Path) -> tuple[State, list[Segment]]:
    """The last committed state, its files checked; they may be removed afterwards."""
    check_kind(folder, "index")
    if (folder / ENCODING).exists() and not (folder / MANIFEST).exists():
        raise InputError(
            f"{folder}: has no index yet, as its build was stopped; run the same command to resume"
        )
    with ExitStack() as held:
        state = State.read(folder, hold=lambda descriptor: held.callback(os.close, descriptor))
        return state, [_read(folder, files, state) for files in state.segments]


def collect_index(folder: Path) -> None:
    """Remove files that no reader needs, as the sole writer."""
    collect(folder, [MANIFEST], lambda name: State.read(folder, name))


def _read(folder: Path, files: Files, state: State) -> Segment:
    with _reading(folder, files.faiss) as path:
        index = read_faiss(path, state.kind, state.dimension, state.similarity)
    assert files.rows is not None  # noqa: S101  # `_parse_files` gives one
    with _reading(folder, files.rows) as path:
        rows = _read_rows(path)
        check_equal("rows", len(rows), index.ntotal)
    vectors = None
    if files.vectors is not None:
        with _reading(folder, files.vectors) as path:
            vectors = np.load(path, mmap_mode="r")
            shape = (len(rows), index.d)
            check_equal("vectors", (vectors.dtype, vectors.shape), (state.dtype, shape))
    elif not holds_vectors(index):
        raise InputError(
            f"{folder / files.faiss.name}: is damaged, the manifest names no file of vectors for it"
        )
    postings = None
    if state.words is not None:
        if files.postings is None:
            raise InputError(f"{folder / MANIFEST}: is damaged, it names no file of BM25's terms")
        with _reading(folder, files.postings) as path:
            postings = Postings.from_table(_read_table(path), len(rows))
    removed = np.zeros(len(rows), dtype=np.bool_)
    if files.removed is not None:
        with _reading(folder, files.removed) as path:
            bits = np.load(path)
            check_equal("bits", (bits.dtype, bits.shape), (np.uint8, (-(-len(rows) // 8),)))
            removed = np.unpackbits(bits, count=len(rows)).astype(np.bool_)
    return Segment(index, rows, vectors, removed, postings, files)


@contextmanager
def _reading(folder: Path, entry: FileEntry) -> Iterator[Path]:
    """A file that is whole; whatever a library raises means that it is not what we wrote."""
    path = entry.check(folder)
    try:
        yield path
    except Exception as error:
        raise InputError(f"{path}: is damaged ({first_line(error)})") from error


def _read_rows(path: Path) -> pa.Table:
    rows = _read_table(path)
    check_columns(rows.schema)
    if any(rows.column(name).null_count for name in rows.column_names if name != "content"):
        raise ValueError("got a null, expected none")
    return rows


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    table.validate(full=True)
    return table


def write_index(
    folder: Path, before: State, segments: Sequence[Segment]
) -> tuple[State, tuple[Segment, ...]]:
    """Make segments the state that readers see: the next one after `before`."""
    state = before
    if state.identity is None:
        # Recorded before there are files with it in their names, so that `collect` knows them.
        state = replace(state, identity=new_identity())
        write_manifest(old_manifest(folder / MANIFEST), state.to_json())
    generation = state.generation + 1
    stored = tuple(
        _write_segment(folder, f"{generation:06d}-{order}-{state.identity}", segment)
        for order, segment in enumerate(segments)
    )
    files = tuple(segment.files for segment in stored if segment.files is not None)
    state = replace(state, generation=generation, segments=files)
    plain = state.words is None and state.dtype == "float32"
    plain &= all({*x.rows.column_names} <= {"id", "text"} for x in segments)
    schema = {} if plain else {"schema": _SCHEMA}
    replace_manifest(folder / MANIFEST, {**schema, **state.to_json()})
    return state, stored


def _write_segment(folder: Path, name: str, segment: Segment) -> Segment:
    """Store a segment; of one that is stored only what can change: metadata and removed rows."""

    def write(suffix: str, write_to: Callable[[BufferedWriter], None]) -> FileEntry:
        path = folder / f"{name}{suffix}"
        with new_file(path) as file:
            write_to(file)
        return FileEntry.of(path)

    def write_faiss(file: BufferedWriter) -> None:
        # FAISS, given a path, does not report a disk that is full for the last block.
        faiss.write_index(segment.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    def write_table(suffix: str, table: pa.Table) -> FileEntry:
        import pyarrow as pa

        def write_to(file: BufferedWriter) -> None:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)

        return write(suffix, write_to)

    def write_array(suffix: str, array: Any) -> FileEntry:
        # Given a file, numpy writes past it, and reports how many numbers fit instead of why.
        return write(suffix, lambda file: np.save(SimpleNamespace(write=file.write), array))

    files = segment.files
    if files is None:
        vectors = None if segment.vectors is None else write_array(".npy", segment.vectors)
        files = Files(write(".faiss", write_faiss), None, vectors, None)
        if segment.postings is not None:
            terms = write_table(".terms.arrow", segment.postings.to_table())
            files = files._replace(postings=terms)
    if files.rows is None:
        files = files._replace(rows=write_table(".arrow", segment.rows))
    removed = None
    if segment.removed.any():
        removed = write_array(".removed.npy", np.packbits(segment.removed))
    return replace(segment, files=files._replace(removed=removed))
