"""`VectorIndex`: build, search, change and store an index of vectors under ids."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.files import check_own, sole_writer
from embedkit.metadata.columns import metadata_kinds
from embedkit.metadata.filter_language import Where
from embedkit.metadata.typed_columns import Metadata, as_metadata
from embedkit.retrieval.description import html, info, line
from embedkit.retrieval.faiss_index import find_ranking
from embedkit.retrieval.fusion import DENSE
from embedkit.retrieval.growth import grown, living, merged
from embedkit.retrieval.results import Hits
from embedkit.retrieval.rows import NewRows, id_column, query_matrix
from embedkit.retrieval.search import Search
from embedkit.retrieval.segment_filter import SegmentFilter
from embedkit.retrieval.segments import Segment, live_ids, without
from embedkit.retrieval.storage import MANIFEST, State, collect_index, read_index, write_index
from embedkit.retrieval.stored_rows import StoredRow, check_ids, next_id, stored_rows, updated
from embedkit.retrieval.tune import recall_to_reach, tune_index, warn_if_stale
from embedkit.retrieval.words import UNICODE
from embedkit.scoring.loading import LoadedModel
from embedkit.vectors.embeddings import Vectors
from embedkit.vectors.provenance import Provenance

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder

Rows: TypeAlias = "Vectors | NDArray[Any]"


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
        provenance: the embedder behind the vectors, or None where it is not known.
        embedder: encodes queries that are texts, or None.
        folder: where the index lives, or None.
        effort: how much a search looks at: lists probed (IVF) or candidates kept (HNSW); None for
            the kind's default, the square root of the lists or 100.
        tuning: the recall that `tune` measured, and the candidates that search rescores; or None.

    Example:
        >>> import numpy as np
        >>> from embedkit import VectorIndex
        >>> index = VectorIndex.build(np.eye(3), ids=["x", "y", "z"])
        >>> index.search(np.array([[3.0, 4.0, 0.0]]), k=2).ids
        [['y', 'x']]
        >>> index.remove(["y"])
        >>> index.add(np.array([[1.0, 1.0, 0.0]]), ids=["xy"])
        >>> index.save("index")
        >>> VectorIndex.open("index").search(np.array([[3.0, 4.0, 0.0]]), k=2).ids
        [['xy', 'x']]
    """

    def __init__(
        self,
        state: State,
        segments: Sequence[Segment] = (),
        embedder: Embedder | None = None,
        folder: Path | None = None,
    ) -> None:
        self.kind = state.kind
        self.similarity = state.similarity
        self.dimension = state.dimension
        self.provenance = state.provenance
        self.effort = state.effort
        self.tuning = state.tuning
        self.embedder = embedder
        self.folder = folder
        self._state = state
        self._segments = tuple(segments)
        self._ranking = find_ranking(state.similarity)
        self._filter = SegmentFilter()
        self._lock = threading.RLock()

    @classmethod
    def build(
        cls,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        kind: str = "flat",
        similarity: str | None = None,
        embedder: Embedder | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        recall: float | None = None,
        queries: Sequence[str] | NDArray[Any] | None = None,
        memory: float | None = None,
        dtype: str = "float32",
        bm25: bool = False,
        words: str = UNICODE,
        show_progress: bool | None = None,
    ) -> VectorIndex:
        """Build an index in memory.

        Args:
            vectors: `Vectors` of a corpus, or an array (n, dim) of finite numbers.
            ids: n strings or integers, each once; None numbers the rows of an array from 0.
            texts: n texts, for hits to show.
            metadata: n rows of text, integers, floats, booleans, dates or lists of texts, with
                None for missing values: a dict of columns, a list of dicts, or a table of pandas or
                Arrow. Rows of `Vectors` are in the order of their ids.
            kind, memory: `flat`, `hnsw`, a factory string of FAISS, or `auto` (`tune.as_kind`).
            similarity: cosine, dot or euclidean; None for the model's, or cosine.
            embedder: the one behind the vectors.
            nprobe, ef_search: see `effort`; for IVF kinds and for HNSW kinds.
            recall, queries: tune the search, see `tune`; of kind `auto` to 0.95, unless `nprobe`
                or `ef_search` is given.
            dtype: float32 or float16, of the vectors on disk that compressed kinds rescore from.
            bm25: count the terms of the texts too, for the modes bm25 and hybrid of search.
            words: how texts are split into terms, see `embedkit.retrieval.words`.
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.

        Raises:
            InputError: what is wrong with the vectors, ids, texts or metadata; a kind that FAISS
                does not have; another embedder than that of the `Vectors`.
        """
        target = recall_to_reach(recall, queries, kind, nprobe, ef_search)
        rows = NewRows.of(vectors, ids, texts, metadata)
        provenance = rows.provenance
        if embedder is not None:
            provenance = provenance or Provenance.of(embedder)
            embedder = provenance.check(embedder)
        state = State.of(
            len(rows),
            rows.dimension,
            provenance,
            has_texts="text" in rows.schema.names,
            kind=kind,
            similarity=similarity,
            nprobe=nprobe,
            ef_search=ef_search,
            memory=memory,
            dtype=dtype,
            bm25=bm25,
            words=words,
        )
        index = cls(state, (), embedder)
        rows.check(index._ranking)
        matrix = None if queries is None else query_matrix(index, queries)
        index._segments = tuple(grown(state, (), rows, show_progress))
        if target is not None:
            index.tune(target, queries=matrix, show_progress=show_progress)
        return index

    @classmethod
    def open(cls, folder: str | Path, embedder: Embedder | None = None) -> VectorIndex:
        """Open the last committed state of an index.

        Args:
            folder: where it was saved.
            embedder: for queries that are texts.

        Raises:
            InputError: no index, a file that is absent or damaged (by name), or another embedder.
        """
        path = Path(folder).resolve()
        state, segments = read_index(path)
        if embedder is not None and state.provenance is not None:
            embedder = state.provenance.check(embedder)
        return cls(state, segments, embedder, path)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return VectorIndex.open, (self.folder, self.embedder)
        return VectorIndex, (self._settled, self._segments, self.embedder)

    tune = tune_index
    __repr__ = line
    _repr_html_ = html

    @property
    def origin(self) -> Provenance | None:
        """The earlier name of `provenance`."""
        return self.provenance

    def __len__(self) -> int:
        """Rows that search can find."""
        return sum(segment.live for segment in self._segments)

    @property
    def ids(self) -> pa.ChunkedArray[Any]:
        """The ids of the rows that search can find."""
        return live_ids(self._segments)

    @property
    def has_texts(self) -> bool:
        """Whether hits have texts."""
        return self._schema is not None and "text" in self._schema.names

    @property
    def metadata_columns(self) -> dict[str, str]:
        """The kind of each metadata column: text, integers, floats and so on."""
        return metadata_kinds(self._schema)

    @property
    def file_columns(self) -> tuple[tuple[str, ...], str | None] | None:
        """The text columns and the id column of the file that `build_index` read, or None."""
        return self._state.columns

    @property
    def words(self) -> str | None:
        """How BM25 splits texts, or None where the index has no BM25."""
        return self._state.words

    @property
    def has_integer_ids(self) -> bool:
        """Whether ids are integers, not strings."""
        return self._schema is not None and self._schema.field("id").type == "int64"

    def search(
        self,
        queries: Sequence[str] | NDArray[Any],
        k: int = 10,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        where: Where | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        mode: str = DENSE,
        weights: Sequence[float] | None = None,
        rerank: str | Path | LoadedModel | None = None,
        rerank_depth: int = 100,
    ) -> Hits:
        """The k rows nearest to each query.

        Args:
            queries: n texts, for an index with an embedder, or vectors (n, dim).
            k: at most; fewer where the index has fewer rows.
            prompt: put in front of texts; None for the recorded prompt of queries.
            prompt_name: one of the embedder's prompts instead.
            where: a condition on the metadata of hits, such as `category = 'faq' AND year >= 2024`;
                or a dict of columns and their values; see `filter_language.as_filter`.
            nprobe, ef_search: see `build`; None for what `build` was given.
            mode: `dense` by vectors, `bm25` by words, or `hybrid` by both; see `build`.
            weights: of dense and BM25 scores for hybrid; None fuses by rank, see `fuse`.
            rerank: a cross-encoder or another model, which orders `rerank_depth` or k hits anew.

        Raises:
            InputError: wrong queries, texts for an index without an embedder, a wrong condition, or
                a mode that the index was not built for.
        """
        return Search(
            prompt, prompt_name, where, nprobe, ef_search, mode, weights, rerank, rerank_depth
        ).hits(self, queries, k)

    def add(
        self,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Add rows under new ids; see `build`.

        Without ids, rows of an array are numbered on from the highest id. Columns of the index
        that the metadata lack are null in these rows.

        Raises:
            InputError: what is wrong, an id that is there already, vectors of another embedder, or
                metadata that the index has no column of that type for; nothing is added then.
        """
        with self._changing():
            rows = self._new_rows(vectors, ids, texts, metadata)
            _, existing = without(self._segments, rows.ids.combine_chunks())
            if existing:
                raise InputError(
                    f"ids: {next(iter(existing))!r} is in the index already; expected new ids "
                    "(update replaces rows)"
                )
            self._commit(grown(self._state, self._segments, rows, show_progress))

    def update(
        self,
        vectors: Rows,
        *,
        ids: Iterable[str | int] | None = None,
        texts: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Add rows; those with ids that are there already take their place, metadata and all.

        Raises:
            InputError: what is wrong, or vectors of another embedder; nothing is changed then.
        """
        with self._changing():
            rows = self._new_rows(vectors, ids, texts, metadata)
            segments, _ = without(self._segments, rows.ids.combine_chunks())
            self._commit(grown(self._state, segments, rows, show_progress))

    def update_metadata(self, ids: Iterable[str | int], metadata: Metadata) -> None:
        """Replace the values of some columns in n rows; their vectors stay as they are.

        Columns that the index lacks are added, and are null in all other rows.

        Raises:
            InputError: an id that is not there or is given twice, or metadata of other types;
                nothing is changed then.
        """
        values, column = as_metadata(metadata), id_column(ids)
        with self._changing():
            check_ids(self._segments, column, "nothing was changed")
            self._commit(updated(self._segments, column, values))

    def remove(self, ids: Iterable[str | int], *, missing_ok: bool = False) -> None:
        """Remove rows; with `missing_ok`, ids that are not there are passed over.

        Raises:
            InputError: an id that is not there; nothing is removed then.
        """
        column = id_column(ids)
        with self._changing():
            check_ids(self._segments, column, "nothing was removed", missing_ok=missing_ok)
            self._commit(without(self._segments, column)[0])

    def get(
        self, ids: Iterable[str | int], *, vectors: bool = False, missing_ok: bool = False
    ) -> list[StoredRow]:
        """Rows by their ids, in the order of the ids.

        Args:
            ids: of rows.
            vectors: whether to give vectors too, as search compares them: of length 1 for cosine.
            missing_ok: pass over ids that are not there.

        Raises:
            InputError: an id that is not there.
        """
        column, segments = id_column(ids), self._segments
        check_ids(segments, column, "expected ids of its rows", missing_ok=missing_ok)
        return stored_rows(segments, column, vectors=vectors)

    def count(self, where: Where | None = None) -> int:
        """How many rows a search with this condition chooses from; see `search`."""
        return sum(segment.live for segment in self._filter(self._segments, where))

    def compact(self, *, show_progress: bool | None = None) -> None:
        """Rewrite the index as one segment without the removed rows.

        A kind that was trained stays as it was trained; to train it anew, build anew.
        """
        with self._changing():
            if len(self):
                self._commit([merged(self._state, self._segments, None, show_progress)])

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, where it lives from now on.

        Raises:
            InputError: the folder has other files in it, or another process writes there.
        """
        path = Path(folder).resolve()
        with self._lock:
            if path == self.folder and (path / MANIFEST).exists():
                self._state.check_latest(path)
                return  # every change is there already
            check_own(path, MANIFEST, "an index")
            with sole_writer(path, MANIFEST):
                self._store(path)

    @property
    def info(self) -> dict[str, Any]:
        """What `embedkit index info` says, as plain values."""
        return info(self)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Be the only one that changes the index, from its last state."""
        with self._lock:
            if self.folder is None:
                yield
                return
            self._state.check_latest(self.folder)  # before a lock makes a folder that is gone
            with sole_writer(self.folder, MANIFEST):
                self._state.check_latest(self.folder)
                yield

    def _commit(self, segments: Sequence[Segment]) -> None:
        live = living(self._state, segments)
        warn_if_stale(self.tuning, self._segments, live)
        if self.folder is None:
            self._segments = tuple(live)
        else:
            self._write(self.folder, live, self._state)

    def _store(self, folder: Path) -> None:
        """Write the index whole, as the sole writer of a folder."""
        before = State.read(folder) if (folder / MANIFEST).exists() else None
        unstored = [replace(segment, files=None) for segment in self._segments]
        self._write(folder, unstored, before)

    def _write(self, folder: Path, segments: Sequence[Segment], before: State | None) -> None:
        """Make segments the state that follows `before` in a folder."""
        generation, identity = (before.generation, before.identity) if before else (0, None)
        new = replace(self._settled, generation=generation, identity=identity)
        try:
            self._state, self._segments = write_index(folder, new, segments)
            self.folder = folder
        finally:
            collect_index(folder)

    @property
    def _schema(self) -> pa.Schema | None:
        """Of the rows, or None where there are none."""
        return self._segments[0].rows.schema if self._segments else None

    def _new_rows(self, *given: Any) -> NewRows:
        """New rows of vectors, ids, texts and metadata, checked against those of the index."""
        first_id = partial(next_id, self._segments)
        return NewRows.into(self, *given, schema=self._schema, first_id=first_id)

    @property
    def _settled(self) -> State:
        return replace(self._state, effort=self.effort, tuning=self.tuning)
