"""Checks of arguments of public functions; an InputError names the argument that is wrong."""

from __future__ import annotations

import math
import os
import reprlib
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from numbers import Integral
from pathlib import Path

from embedkit.errors import InputError


def check_type(name: str, value: object, types: type | tuple[type, ...], expected: str) -> None:
    """Refuse a value of another type; True and False are no numbers."""
    flag_for_number = isinstance(value, bool) and types is not bool
    if flag_for_number or not isinstance(value, types):
        raise InputError(f"{name} is {reprlib.repr(value)}; expected {expected}")


def check_count(name: str, value: object, lowest: int = 1) -> int:
    """The value, a whole number from `lowest`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < lowest:
        raise InputError(f"{name} is {reprlib.repr(value)}; expected a whole number from {lowest}")
    return int(value)


def check_list(
    name: str, values: object, expected: str = "a list of str", *, array_dims: int = 1
) -> None:
    """Refuse what is no list: one text, a dict, a set, a table, an array of other dimensions.

    Iterating over them would give characters, keys, column names, or rows in no order.
    """
    import numpy as np  # not at the top: parsing a recipe needs no numpy

    shape = getattr(values, "shape", None)
    dims = array_dims if isinstance(values, np.ndarray) else 1
    hint = ""
    if isinstance(values, Mapping) or (isinstance(shape, tuple) and len(shape) != dims):
        hint = ' (of a table one column, such as df["text"])'
    elif isinstance(values, Iterable) and not isinstance(
        values, str | bytes | bytearray | memoryview | set | frozenset
    ):
        return
    raise InputError(f"{name} is one {type(values).__name__}; expected {expected}{hint}")


def as_path(name: str, value: str | os.PathLike[str]) -> Path:
    """The path, `~` resolved."""
    try:
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            path = Path(text).expanduser()
            str(path.resolve()).encode()
            path.exists()
            return path
    except UnicodeEncodeError:
        raise InputError(f"{name} {value}: got a path that is not UTF-8; expected UTF-8") from None
    except (TypeError, RuntimeError):  # no path, or the home of nobody
        pass
    except OSError as error:
        raise InputError(f"{name} is {reprlib.repr(value)} ({error.strerror})") from error
    raise InputError(f"{name} is {reprlib.repr(value)}; expected a path")


def check_embedder(embedder: object) -> None:
    """Refuse a value that is not an `Embedder`, such as the name of a model."""
    if not hasattr(embedder, "encode_each"):
        raise InputError(
            f"embedder is {reprlib.repr(embedder)}; expected an Embedder, such as "
            "Embedder('minilm')"
        )


def check_seed(seed: object) -> None:
    """Refuse a seed that not every generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(
            f"seed is {reprlib.repr(seed)}; expected a whole number from 0 to 2**32 - 1"
        )


def as_label_range(label_range: Sequence[float | str]) -> tuple[float, float]:
    """The lowest and the highest label, finite numbers."""
    try:
        low, high = map(float, label_range)
    except (TypeError, ValueError, OverflowError) as error:
        shown = reprlib.repr(label_range)
        raise InputError(f"label_range is {shown}; expected two numbers") from error
    if not math.isfinite(low) or not math.isfinite(high):
        raise InputError(f"label_range is {label_range}; expected finite numbers")
    if not low < high:
        raise InputError(f"label_range is {label_range}; expected the lower number first")
    return low, high


def is_built_in(name: object, names: Collection[str]) -> bool:
    """Whether a model or a data set is one of those that come with embedkit.

    A bare name is; `./name`, or a Path that exists, is what is there. Where both exist, stderr says
    once which was taken.
    """
    if str(name) not in names or not os.path.lexists(str(name)):
        return str(name) in names
    if isinstance(name, str):
        _report_both(name)
    return isinstance(name, str)


@cache
def _report_both(name: str) -> None:
    print(
        f"{name}: taken from embedkit; name ./{name} for the one in the working folder",
        file=sys.stderr,
    )
