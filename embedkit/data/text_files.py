"""Text files: opened, unpacked, decoded, and cut into lines and records of CSV."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, cast

from embedkit.data.remote import RemotePath, Source, remote_errors
from embedkit.errors import InputError

LONGEST = 1 << 26  # characters of a line or a cell: a small .gz can unpack to very much
_MARKS = (  # byte order marks; that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HINT = " (a Korean file may be CP949: say --encoding cp949, in Python encoding='cp949')"

# The limit belongs to the whole process, so it is raised once, not while a file is read.
csv.field_size_limit(max(csv.field_size_limit(), LONGEST))


def check_encoding(encoding: object) -> None:
    """Refuse the name of an encoding that Python does not know."""
    try:
        "a".encode(encoding)  # type: ignore[arg-type]
    except (LookupError, TypeError, ValueError):
        raise InputError(
            f"encoding: got {encoding!r}, expected one that Python knows, such as utf-8, cp949 or "
            "utf-16"
        ) from None


def is_gzip(path: Source) -> bool:
    return path.name.lower().endswith(".gz")


def row_location(path: Source, row: int, line: int) -> str:
    """Where a row of a file stands, for errors; the header is row 0."""
    return f"{path}, {f'row {row}' if row else 'header'} (line {line})"


@contextmanager
def opened(path: Source) -> Iterator[IO[bytes]]:
    """The file, unpacked; what goes wrong while it is read becomes an InputError."""
    try:
        with (
            remote_errors(path) if isinstance(path, RemotePath) else nullcontext(),
            path.open("rb") as packed,
            gzip.open(packed) if is_gzip(path) else nullcontext(packed) as file,
        ):
            yield cast(IO[bytes], file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: got broken gzip ({error}), expected a whole .gz file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from None


class EmptyFileError(InputError):
    """A file without rows, or without a header for them."""

    def __init__(self, path: Source) -> None:
        super().__init__(f"{path}: got an empty file, expected rows")


def _lines_with_ends(path: Source, encoding: str, newline: str) -> Iterator[str]:
    """Lines end at LF for the newline LF, and at LF, CR or CR LF for the newline ""."""
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
            while line := text.readline(LONGEST + 1):
                if len(line) > LONGEST:
                    raise InputError(
                        f"{path}, after line {lines}: got a line of more than {LONGEST:,} bytes"
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


def text_lines(path: Source, encoding: str) -> Iterator[str]:
    """The lines of a file, which must have some, without their ends.

    A line ends at LF or CR LF only: str.splitlines would also cut at U+2028 and others.
    """
    is_empty = True
    for line in _lines_with_ends(path, encoding, "\n"):
        is_empty = False
        yield line.removesuffix("\n").removesuffix("\r")
    if is_empty:
        raise EmptyFileError(path)


def filled_lines(path: Source, encoding: str, blank: str = "") -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of the lines that hold more than characters of `blank`."""
    is_empty = True
    for line_number, line in enumerate(text_lines(path, encoding), start=1):
        if line.strip(blank):
            is_empty = False
            yield line_number, line
    if is_empty:
        raise EmptyFileError(path)


def tsv_records(path: Source, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of each line that is not empty; quotes are literal."""
    for line_number, line in filled_lines(path, encoding):
        yield line_number, line.split("\t")


def csv_records(path: Source, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, from 1, and cells of each record that is not empty."""
    reader = csv.reader(_lines_with_ends(path, encoding, ""), strict=True)
    row = 0
    while True:
        line_number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{row_location(path, row, line_number)}: got malformed CSV ({error}), "
                "expected each opening quote to have its closing one at the end of the cell"
            ) from None
        if cells:
            yield line_number, cells
            row += 1
        elif cells is None:
            break
    if row == 0:
        raise EmptyFileError(path)
