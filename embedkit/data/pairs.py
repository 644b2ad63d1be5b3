"""Scored sentence pairs: the record, and how it is read from a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_list, check_type, is_built_in
from embedkit.data.builtin import SHIPPED
from embedkit.data.named_files import locate
from embedkit.data.named_sets import NAMED_SETS, PARTS, SUITES, Row
from embedkit.data.tables import Check, check_column_names, column, read_rows, stem
from embedkit.data.texts import Texts, as_python, as_texts, check_number, check_text
from embedkit.errors import InputError


@dataclass(frozen=True, eq=False)  # an array has no single truth value to compare by
class Pairs:
    """Scored sentence pairs: the record that evaluation works on.

    Attributes:
        name: of the data set in reports; for a file its stem (`korsts_train` of
            `korsts_train.tsv.gz`).
        sentence1: the first sentences, n of them, n >= 3; any may be empty.
        sentence2: the second sentences, n of them.
        scores: float64 (n,), finite, with at least two different values.
        subsets: one subset name a pair, n of them, or None.

    Raises:
        InputError: a field is not as described above; the message names it and the index.
    """

    name: str
    sentence1: tuple[str, ...]
    sentence2: tuple[str, ...]
    scores: NDArray[np.float64]
    subsets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name)
        columns: dict[str, Any] = {
            name: as_texts(getattr(self, name), name) for name in ("sentence1", "sentence2")
        }
        if self.subsets is not None:
            columns["subsets"] = as_texts(self.subsets, "subsets")
        check_list("scores", self.scores, "a list of numbers")
        scores = enumerate(as_python(self.scores))
        columns["scores"] = np.array(
            [check_number(f"scores[{index}]", score) for index, score in scores], np.float64
        )
        for name, values in columns.items():
            object.__setattr__(self, name, values)
        if len({len(values) for values in columns.values()}) > 1:
            got = ", ".join(f"{len(values)} {name}" for name, values in columns.items())
            raise InputError(f"got {got}, expected as many of each")
        if len(self.scores) < 3:
            raise InputError(f"got {len(self.scores)} pairs, expected at least 3")
        if (self.scores == self.scores[0]).all():
            raise InputError(
                f"got the score {self.scores[0]} for all {len(self.scores)} pairs, "
                "expected at least two different scores"
            )

    def check_range(self, low: float, high: float) -> None:
        """Refuse a score outside of the range that was declared for them.

        Raises:
            InputError: the first one, with its pair, counted from 1.
        """
        low, high = check_number("low", low), check_number("high", high)
        outside = np.flatnonzero((self.scores < low) | (self.scores > high))
        if len(outside):
            raise InputError(
                f"{self.name}, pair {outside[0] + 1}: got the score {self.scores[outside[0]]:g}, "
                f"expected {low:g} to {high:g}, the declared range"
            )

    @property
    def texts(self) -> dict[str, Texts]:
        """What has to be encoded: the first sentences, then the second ones."""
        return {"sentence": Texts((*self.sentence1, *self.sentence2))}

    @classmethod
    def from_columns(
        cls,
        name: str,
        sentence1: Iterable[str],
        sentence2: Iterable[str],
        scores: Iterable[float],
        subsets: Iterable[str] | None = None,
    ) -> Pairs:
        """The pairs of columns in memory: lists, arrays, data frame columns, generators.

        Raises:
            InputError: a column is not as `Pairs` says; the message names column and index.

        Example:
            >>> first, second = ["a cat", "rain", "a dog"], ["a kitten", "sun", "a puppy"]
            >>> pairs = Pairs.from_columns("mine", first, second, [4.5, 1, 4])
            >>> pairs.sentence2[0], pairs.scores.tolist()
            ('a kitten', [4.5, 1.0, 4.0])
        """
        columns: Any = (sentence1, sentence2, scores, subsets)
        return cls(name, *columns)


@dataclass(frozen=True)
class PairColumns:
    """The names that a file gives to the columns of `Pairs`.

    A file may lack the subset column, unless `subset` is another name than the default.

    Raises:
        InputError: two of the names are the same.

    Example:
        >>> PairColumns(score="rating").score
        'rating'
    """

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    score: str = "score"
    subset: str = "subset"

    def __post_init__(self) -> None:
        names = [check_text(field, name) for field, name in vars(self).items()]
        check_column_names("column names", names)


def read_pairs(
    path: str | Path, columns: PairColumns = PairColumns(), encoding: str = "utf-8"
) -> Pairs:
    """Reads scored sentence pairs from a TSV, CSV, JSONL or Parquet file, or one of these as .gz.

    Texts are taken verbatim, empty ones too; other columns than those named are ignored. Empty
    lines are skipped. The formats are described at `embedkit.data.tables.read_rows`.

    Args:
        path: a file, or the name of a data set: `first_look` comes with embedkit, with the parts
            `first_look_en` and `first_look_ko`; public sets such as `stsb` are read from the folder
            that EMBEDKIT_DATASETS names, or else from the hub. `./stsb` is a file.
        columns: the names of the columns of a file.
        encoding: of its text, by a name that Python knows, such as `cp949`; a byte order mark is
            recognised.

    Raises:
        InputError: the file cannot be read, or does not hold scored pairs; the message names the
            file and, where there is one, the data row (from 1), the line and the column.

    Example:
        >>> from pathlib import Path
        >>> rows = "a cat\\ta kitten\\t4.5\\nrain\\tsun\\t1\\na dog\\ta puppy\\t4\\n"
        >>> _ = Path("mine.tsv").write_text("sentence1\\tsentence2\\tscore\\n" + rows)
        >>> pairs = read_pairs("mine.tsv")
        >>> pairs.name, len(pairs.scores), pairs.sentence1[2]
        ('mine', 3, 'a dog')
    """
    check_type("columns", columns, PairColumns, "PairColumns")
    if is_built_in(path, NAMED_SETS):
        return _read_named(str(path))
    if is_built_in(path, SUITES):
        sets = ", ".join(SUITES[str(path)])
        raise InputError(f"{path} is a suite; expected one data set, such as one of {sets}")
    name = part = ""
    if is_built_in(path, SHIPPED):
        name, part = str(path), str(path).removeprefix("first_look").strip("_")
        path, encoding = SHIPPED[name], "utf-8"
    subset = columns.subset
    checks: dict[str, Check] = {
        columns.sentence1: check_text,
        columns.sentence2: check_text,
        columns.score: check_number,
    }
    optional: dict[str, Check] = {subset: check_text}
    if subset != PairColumns.subset:
        checks |= optional
    rows = list(read_rows(path, checks, optional=optional, encoding=encoding))
    if part:
        rows = [row for row in rows if row.cells.pop(subset) == part]
    subsets = None
    if any(subset in cells for _, cells in rows):
        for location, cells in rows:  # rows of JSON may lack what others have
            check_text(f"{location}, column {subset!r}", cells.get(subset))
        subsets = column(rows, subset)
    try:
        return Pairs(
            name or stem(path),
            column(rows, columns.sentence1),
            column(rows, columns.sentence2),
            np.array([row.cells[columns.score] for row in rows], dtype=np.float64),
            subsets,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_named(name: str) -> Pairs:
    known = NAMED_SETS[name]
    if known.is_retrieval:
        raise InputError(f"{name} is a retrieval set; expected sentence pairs")
    (path,), own = locate([name])[name]
    first = next(read_rows(path, {}, optional={known.score: check_number}), None)
    is_plain = own and (first is None or known.score not in first.cells)
    columns = PairColumns() if is_plain else PairColumns(score=known.score)
    pairs = replace(read_pairs(path, columns), name=name)
    whole, part = PARTS.get(name, (name, list))
    if whole != name and len(pairs.scores) == NAMED_SETS[whole].rows:
        rows = part(list(map(Row, pairs.sentence1, pairs.sentence2, pairs.scores.tolist())))
        pairs = Pairs.from_columns(name, *zip(*rows, strict=True))
    if problem := known.size_problem(len(pairs.scores)):
        warnings.warn(f"{path}: {problem}", stacklevel=1)
    return pairs
