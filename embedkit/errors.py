"""InputError, which users cause, and how messages are written."""

from __future__ import annotations

_LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """Wrong input: one sentence says what is wrong, what embedkit got and what it expected.

    The command line prints it without a traceback and exits with code 2. Names, texts and the
    errors of libraries go into it as they are, so it is made printable here, and the middle of what
    is too long is left out.

    Example:
        >>> InputError("k is 0; expected at least 1")
        InputError('k is 0; expected at least 1')
    """

    def __init__(self, message: object) -> None:
        text = str(message)
        if len(text) > _LONGEST:
            half = _LONGEST // 2 - 10
            text = f"{text[:half]} [...] {text[-half:]}"
        super().__init__(printable(text))


def printable(text: str) -> str:
    """A text as one line that no terminal obeys: control characters are escaped, as by repr."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def counted(count: int, noun: str) -> str:
    """A number of things: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """What another library's error says first, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
