"""Scored sentence pairs, and how they are read."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_listed, is_built_in
from embedkit.data.builtin import SHIPPED
from embedkit.data.tables import (
    check_number,
    check_path,
    check_text,
    check_texts,
    listed,
    number_cell,
    read_rows,
    stem,
    text_cell,
)
from embedkit.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)  # an array has no single truth value to compare by
class Pairs:
    """Scored sentence pairs: the record that evaluation works on.

    Attributes:
        name: what results are filed under; for a file its stem (`korsts_train` of
            `korsts_train.tsv.gz`).
        sentence1: the first sentences, n of them, n >= 3; any may be empty.
        sentence2: the second sentences, n of them.
        scores: float64 (n,), finite, with at least two different values.
        subsets: one subset name a pair, n of them, or None.

    Raises:
        InputError: where a field is not as said above.
    """

    name: str
    sentence1: tuple[str, ...]
    sentence2: tuple[str, ...]
    scores: NDArray[np.float64]
    subsets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name)
        texts = {"sentence1": self.sentence1, "sentence2": self.sentence2}
        if self.subsets is not None:
            texts["subsets"] = self.subsets
        for column, values in texts.items():
            check_texts(column, values, " (Pairs.from_columns takes any sequence)")
        scores = self.scores
        if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.ndim != 1:
            is_array = isinstance(scores, np.ndarray)
            got = f"{scores.dtype} {scores.shape}" if is_array else reprlib.repr(scores)
            raise InputError(
                f"scores: got {got}, expected an array float64 (n,) "
                "(Pairs.from_columns takes any sequence)"
            )
        for index, score in enumerate(scores.tolist()):
            check_number(f"scores[{index}]", score)
        lengths = {column: len(values) for column, values in texts.items()}
        lengths["scores"] = len(scores)
        if len(set(lengths.values())) > 1:
            got = ", ".join(f"{length} {column}" for column, length in lengths.items())
            raise InputError(f"got {got}, expected as many of each")
        if len(scores) < 3:
            raise InputError(f"got {len(scores)} pairs, expected at least 3")
        if (scores == scores[0]).all():
            raise InputError(
                f"got the score {scores[0]} for all {len(scores)} pairs, "
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
    def texts(self) -> dict[str, tuple[str, ...]]:
        """What has to be encoded: the first sentences, then the second ones."""
        return {"sentence": (*self.sentence1, *self.sentence2)}

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

        Args:
            name: what results are filed under.
            sentence1: n first sentences, n >= 3.
            sentence2: n second sentences.
            scores: n finite numbers, not all the same.
            subsets: n subset names, or None.

        Raises:
            InputError: where a column is not as said above; it names column and index.
        """
        return cls(
            name,
            _as_tuple("sentence1", sentence1),
            _as_tuple("sentence2", sentence2),
            np.array(
                [
                    check_number(f"scores[{index}]", score)
                    for index, score in enumerate(_as_tuple("scores", scores))
                ],
                dtype=np.float64,
            ),
            None if subsets is None else _as_tuple("subsets", subsets),
        )


@dataclass(frozen=True)
class PairColumns:
    """The names that a file gives to the columns of `Pairs`.

    A file may lack the subset column, unless `subset` is another name than the default.

    Raises:
        InputError: two of the names are the same.
    """

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    score: str = "score"
    subset: str = "subset"

    def __post_init__(self) -> None:
        names = [check_text(field, name) for field, name in vars(self).items()]
        if len(set(names)) < len(names):
            raise InputError(f"column names: got {listed(names)}, expected four different ones")

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a file must have."""
        named = (self.subset,) if self.subset != PairColumns.subset else ()
        return (self.sentence1, self.sentence2, self.score, *named)


def read_pairs(
    path: str | Path, columns: PairColumns = PairColumns(), encoding: str = "utf-8"
) -> Pairs:
    """Reads scored sentence pairs from a TSV, CSV, JSONL or Parquet file.

    `first_look` names the data set that comes with embedkit, `./first_look` a file.

    Texts are taken verbatim, empty ones too; other columns than those named are ignored.

    - TSV: a header line, cells split at tabs; no quoting and no escaping, so `"` is literal (a
      warning names the first cell that looks quoted).
    - CSV: a header line; quoted cells may hold commas, line breaks and doubled quotes.
    - JSONL: an object a line.
    - Parquet: string columns (plain or dictionary), and a score of any integer, float or decimal
      type.

    Empty lines are skipped. Text is in `encoding` (any that Python knows, such as `cp949`), with or
    without a byte order mark, or in UTF-8 with one.

    Raises:
        InputError: the file cannot be read, or is not as said above; the message names the file
            and, where there is one, the data row (from 1), the line and the column.
    """
    if not isinstance(columns, PairColumns):
        raise InputError(f"columns: got {reprlib.repr(columns)}, expected PairColumns")
    if is_built_in(path, SHIPPED):
        path, encoding = SHIPPED[str(path)], "utf-8"
    path, required = check_path("path", path), columns.required
    rows = list(
        read_rows(
            path, required, optional=(columns.subset,), numbers=(columns.score,), encoding=encoding
        )
    )

    def texts(name: str) -> tuple[str, ...]:
        return tuple(text_cell(place, name, cells.get(name)) for place, cells in rows)

    sentence1, sentence2 = texts(columns.sentence1), texts(columns.sentence2)
    scores = [number_cell(place, columns.score, cells[columns.score]) for place, cells in rows]
    with_subsets = any(columns.subset in cells for _, cells in rows)
    subsets = texts(columns.subset) if with_subsets else None
    try:
        return Pairs(stem(path), sentence1, sentence2, np.array(scores), subsets)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _as_tuple(column: str, values: Iterable[T]) -> tuple[T, ...]:
    check_listed(values, column, "a list, one item a pair")
    to_list = getattr(values, "tolist", None)  # of arrays and Series: Python's own values
    return tuple(values if to_list is None else to_list())
