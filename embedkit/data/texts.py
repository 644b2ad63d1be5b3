"""Checks of single values: texts, numbers and ids. A text is checked once, where it comes in."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Real
from typing import TypeVar, cast

from embedkit.arguments import check_list
from embedkit.errors import InputError

T = TypeVar("T")

_INT64 = range(-(2**63), 2**63)


class Texts(tuple[str, ...]):
    """Texts that have been checked; `as_texts` takes them as they are."""

    __slots__ = ()


def check_text(where: str, value: object) -> str:
    """The value, if it is a str that can be encoded; `where` begins the error message."""
    if not isinstance(value, str):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: got the lone surrogate {value[error.start]!r} at index {error.start}, "
            "expected valid Unicode"
        ) from None
    return value


def check_text_or_null(where: str, value: object) -> str | None:
    """As `check_text`; None passes."""
    return None if value is None else check_text(where, value)


def check_number(where: str, value: object) -> float:
    """The value as a float, if it is a finite number; a bool is not."""
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected a number")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float):
        raise InputError(f"{where}: got {as_float}, expected a finite number")
    return as_float


def check_label(where: str, value: object) -> str | int:
    """The value, if it is a text or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InputError(f"{where}: got {value!r}, expected a text or a whole number")
    return check_text(where, value)


def check_id(where: str, value: object) -> str | int:
    """The value, if it can be an id: a text that is not empty, or an integer of 64 bits."""
    if value == "" or not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{where}: got {value!r}, expected an id, a text or a whole number")
    if isinstance(value, int) and value not in _INT64:
        raise InputError(f"{where}: got {value}, expected a whole number of 64 bits")
    return check_label(where, value)


def as_texts(values: Iterable[str], name: str = "texts", *, first: int = 0) -> Texts:
    """The texts of a list, a tuple, an array or Series of str, or an iterator, which is consumed.

    `name` and `first`, the index of the first text, are for errors.
    """
    if isinstance(values, Texts):
        return values
    check_list(name, values)
    texts = Texts(as_python(values))
    if not texts:
        raise InputError(f"{name} is empty; expected at least one str")
    for index, text in enumerate(texts, start=first):
        if not (isinstance(text, str) and text.isascii()):  # most texts need no other look
            check_text(f"{name}[{index}]", text)
    return texts


def as_python(values: Iterable[T]) -> Iterable[T]:
    """Python's own values of an array or a Series of NumPy, pandas or Arrow."""
    for method in ("tolist", "to_pylist"):
        if hasattr(values, method):
            return cast("list[T]", getattr(values, method)())
    return values


def as_pairs(pairs: Iterable[Sequence[str]], name: str = "pairs") -> tuple[Texts, Texts]:
    """The first and the second texts of pairs: lists, tuples, an array (n, 2), or an iterator."""
    check_list(name, pairs, "a list of pairs of str", array_dims=2)
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in pairs]  # of numpy, too
    for index, row in enumerate(rows):
        if not (
            isinstance(row, list | tuple)
            and len(row) == 2
            and all(isinstance(text, str) for text in row)
        ):
            raise InputError(f"{name}[{index}]: got {reprlib.repr(row)}, expected two texts")
    if not rows:
        raise InputError(f"{name} is empty; expected at least one pair")
    first = as_texts([row[0] for row in rows], f"first texts of {name}")
    return first, as_texts([row[1] for row in rows], f"second texts of {name}")


def listed(names: Iterable[str]) -> str:
    """Names as errors list them."""
    return ", ".join(map(repr, names)) or "none"
