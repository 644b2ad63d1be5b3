"""Positive pairs, with or without hard negatives, for training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedkit.arguments import check_type
from embedkit.data.tables import Check, check_column_names, column, format_of, read_rows, stem
from embedkit.data.texts import as_texts, check_label, check_text, listed
from embedkit.errors import InputError
from embedkit.files import rows_sha256

_NEGATIVE = re.compile(r"negative(_\d+)?")
_LIKE_NEGATIVE = re.compile(r"(?i)negative.*|(hard[ _-]?)?neg(ative)?s?([ _-]?\d+)?")


@dataclass(frozen=True)
class PositiveColumns:
    """The names that a file gives to the columns of `Positives`.

    By default the sentences may also be called `anchor` and `positive`. `label` is the column that
    says which rows are positive, those with the label `positive`; a file may lack it, and then all
    rows are, unless it is another name than the default.

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
    """n >= 2 positive pairs: the second text means the same as the first, or follows from it.

    The columns of `negatives`, n texts each, do not mean the same, however alike they look.

    Example:
        >>> Positives("mine", ["a cat sleeps", "it rains"], ["a cat rests", "it is wet"]).sentence2
        ('a cat rests', 'it is wet')
    """

    name: str
    sentence1: tuple[str, ...]
    sentence2: tuple[str, ...]
    negatives: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for name in ("sentence1", "sentence2"):
            object.__setattr__(self, name, as_texts(getattr(self, name), name))
        negatives = tuple(as_texts(column, "negatives") for column in self.negatives)
        object.__setattr__(self, "negatives", negatives)
        sizes = [len(column) for column in self.columns]
        if len(set(sizes)) > 1:
            got = ", ".join(map(str, sizes))
            raise InputError(f"got columns of {got} texts; expected as many in each")
        if len(self.sentence1) < 2:
            raise InputError(
                f"got {len(self.sentence1)} positive pairs; expected at least 2, because the others"
                " of a batch are the negatives"
            )
        for row, (_, positive, *others) in enumerate(zip(*self.columns, strict=True), start=1):
            if "" in others:
                raise InputError(f"row {row}: a negative is empty; expected a text in each column")
            if positive in others:
                raise InputError(
                    f"row {row}: the negative {positive!r} equals the positive; expected "
                    "another text"
                )

    @property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """First and second sentences, and negatives."""
        return (self.sentence1, self.sentence2, *self.negatives)

    @property
    def sha256(self) -> str:
        """Of the rows, a line of JSON each."""
        return rows_sha256(zip(*self.columns, strict=True))


def read_positives(
    path: str | Path, columns: PositiveColumns = PositiveColumns(), encoding: str = "utf-8"
) -> Positives:
    """Reads a file as `read_pairs` does, and keeps the positive rows.

    The columns `negative` and `negative_1`, `negative_2`, ... hold hard negatives.

    Raises:
        InputError: the file cannot be read, a column is absent, a column has a similar name, such
            as `neg` or `hard_negative`, or fewer than two rows are positive.

    Example:
        >>> from pathlib import Path
        >>> rows = "a,b,entailment\\nc,d,neutral\\ne,f,entailment\\n"
        >>> _ = Path("nli.csv").write_text("sentence1,sentence2,label\\n" + rows)
        >>> read_positives("nli.csv").sentence1
        ('a', 'e')
    """
    check_type("columns", columns, PositiveColumns, "PositiveColumns")
    header = next(read_rows(path, {}, others=True, encoding=encoding), ("", {}))[1]
    names = [columns.sentence1, columns.sentence2, *_negatives(path, header)]
    if names[:2] == ["sentence1", "sentence2"] and "anchor" in header:
        names[:2] = ["anchor", "positive"]
    checks: dict[str, Check] = dict.fromkeys(names, check_text)
    label: dict[str, Check] = {columns.label: check_label}
    if columns.label != PositiveColumns.label:
        checks |= label
    # An object of JSON may have negatives that the first one does not have.
    others = format_of(path) == "jsonl"
    rows = list(read_rows(path, checks, optional=label, others=others, encoding=encoding))
    for location, cells in rows if others else ():
        if (got := _negatives(location, cells)) != names[2:]:
            raise InputError(f"{location}: got the negatives {got}, expected {names[2:]} as before")
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
        first, second, *negatives = (column(positive, name) for name in names)
        return Positives(stem(path), first, second, tuple(negatives))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _negatives(location: str | Path, names: Iterable[str]) -> list[str]:
    """The columns of hard negatives, by their numbers."""
    negatives = [name for name in names if _LIKE_NEGATIVE.fullmatch(name)]
    for name in negatives:
        if not _NEGATIVE.fullmatch(name):
            raise InputError(
                f"{location}: got column {name!r}; expected negative, or negative_1, negative_2, "
                "... for hard negatives"
            )
    return sorted(negatives, key=lambda name: int(name[9:] or 0))
