"""A cache of embeddings on disk: one SQLite file, which several processes may use at a time.

The last bits of an embedding depend on the texts that run beside it, so embeddings are kept by the
texts that were encoded together, and read back together: cached and fresh results are equal to the
bit. A `reproducible` embedder has no such dependence; its embeddings are kept text by text.

The file is embeddings.sqlite3 beside calibration.json. It holds at most $EMBEDKIT_CACHE_SIZE (2 GB
by default); what was not read for longest goes first. Nothing of the cache makes work fail: a
damaged file is begun anew, an embedding that does not match its checksum is computed again, and
where the file cannot be read or written the work goes on without it. A warning says so, once.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import as_path
from embedkit.data.tables import chunks
from embedkit.embedder.calibration import cache_folder
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.steps import Float32Array

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder

FILE = "embeddings.sqlite3"
TOGETHER = 32_768  # texts that are encoded, and kept, together at most
_SIZE = "EMBEDKIT_CACHE_SIZE"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_WAIT = 60  # seconds for another process
_BESIDE = 128  # bytes of the file for each vector, beside it
# `texts`: of those encoded together, or empty where an embedding does not depend on them. `used`
# is a count, larger for later uses: the clock of a machine may be set back.
_TABLES = """
PRAGMA page_size = 32768;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS passes (
    id INTEGER PRIMARY KEY, fingerprint TEXT, prompt TEXT, precision TEXT, engine TEXT,
    device TEXT, reproducible INTEGER, texts TEXT, used REAL, bytes INTEGER,
    UNIQUE (fingerprint, prompt, precision, engine, device, reproducible, texts));
CREATE TABLE IF NOT EXISTS embeddings (
    pass INTEGER, text BLOB, vector BLOB, truncated INTEGER, checksum INTEGER,
    PRIMARY KEY (pass, text));
