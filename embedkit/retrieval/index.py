"""An index of vectors under ids: build, search, change, store."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import faiss
from numpy.typing import NDArray

from embedkit.embedder.prompts import query_prompt
from embedkit.errors import InputError
from embedkit.files import check_own, sole_writer
from embedkit.progress import progress
from embedkit.retrieval.embeddings import VectorBatch, Vectors
from embedkit.retrieval.faiss_index import (
    Effort,
    check_count,
    check_effort,
    find_ranking,
    new_index,
    train,
)
from embedkit.retrieval.provenance import Origin
from embedkit.retrieval.results import Hits
from embedkit.retrieval.rows import Batches, id_column, query_matrix, sample
from embedkit.retrieval.segments import Segment, search_segments, without
from embedkit.retrieval.storage import MANIFEST, State, collect_index, read_index, write_index

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder


Rows: TypeAlias = "Vectors | NDArray[Any]"


_OPTIONS = ("kind", "similarity", "dimension", "origin", "embedder", "effort")


_TRAINING = 200_000  # vectors that a kind is trained on at most


class VectorIndex:
    """Nearest neighbours among vectors, with FAISS; make one with `build` or `open`.

    An index that was opened or saved lives in its folder: a change is committed there before the
    call returns, whole or not at all, and readers see the last committed state. Rows that are
    removed are passed over by search and stay until `compact`, or until a later `add` of as many
    rows rewrites their segment. Threads may search while others change: a search sees one state,
    and changes wait for one another. A pickle of an index in a folder names the folder, and
    unpickling opens its last committed state; an index in memory is pickled whole.

    Attributes:
        kind: `flat` (exact), `hnsw`, or a factory string of FAISS.
        similarity: cosine, dot or euclidean.
        dimension: numbers in a vector.
        origin, embedder: behind the vectors, or None; the embedder encodes queries.
        folder: where the index lives, or None.
        effort: how much a search looks at: lists probed (IVF) or candidates kept (HNSW); None for
            the kind's default, the square root of the lists or 100.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        *,
        kind: str,
        similarity: str,
        dimension: int,
        origin: Origin | None,
        embedder: Embedder | None,
        effort: int | None = None,
    ) -> None:
        self._segments = tuple(segments)
        self.kind = kind
        self.similarity = similarity
        self.dimension = dimension
        self.origin = origin
        self.embedder = embedder
        self.effort = effort
        self._lock = threading.RLock()
        self.folder: Path | None = None
        self._state: State | None = None
        self._ranking = find_ranking(similarity)

    @classmethod
    def build(
        cls,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        kind: str = "flat",
        similarity: str | None = None,
        embedder: Embedder | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        show_progress: bool | None = None,
    ) -> VectorIndex:
        """An index in memory.

        Args:
            vectors: `Vectors` of a corpus, or an array (n, dim) of finite numbers.
            ids: n strings or whole numbers, each once; None numbers the rows of an array from 0.
            texts: n texts, for hits to show.
            kind: `flat`, `hnsw`, or a factory string of FAISS.
            similarity: cosine, dot or euclidean; None for the model's, or cosine.
            embedder: the one behind the vectors.
            nprobe, ef_search: see `effort`; for IVF kinds and for HNSW kinds.
            show_progress: a bar on stderr; None shows it where stderr is a terminal.

        Raises:
            InputError: what is wrong with the vectors, ids or texts, with its row; a kind that
                FAISS does not have; another embedder than that of the `Vectors`.
        """
        batches = Batches(vectors, ids, texts)
        origin = batches.origin
        if embedder is not None:
            if origin is None:
                origin = Origin.of(embedder, embedder.prompt_text())
            embedder = origin.check(embedder)
        if similarity is None:
            similarity = "cosine" if origin is None else origin.similarity
        empty = new_index(kind, batches.dimension, similarity)
        index = cls(
            (),
            kind=kind,
            similarity=similarity,
            dimension=batches.dimension,
            origin=origin,
            embedder=embedder,
            effort=check_effort(empty, kind, nprobe=nprobe, ef_search=ef_search),
        )
        index._check(batches)
        index._segments = (index._rewritten((), batches, show_progress),)
        return index

    @classmethod
    def open(cls, folder: str | Path, embedder: Embedder | None = None) -> VectorIndex:
        """The last committed state of an index.

        Args:
            folder: where it was saved.
            embedder: for queries that are texts.

        Raises:
            InputError: no index, a file that is absent or damaged (by name), or an embedder that
                is not the one behind the vectors.
        """
        path = Path(folder).resolve()
        state, segments = read_index(path)
        if embedder is not None and state.origin is not None:
            embedder = state.origin.check(embedder)
        index = cls(
            segments,
            kind=state.kind,
            similarity=state.similarity,
            dimension=state.dimension,
            origin=state.origin,
            embedder=embedder,
            effort=state.effort,
        )
        index.folder, index._state = path, state
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return VectorIndex.open, (self.folder, self.embedder)
        options = {name: getattr(self, name) for name in _OPTIONS}
        return partial(VectorIndex, **options), (self._segments,)

    def __len__(self) -> int:
        """Rows that search can find."""
        return sum(segment.live for segment in self._segments)

    @property
    def ids(self) -> pa.ChunkedArray[Any]:
        """The ids of the rows that search can find."""
        import pyarrow as pa

        columns = [
            segment.rows.column("id").filter(pa.array(~segment.removed))
            for segment in self._segments
        ]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks])

    @property
    def has_texts(self) -> bool:
        """Whether hits have texts."""
        return any("text" in segment.rows.column_names for segment in self._segments)

    @property
    def has_integer_ids(self) -> bool:
        """Whether ids are whole numbers, not strings."""
        import pyarrow as pa

        return any(segment.rows.schema.field("id").type == pa.int64() for segment in self._segments)

    def search(
        self,
        queries: Sequence[str] | NDArray[Any],
        k: int = 10,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
    ) -> Hits:
        """The k rows nearest to each query.

        Args:
            queries: n texts, for an index with an embedder, or vectors (n, dim).
            k: at most; fewer where the index has fewer rows.
            prompt: put in front of texts; None for the recorded prompt of queries.
            prompt_name: one of the embedder's prompts instead.
            nprobe, ef_search: see `build`; None for what was said there.

        Raises:
            InputError: wrong queries, or texts for an index without an embedder.
        """
        k, segments = check_count("k", k), self._segments
        effort = self.check_effort(nprobe=nprobe, ef_search=ef_search) or self.effort
        if self.embedder is not None:
            prompt = query_prompt(self.embedder, self.origin, prompt, prompt_name)
        matrix = query_matrix(queries, self.embedder, self.dimension, prompt=prompt)
        self._ranking.check_norms("queries", matrix)
        scores, rows = search_segments(segments, self._ranking, matrix, k, effort)
        return Hits(scores, rows, [segment.rows for segment in segments])

    def check_effort(self, **options: int | None) -> int | None:
        """What `nprobe` or `ef_search` says, or None; InputError where the kind has none."""
        if not any(value is not None for value in options.values()):
            return None
        empty = new_index(self.kind, self.dimension, self.similarity)
        return check_effort(empty, self.kind, **options)

    def add(
        self,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Add rows under new ids; see `build`.

        Without ids, rows of an array are numbered on from the highest id.

        Raises:
            InputError: what is wrong, an id that is there already, or vectors of another embedder;
                nothing is added then.
        """
        with self._changing():
            batches = self._batches(vectors, ids, texts)
            _, there = without(self._segments, batches.ids.combine_chunks())
            if there:
                raise InputError(
                    f"ids: {next(iter(there))!r} is in the index already; expected new ids (update "
                    "replaces rows)"
                )
            self._put(self._segments, batches, show_progress)

    def update(
        self,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Add rows; those with ids that are there already take their place.

        Raises:
            InputError: what is wrong, or vectors of another embedder; nothing is changed then.
        """
        with self._changing():
            batches = self._batches(vectors, ids, texts)
            segments, _ = without(self._segments, batches.ids.combine_chunks())
            self._put(segments, batches, show_progress)

    def remove(self, ids: Iterable[str | int]) -> None:
        """Remove rows.

        Raises:
            InputError: an id that is not there; nothing is removed then.
        """
        wanted = id_column(ids)
        with self._changing():
            if len(wanted):
                self._check_kind(wanted.type)
            segments, found = without(self._segments, wanted)
            lost = next((name for name in wanted.to_pylist() if name not in found), None)
            if lost is not None:
                raise InputError(f"ids: the index has no {lost!r}; nothing was removed")
            self._commit(segments)

    def compact(self, *, show_progress: bool | None = None) -> None:
        """Rewrite the index as one segment without the removed rows.

        A kind that was trained stays as it was trained; to train it anew, build anew.
        """
        with self._changing():
            if len(self) == 0:
                return
            self._commit([self._rewritten(self._segments, None, show_progress)])

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, where it lives from now on.

        Raises:
            InputError: the folder has other files in it, or another process writes there.
        """
        path = Path(folder).resolve()
        if self._state is not None and path == self.folder and (path / MANIFEST).exists():
            self._state.check_latest(path)
            return  # every change is there already
        check_own(path, MANIFEST, "an index")
        with sole_writer(path, MANIFEST):
            before = State.read(path) if (path / MANIFEST).exists() else None
            unstored = [replace(segment, files=None) for segment in self._segments]
            self._write(path, unstored, before)

    @property
    def info(self) -> dict[str, Any]:
        """What `embedkit index info` says, as plain values."""
        segments = self._segments
        rows = sum(segment.live for segment in segments)
        usual = Effort.of(new_index(self.kind, self.dimension, self.similarity))
        return {
            "kind": self.kind,
            **({usual.option: self.effort or usual.value} if usual.option else {}),
            "similarity": self.similarity,
            "dimension": self.dimension,
            "rows": rows,
            "removed": sum(map(len, segments)) - rows,
            "texts": self.has_texts,
            "segments": len(segments),
            "bytes": sum(entry.bytes for entry in self._state.entries) if self._state else None,
            "origin": self.origin.to_json() if self.origin else None,
        }

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Be the one that changes the index, from a state that is the last one."""
        with self._lock:
            if self.folder is None or self._state is None:
                yield
                return
            self._state.check_latest(self.folder)  # before a lock makes a folder that is gone
            with sole_writer(self.folder, MANIFEST):
                self._state.check_latest(self.folder)
                yield

    def _commit(self, segments: Sequence[Segment]) -> None:
        """Make these the index's segments."""
        live = [segment for segment in segments if segment.live]
        if self.folder is None or self._state is None:
            self._segments = tuple(live)
        else:
            self._write(self.folder, live, self._state)

    def _write(self, folder: Path, segments: Sequence[Segment], before: State | None) -> None:
        generation, identity = (before.generation, before.identity) if before else (0, None)
        own = self.kind, self.similarity, self.dimension, self.origin
        try:
            self._state, self._segments = write_index(
                folder, State(generation, *own, (), identity, self.effort), segments
            )
            self.folder = folder
        finally:
            collect_index(folder)

    def _batches(
        self, vectors: Rows, ids: Iterable[str | int] | None, texts: Iterable[str] | None
    ) -> Batches:
        """New rows, checked against those that are there."""
        batches = Batches(vectors, ids, texts, dimension=self.dimension, first_id=self._next_id)
        if batches.origin is not None and self.origin is not None:
            differing = self.origin.differences(batches.origin, precision=False)
            if differing:
                raise InputError(
                    f"vectors: got {', '.join(differing)} than in the index, which is of "
                    f"{self.origin.model} (recipe {self.origin.recipe}); expected the same embedder"
                )
        self._check(batches)
        return batches

    def _check(self, batches: Batches) -> None:
        self._check_kind(batches.ids.type)
        batches.check(self._ranking, self.has_texts if self._segments else None)

    def _check_kind(self, kind: pa.DataType) -> None:
        if self._segments:
            expected = self._segments[0].rows.schema.field("id").type
            if kind != expected:
                raise InputError(f"ids: got type {kind}, expected {expected} as in the index")

    def _next_id(self) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._segments:
            return 0
        ids = self.ids
        if ids.type != pa.int64():
            raise InputError("ids: got none, expected strings as in the index")
        return int(pc.max(ids).as_py()) + 1

    def _put(
        self, segments: Sequence[Segment], batches: Batches, show_progress: bool | None
    ) -> None:
        """Commit more rows.

        The last segments are rewritten with them while they have no more rows than the new one:
        so there are few segments, and a row is rewritten few times.
        """
        kept, n = list(segments), len(batches)
        absorbed: list[Segment] = []
        while kept and kept[-1].live <= n:
            absorbed.insert(0, kept.pop())
            n += absorbed[0].live
        self._commit([*kept, self._rewritten(absorbed, batches, show_progress)])

    def _rewritten(
        self, segments: Sequence[Segment], batches: Batches | None, show_progress: bool | None
    ) -> Segment:
        """The rows of segments, and new rows, as one segment."""

        def new() -> Iterator[VectorBatch]:
            return iter(()) if batches is None else batches.prepared(self._ranking)

        empty = new_index(self.kind, self.dimension, self.similarity)
        if not empty.is_trained and self._segments:
            # All segments are trained alike.
            empty = faiss.clone_index(self._segments[0].index)
            empty.reset()
        elif not empty.is_trained and batches is not None:
            train(empty, sample(new(), len(batches), _TRAINING), self.kind)
        n = len(batches or ()) + sum(segment.live for segment in segments)
        rows = chain(chain.from_iterable(segment.batches() for segment in segments), new())
        with progress(n, "vectors", show=show_progress) as advance:
            return Segment.of(empty, self.kind, rows, n, advance)
