"""Scored sentence pairs, and the readers of the files that hold them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import reprlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedkit.datasets import SHIPPED
from embedkit.errors import InputError

T = TypeVar("T")

# Where a row stands ("pairs.tsv, row 3 (line 4)"), and its cells by column.
Row: TypeAlias = tuple[str, dict[str, object]]


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
        texts = {"sentence1": self.sentence1, "sentence2": self.sentence2}
        if self.subsets is not None:
            texts["subsets"] = self.subsets
        for column, values in texts.items():
            if not isinstance(values, tuple):
                raise InputError(
                    f"{column}: got {reprlib.repr(values)}, expected a tuple of str "
                    "(Pairs.from_columns takes any sequence)"
                )
            for index, value in enumerate(values):
                _text(f"{column}[{index}]", value)
        scores = self.scores
        if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.ndim != 1:
            is_array = isinstance(scores, np.ndarray)
            got = f"{scores.dtype} {scores.shape}" if is_array else reprlib.repr(scores)
            raise InputError(
                f"scores: got {got}, expected an array float64 (n,) "
                "(Pairs.from_columns takes any sequence)"
            )
        for index, score in enumerate(scores.tolist()):
            _number(f"scores[{index}]", score)
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

    @classmethod
    def from_columns(
        cls,
        name: str,
        sentence1: Iterable[str],
        sentence2: Iterable[str],
        scores: Iterable[float],
        subsets: Iterable[str] | None = None,
    ) -> Pairs:
        """The pairs of columns that are in memory: lists, arrays, data frame columns.

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
                    _number(f"scores[{index}]", score)
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
        names = (self.sentence1, self.sentence2, self.score, self.subset)
        if len(set(names)) < len(names):
            raise InputError(f"column names: got {_listed(names)}, expected four different ones")

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a file must have."""
        named = (self.subset,) if self.subset != PairColumns.subset else ()
        return (self.sentence1, self.sentence2, self.score, *named)


def read_pairs(path: str | Path, columns: PairColumns = PairColumns()) -> Pairs:
    """Reads scored sentence pairs from a file in one of the formats in `READERS`.

    `first_look` names the data set that comes with embedkit, where there is no such file.

    Texts are taken verbatim, empty ones too; other columns than those named are ignored.

    - TSV: a header line, cells split at tabs; no quoting and no escaping, so `"` is literal.
    - CSV: a header line; quoted cells may hold commas, line breaks and doubled quotes.
    - JSONL: an object a line.
    - Parquet: string columns (plain or dictionary), and a score of any integer, float or decimal
      type.

    Text is UTF-8, with or without a byte order mark.

    Raises:
        InputError: the file cannot be read, or is not as said above; the message names the file
            and, where there is one, the data row (from 1), the line and the column.
    """
    path = SHIPPED[str(path)] if str(path) in SHIPPED and not Path(path).exists() else Path(path)
    if path.is_dir():
        raise InputError(f"{path}: got a directory, expected a file")
    suffix = next((known for known in READERS if path.name.lower().endswith(known)), None)
    if suffix is None:
        raise InputError(f"{path}: got an unknown suffix, expected one of {', '.join(READERS)}")
    data = _load(path, gzipped=suffix.endswith(".gz"))
    rows = list(READERS[suffix](str(path), data, columns))

    def texts(name: str) -> tuple[str, ...]:
        return tuple(_text(f"{place}, column {name!r}", cells.get(name)) for place, cells in rows)

    sentence1, sentence2 = texts(columns.sentence1), texts(columns.sentence2)
    scores = [
        _number(f"{place}, column {columns.score!r}", cells[columns.score]) for place, cells in rows
    ]
    with_subsets = any(columns.subset in cells for _, cells in rows)
    subsets = texts(columns.subset) if with_subsets else None
    try:
        return Pairs(path.name[: -len(suffix)], sentence1, sentence2, np.array(scores), subsets)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _text(where: str, value: object) -> str:
    """The value, if it is a text that can be encoded."""
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


def _number(where: str, value: object) -> float:
    """The value as a float, if it is a finite number; a bool is none."""
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where}: got {number}, expected a finite number")
    return number


def _as_tuple(column: str, values: Iterable[T]) -> tuple[T, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{column}: got {reprlib.repr(values)}, expected a list, one item a pair")
    return tuple(values)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _load(path: Path, gzipped: bool) -> bytes:
    """The file's bytes, unpacked."""
    try:
        data = path.read_bytes()
        if gzipped:
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: got broken gzip ({error}), expected a whole .gz file") from None
    except OSError as error:
        raise InputError(f"{path}: got '{error.strerror}', expected a readable file") from None
    if data in (b"", codecs.BOM_UTF8):
        raise InputError(f"{path}: got an empty file, expected sentence pairs")
    return data