CREATE INDEX IF NOT EXISTS by_use ON passes (used);
"""
_T = TypeVar("_T")
_Row = tuple[bytes, int]  # a vector, and whether its text was truncated


class EncodedTexts(NamedTuple):
    """Embeddings of n distinct texts."""

    vectors: list[Float32Array]  # of each recipe, (n, dim)
    truncated: NDArray[np.bool_]  # (n,)
    cached: int  # texts that the encoder did not run


class _Key(NamedTuple):
    """What an embedding depends on, but for its text; the columns of a pass."""

    fingerprint: str
    prompt: str
    precision: str
    engine: str
    device: str
    reproducible: bool
    texts: str


class EmbeddingCache:
    """The cache in a folder, by default the one of $EMBEDKIT_CACHE; a context that closes it.

    `size` is the bytes at most; None is $EMBEDKIT_CACHE_SIZE, a number of bytes or such as 500MB.
    """

    def __init__(self, folder: str | Path | None = None, size: int | None = None) -> None:
        self._limit = _size() if size is None else size
        self._file: sqlite3.Connection | None = None
        self._off = False
        try:
            self.path = (cache_folder() if folder is None else as_path("cache", folder)) / FILE
        except OSError as error:  # there is no home
            self.path = Path(FILE)
            self._go_without(error)

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def info(self) -> dict[str, Any]:
        """Path, bytes, the limit, and how many embeddings of how many recipes there are."""

        def count(file: sqlite3.Connection) -> dict[str, int]:
            queries = {
                "bytes": "SELECT (page_count - freelist_count) * page_size "
                "FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
                "embeddings": "SELECT COUNT(*) FROM embeddings",
                "recipes": "SELECT COUNT(DISTINCT fingerprint) FROM passes",
            }
            return {name: file.execute(query).fetchone()[0] for name, query in queries.items()}

        empty = {"bytes": 0, "embeddings": 0, "recipes": 0}
        counted = self._do(count, empty) if self.path.exists() else empty
        return {"path": str(self.path), "limit": self._limit, **counted}

    def clear(self) -> None:
        """Remove all embeddings; an OSError where the file cannot be written."""
        if not self.path.exists():
            return

        def remove(file: sqlite3.Connection) -> bool:
            with file:
                file.execute("BEGIN IMMEDIATE")
                file.execute("DELETE FROM embeddings")
                file.execute("DELETE FROM passes")
            file.execute("VACUUM")
            return True

        if not self._do(remove, default=not self.path.exists()):
            raise OSError(f"{self.path}: the cache cannot be cleared")

    def read(self, key: _Key, texts: Sequence[bytes], dim: int) -> dict[bytes, _Row]:
        """The vectors that are there, by the hash of their text."""

        def select(file: sqlite3.Connection) -> dict[bytes, _Row]:
            rows: dict[bytes, _Row] = {}
            if (own := _pass_of(file, key)) is None:
                return rows
            query = "SELECT vector, truncated, checksum FROM embeddings WHERE pass = ? AND text = ?"
            for text in texts:
                row = file.execute(query, (own, text)).fetchone()
                if row and len(row[0]) == 4 * dim and _checksum(text, *row[:2]) == row[2]:
                    rows[text] = row[:2]
            file.execute(
                "UPDATE passes SET used = (SELECT MAX(used) + 1 FROM passes) WHERE id = ?", (own,)
            )
            return rows

        return self._do(select, {})

    def write(self, key: _Key, rows: dict[bytes, _Row]) -> None:
        """Keep vectors, all of them or none."""

        def insert(file: sqlite3.Connection) -> None:
            size = sum(len(vector) + _BESIDE for vector, _ in rows.values())
            with file:
                file.execute("BEGIN IMMEDIATE")
                if not self._make_room(file, size):
                    return
                file.execute(
                    "INSERT OR IGNORE INTO passes SELECT NULL, ?, ?, ?, ?, ?, ?, ?, "
                    "COALESCE(MAX(used), 0) + 1, 0 FROM passes",
                    key,
                )
                own = _pass_of(file, key)
                file.execute("UPDATE passes SET bytes = bytes + ? WHERE id = ?", (size, own))
                file.executemany(
                    "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)",
                    ((own, text, *row, _checksum(text, *row)) for text, row in rows.items()),
                )

        self._do(insert, None)

    def _make_room(self, file: sqlite3.Connection, size: int) -> bool:
        """Remove what was not read for longest; whether there is room for `size` more bytes."""
        if size > self._limit:
            return False
        query = "SELECT id, bytes FROM passes ORDER BY used DESC"
        kept = size
        for own, held in file.execute(query).fetchall():
            kept += held
            if kept > self._limit:
                file.execute("DELETE FROM embeddings WHERE pass = ?", (own,))
                file.execute("DELETE FROM passes WHERE id = ?", (own,))
        return True

    def _do(self, work: Callable[[sqlite3.Connection], _T], default: _T) -> _T:
        """Work on the file; the default where that fails."""
        if self._off:
            return default
        try:
            return work(self._open())
        except sqlite3.Error as error:
            if str(getattr(error, "sqlite_errorname", "")).startswith(_DAMAGED):
                self._begin_anew(error)
            else:
                self._go_without(error)
        except OSError as error:
            self._go_without(error)
        return default

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            _make_tables(self._file)
        return self._file

    def _begin_anew(self, error: Exception) -> None:
        self.__exit__()
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        except OSError as problem:
            self._go_without(problem)
            return
        self._warn(f"the cache of embeddings was damaged ({error}), and is begun anew")

    def _go_without(self, error: Exception) -> None:
        self._off = True
        self._warn(f"embeddings are not cached ({error}); the work goes on without")

    def _warn(self, problem: str) -> None:
        warnings.warn(f"{self.path}: {problem}", stacklevel=3)


def open_cache(cache: bool | str | Path) -> AbstractContextManager[EmbeddingCache | None]:
    """The cache in a folder, or for True in the usual one; a context, of None for False."""
    if isinstance(cache, bool):
        return EmbeddingCache() if cache else nullcontext()
    return EmbeddingCache(cache)


def encode_texts(
    embedder: Embedder,
    texts: Sequence[str],
    bounds: Sequence[BoundRecipe],
    prompt: str,
    cache: EmbeddingCache | None = None,
    *,
    show_progress: bool | None = None,
) -> EncodedTexts:
    """Embeddings of distinct texts for several recipes; those that the cache has are not computed.

    Texts are encoded at most `TOGETHER` at a time, with a cache or without one.
    """
    parts = [
        _encode_together(embedder, chunk, bounds, prompt, cache, show_progress)
        for chunk in chunks(texts, TOGETHER)
    ]
    if len(parts) == 1:
        return parts[0]
    return EncodedTexts(
        [np.concatenate(vectors) for vectors in zip(*(x.vectors for x in parts), strict=True)],
        np.concatenate([part.truncated for part in parts]),
        sum(part.cached for part in parts),
    )


def _encode_together(
    embedder: Embedder,
    texts: Sequence[str],
    bounds: Sequence[BoundRecipe],
    prompt: str,
    cache: EmbeddingCache | None,
    show_progress: bool | None,
) -> EncodedTexts:
    if cache is None:
        encoded = embedder.encode_recipes(texts, bounds, prompt=prompt, show_progress=show_progress)
        return EncodedTexts(encoded.vectors, encoded.tokens.truncated, 0)
    hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
    together = "" if embedder.reproducible else hashlib.sha256(b"".join(hashes)).hexdigest()
    ran_as = (embedder.precision, embedder.engine, embedder.device.type, embedder.reproducible)
    keys = [_Key(embedder.fingerprint_of(bound), prompt, *ran_as, together) for bound in bounds]
    dims = [bound.dim(embedder.encoder.dim) for bound in bounds]
    kept = [cache.read(key, hashes, dim) for key, dim in zip(keys, dims, strict=True)]
    lacking = [recipe for recipe, rows in enumerate(kept) if len(rows) < len(texts)]
    missing = {
        key: text
        for key, text in zip(hashes, texts, strict=True)
        if any(together or key not in kept[recipe] for recipe in lacking)
    }
    if missing:
        encoded = embedder.encode_recipes(
            [*missing.values()],
            [bounds[recipe] for recipe in lacking],
            prompt=prompt,
            show_progress=show_progress,
        )
        truncated = encoded.tokens.truncated
        for recipe, vectors in zip(lacking, encoded.vectors, strict=True):
            rows = zip((vector.tobytes() for vector in vectors), map(int, truncated), strict=True)
            new = dict(zip(missing, rows, strict=True))
            cache.write(keys[recipe], new)
            kept[recipe] |= new
    return EncodedTexts(
        [
            np.frombuffer(b"".join(rows[text][0] for text in hashes), np.float32).reshape(-1, dim)
            for rows, dim in zip(kept, dims, strict=True)
        ],
        np.array([bool(kept[0][text][1]) for text in hashes]),
        len(texts) - len(missing),
    )


def _make_tables(file: sqlite3.Connection) -> None:
    """SQLite itself does not wait for another process that makes them at the same time."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            file.executescript(_TABLES)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _pass_of(file: sqlite3.Connection, key: _Key) -> int | None:
    columns = "(fingerprint, prompt, precision, engine, device, reproducible, texts)"
    query = f"SELECT id FROM passes WHERE {columns} = (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
    row = file.execute(query, key).fetchone()
    return None if row is None else int(row[0])


def _checksum(text: bytes, vector: bytes, truncated: int) -> int:
    return zlib.crc32(b"%d" % truncated + text + vector)


def _size() -> int:
    text = os.environ.get(_SIZE) or "2GB"
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError(f"{_SIZE} is {text!r}; expected a number of bytes, such as 500MB or 2GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
