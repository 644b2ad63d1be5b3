"""The one error that users cause, and how its sentence is written."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

_LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Wrong input: one sentence that says what, what was got and what was expected.

    The command line prints it without a traceback and exits with code 2. Names, texts and the
    errors of libraries go into it as they are, so it is made printable here, and the middle of what
    is too long is left out.
    """

    def __init__(self, message: object) -> None:
        said = str(message)
        if len(said) > _LONGEST:
            half = _LONGEST // 2 - 10
            said = f"{said[:half]} [...] {said[-half:]}"
        super().__init__(printable(said))


def as_list(name: str, values: Any, expected: str) -> list[Any]:
    """An argument's values; one text, a dict and what cannot be iterated are refused."""
    try:
        if not isinstance(values, str | bytes | dict):
            return list(values)
    except TypeError:
        pass
    raise InputError(f"{name} is {reprlib.repr(values)}; expected {expected}")


def as_path(name: str, path: Any) -> Path:
    """An argument that is a path."""
    if not isinstance(path, str | Path):
        raise InputError(f"{name} is {reprlib.repr(path)}; expected a path")
    return Path(path)


def printable(text: str) -> str:
    """A text as one line that no terminal obeys: control characters are escaped, as by repr."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What another library's error says first, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
