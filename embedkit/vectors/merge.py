"""Merge the shards of a corpus, encoded one by one, into one folder of vectors."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from embedkit.arguments import check_list
from embedkit.errors import InputError
from embedkit.files import new_file, sole_writer
from embedkit.manifest import new_identity
from embedkit.progress import progress
from embedkit.vectors.corpus_shard import CorpusShard, Input
from embedkit.vectors.remote import readable, writable
from embedkit.vectors.shards import MANIFEST, PARTIAL, Shard, Store


class Merged(NamedTuple):
    """What `merge_vectors` made: so many rows of so many shards."""

    rows: int
    shards: int


def merge_vectors(
    folders: Sequence[str | Path], out: str | Path, *, work: str | Path | None = None
) -> Merged:
    """Make one folder of the N shards of a corpus, `encode_corpus(..., shard=(I, N))`.

    The rows are those of shard 1, then of shard 2 and so on, each in the order of the input. The
    folder has nothing until it has all. Its files are hard links to those of the shards, which
    nobody changes, or copies where the file system is another.

    Args:
        folders: all N, in any order; paths or URLs.
        out: a new or empty folder, or its URL. The same merge again changes nothing.
        work: as in `encode_corpus`.

    Raises:
        InputError: a shard that is missing, there twice, not encoded to its end, of another
            embedder or of another state of the input; a row that is missing, there twice or in
            the wrong shard; a damaged file; vectors that are in `out` already.

    Example:
        >>> from pathlib import Path
        >>> from embedkit import Corpus, Embedder, Vectors, encode_corpus, merge_vectors
        >>> _ = Path("corpus.txt").write_text("A cat sleeps.\\nA dog barks.\\nIt rains.\\n")
        >>> embedder = Embedder.from_pretrained("minilm", precision="float32")
        >>> for name in ("1/2", "2/2"):
        ...     _ = encode_corpus(embedder, Corpus("corpus.txt"), f"part-{name[0]}", shard=name)
        >>> merge_vectors(["part-1", "part-2"], "vectors")
        Merged(rows=3, shards=2)
        >>> sorted(Vectors.open("vectors").ids.to_pylist())
        [0, 1, 2]
    """
    check_list("folders", folders, "a list of folders")
    with ExitStack() as stack:
        # An open manifest keeps its files, whatever is encoded there meanwhile.
        def hold(descriptor: int) -> None:
            stack.callback(os.close, descriptor)

        named = [
            (str(name), Store.read(stack.enter_context(readable(name)), partial=False, hold=hold))
            for name in folders
        ]
        _check_all(named)
        stores = [store for _, store in sorted(named, key=lambda item: item[1].shard or ())]
        target, published = stack.enter_context(writable(out, work))
        stack.enter_context(sole_writer(target, MANIFEST))
        merged = replace(stores[0], folder=target, published=published, shard=None)
        merged = _begun(merged, sum(store.rows for store in stores), out)
        merged.collect()  # what a merge that was killed left
        try:
            if not merged.complete:
                _check_ids(named)
                shards = tuple(_linked(merged, stores))
                merged = replace(merged, shards=shards, next=merged.next + len(shards))
            merged = merged.commit(complete=True)
        finally:
            merged.collect()
    return Merged(merged.rows, len(stores))


def _check_all(named: Sequence[tuple[str, Store]]) -> None:
    """Refuse what are not all the shards of one corpus, each once."""
    if not named:
        raise InputError("folders is empty; expected the folders of all shards")
    first_name, first = named[0]
    names: dict[CorpusShard, str] = {}
    for name, store in named:
        shard = store.shard
        if shard is None or store.input is None or first.shard is None or first.input is None:
            raise InputError(
                f"{name}: has vectors of a whole corpus; expected those of embedkit encode --shard"
            )
        if not store.complete:
            raise InputError(
                f"{name}: shard {shard} was not encoded to its end; run the same embedkit encode "
                "again"
            )
        if shard.parts != first.shard.parts:
            raise InputError(
                f"{name}: has shard {shard}, and {first_name} has shard {first.shard}; expected "
                "shards of one N"
            )
        if shard in names:
            raise InputError(
                f"{name}: has shard {shard}, which {names[shard]} has too; expected each shard once"
            )
        if differing := first.differences(store):
            raise InputError(
                f"{name}: does not match {first_name}, it has {', '.join(differing)}; expected "
                "the same embedder and options for all shards"
            )
        if store.input != first.input:
            raise InputError(
                f"{name}: is of an input of {_described(store.input)}, and {first_name} of one of "
                f"{_described(first.input)}; expected one state of the input, so encode the shards "
                "of the other state again"
            )
        names[shard] = name
    parts = next(iter(names)).parts
    wanted = [CorpusShard(part, parts) for part in range(1, parts + 1)]
    missing = [str(shard) for shard in wanted if shard not in names]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise InputError(
            f"folders: no shard {', '.join(missing[:10])}{more} is among them; expected all {parts}"
        )
    rows = sum(store.rows for _, store in named)
    if first.input is not None and rows != first.input.rows:
        raise InputError(
            f"the shards have {rows:,} rows, and their input {first.input.rows:,}; expected as many"
        )


def _described(whole: Input) -> str:
    return f"{whole.rows:,} rows (SHA-256 {whole.sha256[:12]})"


def _check_ids(named: Sequence[tuple[str, Store]]) -> None:
    """Read the shards, which checks their bytes; refuse stray ids and ids that are there twice."""
    import pyarrow as pa

    with progress(sum(store.rows for _, store in named), "rows checked", show=None) as advance:
        for name, store in named:
            columns: list[Any] = []
            for batch in store.batches(["id"]):
                columns.append(batch.column("id"))
                for key in columns[-1].to_pylist():
                    if store.shard is None or not store.shard.has(key):
                        raise InputError(
                            f"{name}: has the id {key!r}, which does not belong to shard "
                            f"{store.shard}"
                        )
                advance(batch.num_rows)
            ids = pa.chunked_array(columns, store.schema.field("id").type)
            if len(ids.unique()) < len(ids):
                key, _ = Counter(ids.to_pylist()).most_common(1)[0]
                raise InputError(f"{name}: has the id {key!r} twice; expected each id once")


def _begun(merged: Store, rows: int, out: object) -> Store:
    """The state of `merged.folder` to go on with: nothing yet, or all of the same merge."""
    empty = replace(merged, shards=(), next=1, complete=False, identity=new_identity())
    if not any((merged.folder / name).exists() for name in (MANIFEST, PARTIAL)):
        return empty.commit()
    before, latest = (Store.read(merged.folder, partial=partial) for partial in (False, True))
    if not before.complete and not latest.rows:
        return replace(empty, next=latest.next, identity=latest.identity)
    state = (before.complete, before.rows, before.shard, before.input)
    under_way = latest.rows > 0 and not latest.complete
    if under_way or state != (True, rows, None, merged.input) or before.differences(merged):
        raise InputError(f"{out}: has other vectors already; expected a new or empty folder")
    return replace(before, published=merged.published)


def _linked(merged: Store, stores: Sequence[Store]) -> Iterator[Shard]:
    """The files of all stores, under new names in the merged folder."""
    files = [(store.folder, shard) for store in stores for shard in store.shards]
    for number, (folder, shard) in enumerate(files, start=merged.next):
        source, path = folder / shard.file.name, merged.path_of(number)
        try:
            os.link(source, path)
        except OSError:  # another file system, or one without hard links
            with source.open("rb") as original, new_file(path) as copy:
                shutil.copyfileobj(original, copy)
        yield Shard(shard.file._replace(name=path.name), shard.rows)
