"""Filters: conditions on the metadata of rows, which Arrow evaluates.

A condition is true, false or unknown, as in SQL: comparing a null is unknown, and a search takes
the rows for which the condition is true.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.data.texts import listed
from embedkit.errors import InputError
from embedkit.retrieval.metadata import NAMES

if TYPE_CHECKING:
    import pyarrow as pa

Value: TypeAlias = "str | int | float | bool | date"
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
_COMPUTE = {
    "=": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}


@dataclass(frozen=True)
class Column:
    """A column by name: of the metadata, or else `id` or `text` of the row."""

    name: str
    position: int | None = field(default=None, compare=False, repr=False)  # in the text, from 1

    def of(self, rows: pa.Table) -> pa.ChunkedArray[Any]:
        """Its values in the rows of a segment."""
        import pyarrow.compute as pc

        names = [name for name in ("id", "text") if name in rows.column_names]
        if "metadata" in rows.column_names:
            kind: Any = rows.schema.field("metadata").type
            metadata = [inner.name for inner in kind]
            if self.name in metadata:
                struct: Any = rows.column("metadata")
                column: pa.ChunkedArray[Any] = pc.struct_field(struct, [self.name])
                return column
            names = [*metadata, *(name for name in names if name not in metadata)]
        if self.name in names:
            return rows.column(self.name)
        raise self.refusal(f"got column {self.name!r}", f"one of {listed(names)}")

    def refusal(self, got: str, expected: str) -> InputError:
        """The error of a condition on this column."""
        place = "" if self.position is None else f", character {self.position}"
        return InputError(f"where{place}: {got}, expected {expected}")


class Filter:
    """A condition on rows."""

    def truth(self, rows: pa.Table) -> Any:
        """A boolean Arrow array: for each row true, false, or null for unknown."""
        raise NotImplementedError

    def mask(self, rows: pa.Table) -> NDArray[np.bool_]:
        """(n,) bool: the rows for which the condition is true."""
        import pyarrow.compute as pc

        mask: NDArray[np.bool_] = pc.fill_null(self.truth(rows), False).to_numpy()
        return mask


@dataclass(frozen=True)
class Comparison(Filter):
    """`column operator value`."""

    column: Column
    operator: Operator
    value: Value

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self.column.of(rows)
        bound, exact = _as_stored(self.column, values.type, self.value)
        operator = self.operator
        if not exact:  # `bound` is the next lower value of the column's type
            if operator in ("=", "!=") or bound == -math.inf:
                return _known(values, operator in ("!=", ">", ">="))
            operator = "<=" if operator in ("<", "<=") else ">"
        elif values.type == pa.bool_() and operator not in ("=", "!="):
            raise self.column.refusal(f"got {operator} for booleans", "= or !=")
        return getattr(pc, _COMPUTE[operator])(values, bound)


@dataclass(frozen=True)
class OneOf(Filter):
    """`column IN (values)`."""

    column: Column
    values: tuple[Value, ...]

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.column.of(rows)
        bounds = [_as_stored(self.column, column.type, value) for value in self.values]
        wanted = pa.array([bound for bound, exact in bounds if exact], column.type)
        return _known(column, pc.is_in(column, value_set=wanted))


@dataclass(frozen=True)
class Contains(Filter):
    """`'value' IN column`, for a column of lists."""

    column: Column
    value: str

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        lists: Any = self.column.of(rows)
        if not pa.types.is_list(lists.type):
            got = f"got IN {self.column.name!r}, which has {NAMES[str(lists.type)]}"
            raise self.column.refusal(got, "a column of lists of texts")
        masks = []
        for chunk in lists.chunks:
            parents = pc.list_parent_indices(chunk)
            masks.append(np.zeros(len(chunk), dtype=np.bool_))
            masks[-1][
                parents.filter(pc.equal(chunk.flatten(), pa.scalar(self.value))).to_numpy()
            ] = True
        return _known(lists, pa.array(np.concatenate(masks)))


@dataclass(frozen=True)
class Like(Filter):
    """`column LIKE pattern`: % is any text, _ one character, and `escape` makes them literal."""

    column: Column
    pattern: str
    escape: str | None = None

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self.column.of(rows)
        if self.escape is not None and len(self.escape) != 1:
            raise self.column.refusal(f"got ESCAPE {self.escape!r}", "one character")
        if values.type != pa.string():
            got = f"got LIKE for {self.column.name!r}, which has {NAMES[str(values.type)]}"
            raise self.column.refusal(got, "a column of text")
        return pc.match_substring_regex(values, self._regex())

    def _regex(self) -> str:
        """RE2's; Arrow's own match_like takes a backslash for an escape."""
        regex, literal = "", False
        for character in self.pattern:
            if not literal and character == self.escape:
                literal = True
                continue
            wild = None if literal else {"%": ".*", "_": "."}.get(character)
            regex, literal = regex + (wild or re.escape(character)), False
        if literal:
            raise self.column.refusal("got a pattern that ends with its escape", "% or _ behind it")
        return rf"(?s)\A{regex}\z"


@dataclass(frozen=True)
class IsNull(Filter):
    """`column IS NULL`."""

    column: Column

    def truth(self, rows: pa.Table) -> Any:
        return self.column.of(rows).is_null()


@dataclass(frozen=True)
class Not(Filter):
    """`NOT condition`."""

    condition: Filter

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow.compute as pc

        return pc.invert(self.condition.truth(rows))


@dataclass(frozen=True)
class Joined(Filter):
    """Conditions joined by AND, or by OR."""

    operator: Literal["and", "or"]
    conditions: tuple[Filter, ...]

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow.compute as pc

        join = getattr(pc, f"{self.operator}_kleene")
        return reduce(join, (condition.truth(rows) for condition in self.conditions))


def _known(column: Any, truth: Any) -> Any:
    """The truth where a column has a value, and unknown elsewhere."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_valid(column), truth, pa.scalar(None, pa.bool_()))


def _as_stored(column: Column, kind: Any, value: Any) -> tuple[Any, bool]:
    """The value in the type of a column, rounded down, and whether it is exact."""
    stored: Any = None
    exact, expected = True, NAMES[str(kind)]
    if expected == "dates":
        expected = "a date such as '2024-01-31'"
        with suppress(ValueError):
            stored = date.fromisoformat(value) if isinstance(value, str) else value
            stored = stored if type(stored) is date else None
    elif expected == "lists of texts":
        expected = f"'text' IN {column.name}"
    elif type(value) is {"text": str, "booleans": bool}.get(expected):
        stored = value
    elif expected in _ROUND_DOWN and type(value) in (int, float) and abs(value) < math.inf:
        stored = _ROUND_DOWN[expected](value)
        exact = stored == value
    if stored is None:
        shown = str(value).upper() if isinstance(value, bool) else repr(value)
        raise column.refusal(f"got {shown} for {column.name!r}", expected)
    return stored, exact


def _as_integer(value: float) -> float:
    lowest, highest = -(2**63), 2**63 - 1
    return -math.inf if value < lowest else min(math.floor(value), highest)


def _as_float(value: float) -> float:
    try:
        rounded = float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return math.nextafter(rounded, -math.inf) if rounded > value else rounded


_ROUND_DOWN = {"integers": _as_integer, "floats": _as_float}
