"""Which documents of a corpus have a vector already, kept in a temporary SQLite database.

SQLite moves to disk what does not fit its cache, so memory does not grow with the corpus.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable

from embedkit.data.corpus import Corpus, Document
from embedkit.errors import InputError
from embedkit.files import RowDigest
from embedkit.vectors.corpus_shard import CorpusShard, Input

_CACHE = 16384  # KiB


class Plan:
    """The documents of a corpus, which is read once to its end, and whether each is done.

    With a shard, they are those of the shard, and `input` describes the whole corpus.
    """

    def __init__(
        self, corpus: Corpus, advance: Callable[[int], None], shard: CorpusShard | None = None
    ) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA cache_size = -{_CACHE};"
            "CREATE TABLE corpus (id PRIMARY KEY, content BLOB, done INTEGER) WITHOUT ROWID; BEGIN"
        )
        self.integer_ids = False
        self.input: Input | None = None
        self._shard = shard
        digest, rows = RowDigest(), 0
        for document in corpus:
            self.integer_ids = isinstance(document.id, int)
            rows += 1
            advance(1)
            if shard is not None:
                digest.add([(document.id, document.text)])
                if not shard.has(document.id):
                    continue
            try:
                self._execute("INSERT INTO corpus VALUES (?, ?, 0)", document.id, document.content)
            except sqlite3.IntegrityError:
                raise InputError(
                    f"{document.location}: has the id {document.id!r} of "
                    f"{corpus.location_of(document.id)}; expected each id once"
                ) from None
        if not rows:
            raise InputError(f"{corpus.path}: has no rows, expected texts")
        if shard is not None:
            self.input = Input(rows, digest.sha256)

    def _execute(self, command: str, *values: str | int | bytes) -> sqlite3.Cursor:
        try:
            return self._database.execute(command, values)
        except sqlite3.OperationalError as error:  # a full disk, for one
            folder = os.environ.get("SQLITE_TMPDIR") or tempfile.gettempdir()
            raise OSError(
                f"{folder}: the temporary folder cannot be written ({error}); free space there, or "
                "name another in SQLITE_TMPDIR"
            ) from error

    def match(self, name: str | int, content: bytes) -> bool:
        """Whether the corpus has a document of this id and content; it is done then."""
        done = self._execute(
            "UPDATE corpus SET done = 1 WHERE id = ? AND content = ?", name, content
        )
        return done.rowcount == 1

    def claim(self, content: bytes) -> str | int | None:
        """The id of a document with this content that is not done, if any; it is done then."""
        self._execute("CREATE INDEX IF NOT EXISTS todo ON corpus (content) WHERE NOT done")
        row = self._execute(
            "SELECT id FROM corpus WHERE content = ? AND NOT done ORDER BY id LIMIT 1", content
        ).fetchone()
        if row is None:
            return None
        self._execute("UPDATE corpus SET done = 1 WHERE id = ?", *row)
        name: str | int = row[0]
        return name

    @property
    def to_do(self) -> int:
        """Documents that are not done."""
        (count,) = self._execute("SELECT COUNT(*) FROM corpus WHERE NOT done").fetchone()
        return int(count)

    def is_done(self, document: Document) -> bool:
        """Whether a document of the corpus, read again, has its vector or is of another shard."""
        if self._shard is not None and not self._shard.has(document.id):
            return True
        row = self._execute("SELECT content, done FROM corpus WHERE id = ?", document.id).fetchone()
        if row is None or row[0] != document.content:
            raise InputError(f"{document.location}: was changed while the corpus was encoded")
        return bool(row[1])
