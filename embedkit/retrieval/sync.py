"""From a file of texts to an index in one step, and later changes of the file in one commit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_embedder
from embedkit.data.corpus import Corpus, Document
from embedkit.data.text_files import EmptyFileError
from embedkit.errors import InputError
from embedkit.files import check_own, sole_writer
from embedkit.metadata.columns import as_array, merged_fields, metadata_fields
from embedkit.metadata.typed_columns import as_structs, read_metadata
from embedkit.retrieval.growth import grown
from embedkit.retrieval.index import VectorIndex
from embedkit.retrieval.rows import NewRows, check_id_type, id_column, query_matrix, repeated
from embedkit.retrieval.segments import Segment, without
from embedkit.retrieval.storage import ENCODING, MANIFEST, State, collect_index
from embedkit.retrieval.stored_rows import updated
from embedkit.retrieval.tune import recall_to_reach
from embedkit.vectors.embeddings import Vectors
from embedkit.vectors.encode_corpus import encode_corpus

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder

ALL = "all"
_BATCH = 8192  # texts


class Changes(NamedTuple):
    """What `sync_index` changed.

    Attributes:
        added: rows that were new.
        updated: rows of which the text or the metadata were others.
        removed: rows that are no longer in the source.
        kept: rows that stayed as they were.
        encoded: texts that were encoded: of added rows, and of updated ones whose text changed.
    """

    added: int
    updated: int
    removed: int
    kept: int
    encoded: int


def build_index(
    embedder: Embedder,
    corpus: Corpus,
    folder: str | Path,
    *,
    metadata: Sequence[str] | str | None = None,
    texts: bool = True,
    kind: str = "flat",
    recall: float | None = None,
    queries: Sequence[str] | NDArray[Any] | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    batch_tokens: int | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> VectorIndex:
    """Encode a corpus and index it; after a kill, the same call resumes.

    Args:
        embedder: of the vectors.
        corpus: its documents.
        folder: of the index; an index that is there is replaced at the end.
        metadata: columns of the corpus's file, or `all` for those that are neither text nor id.
        texts: store the texts too, for hits to show.
        kind, recall, queries: see `VectorIndex.build`.
        prompt, prompt_name, batch_tokens: see `encode_corpus`.
        show_progress: show bars on stderr; None shows them if stderr is a terminal.
        options: `similarity`, `nprobe`, `ef_search`, `memory`, `dtype`, `bm25` and `words`, see
            `VectorIndex.build`.

    Raises:
        InputError: wrong input, before anything is encoded; another process that writes there.

    Example:
        >>> from pathlib import Path
        >>> from embedkit import Corpus, Embedder, build_index
        >>> embedder, path = Embedder.from_pretrained("minilm"), Path("docs.csv")
        >>> _ = path.write_text("id,text,year\\na,A cat sleeps.,2023\\nb,It rains.,2024\\n")
        >>> corpus = Corpus(path, id_column="id")
        >>> index = build_index(embedder, corpus, "index", metadata=["year"])
        >>> index.search(["weather"], 1, where="year >= 2024")[0][0].id
        'b'
    """
    import pyarrow.compute as pc

    check_embedder(embedder)
    target = Path(folder).resolve()
    check_own(target, MANIFEST, "an index")
    wanted = _Wanted.of_corpus(corpus, metadata or (), {})
    options |= {"kind": kind}
    options["similarity"] = options.get("similarity") or embedder.settings.similarity
    recall_to_reach(recall, queries, kind, options.get("nprobe"), options.get("ef_search"))
    state = State.of(len(wanted.ids), embedder.dimension, None, has_texts=texts, **options)
    if queries is not None:
        queries = query_matrix(VectorIndex(state, (), embedder), queries)
    with sole_writer(target, MANIFEST):
        work = target / ENCODING
        encode_corpus(
            embedder,
            corpus,
            work,
            prompt=prompt,
            prompt_name=prompt_name,
            texts=texts,
            batch_tokens=batch_tokens,
            show_progress=show_progress,
        )
        vectors = Vectors.open(work)
        rows = pc.index_in(vectors.ids, value_set=wanted.ids)
        if rows.null_count:
            raise InputError(f"{corpus.path}: was changed while it was encoded")
        index = VectorIndex.build(
            vectors,
            metadata=wanted.metadata.take(rows) if wanted.metadata.num_columns else None,
            embedder=embedder,
            recall=recall,
            queries=queries,
            show_progress=show_progress,
            **options,
        )
        columns = corpus.text_columns, corpus.id_column
        index._state = replace(index._state, columns=columns)
        index._store(target)
        _clean(target)
    return index


def sync_index(
    index: VectorIndex,
    source: Corpus | Vectors,
    *,
    metadata: Sequence[str] | str | None = None,
    allow_empty: bool = False,
    dry_run: bool = False,
    model: str | None = None,
    device: str | None = None,
    batch_tokens: int | None = None,
    show_progress: bool | None = None,
) -> Changes:
    """Update an index to the rows of a corpus, or of stored vectors, in one commit.

    Rows are compared by id, and their texts by content: only new and changed texts are encoded,
    and where only metadata changed, the vectors stay. After a kill, the index is as before or as
    after, and the same call resumes the encoding.

    Args:
        index: it is left as it is until all is encoded. Its embedder encodes; without one, the
            model that it records is loaded.
        source: all rows that the index is to have.
        metadata: columns of the corpus's file, or `all`; new ones are added to the index. None for
            the columns that the index has. Stored vectors have none: their rows keep what they had.
        allow_empty: take a source without rows, which removes all.
        dry_run: only count.
        model, device: load the recorded model from here, onto this device.
        batch_tokens: see `encode_corpus`.
        show_progress: show bars on stderr; None shows them if stderr is a terminal.

    Raises:
        InputError: wrong input, before anything is encoded; an index without texts that was not
            built from stored vectors, as it does not tell what changed; one that another changed
            since it was opened.

    Example:
        >>> from pathlib import Path
        >>> from embedkit import Corpus, Embedder, build_index, sync_index
        >>> path = Path("docs.csv")
        >>> _ = path.write_text("id,text,year\\na,A cat sleeps.,2023\\nb,It rains.,2024\\n")
        >>> corpus = Corpus(path, id_column="id")
        >>> index = build_index(Embedder("minilm"), corpus, "index", metadata=["year"])
        >>> _ = path.write_text("id,text,year\\na,A cat sleeps.,2022\\nc,It snows.,2025\\n")
        >>> sync_index(index, corpus)
        Changes(added=1, updated=1, removed=1, kept=0, encoded=1)
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(source, Vectors):
        for_texts: dict[str, object] = {"metadata": metadata, "model": model, "device": device}
        for_texts["batch_tokens"] = batch_tokens
        given = next((name for name, value in for_texts.items() if value is not None), None)
        if given is not None:
            raise InputError(f"got {given} with stored vectors; expected a file of texts with it")
    with nullcontext() if dry_run else index._changing():
        kinds, segments = index.metadata_columns, list(index._segments)
        if isinstance(source, Vectors):
            wanted = _Wanted.of_vectors(source, index)
        else:
            wanted = _Wanted.of_corpus(source, metadata or tuple(kinds), kinds, allow_empty)
        if len(wanted.ids) == 0 and not allow_empty:
            raise InputError(
                f"{wanted.name}: has no rows, which would remove all {len(index):,} of the index; "
                "expected some, or leave to remove all (allow_empty, --allow-empty)"
            )
        plan = _Plan.of(segments, wanted)
        to_do = wanted.ids.filter(pa.array(plan.new | plan.changed))
        changes = plan.counts(0 if isinstance(source, Vectors) else len(to_do))
        if dry_run:
            return changes
        if changes.kept == len(index) == len(wanted.ids):
            _clean(index.folder)
            return changes
        segments, _ = without(segments, plan.gone)
        metadata_columns = plan.metadata if plan.metadata.num_columns else None
        if metadata_columns is not None:
            restated = pa.array(plan.restated)
            ids = wanted.ids.filter(restated)
            segments = updated(segments, ids, metadata_columns.filter(restated))
        loading = {"model": model, "device": device}
        options = {"batch_tokens": batch_tokens, "show_progress": show_progress}
        with _vectors(index, source, to_do, loading, options) as vectors:
            if vectors is not None:
                chosen = pc.is_in(vectors.ids, value_set=to_do).to_numpy()
                order = pc.index_in(vectors.ids.filter(pa.array(chosen)), value_set=wanted.ids)
                values = None if metadata_columns is None else metadata_columns.take(order)
                schema = segments[0].rows.schema if segments else None
                rows = NewRows.into(
                    index, vectors, None, None, values, schema=schema, chosen=chosen
                )
                segments = grown(index._state, segments, rows, show_progress)
            index._commit(segments)
        _clean(index.folder)
    return changes


