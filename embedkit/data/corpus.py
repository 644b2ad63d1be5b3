"""The texts of a file, one after another, as often as needed."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from embedkit.data.tables import (
    READERS,
    Row,
    check_path,
    check_text,
    read_lines,
    read_rows,
    text_cell,
)
from embedkit.data.text_files import check_encoding
from embedkit.errors import InputError

_INT64 = range(-(2**63), 2**63)


_LINES = (".txt", ".txt.gz")


_TEXT = ("text",)


class Document(NamedTuple):
    """A text of a corpus.

    Attributes:
        place: where it stands, as errors say it: `docs.csv, row 3 (line 4)`.
        id: its name in the corpus.
        text: what is encoded.
    """

    place: str
    id: str | int
    text: str

    @property
    def content(self) -> bytes:
        """16 bytes of BLAKE2b, which tell a changed text."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Corpus:
    """A file of texts: txt (a text a line), CSV, TSV, JSONL or Parquet, each but the last also .gz.

    Iterating streams its `Document`s in memory that does not grow with the file.

    Attributes:
        path: the file.
        text_columns: where the text is; the texts of several columns are joined by a space, empty
            and null ones left out (`("title", "text")` for BEIR).
        id_column: strings or whole numbers, each once; None numbers the rows from 0. Empty lines
            are no rows; of a .txt file every line is one, and an empty line an empty text.
        encoding: of a file of text, by a name that Python knows.
    """

    path: Path
    text_columns: tuple[str, ...] = _TEXT
    id_column: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", check_path("path", self.path))
        check_encoding(self.encoding)
        columns = self.text_columns
        if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
            raise InputError(
                f"text_columns: got {reprlib.repr(columns)}, expected a tuple of names"
            )
        names = [check_text(f"text_columns[{index}]", name) for index, name in enumerate(columns)]
        object.__setattr__(self, "text_columns", tuple(names))
        if self.id_column is not None:
            check_text("id_column", self.id_column)
        known = (*_LINES, *READERS)
        if not self.path.name.lower().endswith(known):
            raise InputError(
                f"{self.path}: got an unknown suffix, expected one of {', '.join(known)}"
            )
        if self._is_lines and (self.text_columns != _TEXT or self.id_column is not None):
            raise InputError(
                f"{self.path}: a column was named, and a .txt file has none: its lines are texts"
            )

    @property
    def _is_lines(self) -> bool:
        return self.path.name.lower().endswith(_LINES)

    def _rows(self) -> Iterator[Row]:
        if self._is_lines:
            return read_lines(self.path, self.encoding)
        ids = () if self.id_column is None else (self.id_column,)
        named = (*self.text_columns, *ids)
        return read_rows(self.path, named, optional=(), keys=ids, encoding=self.encoding)

    def __iter__(self) -> Iterator[Document]:
        """The documents.

        Raises:
            InputError: the file cannot be read, a cell is no text or no id, or ids are of two
                kinds; with file, row and column. It is raised when the iterator gets there.
        """
        kind: type | None = None
        for number, (place, cells) in enumerate(self._rows()):
            filled = [name for name in self.text_columns if cells[name] is not None]
            texts = [text_cell(place, name, cells[name]) for name in filled or self.text_columns]
            text = texts[0] if len(texts) == 1 else " ".join(filter(None, texts))
            if self.id_column is None:
                yield Document(place, number, text)
                continue
            where = f"{place}, column {self.id_column!r}"
            name = check_id(where, cells[self.id_column])
            kind = kind or type(name)
            if type(name) is not kind:
                raise InputError(
                    f"{where}: got {name!r}, expected a {kind.__name__} as in the rows before"
                )
            yield Document(place, name, text)

    def place_of(self, name: str | int) -> str:
        """Where the first document of this id stands."""
        return next(document.place for document in self if document.id == name)


def check_id(where: str, value: object) -> str | int:
    """The value, if it can be an id: a str that is not empty, or an int of 64 bits.

    Raises:
        InputError: `where`, and what was got.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in _INT64:
            raise InputError(f"{where}: got {value}, expected a whole number of 64 bits")
        return value
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: got {value!r}, expected an id, a text or a whole number")
    return check_text(where, value)
