"""Positive pairs, which mean the same or of which the first entails the second, for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedkit.arguments import check_type
from embedkit.data.tables import Check, check_column_names, column, read_rows, stem
from embedkit.data.texts import as_texts, check_label, check_text, listed
from embedkit.errors import InputError
from embedkit.files import rows_sha256


@dataclass(frozen=True)
class PositiveColumns:
    """The names that a file gives to the columns of `Positives`.

    Attributes:
        sentence1: column of the premise.
        sentence2: column of what follows from it.
        label: column that says which rows are positive. A file may lack it, and then all rows are,
            unless it is another name than the default.
        positive: the label of those rows.

    Example:
        >>> PositiveColumns(label="gold_label").positive
        'entailment'
    """

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    label: str = "label"
    positive: str = "entailment"

    def __post_init__(self) -> None:
        names = [check_text(field, name) for field, name in vars(self).items()]
        check_column_names("column names", names[:3])


@dataclass(frozen=True)
class Positives:
    """Positive pairs.

    Attributes:
        name: a file's stem.
        sentence1: n texts, n >= 2.
        sentence2: n texts.

    Example:
        >>> Positives("mine", ["a cat sleeps", "it rains"], ["a cat rests", "it is wet"]).sentence2
        ('a cat rests', 'it is wet')
    """

    name: str
    sentence1: tuple[str, ...]
    sentence2: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for name in ("sentence1", "sentence2"):
            object.__setattr__(self, name, as_texts(getattr(self, name), name))
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
    """Reads a file as `read_pairs` does, and keeps the positive rows.

    Raises:
        InputError: the file cannot be read, a column is absent, or fewer than two rows are
            positive.

    Example:
        >>> from pathlib import Path
        >>> rows = "a,b,entailment\\nc,d,neutral\\ne,f,entailment\\n"
        >>> _ = Path("nli.csv").write_text("sentence1,sentence2,label\\n" + rows)
        >>> read_positives("nli.csv").sentence1
        ('a', 'e')
    """
    check_type("columns", columns, PositiveColumns, "PositiveColumns")
    checks: dict[str, Check] = {columns.sentence1: check_text, columns.sentence2: check_text}
    label: dict[str, Check] = {columns.label: check_label}
    if columns.label != PositiveColumns.label:
        checks |= label
    rows = list(read_rows(path, checks, optional=label, encoding=encoding))
    positive = [
        row
        for row in rows
        if columns.label not in row.cells or str(row.cells[columns.label]) == columns.positive
    ]
    if rows and not positive:
        labels = sorted({str(row.cells[columns.label]) for row in rows})
        raise InputError(
            f"{path}, column {columns.label!r}: no row is {columns.positive!r}, got "
            f"{listed(labels[:5])}"
        )
    try:
        return Positives(
            stem(path), column(positive, columns.sentence1), column(positive, columns.sentence2)
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
