"""Filters: conditions on the metadata of rows, which Arrow evaluates.

A condition is true, false or unknown, as in SQL: comparing a null is unknown, and a search takes
the rows for which the condition is true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, LiteralString

import numpy as np
from numpy.typing import NDArray

from embedkit.data.texts import as_python, listed
from embedkit.errors import InputError
from embedkit.metadata.columns import metadata_fields, metadata_kinds
from embedkit.metadata.typed_columns import NAMES

if TYPE_CHECKING:
    import pyarrow as pa

# Names in Arrow, and in SQL.
COMPARISONS: dict[str, tuple[str, LiteralString]] = {
    "=": ("equal", "="),
    "!=": ("not_equal", "<>"),
    "<": ("less", "<"),
    "<=": ("less_equal", "<="),
    ">": ("greater", ">"),
    ">=": ("greater_equal", ">="),
}


class Filter:
    """A condition on rows."""

    def truth(self, rows: pa.Table) -> Any:
        """For each row true, false, or null for unknown."""
        raise NotImplementedError

    def mask(self, rows: pa.Table) -> NDArray[np.bool_]:
        """(n,) bool: the rows for which the condition is true."""
        mask: NDArray[np.bool_] = self.truth(rows).fill_null(False).to_numpy()
        return mask


@dataclass(frozen=True)
class Not(Filter):
    """The opposite of a condition."""

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


@dataclass(frozen=True)
class Test(Filter):
    """A condition on one column: of the metadata, or else `id` or `text` of the row.

    `value` is a text, number, boolean or date; for `in` a tuple of them, for `like` a pattern and
    None or the character that makes % and _ literal, for `contains` a text, for `null` nothing.
    """

    column: str
    operator: str  # of `COMPARISONS` or `_TRUTHS`
    value: Any = None
    position: int | None = field(default=None, compare=False, repr=False)  # in the text, from 1

    def truth(self, rows: pa.Table) -> Any:
        import pyarrow.compute as pc

        self.kind(rows.schema)
        in_metadata = self.column in metadata_kinds(rows.schema)
        values: Any = rows.column("metadata" if in_metadata else self.column)
        if in_metadata:
            values = pc.struct_field(values, [self.column])
        return _TRUTHS.get(self.operator, _compare)(self, values)

    def kind(self, schema: pa.Schema) -> Any:
        """The Arrow type of the column; InputError where the rows have none."""
        kinds = {field.name: field.type for field in metadata_fields(schema)}
        for name in ("id", "text"):
            if name in schema.names:
                kinds.setdefault(name, schema.field(name).type)
        if self.column not in kinds:
            raise self.refusal(f"got column {self.column!r}", f"one of {listed(kinds)}")
        return kinds[self.column]

    def refusal(self, got: str, expected: str) -> InputError:
        """The error of this condition."""
        place = "" if self.position is None else f", character {self.position}"
        return InputError(f"where{place}: {got}, expected {expected}")

    def known(self, values: Any, truth: Any) -> Any:
        """The truth where the column has a value, and unknown elsewhere."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return pc.if_else(pc.is_valid(values), truth, pa.scalar(None, pa.bool_()))

    def check_kind(self, kind: Any, expected: str) -> None:
        """Refuse a column of another kind."""
        got = NAMES[str(kind)]
        if got != expected:
            operator = self.operator.upper().replace("CONTAINS", "IN")
            raise self.refusal(f"got {operator} for {self.column!r}, which has {got}", expected)

    def comparison(self, kind: Any) -> tuple[str, Any] | bool:
        """An operator and a value in the type of a column, or what is true of any value in it."""
        operator, (bound, exact) = self.operator, self.bound(kind, self.value)
        if NAMES[str(kind)] == "booleans" and operator not in ("=", "!="):
            raise self.refusal(f"got {operator} for booleans", "= or !=")
        if exact:
            return operator, bound
        # `bound` is the next lower value of the column's type, or -inf for none.
        if operator in ("=", "!=") or bound == -math.inf:
            return operator in ("!=", ">", ">=")
        return "<=" if operator in ("<", "<=") else ">", bound

    def members(self, kind: Any) -> list[Any]:
        """The values of `in` that a column of this type can have."""
        return [bound for bound, exact in (self.bound(kind, x) for x in self.value) if exact]

    def pattern(self, kind: Any) -> list[tuple[str, bool]]:
        """The characters of `like`, and whether each is a wildcard."""
        pattern, escape = self.value
        if escape is not None and len(escape) != 1:
            raise self.refusal(f"got ESCAPE {escape!r}", "one character")
        self.check_kind(kind, "text")
        characters, literal = [], False
        for character in pattern:
            if not literal and character == escape:
                literal = True
                continue
            characters.append((character, not literal and character in "%_"))
            literal = False
        if literal:
            raise self.refusal("got a pattern that ends with its escape", "% or _ behind it")
        return characters

    def bound(self, kind: Any, value: Any) -> tuple[Any, bool]:
        """A value in the type of a column, rounded down, and whether it is exact."""
        value = as_python(value)
        stored: Any = None
        exact, expected = True, NAMES[str(kind)]
        if expected == "dates":
            expected = "a date such as '2024-01-31'"
            with suppress(ValueError):
                stored = date.fromisoformat(value) if isinstance(value, str) else value
                stored = stored if type(stored) is date else None
        elif expected == "lists of texts":
            expected = f"'text' IN {self.column}"
        elif type(value) is {"text": str, "booleans": bool}.get(expected):
            stored = value
        elif expected in _ROUND_DOWN and type(value) in (int, float) and abs(value) < math.inf:
            stored = _ROUND_DOWN[expected](value)
            exact = stored == value
        if stored is None:
            shown = str(value).upper() if isinstance(value, bool) else repr(value)
            raise self.refusal(f"got {shown} for {self.column!r}", expected)
        return stored, exact


def _compare(test: Test, values: Any) -> Any:
    import pyarrow.compute as pc

    comparison = test.comparison(values.type)
    if isinstance(comparison, bool):
        return test.known(values, comparison)
    operator, bound = comparison
    return getattr(pc, COMPARISONS[operator][0])(values, bound)


def _in(test: Test, values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    members = test.members(values.type)
    if values.type == "double" and 0 in members:
        members += [0.0, -0.0]  # which `is_in` tells apart
    wanted = pa.array(members, values.type)
    return test.known(values, pc.is_in(values, value_set=wanted))


def _contains(test: Test, values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    test.check_kind(values.type, "lists of texts")
    masks = [np.empty(0, np.bool_)]
    for chunk in values.chunks:
        equal: Any = pc.equal(chunk.flatten(), test.value)
        masks.append(np.zeros(len(chunk), np.bool_))
        masks[-1][pc.list_parent_indices(chunk).filter(equal).to_numpy()] = True
    return test.known(values, pa.array(np.concatenate(masks)))


def _like(test: Test, values: Any) -> Any:
    import pyarrow.compute as pc

    # A regular expression of RE2: Arrow's own LIKE takes a backslash for an escape.
    wild = {"%": ".*", "_": "."}
    characters = test.pattern(values.type)
    regex = "".join(wild[x] if is_wild else re.escape(x) for x, is_wild in characters)
    return pc.match_substring_regex(values, rf"(?s)\A{regex}\z")


_TRUTHS: dict[str, Callable[[Test, Any], Any]] = {
    "in": _in,
    "contains": _contains,
    "like": _like,
    "null": lambda _, values: values.is_null(),
}


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
