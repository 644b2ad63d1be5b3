"""Encode a corpus into a folder of vectors; rows that are there already are not encoded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import check_embedder
from embedkit.data.corpus import Corpus, Document
from embedkit.embedder.one_pass import check_finite
from embedkit.embedder.precision import Choice
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError
from embedkit.files import sole_writer
from embedkit.manifest import new_identity
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.batching import check_batch_tokens
from embedkit.vectors.corpus_shard import CorpusShard, check_shard
from embedkit.vectors.provenance import Provenance
from embedkit.vectors.remote import writable
from embedkit.vectors.resume import Plan
from embedkit.vectors.shards import DTYPES, MANIFEST, PARTIAL, Shard, Store

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
        prompt: text to put in front of each text.
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
    batch_tokens: int | None = None,
    shard: tuple[int, int] | str | None = None,
    work: str | Path | None = None,
    show_progress: bool | None = None,
) -> Encoding:
    """Encode the documents of a corpus into Parquet shards, in memory that does not grow with it.

    Rows are known by id and content: where the folder has some already, of a run that was killed
    or of an earlier state of the corpus, only new and changed documents are encoded, a text under
    a new id is renamed, and rows of documents that are gone are dropped. Readers see the state
    before until all is encoded. The corpus is read twice: first to check it and to compare it with
    the folder, then to encode the rest.

    Args:
        embedder: of the vectors; the folder of another is refused. Where its precision was left to
            `auto`, it is that of the vectors that the folder has.
        corpus: its documents.
        folder: new, empty, or of an earlier `encode_corpus`; or the URL of one, such as
            `s3://bucket/vectors`, to which each shard is uploaded when it is encoded, and the
            manifest after it. Nothing locks a URL: one process may write there at a time.
        prompt: text to put in front of each text; None for the one that the folder records, else
            the model's prompt of documents (see `embedkit.embedder.prompts`). An empty one is none.
        prompt_name: one of the model's prompts instead.
        dtype: float32 or float16, for the vectors on disk.
        texts: store the texts beside their vectors.
        batch_tokens: the most tokens that run at once (a longer text runs alone); None for what
            suits the device. Vectors do not depend on it, except for rounding; another run may
            take another.
        shard: encode only shard I of N, `(I, N)` or `"I/N"`, I from 1: the documents whose ids
            hash to it. The folder records it, and the rows and SHA-256 of the whole input;
            `merge_vectors` makes one folder of all N. The embedder's precision must not be `auto`.
        work: the folder to encode in before the upload to a URL; None for a temporary one, for
            which rows that are at the URL are downloaded.
        show_progress: show bars on stderr; None shows them if stderr is a terminal.

    Raises:
        InputError: wrong input, before anything is encoded; another process that writes there; a
            folder of another shard.
        KeyboardInterrupt: what was encoded is committed first; call again to resume.

    Example:
        >>> from pathlib import Path
        >>> from embedkit import Corpus, Embedder, encode_corpus
        >>> embedder, corpus = Embedder.from_pretrained("minilm"), Path("corpus.txt")
        >>> _ = corpus.write_text("A cat sleeps.\\nIt rains.\\n")
        >>> encode_corpus(embedder, Corpus(corpus), "vectors").encoded
        2
        >>> _ = corpus.write_text("A cat sleeps.\\nIt rains.\\nA dog barks.\\n")
        >>> again = encode_corpus(embedder, Corpus(corpus), "vectors")
        >>> again.rows, again.kept, again.encoded
        (3, 2, 1)
    """
    started = time.perf_counter()
    check_embedder(embedder)
    check_encoding(dtype, batch_tokens, reproducible=embedder.reproducible)
    part = check_shard(shard, embedder.asked_precision)
    provenance = Provenance.of(embedder, role_prompt(embedder, "document", prompt, prompt_name))
    with writable(folder, work) as (target, published), sole_writer(target, MANIFEST):
        with progress(None, "rows read", show=show_progress) as advance:
            plan = Plan(corpus, advance, part)
        before = None
        if (target / MANIFEST).exists() or (target / PARTIAL).exists():
            before = Store.read(target, partial=True)
            _check_shard(before, part, folder)
            recorded = before.provenance
            embedder = embedder.in_recorded(recorded.precision)
            provenance = Provenance.of(embedder, provenance.prompt)
            if prompt is None and prompt_name is None:
                provenance = replace(
                    provenance, prompt=recorded.prompt, query_prompt=recorded.query_prompt
                )
        store = Store(target, provenance, embedder.dimension, dtype, texts, plan.integer_ids)
        if before is not None and before.rows:
            _check_same(before, store, folder)
            store = before
        elif before is not None:
            store = replace(store, next=before.next, identity=before.identity)
        store = replace(store, shard=part, input=plan.input, published=published)
        if store.identity is None:
            store = store.commit(identity=new_identity(), complete=False)
        try:
            store = _keep_matching(store, plan)
            kept, to_do = store.rows, plan.to_do
            encoder = _ShardEncoder(embedder, provenance.prompt, batch_tokens)
            with progress(to_do, "texts", show=show_progress) as advance:
                store = encoder.encode(store, _chunks(corpus, plan), advance)
            if store.rows != kept + to_do:
                raise InputError(f"{corpus.path}: lost rows while it was encoded; run it again")
            store = store.commit(complete=True)
        finally:
            store.collect()
    return Encoding(
        rows=store.rows,
        encoded=store.rows - kept,
        kept=kept,
        dropped=(before.rows if before else 0) - kept,
        truncated=encoder.truncated,
        seconds=time.perf_counter() - started,
        prompt=provenance.prompt,
        precision=embedder.precision_choice,
    )


def check_encoding(dtype: str, batch_tokens: int | None, *, reproducible: bool) -> None:
    """Refuse what `encode_corpus` refuses whatever the embedder, before one is loaded."""
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    if batch_tokens is not None:
        check_batch_tokens(batch_tokens, reproducible=reproducible)


def _check_shard(before: Store, part: CorpusShard | None, folder: object) -> None:
    """Refuse the folder of another shard."""
    if before.shard != part:
        has, got = (f"shard {x}" if x else "a whole corpus" for x in (before.shard, part))
        raise InputError(
            f"{folder}: has vectors of {has}, got {got} to encode; expected the same, or "
            "another folder"
        )


def _check_same(before: Store, wanted: Store, folder: object) -> None:
    """Refuse to mix vectors: say what differs, and what to do."""
    differing = before.differences(wanted)
    if differing:
        model, recipe = before.provenance.model, before.provenance.recipe
        raise InputError(
            f"{folder}: has vectors of {model} (recipe {recipe}), and these would have "
            f"{', '.join(differing)}; encode with the same settings, or into another folder, or "
            "remove this one"
        )


def _keep_matching(store: Store, plan: Plan) -> Store:
    """Keep the rows that are of the corpus, in one commit; their documents are done.

    All rows are matched by id first: only rows that are left over then may be renamed.
    """
    stale = {shard for shard in store.shards if not _all_match(store, shard, plan)}
    if not stale:
        return store
    shards, following = [], store.next
    for shard in store.shards:
        if shard not in stale:
            shards.append(shard)
            continue
        with store.writing(following) as writer:
            for batch in store.batches(shards=[shard]):
                writer.write(_matching_rows(batch, plan))
        if writer.rows:
            shards.append(writer.shard)
        following += 1
    return store.commit(shards=tuple(shards), next=following, complete=False)


def _all_match(store: Store, shard: Shard, plan: Plan) -> bool:
    matched = True
    for batch in store.batches(("id", "content"), [shard]):
        for row in _ids_and_contents(batch):
            matched &= plan.match(*row)  # every row is matched, so that its document is done
    return matched


def _matching_rows(batch: pa.RecordBatch, plan: Plan) -> pa.RecordBatch:
    """The rows of a batch that are of the corpus, under their ids there."""
    import pyarrow as pa

    names = [
        name if plan.match(name, content) else plan.claim(content)
        for name, content in _ids_and_contents(batch)
    ]
    renamed = batch.set_column(0, batch.schema.field("id"), pa.array(names, batch.schema.types[0]))
    return renamed.filter(pa.array([name is not None for name in names]))


def _ids_and_contents(batch: pa.RecordBatch) -> Iterator[tuple[Any, bytes]]:
    return zip(*(batch.column(name).to_pylist() for name in ("id", "content")), strict=True)


def _chunks(corpus: Corpus, plan: Plan) -> Iterator[list[Document]]:
    """The documents that are not done."""
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


class _ShardEncoder:
    """Encodes chunks of documents into shards, and counts the truncated texts."""

    def __init__(self, embedder: Embedder, prompt: str, batch_tokens: int | None) -> None:
        self._embedder, self._prompt, self._batch_tokens = embedder, prompt, batch_tokens
        self.truncated = 0

    def encode(
        self, store: Store, chunks: Iterator[list[Document]], advance: Callable[[int], None]
    ) -> Store:
        """Encode all chunks; what was encoded is committed, whatever stops the rest."""
        encoded = self._encoded(chunks)
        stopped: BaseException | None = None
        for first in encoded:
            rest = chain([first], encoded)
            end = time.monotonic() + _SHARD_SECONDS
            with store.writing(store.next) as writer:
                # A shard takes a first chunk however late it is.
                while writer.rows == 0 or (writer.rows < _SHARD_ROWS and time.monotonic() < end):
                    try:
                        chunk, vectors = next(rest)
                    except StopIteration:
                        break
                    except BaseException as error:
                        stopped = error
                        break
                    writer.write_rows(chunk, vectors)
                    advance(len(chunk))
            store = store.commit(
                shards=(*store.shards, writer.shard), next=store.next + 1, complete=False
            )
            if stopped is not None:
                raise stopped
        return store

    def _encoded(
        self, chunks: Iterator[list[Document]]
    ) -> Iterator[tuple[list[Document], Float32Array]]:
        """Chunks with their vectors; workers read ahead."""
        chunks, ahead = tee(chunks)
        parts = self._embedder.encode_each(
            ([document.text for document in chunk] for chunk in ahead),
            [self._embedder.bound],
            prompt=self._prompt,
            batch_tokens=self._batch_tokens,
        )
        for chunk, encoded in zip(chunks, parts, strict=True):
            distinct, (vectors,) = encoded.distinct, encoded.vectors
            check_finite(vectors, distinct.texts, self._embedder.precision)
            inverse = distinct.inverse
            self.truncated += int(encoded.tokens.truncated[inverse].sum())
            yield chunk, vectors[inverse]