def _clean(folder: Path | None) -> None:
    """Remove what no reader needs: vectors that were encoded, and what killed writers left."""
    if folder is not None:
        collect_index(folder)
        if (folder / ENCODING).exists():
            shutil.rmtree(folder / ENCODING)


@contextmanager
def _vectors(
    index: VectorIndex,
    source: Corpus | Vectors,
    ids: pa.Array[Any],
    loading: Mapping[str, str | None],
    options: Mapping[str, Any],
) -> Iterator[Vectors | None]:
    """Vectors that have rows of these ids; those of a corpus are encoded for the `with` block."""
    if len(ids) == 0 or isinstance(source, Vectors):
        yield source if len(ids) and isinstance(source, Vectors) else None
        return
    provenance = index.provenance
    if provenance is None:
        raise InputError(
            f"{index.folder or 'index'}: does not record the model of its vectors, so texts "
            "cannot be encoded for it; expected an index of an embedder"
        )
    embedder = index.embedder or provenance.load(**loading)
    names: list[Any] = ids.to_pylist()
    with ExitStack() as scratch:
        if index.folder is None:
            work = Path(scratch.enter_context(tempfile.TemporaryDirectory())) / ENCODING
        else:
            work = index.folder / ENCODING
        encode_corpus(
            embedder,
            _Part(**vars(source), ids=frozenset(names)),
            work,
            prompt=provenance.prompt,
            texts=index.has_texts or not index._segments,
            **options,
        )
        yield Vectors.open(work)


