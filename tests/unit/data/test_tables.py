from __future__ import annotations

import csv
import gzip
import io
import json
import math
import sys
import tracemalloc
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.data import text_files, writers
from embedkit.data.tables import READERS, format_of, read_rows, read_schema, stem
from embedkit.data.text_files import csv_records
from embedkit.data.texts import check_number, check_text
from embedkit.data.writers import WRITERS, open_writer
from embedkit.errors import InputError

TEXT_SUFFIXES = [suffix for suffix in READERS if suffix != ".parquet"]
ROWS = [{"a": "x", "b": "한국어", "p": 0.1}, {"a": "", "b": '"y", z', "p": -2.0}]


def write(path: Path, rows: list[dict[str, Any]], **schema: Any) -> Path:
    with open_writer(path, format_of(path), list(rows[0]), **schema) as writer:
        for row in rows:
            writer.write([row])
    return path


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, check_text)


def read(path: Path, required: Iterable[str] = ()) -> list[dict[str, object]]:
    return [cells for _, cells in read_rows(path, texts(*required), others=True)]


# What is written reads back, and is written the same again


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | UNICODE
    | st.just("\ud800 alone"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UNICODE, inner, max_size=3),
    max_leaves=8,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def table(cells: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.tuples(cells, cells, FLOATS)
    return st.lists(row.map(lambda row: dict(zip("bap", row, strict=True))), min_size=1)


CELLS: dict[str, st.SearchStrategy[Any]] = {
    "tsv": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n")),
    # csv reads NUL since Python 3.11
    "csv": UNICODE.map(
        lambda text: text if sys.version_info >= (3, 11) else text.replace("\0", "")
    ),
    "jsonl": JSON,
    "parquet": st.none() | UNICODE,
}


@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_is_written_reads_back(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = (tmp_path_factory.getbasetemp() / f"{name}{suffix}" for name in "12")
    rows = data.draw(table(CELLS[format_of(first)]))
    got = read(write(first, rows))
    spelled = format_of(first) in ("tsv", "csv")
    assert got == [{**row, "p": repr(row["p"])} if spelled else row for row in rows]
    assert [list(row) for row in got] == [["b", "a", "p"]] * len(rows)
    if spelled:
        numbers = [cells["p"] for _, cells in read_rows(first, {"p": check_number})]
        assert numbers == [row["p"] for row in rows]

    schema = {"schema": read_schema(first)} if suffix == ".parquet" else {}
    write(second, got, **schema)
    assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("kind", WRITERS)
def test_the_formats_are_as_said(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x.{kind}", ROWS)
    expected = {
        "tsv": 'a\tb\tp\nx\t한국어\t0.1\n\t"y", z\t-2.0\n',
        "csv": 'a,b,p\nx,한국어,0.1\n,"""y"", z",-2.0\n',
        "jsonl": '{"a": "x", "b": "한국어", "p": 0.1}\n{"a": "", "b": "\\"y\\", z", "p": -2.0}\n',
    }
    if kind == "parquet":
        assert pq.read_table(path).to_pylist() == ROWS
    else:
        assert path.read_bytes().decode() == expected[kind]


def test_other_readers_agree(tmp_path: Path) -> None:
    rows = [{"a": 'x"\r\n,', "b": "\r", "p": 1.5}, {"a": " ", "b": "", "p": 1e300}]
    with write(tmp_path / "x.csv", rows).open(newline="", encoding="utf-8") as file:
        assert [{**row, "p": float(row["p"])} for row in csv.DictReader(file)] == rows
    lines = gzip.decompress(write(tmp_path / "x.jsonl.gz", rows).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == rows


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_other_values_are_written_as_json_has_them(suffix: str, tmp_path: Path) -> None:
    row = {"a": None, "b": True, "c": 7, "d": ["한", {"e": None}], "f": 1e16, "g": "x"}
    (got,) = read(write(tmp_path / f"x{suffix}", [row]))
    expected = {"a": "", "b": "true", "c": "7", "d": '["한", {"e": null}]', "f": "1e+16", "g": "x"}
    assert got == expected


def test_jsonl_rows_have_their_own_keys(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"b": [2], "a": None}, {}]
    assert read(write(tmp_path / "x.jsonl", rows)) == rows


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_of_no_rows_keeps_its_header(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    schema = pa.schema({"a": pa.string(), "b": pa.string()})
    with open_writer(path, format_of(path), ["a", "b"], schema=schema):
        pass
    if format_of(path) == "jsonl":
        with pytest.raises(InputError, match="got an empty file"):
            read(path)
    else:
        assert read(path, ["a", "b"]) == []


def test_names_of_files() -> None:
    assert [stem(f"dir/a.b{suffix}") for suffix in READERS] == ["a.b"] * len(READERS)
    assert stem("A.TSV.GZ") == "A"
    assert {format_of(f"x{suffix}") for suffix in READERS} == set(WRITERS)
    for function in (stem, format_of):
        with pytest.raises(InputError, match=r"^x\.txt: got an unknown suffix, expected one of"):
            function("x.txt")


BLANKS = {"tsv": ["", "\r"], "csv": ["", "\r"], "jsonl": ["", "\r", " ", "\t "]}
ENCODINGS = ["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le", "utf-32", "gb18030", "latin-1"]
# The others have all characters; hypothesis would take half a second for each, to find them.
ALPHABETS: dict[str, Any] = {"cp949": {"codec": "cp949"}, "latin-1": {"max_codepoint": 255}}


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_data_with_blank_lines_in_any_encoding_reads_back(
    suffix: str, encoding: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"blanks{suffix}"
    kind = format_of(path)
    alphabet = st.characters(
        **ALPHABETS.get(encoding, {}), exclude_characters="\n\r\t", exclude_categories=["Cs"]
    )
    row = st.fixed_dictionaries({"a": st.text(alphabet), "b": st.text(alphabet, min_size=1)})
    rows = data.draw(st.lists(row, min_size=1))
    write(path, rows)
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if suffix.endswith(".gz") else raw).decode().split("\n")[:-1]
    blank = st.lists(st.sampled_from(BLANKS[kind]), max_size=3)
    numbers, padded = [], []
    for line in lines:
        padded += data.draw(blank)
        padded.append(line)
        numbers.append(len(padded))
    padded += data.draw(blank)
    coded = "\n".join([*padded, ""]).encode(encoding)
    path.write_bytes(gzip.compress(coded) if suffix.endswith(".gz") else coded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells that look quoted
        got = list(read_rows(path, texts("a", "b"), encoding=encoding))
    assert [row.cells for row in got] == rows
    assert [row.location for row in got] == [
        f"{path}, row {row} (line {line})"
        for row, line in enumerate(numbers[kind != "jsonl" :], start=1)
    ]


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16", "utf-7", "idna", "punycode"])
@settings(max_examples=30, deadline=None)
@given(junk=st.binary(max_size=60), good=st.booleans())
def test_data_of_any_bytes_is_read_or_refused(
    suffix: str, encoding: str, junk: bytes, good: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"junk{suffix}"
    data = (HEADERS.get(format_of(path), "") if good else "").encode() + junk
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            list(read_rows(path, {}, others=True, encoding=encoding))
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.thorough
@settings(max_examples=400, deadline=None)
@given(text=st.text('a,"\r\n ', max_size=30))
def test_data_of_csv_is_cut_as_the_csv_module_cuts_it(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_bytes(b"header\n" + text.encode())
    expected: Any = [["header"]]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        expected += (cells for cells in reader if cells)
    except csv.Error as error:
        expected.append(str(error))
    got: Any = []
    try:
        got += (cells for _, cells in csv_records(path, "utf-8"))
    except InputError as error:
        got.append(str(error).split("malformed CSV (")[1].split("), expected")[0])
    assert got == expected


def test_long_cells_are_read_in_threads(tmp_path: Path) -> None:
    """csv.field_size_limit belongs to the whole process: it is raised once, at import."""
    path = tmp_path / "long.csv"
    path.write_text("text\n" + ('"' + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * 700 + '"\n') * 20)
    before, interval = csv.field_size_limit(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            counts = pool.map(lambda _: sum(1 for _ in read_rows(path, texts("text"))), range(8))
            assert list(counts) == [20] * 8
        assert csv.field_size_limit() == before >= text_files.LONGEST
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("cell", "warned"),
    [
        *(('"a ""b"""', True), ('"""b"" a"', True), ('"""a"""', True), ('"a ""b"" c"', True)),
        *(('"a, b"', False), ('""', False), ('"a" or "b"', False), ('"a', False), ('"a"b"', False)),
    ],
)
def test_data_of_tsv_with_quotes_is_verbatim_and_says_so_once(
    cell: str, warned: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tother\n" + "".join(f'{text}\t"x"\n' for text in ("b", cell, "c", cell)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = [row.cells["a"] for row in read_rows(path, texts("a"))]
    assert got == ["b", cell, "c", cell]
    assert [str(warning.message) for warning in caught] == [
        f"{path}, row 2 (line 3), column 'a': the cell has quotes around it and doubled quotes "
        "inside; TSV is read without quoting, so they are part of the text; if they should not be, "
        "save the file as CSV"
    ] * warned


@pytest.mark.parametrize("encoding", ["", "utf-99", "rot13", "base64", "a\0b", None, 7, b"utf-8"])
def test_data_in_no_encoding_of_text_is_refused(encoding: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / "x.csv", {}, encoding=encoding)
    message = f"encoding: got {encoding!r}, expected one that Python knows, such as utf-8, cp949 or"
    assert str(caught.value).startswith(str(InputError(message)))


@pytest.mark.parametrize("encoding", ["cp949", "utf-16", "latin-1", "ascii"])
def test_data_with_the_utf8_mark_is_utf8_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a\n한국어\n".encode("utf-8-sig"))
    assert [row.cells for row in read_rows(path, texts("a"), encoding=encoding)] == [
        {"a": "한국어"}
    ]


@pytest.mark.parametrize("encoding", ["cp949", "utf-16-be", "shift_jis"])
def test_data_that_is_not_in_its_encoding_is_placed(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    good = ("a\n" + "가나다 x\n".replace("가나다", "아") * 3000).encode(encoding, "ignore")
    bad = b"\xd8\x00\x00\x0a" if encoding == "utf-16-be" else b"\xff\xff\n"
    path.write_bytes(good + bad)
    got, message = until_error(path, encoding)
    assert message == (
        f"{path}, line 3002: got byte 0x{bad[0]:02x} at offset {len(good)}, expected "
        f"{encoding.upper()}"
    )
    assert got > 1000


def test_data_of_one_empty_cell_is_refused_by_a_writer_of_tsv(tmp_path: Path) -> None:
    """Its line would be empty, and readers skip those; CSV has quotes for it."""
    with pytest.raises(InputError, match="row 1: got only an empty cell"):
        write(tmp_path / "x.tsv", [{"a": ""}])
    assert read(write(tmp_path / "x.csv", [{"a": ""}])) == [{"a": ""}]


# Which columns are read


@pytest.mark.parametrize("suffix", READERS)
def test_columns_are_chosen(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"x{suffix}", [{"id": "7", "a": "x", "note": "n", "b": "y"}])

    def columns(*required: str, **options: Any) -> list[str]:
        (row,) = read_rows(path, texts(*required), **options)
        return list(row.cells)

    assert columns("a", "b", others=True) == ["id", "a", "note", "b"]
    assert columns("b", "a") == ["a", "b"]
    assert columns("b", optional=texts("note", "absent")) == ["note", "b"]
    with pytest.raises(InputError, match="expected 'c' among them"):
        columns("c")


@pytest.mark.parametrize("suffix", READERS)
def test_only_cells_of_numbers_are_parsed(suffix: str, tmp_path: Path) -> None:
    spelled = format_of(f"x{suffix}") in ("tsv", "csv")
    row = {"p": "3.50", "q": "4.50"} if spelled else {"p": 3.5, "q": "4.50"}
    path = write(tmp_path / f"x{suffix}", [row])
    assert next(read_rows(path, {"p": check_number}, others=True)).cells == {"p": 3.5, "q": "4.50"}


def test_parquet_reads_no_more_than_it_must(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "Asia/Seoul"), pa.duration("ns")):
        columns = {"a": pa.array(["x"]), "t": pa.array([1], kind)}
        pq.write_table(pa.table(columns), path)
        assert [row.cells for row in read_rows(path, texts("a"))] == [{"a": "x"}]
        with pytest.raises(
            InputError, match=r"x\.parquet, column 't': got 'Casting .*, expected values"
        ):
            read(path)


def test_parquet_of_whole_microseconds(tmp_path: Path) -> None:
    """Python's own values, whether pandas is installed or not."""
    path = tmp_path / "x.parquet"
    columns = {
        "when": pa.array([2_000_001_000], pa.timestamp("ns")),
        "long": pa.array([3_000], pa.duration("ns")),
        "time": pa.array([4_000_000_000], pa.time64("ns")),
    }
    pq.write_table(pa.table(columns), path)
    (cells,) = (row.cells for row in read_rows(path, {}, others=True))
    assert cells == {
        "when": datetime(1970, 1, 1, 0, 0, 2, 1),
        "long": timedelta(microseconds=3),
        "time": time(0, 0, 4),
    }
    assert [type(value) for value in cells.values()] == [datetime, timedelta, time]


def test_cells_are_checked() -> None:
    place = "x.jsonl, row 2 (line 2), column 'a'"
    assert check_text(place, "") == ""
    assert check_number(place, Decimal("1.5")) == 1.5
    with pytest.raises(InputError) as caught:
        check_text(place, 1)
    assert str(caught.value) == "x.jsonl, row 2 (line 2), column 'a': got 1, expected a str"
    with pytest.raises(InputError) as caught:
        check_number(place, math.nan)
    assert str(caught.value) == f"{place}: got nan, expected a finite number"


# Streaming

SENTENCE = "A sentence, as long as the sentences of real pairs are, more or less: 한국어. " * 2
LINES = {
    "tsv": "{0}\t{0}\t1.5\tc\n",
    "csv": '"{0}","{0}",1.5,"c"\n',
    "jsonl": '{{"a": "{0}", "b": "{0}", "p": 1.5, "c": "c"}}\n',
}
HEADERS = {"tsv": "a\tb\tp\tc\n", "csv": "a,b,p,c\n", "jsonl": ""}


def write_many(path: Path, many: int, text: str) -> None:
    if path.suffix == ".parquet":
        texts = pa.array([text] * many)
        # One row group, which has to be read in parts.
        whole = pa.table({"a": texts, "b": texts})
        pq.write_table(whole, path, row_group_size=many, compression="none", use_dictionary=False)
        assert path.stat().st_size > 60e6
        return
    kind = format_of(path)
    data = (HEADERS[kind] + LINES[kind].format(text) * many).encode()
    assert len(data) > 60e6
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


@contextmanager
def memory() -> Iterator[Callable[[], int]]:
    """A function that says the most bytes that Python and Arrow held at its calls or before."""
    before = pa.total_allocated_bytes()
    arrow = 0

    def most() -> int:
        nonlocal arrow
        arrow = max(arrow, pa.total_allocated_bytes() - before)
        return arrow + tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        yield most
    finally:
        tracemalloc.stop()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "suffix",
    [x if x in (".csv", ".parquet") else pytest.param(x, marks=pytest.mark.slow) for x in READERS],
)
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"many{suffix}"
    # Rows are slow to trace: only one format has as many as it may take to see a small leak.
    many, text = (200_000, SENTENCE) if suffix == ".tsv" else (20_000, SENTENCE * 10)
    write_many(path, many, text)
    with memory() as most:
        for number, row in enumerate(read_rows(path, texts("a", "b"), others=True), start=1):
            assert row.cells["b"] == text
            if number % 200 == 0:
                most()
        assert number == many
        assert most() < 15e6


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_memory_does_not_grow_with_what_is_written(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_ROW_GROUP", 1 << 20)
    path = tmp_path / f"many{suffix}"
    chunk = [{"a": SENTENCE * 10, "b": SENTENCE * 10, "p": 1.5}] * 200
    with memory() as most, open_writer(path, format_of(path), list(chunk[0])) as writer:
        for _ in range(50):
            writer.write(chunk)
            most()
        assert most() < 15e6
    assert sum(1 for _ in read_rows(path, texts("a"))) == 10_000


BAD_ROWS = [
    ("x.tsv", "a\tb\tp\tc\n", LINES["tsv"], "a\tb\n", "got 2 cells, expected 4"),
    ("x.csv", "a,b,p,c\n", LINES["csv"], '"a"b\n', "got malformed CSV (',' expected after '\"')"),
    ("x.jsonl", "", LINES["jsonl"], '{"a": 1}\n', "got columns 'a', expected 'b' among them"),
    ("x.jsonl.gz", "", LINES["jsonl"], "[]\n", "got [], expected a JSON object"),
]


@pytest.mark.parametrize(("name", "header", "good", "bad", "message"), BAD_ROWS)
def test_a_bad_row_is_found_after_those_before_it(
    name: str, header: str, good: str, bad: str, message: str, tmp_path: Path
) -> None:
    good = good.format(SENTENCE)
    data = (header + good * 1000 + bad + good * 1000).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    rows = read_rows(path, texts("a", "b"), others=True)
    places = [next(rows).location for _ in range(1000)]
    line = 1001 if header else 1000
    assert places[-1] == f"{path}, row 1000 (line {line})"
    with pytest.raises(InputError) as caught:
        next(rows)
    assert str(caught.value).startswith(f"{path}, row 1001 (line {line + 1}): {message}")
    assert next(rows, None) is None


def until_error(path: Path, encoding: str = "utf-8") -> tuple[int, str]:
    """The rows before the error, and the error."""
    got = 0
    try:
        for _ in read_rows(path, texts("a"), others=True, encoding=encoding):
            got += 1
    except InputError as error:
        return got, str(error)
    raise AssertionError("no error")


@pytest.mark.parametrize("suffix", [".tsv", ".csv.gz", ".jsonl"])
def test_a_byte_that_is_not_utf8_is_found_at_its_place(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    kind = format_of(path)
    good = LINES[kind].format(SENTENCE)
    before = ("\ufeff" + HEADERS[kind] + good * 1000).encode()
    data = before + good.encode().replace("한".encode(), b"\xc7", 1) + b"\xff"
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    line = 1001 + bool(HEADERS[kind])
    got, message = until_error(path)
    offset = data.index(b"\xc7", len(before))
    assert message.startswith(f"{path}, line {line}: got byte 0xc7 at offset {offset}, expected")
    assert 500 < got <= 1000


@pytest.mark.parametrize("suffix", [".tsv.gz", ".parquet"])
def test_a_file_that_breaks_off_is_found_where_it_does(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        texts = pa.array([*[b"x"] * 5000, b"\xff"]).view(pa.string())
        pq.write_table(pa.table({"a": texts}), path)
    else:
        path.write_bytes(gzip.compress(b"a\n" + b"x\n" * 100_000)[:-8])
    got, message = until_error(path)
    assert message.startswith((f"{path}: got ", f"{path}: cannot be read as Parquet ("))
    assert "expected a whole " in message
    assert got >= 4000


def test_wrong_names_are_refused_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a directory, expected a file"):
        read_rows(tmp_path, {})
    with pytest.raises(InputError, match="got an unknown suffix"):
        read_rows("x.txt", {})


def test_readers_of_csv_leave_the_limit_of_the_process_alone(tmp_path: Path) -> None:
    long = "x" * 200_000
    path = write(tmp_path / "x.csv", [{"a": long, "b": ""}] * 2)
    before = csv.field_size_limit()
    rows = read_rows(path, texts("a"), others=True)
    assert next(rows).cells["a"] == long
    assert csv.field_size_limit() == before


# Files: all or nothing


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
@pytest.mark.parametrize("suffix", READERS)
def test_a_block_that_fails_leaves_nothing(
    suffix: str, error: type[BaseException], old: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    if old is not None:
        path.write_bytes(old)
    before = list(tmp_path.iterdir())

    def fail() -> None:
        with open_writer(path, format_of(path), list(ROWS[0])) as writer:
            writer.write(ROWS)
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == before
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("suffix", READERS)
def test_an_older_file_is_replaced_at_the_end(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    with open_writer(path, format_of(path), list(ROWS[0])) as writer:
        writer.write(ROWS)
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [path]
    assert len(read(path, ["a", "b"])) == 2


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_may_take_the_place_of_the_one_that_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    with open_writer(path, format_of(path), ["a"]) as writer:
        writer.write({"a": str(number)} for number in range(5000))
    rows = read_rows(path, texts("a"), others=True)
    with open_writer(path, format_of(path), ["a", "p"]) as writer:
        while chunk := list(islice(rows, 500)):
            writer.write({**row.cells, "p": "y"} for row in chunk)
    assert read(path) == [{"a": str(number), "p": "y"} for number in range(5000)]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.tsv", tmp_path / "link.tsv"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link, ROWS)
    assert link.is_symlink()
    assert read(target) == read(link) != []


def test_a_packed_file_says_neither_name_nor_time(tmp_path: Path) -> None:
    packed = write(tmp_path / "x.tsv.gz", ROWS).read_bytes()
    assert packed[3:8] == bytes(5)  # flags, then the time


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_stdout(kind: str, capsysbinary: Any, tmp_path: Path) -> None:
    print("before")
    with open_writer(None, kind, list(ROWS[0])) as writer:
        writer.write(ROWS[:1])
        writer.write(ROWS[1:])
    print("after")
    written = write(tmp_path / f"x.{kind}", ROWS).read_bytes()
    assert capsysbinary.readouterr().out == b"before\n" + written + b"after\n"


# What a writer refuses. A file is written by a relative name: a message is the same everywhere.

REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    *[
        (
            "x.tsv",
            "tsv",
            {"a": "ok", "b": cell},
            f"x.tsv, row 3, column 'b': got {cell!r}, "
            "expected no tab and no line break, because TSV cannot hold them",
        )
        for cell in ["y\tz", "y\nz", "y\r\nz", "y\r"]
    ],
    *[
        (
            f"x.{kind}",
            kind,
            {"a": "\ud800", "b": ""},
            f"x.{kind}, row 3, column 'a': got the lone surrogate '\\ud800' at index 0, "
            "expected valid Unicode",
        )
        for kind in ["tsv", "csv"]
    ],
    *[
        (
            f"x.{kind}",
            kind,
            {"a": Decimal(1), "b": ""},
            f"x.{kind}, row 3, column 'a': got Decimal('1'), "
            "expected a JSON value, because only Parquet can hold others",
        )
        for kind in ["tsv", "csv", "jsonl"]
    ],
    *[
        (
            f"x.{kind}",
            kind,
            row,
            f"x.{kind}, row 3: got columns {got}, expected 'a', 'b' in every row",
        )
        for kind in ["tsv", "csv", "parquet"]
        for row, got in [({"a": "x"}, "'a'"), ({"a": "x", "b": "", "c": ""}, "'a', 'b', 'c'")]
    ],
    (
        "x.parquet",
        "parquet",
        {"a": 1, "b": ""},
        "x.parquet, row 3, column 'a': got 'Unable to merge: Field it has incompatible types: "
        "string vs int64', expected values of one type",
    ),
    (
        "x.parquet",
        "parquet",
        {"a": "", "b": "\ud800"},
        "x.parquet, row 3, column 'b': got ''utf-8' codec can't encode character '\\ud800' in "
        "position 0: surrogates not allowed', expected values of one type",
    ),
]


@pytest.mark.parametrize(("name", "kind", "row", "message"), REFUSED)
def test_a_row_that_a_format_cannot_hold_is_refused(
    name: str,
    kind: str,
    row: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"a": "x", "b": "y"}

    def fail() -> None:
        with open_writer(name, kind, ["a", "b"]) as writer:
            writer.write([good])
            writer.write([good, row, good])

    with pytest.raises(InputError) as caught:
        fail()
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "kind", "columns", "message"),
    [
        ("x.xml", "xml", "ab", "x.xml: got format 'xml', expected one of tsv, csv, jsonl, parquet"),
        (None, "parquet", "ab", "stdout: got format 'parquet', expected tsv, csv or jsonl"),
        ("x.gz", "parquet", "ab", "x.gz: got format 'parquet', expected tsv, csv or jsonl"),
        ("x.csv", "csv", "aa", "x.csv: got column 'a' twice, expected each name once"),
        (
            "no/x.csv",
            "csv",
            "ab",
            "no/x.csv: cannot be written (No such file or directory); expected a writable",
        ),
        ("folder", "csv", "ab", "folder: got a directory, expected a file"),
        ("/dev/null", "csv", "ab", "/dev/null: got a device or pipe, expected a file"),
        ("x.tsv", "tsv", ["a\tb"], "x.tsv, header, column 'a\\tb': got 'a\\tb', expected no tab"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(
    path: str | None,
    kind: str,
    columns: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught, open_writer(path, kind, columns):
        pass
    assert str(caught.value).startswith(message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


# Parquet's types


def test_a_schema_keeps_types_and_added_columns_are_floats(tmp_path: Path) -> None:
    fields = [
        pa.field("a", pa.large_string(), nullable=False),
        pa.field("d", pa.dictionary(pa.int32(), pa.string())),
        pa.field("v", pa.string_view()),
        pa.field("n", pa.int8()),
        pa.field("m", pa.decimal128(9, 3)),
        pa.field("t", pa.timestamp("us", "UTC")),
        pa.field("l", pa.list_(pa.struct({"x": pa.float32()}))),
        pa.field("b", pa.binary()),
    ]
    row = {"a": "x", "d": "y", "v": "z", "n": 1, "m": 2, "t": 3, "l": [{"x": 0.5}], "b": b"\xff"}
    columns = [pa.array([row[field.name], *[None] * 9], field.type) for field in fields]
    columns[0] = pa.array("abcdefghij", pa.large_string())
    whole = pa.table(columns, schema=pa.schema(fields, {"made": "here"}))
    path, out = tmp_path / "x.parquet", tmp_path / "y.parquet"
    pq.write_table(whole, path)

    schema = read_schema(path)
    with open_writer(out, "parquet", [*schema.names, "p"], schema=schema) as writer:
        for row in read(path):
            writer.write([{**row, "p": 2}])
    got = pq.read_table(out)
    assert got.drop_columns("p").equals(whole)
    assert got.schema.equals(schema.append(pa.field("p", pa.float64())), check_metadata=True)
    assert got["p"].to_pylist() == [2.0] * 10


def test_parquet_is_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_ROW_GROUP", 10_000)
    path = write(tmp_path / "x.parquet", [{"a": "x" * 1000}] * 95)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(index).num_rows for index in range(10)] == [10] * 9 + [5]


def test_without_a_schema_the_values_decide_on_the_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    values: list[Any] = [None, 1, 2.5, None, 3]
    write(path, [{"a": value, "b": "x"} for value in values])
    assert pq.read_schema(path).types == [pa.float64(), pa.string()]
    assert [row["a"] for row in read(path)] == values

    # Once a row group is written, its types stay: 2.5 is not cut to an integer.
    monkeypatch.setattr(writers, "_ROW_GROUP", 1)
    with pytest.raises(
        InputError, match="row 2, column 'a': got 'type double after rows of type int64', expected"
    ):
        write(path, [{"a": 1}, {"a": 2.5}])


# Files that unpack to very much


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
def test_a_line_or_cell_without_end(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of gzip, or a quote that nothing closes, may be gigabytes."""
    monkeypatch.setattr(text_files, "LONGEST", 200_000)
    before = csv.field_size_limit(200_000)
    path = tmp_path / f"pairs{suffix}"
    header, cell = ("", '{"a": "') if "jsonl" in suffix else ("a\n", '"')
    line = cell + ("x" * 250 if "csv" not in suffix else "x" * 249 + "\n") * 1000
    text = (header + line).encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    with pytest.raises(
        InputError, match=r"a line of more than 200,000 bytes$|field limit \(200000"
    ):
        list(read_rows(path, {}, others=True))
    csv.field_size_limit(before)


def test_a_cell_of_a_million_characters(tmp_path: Path) -> None:
    text = "가나다 " * 250_000
    for suffix in (*TEXT_SUFFIXES, ".parquet"):
        path = write(tmp_path / f"pairs{suffix}", [{"a": text, "b": ""}])
        assert [row.cells["a"] for row in read_rows(path, texts("a"))] == [text], suffix


def test_very_many_columns(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(100_000)]
    path = tmp_path / "pairs.tsv"
    path.write_text("\t".join(names) + "\n" + "\t".join("x" for _ in names))
    (row,) = read_rows(path, texts("c99999"))
    assert row.cells == {"c99999": "x"}
    path.write_text("\t".join([*names, "c7"]) + "\n")
    with pytest.raises(InputError, match="got column 'c7' twice"):
        list(read_rows(path, {}, others=True))
