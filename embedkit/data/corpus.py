"""A corpus: the texts of files with their ids, streamed as often as needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from embedkit.data.remote import Source, as_source, files_of
from embedkit.data.tables import READERS, Check, Row, read_lines, read_rows
from embedkit.data.text_files import check_encoding
from embedkit.data.texts import as_texts, check_id, check_text, check_text_or_null
from embedkit.errors import InputError

_LINES = (".txt", ".txt.gz")
_TEXT = ("text",)


class Document(NamedTuple):
    """A text of a corpus."""

    location: str  # where it stands, for errors: `docs.csv, row 3 (line 4)`
    id: str | int  # its name in the corpus
    text: str

    @property
    def content(self) -> bytes:
        """16 bytes of BLAKE2b, which tell whether the text changed."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Corpus:
    """Files of texts: txt (a text a line), CSV, TSV, JSONL or Parquet, each but the last also .gz.

    Iterating streams their `Document`s in memory that does not grow with the files.

    Attributes:
        path: the file, or a folder or glob (`docs/*.jsonl`) of files of one format, which are read
            in the order of their names; those of a folder that begin with `.` or `_` are left out.
            Each may be a URL that fsspec reads, such as `https://` or `s3://` (extra `remote`).
        text_columns: the columns of the text; the texts of several columns are joined by a space,
            without those that are empty or null (`("title", "text")` for BEIR).
        id_column: strings or whole numbers, each once in all files; None numbers the rows from 0,
            through all files. Empty lines are no rows, except in a .txt file, where every line is a
            text.
        encoding: of a file of text, by a name that Python knows.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("docs.csv").write_text("id,title,text\\na,Rain,It rains.\\nb,,The sun.\\n")
        >>> corpus = Corpus("docs.csv", ("title", "text"), "id")
        >>> [(document.id, document.text) for document in corpus]
        [('a', 'Rain It rains.'), ('b', 'The sun.')]
    """

    path: Source
    text_columns: tuple[str, ...] = _TEXT
    id_column: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", as_source("path", self.path))
        check_encoding(self.encoding)
        names = tuple(as_texts(self.text_columns, "text_columns"))
        object.__setattr__(self, "text_columns", names)
        if self.id_column is not None:
            check_text("id_column", self.id_column)
        first, *rest = self.files
        for file in rest:
            if _format(file) != _format(first):
                raise InputError(f"{file}: got another format than in {first}, expected one format")
        if _is_lines(first) and (self.text_columns != _TEXT or self.id_column is not None):
            raise InputError(
                f"{first}: a column was named, and a .txt file has none: its lines are texts"
            )

    @property
    def files(self) -> list[Source]:
        """The files, as they are now."""
        files = files_of(self.path)
        for file in files:
            _format(file)
        return files

    def _rows(self) -> Iterator[Row]:
        check = check_text if len(self.text_columns) == 1 else check_text_or_null
        columns: dict[str, Check] = dict.fromkeys(self.text_columns, check)
        if self.id_column is not None:
            columns[self.id_column] = check_id
        for file in self.files:
            if _is_lines(file):
                yield from read_lines(file, self.encoding)
            else:
                yield from read_rows(file, columns, encoding=self.encoding)

    def __iter__(self) -> Iterator[Document]:
        kind: type | None = None
        for index, (location, cells) in enumerate(self._rows()):
            texts = [cells[name] for name in self.text_columns if cells[name] is not None]
            if not texts:  # the error says so of the first column
                check_text(f"{location}, column {self.text_columns[0]!r}", None)
            text = texts[0] if len(self.text_columns) == 1 else " ".join(filter(None, texts))
            name: str | int = index if self.id_column is None else cells[self.id_column]
            kind = kind or type(name)
            if type(name) is not kind:
                raise InputError(
                    f"{location}, column {self.id_column!r}: got {name!r}, expected a "
                    f"{kind.__name__} as in the rows before"
                )
            yield Document(location, name, text)

    def location_of(self, name: str | int) -> str:
        """Where the first document with this id is."""
        return next(document.location for document in self if document.id == name)


def _is_lines(file: Source) -> bool:
    return file.name.lower().endswith(_LINES)


def _format(file: Source) -> str:
    """The suffix of a file without .gz."""
    known = (*_LINES, *READERS)
    suffix = next((suffix for suffix in known if file.name.lower().endswith(suffix)), None)
    if suffix is None:
        if isinstance(file, Path) and not file.exists():
            raise InputError(f"{file}: there is no such file or folder")
        raise InputError(f"{file}: got an unknown suffix, expected one of {', '.join(known)}")
    return suffix.removesuffix(".gz")