@dataclass(frozen=True)
class _Part(Corpus):
    """The documents of a corpus that have some ids."""

    ids: frozenset[str | int] = frozenset()

    def __iter__(self) -> Iterator[Document]:
        return (document for document in super().__iter__() if document.id in self.ids)


@dataclass(frozen=True)
class _Wanted:
    """The rows that an index is to have."""

    name: str
    ids: pa.Array[Any]  # n, each once
    contents: pa.Array[Any]  # n times 16 bytes
    metadata: pa.Table  # n rows of the columns that the source has

    @classmethod
    def of_corpus(
        cls,
        corpus: Corpus,
        metadata: Sequence[str] | str,
        kinds: Mapping[str, str],
        allow_empty: bool = False,
    ) -> _Wanted:
        import pyarrow as pa

        try:
            rows = [(document.id, document.content) for document in corpus]
        except EmptyFileError:
            if not allow_empty or len(corpus.files) > 1:
                raise
            rows = []
        ids = id_column([name for name, _ in rows])
        twice = repeated(ids)
        if twice is not None:
            where = corpus.location_of(twice)
            raise InputError(f"{where}: has the id {twice!r} of a later row; expected each id once")
        names = None if metadata == ALL else [metadata] if isinstance(metadata, str) else metadata
        table = pa.table({})
        if rows and (names is None or names):
            table = read_metadata(corpus, names, kinds)
        if table.num_columns and len(table) != len(ids):
            raise InputError(f"{corpus.path}: was changed while it was read")
        contents = pa.array([content for _, content in rows], pa.binary(16))
        return cls(str(corpus.path), ids, contents, table)

    @classmethod
    def of_vectors(cls, vectors: Vectors, index: VectorIndex) -> _Wanted:
        import pyarrow as pa

        if index.provenance is not None:
            index.provenance.check_rows(vectors.provenance)
        table = pa.Table.from_batches(list(vectors.record_batches(("id", "content"))))
        ids, contents = (as_array(table.column(name)) for name in ("id", "content"))
        return cls(repr(vectors), ids, contents, pa.table({}))


