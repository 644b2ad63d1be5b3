"""Pairs that mean the same, or of which the first entails the second; for in-batch training."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path

from embedkit.data.tables import (
    check_path,
    check_text,
    check_texts,
    listed,
    read_rows,
    stem,
    text_cell,
)
from embedkit.errors import InputError
from embedkit.files import rows_sha256


@dataclass(frozen=True)
class PositiveColumns:
    """The names that a file gives to the columns of `Positives`.

    Attributes:
        sentence1: column of the premise.
        sentence2: column of what follows from it.
        label: column that says of which rows it does; a file may lack it, and then all rows count,
            unless it is another name than the default.
        positive: the label of those rows.
    """

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    label: str = "label"
    positive: str = "entailment"

    def __post_init__(self) -> None:
        names = [check_text(field, name) for field, name in vars(self).items()][:3]
        if len(set(names)) < len(names):
            raise InputError(f"column names: got {listed(names)}, expected three different ones")


@dataclass(frozen=True)
class Positives:
    """Positive pairs.

    Attributes:
        name: a file's stem.
        sentence1: n texts, n >= 2.
        sentence2: n texts.
    """

    name: str
    sentence1: tuple[str, ...]
    sentence2: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_texts("sentence1", self.sentence1)
        check_texts("sentence2", self.sentence2)
        if len(self.sentence1) != len(self.sentence2):
            raise InputError(
                f"got {len(self.sentence1)} first and {len(self.sentence2)} second sentences; "
                "expected as many"
            )
        if len(self.sentence1) < 2:
            raise InputError(
                f"got {len(self.sentence1)} positive pairs; expected at least 2, because the others"
                " of a batch are the negatives"
            )

    @property
    def sha256(self) -> str:
        """Of the pairs, a line of JSON each."""
        return rows_sha256(zip(self.sentence1, self.sentence2, strict=True))


def read_positives(
    path: str | Path, columns: PositiveColumns = PositiveColumns(), encoding: str = "utf-8"
) -> Positives:
    """Read a file as `read_pairs` does, and keep the positive rows.

    Raises:
        InputError: the file cannot be read, a column is absent, or fewer than two rows are
            positive.
    """
    path = check_path("path", path)
    if not isinstance(columns, PositiveColumns):
        raise InputError(f"columns: got {reprlib.repr(columns)}, expected PositiveColumns")
    named = (columns.label,) if columns.label != PositiveColumns.label else ()
    rows = list(
        read_rows(
            path,
            (columns.sentence1, columns.sentence2, *named),
            optional=(columns.label,),
            keys=(columns.label,),
            encoding=encoding,
        )
    )
    found = [
        row
        for row in rows
        if columns.label not in row.cells or str(row.cells[columns.label]) == columns.positive
    ]
    if rows and not found:
        labels = sorted({str(row.cells[columns.label]) for row in rows})
        raise InputError(
            f"{path}, column {columns.label!r}: no row is {columns.positive!r}, got "
            f"{listed(labels[:5])}"
        )
    sentence1, sentence2 = (
        tuple(text_cell(row.place, name, row.cells.get(name)) for row in found)
        for name in (columns.sentence1, columns.sentence2)
    )
    try:
        return Positives(stem(path), sentence1, sentence2)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
