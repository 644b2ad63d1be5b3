"""A corpus into a folder of vectors; what is there already is not encoded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.data.corpus import Corpus, Document
from embedkit.embedder.precision import Choice
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError
from embedkit.files import check_own, sole_writer
from embedkit.manifest import new_identity
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array
from embedkit.retrieval.provenance import Origin
from embedkit.retrieval.resume import Plan
from embedkit.retrieval.shards import DTYPES, MANIFEST, PARTIAL, Shard, ShardWriter, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder


# A shard is committed when it has so many rows or took so long: that is what a kill can lose.
_SHARD_ROWS = 65_536


_SHARD_SECONDS = 30.0


# Documents that are encoded at a time, shortest and longest together: so many, or characters.
_CHUNK = 4096


_CHUNK_CHARACTERS = 1 << 18


@dataclass(frozen=True)
class Encoding:
    """What `encode_corpus` did.

    Attributes:
        rows: in the folder now, one for each document.
        encoded: of them, those that were encoded now.
        kept: those that were there, under this id or under another.
        dropped: those that were there and are no longer in the corpus.
        truncated: of the encoded ones, those that were cut to the maximum length.
        seconds: of it all.
        prompt: that was put in front of each text.
        precision: that they were encoded in, and why.
    """

    rows: int
    encoded: int
    kept: int
    dropped: int
    truncated: int
    seconds: float
    prompt: str
    precision: Choice


def encode_corpus(
    embedder: Embedder,
    corpus: Corpus,
    folder: str | Path,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dtype: str = "float32",
    texts: bool = False,
    show_progress: bool | None = None,
) -> Encoding:
    """Encode the documents of a corpus into Parquet shards, in memory that does not grow with it.

    Rows are known by id and content: where the folder has some already, of a run that was killed
    or of an earlier state of the corpus, only new and changed documents are encoded, a text under
    a new id is renamed, and rows of documents that are gone are dropped. Readers see the state
    before until all is encoded. The corpus is read twice: once to check it and to see what is
    there, once to encode the rest.

    Args:
        embedder: of the vectors; the folder of another is refused. Where its precision was left to
            `auto`, it is that of the vectors that the folder has.
        corpus: its documents.
        folder: new, empty, or of an earlier `encode_corpus`.
        prompt: put in front of each text; None for the one that the folder records, else the
            model's prompt of documents (see `embedkit.embedder.prompts`). An empty one is none.
        prompt_name: one of the model's prompts instead.
        dtype: float32 or float16, for the vectors on disk.
        texts: store the texts beside their vectors.
        show_progress: bars on stderr; None shows them where stderr is a terminal.

    Raises:
        InputError: wrong input, before anything is encoded; another process that writes there.
        KeyboardInterrupt: after what was encoded is committed; call again to go on.
    """
    started = time.perf_counter()
    target = Path(folder).resolve()
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    origin = Origin.of(embedder, role_prompt(embedder, "document", prompt, prompt_name))
    check_own(target, MANIFEST, "vectors")
    with sole_writer(target, MANIFEST):
        with progress(None, "rows read", show=show_progress) as advance:
            plan = Plan(corpus, advance)
        found = None
        if (target / MANIFEST).exists() or (target / PARTIAL).exists():
            found = Store.read(target, partial=True)
            embedder = embedder.in_recorded(found.origin.precision)
            origin = replace(origin, precision=embedder.precision)
            if prompt is None and prompt_name is None:
                recorded = found.origin
                origin = replace(origin, prompt=recorded.prompt, query_prompt=recorded.query_prompt)
        empty = Store(
            folder=target,
            origin=origin,
            dimension=embedder.dimension,
            dtype=dtype,
            texts=texts,
            integer_ids=plan.integer_ids,
        )
        store = replace(empty, next=found.next, identity=found.identity) if found else empty
        if found is not None and found.rows:
            _check_same(found, empty)
            store = found
        if store.identity is None:
            store = store.commit(identity=new_identity(), complete=False)
        try:
            store = _keep(store, plan)
            kept = store.rows
            work = _Pass(embedder, origin.prompt)
            with progress(plan.to_do, "texts", show=show_progress) as advance:
                store = work.run(store, _chunks(corpus, plan), advance)
            store = store.commit(complete=True)
        finally:
            store.collect()
    return Encoding(
        rows=store.rows,
        encoded=store.rows - kept,
        kept=kept,
        dropped=(found.rows if found else 0) - kept,
        truncated=work.truncated,
        seconds=time.perf_counter() - started,
        prompt=origin.prompt,
        precision=embedder.precision_choice,
    )


def _check_same(found: Store, wanted: Store) -> None:
    """Refuse to mix vectors.

    Raises:
        InputError: what differs, and the choices.
    """
    differing = found.origin.differences(wanted.origin)
    if found.dtype != wanted.dtype:
        differing.append(f"dtype {wanted.dtype} instead of {found.dtype}")
    if found.texts != wanted.texts:
        differing.append("texts stored" if wanted.texts else "no texts stored")
    if found.integer_ids != wanted.integer_ids and found.rows:
        differing.append("ids of another type")
    if differing:
        raise InputError(
            f"{found.folder}: has vectors of {found.origin.model} (recipe {found.origin.recipe}), "
            f"and these would have {', '.join(differing)}; encode with the same settings, or into "
            "another folder, or remove this one"
        )


def _keep(found: Store, plan: Plan) -> Store:
    """The rows that are of the corpus, in one commit; their documents are done.

    All rows are matched by id first: what is left over by then may be renamed.
    """
    stale = {shard for shard in found.shards if not _all_match(found, shard, plan)}
    shards, number = [], found.next
    for shard in found.shards:
        if shard not in stale:
            shards.append(shard)
            continue
        with found.writing(number) as writer:
            for batch in found.read_shard(shard, found.schema.names):
                writer.write(_current(batch, plan))
        if writer.rows:
            shards.append(writer.shard)
        number += 1
    return found.commit(shards=tuple(shards), next=number, complete=False) if stale else found


def _all_match(store: Store, shard: Shard, plan: Plan) -> bool:
    matched = True
    for batch in store.read_shard(shard, ("id", "content")):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            matched &= plan.match(*row)
    return matched


def _current(batch: pa.RecordBatch, plan: Plan) -> pa.RecordBatch:
    """The rows of a batch that are of the corpus, under their ids there."""
    import pyarrow as pa

    ids, contents = (batch.column(name) for name in ("id", "content"))
    rows: Iterator[tuple[Any, Any]] = zip(ids.to_pylist(), contents.to_pylist(), strict=True)
    names = [row[0] if plan.match(*row) else plan.claim(row[1]) for row in rows]
    renamed = batch.set_column(0, batch.schema.field("id"), pa.array(names, batch.schema.types[0]))
    return renamed.filter(pa.array([name is not None for name in names]))


def _chunks(corpus: Corpus, plan: Plan) -> Iterator[list[Document]]:
    """The documents to do."""
    chunk: list[Document] = []
    characters = 0
    for document in corpus:
        if plan.is_done(document):
            continue
        chunk.append(document)
        characters += len(document.text)
        if len(chunk) >= _CHUNK or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class _Pass:
    """Encodes chunks into shards."""

    def __init__(self, embedder: Embedder, prompt: str) -> None:
        self._embedder, self._prompt = embedder, prompt
        self.truncated = 0

    def run(
        self, store: Store, chunks: Iterator[list[Document]], advance: Callable[[int], None]
    ) -> Store:
        """Encode all chunks; what was encoded is committed, whatever stops the rest."""
        for first in chunks:
            with store.writing(store.next) as writer:
                stopped = self._fill(writer, store, chain([first], chunks), advance)
            store = store.commit(
                shards=(*store.shards, writer.shard), next=store.next + 1, complete=False
            )
            if stopped is not None:
                raise stopped
        return store

    def _fill(
        self,
        writer: ShardWriter,
        store: Store,
        chunks: Iterator[list[Document]],
        advance: Callable[[int], None],
    ) -> BaseException | None:
        """Write a shard; what stopped it before it was full, if it has rows that are worth it."""
        end = time.monotonic() + _SHARD_SECONDS
        # A shard takes a first chunk however late it is: the caller has read it already.
        while writer.rows == 0 or (writer.rows < _SHARD_ROWS and time.monotonic() < end):
            try:
                chunk = next(chunks, None)
                if chunk is None:
                    return None
                vectors = self._encode([document.text for document in chunk])
            except BaseException as error:
                if writer.rows == 0:
                    raise
                return error
            writer.write(
                store.batch(
                    [document.id for document in chunk],
                    [document.content for document in chunk],
                    vectors,
                    [document.text for document in chunk],
                )
            )
            advance(len(chunk))
        return None

    def _encode(self, texts: list[str]) -> Float32Array:
        encoded = self._embedder.encode_recipes(
            texts, [self._embedder.bound], prompt=self._prompt, show_progress=False
        )
        inverse = encoded.distinct.inverse
        self.truncated += int(encoded.tokens.truncated[inverse].sum())
        return encoded.vectors[0][inverse]