class _Plan(NamedTuple):
    """What must change in an index: of the n rows that it is to have, (n,) bool."""

    new: NDArray[np.bool_]
    changed: NDArray[np.bool_]  # the text is another
    restated: NDArray[np.bool_]  # only the metadata are
    removed: pa.Array[Any]  # ids of rows that it is not to have
    gone: pa.Array[Any]  # and those whose text is another
    metadata: pa.Table  # n rows of the source's columns, and of those that only the index has

    @classmethod
    def of(cls, segments: Sequence[Segment], wanted: _Wanted) -> _Plan:
        import pyarrow as pa
        import pyarrow.compute as pc

        n = len(wanted.ids)
        if not segments:
            no, none = np.zeros(n, np.bool_), wanted.ids[:0]
            return cls(~no, no, no, none, none, wanted.metadata)
        old = pa.concat_tables(map(_live_rows, segments)).combine_chunks()
        if n:
            check_id_type(wanted.ids.type, old.schema)
        ids = as_array(old.column("id"))
        wanted_ids = wanted.ids.cast(ids.type)
        rows = pc.index_in(wanted_ids, value_set=ids)
        new = rows.is_null().to_numpy(zero_copy_only=False)
        digests = as_array(old.column("content")).take(rows)
        same = pc.equal(digests, wanted.contents).fill_null(False)
        changed = ~new & ~same.to_numpy(zero_copy_only=False)
        restated, columns = np.zeros(n, np.bool_), {}
        fields = merged_fields(old.schema, wanted.metadata)
        given = as_structs(wanted.metadata, pa.struct(fields)) if fields else None
        for field in fields:
            before: Any = pa.nulls(n, field.type)
            if field in metadata_fields(old.schema):
                before = as_array(pc.struct_field(old.column("metadata"), [field.name])).take(rows)
            columns[field.name] = before
            if given is not None and field.name in wanted.metadata.column_names:
                columns[field.name] = given.field(field.name)
                pairs = zip(before.to_pylist(), columns[field.name].to_pylist(), strict=True)
                restated |= np.fromiter((a != b for a, b in pairs), np.bool_, n)
        removed = ids.filter(pc.invert(pc.is_in(ids, value_set=wanted_ids)))
        gone = pa.concat_arrays([removed, wanted_ids.filter(pa.array(changed))])
        return cls(new, changed, restated & ~new & ~changed, removed, gone, pa.table(columns))

    def counts(self, encoded: int) -> Changes:
        """How many rows each change is of."""
        added, updated = int(self.new.sum()), int((self.changed | self.restated).sum())
        kept = len(self.new) - added - updated
        return Changes(added, updated, len(self.removed), kept, encoded)


def _live_rows(segment: Segment) -> pa.Table:
    """The rows that are not removed, with digests in the place of their texts."""
    import pyarrow as pa

    rows = segment.rows
    if "text" in rows.column_names:
        batches: Any = rows.select(["text"]).to_batches(max_chunksize=_BATCH)
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        digests = pa.array((Document("", 0, text).content for text in texts), pa.binary(16))
        rows = rows.drop_columns(["text"]).append_column("content", digests)
    elif "content" not in rows.column_names:
        raise InputError(
            "index: has neither texts nor digests of them, which would tell what changed; build it "
            "anew"
        )
    return rows.filter(pa.array(~segment.removed))