def _decode(where: str, data: bytes) -> str:
    """UTF-8 text without its byte order mark."""
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line}: got byte 0x{data[error.start]:02x} at offset {error.start}, "
            "expected UTF-8 (a Korean file may be CP949: convert it with "
            "'iconv -f CP949 -t UTF-8')"
        ) from None


def _lines(where: str, data: bytes) -> list[str]:
    """Lines end at LF or CR LF only: str.splitlines would also cut at U+2028 and others."""
    lines = _decode(where, data).removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _check_columns(place: str, names: Sequence[str], columns: PairColumns) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{place}: got column {name!r} twice, expected each name once")
    for name in columns.required:
        if name not in names:
            raise InputError(f"{place}: got columns {_listed(names)}, expected {name!r} among them")


def _line_place(where: str, row: int, line: int) -> str:
    """Where a record of a file with a header stands; the header is row 0."""
    return f"{where}, {f'row {row}' if row else 'header'} (line {line})"


def _text_rows(
    where: str, records: Iterable[tuple[int, Sequence[str]]], columns: PairColumns
) -> Iterator[Row]:
    """The rows of text cells under a header, from records of line number and cells."""
    header: Sequence[str] = ()
    for row, (line, cells) in enumerate(records):
        place = _line_place(where, row, line)
        if row == 0:
            header = cells
            _check_columns(place, header, columns)
        elif len(cells) != len(header):
            raise InputError(f"{place}: got {len(cells)} cells, expected {len(header)}")
        else:
            named = dict[str, object](zip(header, cells, strict=True))
            named[columns.score] = _parsed(cells[header.index(columns.score)])
            yield place, named


def _parsed(cell: str) -> float | str:
    """The number that a cell spells; else the cell itself, for `_number` to refuse."""
    try:
        return cell if "_" in cell else float(cell)  # to Python, 1_0 is ten
    except ValueError:
        return cell


def _read_tsv(where: str, data: bytes, columns: PairColumns) -> Iterator[Row]:
    lines = enumerate(_lines(where, data), start=1)
    records = ((line, text.split("\t") if text else []) for line, text in lines)
    return _text_rows(where, records, columns)


def _read_csv(where: str, data: bytes, columns: PairColumns) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_decode(where, data), newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    line = 1  # a record's first; the reader knows its last
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for cells in reader:
            records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{_line_place(where, len(records), line)}: got malformed CSV ({error}), "
            "expected each opening quote to have its closing one at the end of the cell"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return _text_rows(where, records, columns)


def _read_jsonl(where: str, data: bytes, columns: PairColumns) -> Iterator[Row]:
    for row, line in enumerate(_lines(where, data), start=1):
        place = _line_place(where, row, line=row)
        try:
            cells = json.loads(line, object_pairs_hook=_json_object)
        except json.JSONDecodeError as error:
            problem = f"{error.msg} at character {error.colno}"
            raise InputError(f"{place}: got no JSON ({problem}), expected an object") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: got unusable JSON ({error}), expected an object") from None
        if not isinstance(cells, dict):
            raise InputError(f"{place}: got {reprlib.repr(cells)}, expected a JSON object")
        _check_columns(place, list(cells), columns)
        yield place, cells


def _json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a key given twice, of which json would keep the last."""
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is given twice")
    return cells


def _read_parquet(where: str, data: bytes, columns: PairColumns) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def is_text(kind: pa.DataType) -> bool:
        kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
        of_types = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        return any(is_type(kind) for is_type in of_types)

    def is_number(kind: pa.DataType) -> bool:
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names
        _check_columns(where, names, columns)
        wanted = [name for name in names if name in (*columns.required, columns.subset)]
        # Arrow's threads can abort the process at its exit (apache/arrow#34314).
        table = file.read(wanted, use_threads=False)
        table.validate(full=True)  # else strings that are not UTF-8 pass
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = re.split(r"[.\n]", str(error))[0]  # Arrow's first sentence
        raise InputError(f"{where}: got '{reason}', expected a whole Parquet file") from None
    for field in table.schema:
        is_score = field.name == columns.score
        if not (is_number(field.type) if is_score else is_text(field.type)):
            raise InputError(
                f"{where}, column {field.name!r}: got type {field.type}, "
                f"expected {'numbers' if is_score else 'strings'}"
            )
    for row, cells in enumerate(table.to_pylist(), start=1):
        yield f"{where}, row {row}", cells


READERS: dict[str, Callable[[str, bytes, PairColumns], Iterator[Row]]] = {
    ".tsv": _read_tsv,
    ".tsv.gz": _read_tsv,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".parquet": _read_parquet,
}
