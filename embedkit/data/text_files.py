"""Text files: opened, decoded, and cut into lines and records of CSV."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar, cast

from embedkit.errors import InputError

T = TypeVar("T")

_LONGEST = 1 << 26  # characters of a line or a cell; .gz unpacks a little into much
_MARKS = (  # byte order marks; that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HINT = " (a Korean file may be CP949: say --encoding cp949, in Python encoding='cp949')"


def check_encoding(encoding: object) -> None:
    """Refuse what is no encoding of text.

    Raises:
        InputError: the encoding.
    """
    try:
        "a".encode(encoding)  # type: ignore[arg-type]
    except (LookupError, TypeError, ValueError):
        raise InputError(
            f"encoding: got {encoding!r}, expected one that Python knows, such as utf-8, cp949 or "
            "utf-16"
        ) from None


def is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def line_place(path: Path, row: int, line: int) -> str:
    """Where a record of a file with a header stands; the header is row 0."""
    return f"{path}, {f'row {row}' if row else 'header'} (line {line})"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, unpacked; what goes wrong while it is read becomes an InputError."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: got broken gzip ({error}), expected a whole .gz file") from None
    except OSError as error:
        raise InputError(f"{path}: got '{error.strerror}', expected a readable file") from None


def empty_file(path: Path) -> InputError:
    return InputError(f"{path}: got an empty file, expected rows")


def _raw_lines(path: Path, encoding: str, newline: str) -> Iterator[str]:
    """The lines of a file with their ends: LF only for the newline LF, CR and CR LF too for ""."""
    lines = 0
    with opened(path) as file:
        start = cast(io.BufferedReader, file).peek(4)
        encoding = codecs.lookup(encoding).name
        marked = next((name for mark, name in _MARKS if start.startswith(mark)), encoding)
        if marked != "utf-8-sig" and not encoding.startswith(marked):
            raise InputError(
                f"{path}: got {marked.upper()} by its byte order mark, expected {encoding.upper()} "
                f"(say --encoding {marked}, in Python encoding={marked!r})"
            )
        encoding = marked
        text = io.TextIOWrapper(file, encoding, newline=newline)
        try:
            while line := text.readline(_LONGEST + 1):
                if len(line) > _LONGEST:
                    raise InputError(
                        f"{path}, after line {lines}: got a line of more than {_LONGEST:,} bytes"
                    )
                lines += 1
                yield line
        except UnicodeDecodeError as error:
            # The decoder had the last bytes before the file's position.
            offset = file.tell() - len(error.object) + error.start
            before = error.object[: error.start].decode(error.encoding, "ignore")
            raise InputError(
                f"{path}, line {lines + before.count(chr(10)) + 1}: got byte "
                f"0x{error.object[error.start]:02x} at offset {offset}, expected "
                f"{encoding.upper().removesuffix('-SIG')}{_HINT if encoding == 'utf-8' else ''}"
            ) from None
        except UnicodeError as error:
            raise InputError(f"{path}: got '{error}', expected {encoding}") from None


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines end at LF or CR LF only: str.splitlines would also cut at U+2028 and others."""
    lines = (line.removesuffix("\n") for line in _raw_lines(path, encoding, "\n"))
    return _not_empty(path, (line.removesuffix("\r") for line in lines))


def filled_lines(path: Path, encoding: str, blank: str = "") -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of the lines that hold more than characters of `blank`."""
    numbered = enumerate(text_lines(path, encoding), start=1)
    return _not_empty(path, (item for item in numbered if item[1].strip(blank)))


def _not_empty(path: Path, items: Iterable[T]) -> Iterator[T]:
    is_empty = True
    for item in items:
        is_empty = False
        yield item
    if is_empty:
        raise empty_file(path)


def csv_records(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    # csv ends a line at a lone CR too, and so does this: a cell with one is quoted.
    numbered = enumerate(_raw_lines(path, encoding, ""), start=1)
    row = 0
    for number, line in numbered:
        if not line.strip("\r\n"):
            continue
        try:
            cells = _csv_cells(line, (following for _, following in numbered))
        except csv.Error as error:
            raise InputError(
                f"{line_place(path, row, number)}: got malformed CSV ({error}), "
                "expected each opening quote to have its closing one at the end of the cell"
            ) from None
        yield number, cells
        row += 1
    if row == 0:
        raise empty_file(path)


def _csv_cells(line: str, following: Iterator[str]) -> list[str]:
    """As csv.reader with strict=True, whose limit of a cell belongs to the whole process."""
    cells: list[str] = []
    end = -1
    while end < 0 or line[end : end + 1] == ",":
        start = end + 1
        if not line.startswith('"', start):
            end = next(_UNQUOTED.finditer(line, start)).end()
            cells.append(line[start:end])
            continue
        start, parts, size = start + 1, [], 0
        while (end := next(_INSIDE_QUOTES.finditer(line, start)).end()) == len(line):
            parts.append(line[start:])
            size += len(line)
            if size > _LONGEST:
                raise csv.Error(f"field larger than field limit ({_LONGEST})")
            line, start = next(following, ""), 0
            if not line:
                raise csv.Error("unexpected end of data")
        cells.append("".join([*parts, line[start:end]]).replace('""', '"'))
        end += 1
    if line[end:].strip("\r\n"):
        raise csv.Error("',' expected after '\"'")
    return cells


_UNQUOTED = re.compile(r"[^,\r\n]*")
_INSIDE_QUOTES = re.compile(r'(?:[^"]|"")*+')
