from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import beir
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import (
    Corpus,
    PairColumns,
    Pairs,
    PositiveColumns,
    Positives,
    RetrievalSet,
    compare,
    evaluate,
    read_pairs,
    read_positives,
    read_retrieval,
)
from embedkit.data.tables import READERS
from embedkit.errors import InputError

SharedData = Callable[[str], Path]

A, B = ("a1", "a2", "a3"), ("b1", "b2", "b3")
SCORES = (1.0, 2.5, 4.0)
HEADER = "sentence1\tsentence2\tscore\n"


def pairs(**changes: Any) -> Pairs:
    fields = {"name": "p", "sentence1": A, "sentence2": B, "scores": np.array(SCORES), **changes}
    return Pairs(**fields)


# The record


def test_from_columns_takes_lists_and_arrays() -> None:
    got = Pairs.from_columns("p", list(A), np.array(B), [1, 2.5, np.float32(4)], ["x", "y", "x"])
    assert (got.name, got.sentence1, got.sentence2) == ("p", A, B)
    assert got.scores.dtype == np.float64
    assert got.scores.tolist() == [1.0, 2.5, 4.0]
    assert got.subsets == ("x", "y", "x")
    assert Pairs.from_columns("p", A, B, SCORES).subsets is None


SERIES = pd.Series(list(A), index=[5, 6, 7])
COLUMNS_OF: dict[str, Callable[[], Any]] = {
    "a NumPy array of str": lambda: np.array(A),
    "a NumPy array of objects": lambda: np.array(A, object),
    "a Series": lambda: SERIES,
    "a Series of Arrow": lambda: SERIES.astype("string"),
    "an Arrow array": lambda: pa.array(A),
    "a generator": lambda: (text for text in A),
    "keys of a dict": lambda: dict.fromkeys(A).keys(),
}


@pytest.mark.parametrize("kind", COLUMNS_OF)
def test_containers_that_are_lists_of_texts_are_taken(kind: str) -> None:
    got = Pairs.from_columns("p", COLUMNS_OF[kind](), list(B), pd.Series(SCORES, [7, 8, 9]))
    assert got.sentence1 == A
    assert {type(text) for text in got.sentence1} == {str}
    assert got.scores.tolist() == list(SCORES)


NOT_COLUMNS: dict[str, Any] = {
    "a data frame": pd.DataFrame({"sentence1": A}),
    "a dict": dict(zip(A, B, strict=True)),
    "a set": {"a1"},
    "an array of two dimensions": np.array([A]),
    "an array of none": np.array("a1"),
    "bytes": b"abc",
    "a number": 3,
}


@pytest.mark.parametrize("column", ["sentence1", "sentence2", "scores", "subsets"])
@pytest.mark.parametrize("kind", NOT_COLUMNS)
def test_containers_that_are_not_lists_are_refused_by_name(kind: str, column: str) -> None:
    columns = {"sentence1": A, "sentence2": B, "scores": SCORES, column: NOT_COLUMNS[kind]}
    with pytest.raises(InputError, match=rf"^{column} is one .*; expected a list of (str|numbers)"):
        Pairs.from_columns("p", **columns)


WRONG: tuple[Any, ...] = (None, 1.5, 7, b"x", [1], {"x": 1}, np.zeros(2), object(), "\udcff")
SIGNATURES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]]] = {
    "read_pairs": (read_pairs, ("x.tsv", PairColumns(), "utf-8"), ("path", "columns", "encoding")),
    "read_positives": (
        read_positives,
        ("x.tsv", PositiveColumns(), "utf-8"),
        ("path", "columns", "encoding"),
    ),
    "read_retrieval": (read_retrieval, (".", "utf-8"), ("folder", "encoding")),
    "Corpus": (
        Corpus,
        ("x.csv", ("text",), "id", "utf-8"),
        ("path", "text_columns", "id_column", "encoding"),
    ),
    "PairColumns": (
        PairColumns,
        ("a", "b", "c", "d"),
        ("sentence1", "sentence2", "score", "subset"),
    ),
    "PositiveColumns": (
        PositiveColumns,
        ("a", "b", "c", "d"),
        ("sentence1", "sentence2", "label", "positive"),
    ),
    "Pairs": (
        Pairs,
        ("p", A, B, np.array(SCORES), A),
        ("name", "sentence1", "sentence2", "scores", "subsets"),
    ),
    "Positives": (Positives, ("p", A, B), ("name", "sentence1", "sentence2")),
    "RetrievalSet": (
        RetrievalSet,
        ("r", {"q": "a"}, {"d": "b"}, {"q": {"d": 1}}),
        ("name", "queries", "documents", "judgements"),
    ),
    "Pairs.check_range": (pairs().check_range, (0.0, 5.0), ("low", "high")),
    "compare": (lambda data: compare("no-model", data), ("x.tsv",), ("data",)),
    "evaluate": (lambda data: evaluate("no-model", data), ("x.tsv",), ("data",)),
}
OPTIONAL = {("Corpus", "id_column"), ("Pairs", "subsets")}  # None is fine
ALLOWED = {
    ("Pairs.check_range", "low"): (1.5, 7),
    ("Pairs.check_range", "high"): (1.5, 7),
}


@pytest.mark.parametrize(
    ("function", "argument"),
    [(function, name) for function, (*_, names) in SIGNATURES.items() for name in names],
)
def test_types_that_are_wrong_are_refused_by_the_argument_s_name(
    function: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beir.write(tmp_path, [{"_id": "d", "text": ""}], [], ""))
    call, right, names = SIGNATURES[function]
    for wrong in WRONG:
        if wrong is None and (function, argument) in OPTIONAL:
            continue
        if any(wrong is fine for fine in ALLOWED.get((function, argument), ())):
            continue
        values = [
            wrong if name == argument else value for name, value in zip(names, right, strict=True)
        ]
        with pytest.raises(InputError, match=argument):
            call(*values)


def test_pairs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        pairs().name = "other"  # type: ignore[misc]


def test_an_empty_sentence_is_fine() -> None:
    assert pairs(sentence1=("", "", "")).sentence1 == ("", "", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence1": ("a", "b", "c", None)}, "sentence1[3]: got None, expected a str"),
        ({"sentence2": ("a", 7, "c")}, "sentence2[1]: got 7, expected a str"),
        ({"subsets": ("x", "y", 2012)}, "subsets[2]: got 2012, expected a str"),
        (
            {"sentence2": ("a", "b", "ab\ud800")},
            "sentence2[2]: got the lone surrogate '\\ud800' at index 2, expected valid Unicode",
        ),
        (
            {"sentence1": "abc"},
            "sentence1 is one str; expected a list of str",
        ),
        (
            {"sentence1": A[:2], "subsets": ("x",) * 4},
            "got 2 sentence1, 3 sentence2, 4 subsets, 3 scores, expected as many of each",
        ),
        (
            {"sentence1": A[:2], "sentence2": B[:2], "scores": np.array([1.0, 2.0])},
            "got 2 pairs, expected at least 3",
        ),
        (
            {"sentence1": (), "sentence2": (), "scores": np.empty(0)},
            "sentence1 is empty; expected at least one str",
        ),
        (
            {"scores": np.array([1.0, np.nan, 2.0])},
            "scores[1]: got nan, expected a finite number",
        ),
        (
            {"scores": np.array([1.0, 2.0, -np.inf])},
            "scores[2]: got -inf, expected a finite number",
        ),
        (
            {"scores": np.full(3, 2.5)},
            "got the score 2.5 for all 3 pairs, expected at least two different scores",
        ),
        (
            {"scores": np.array([[1], [2], [3]], dtype=np.float32)},
            "scores is one ndarray; expected a list of numbers (of a table one column, such as "
            'df["text"])',
        ),
    ],
)
def test_pairs_refuse(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        pairs(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("abc", B, SCORES), "sentence1 is one str; expected a list of str"),
        ((A, None, SCORES), "sentence2 is one NoneType; expected a list of str"),
        ((A, B, 3.5), "scores is one float; expected a list of numbers"),
        ((A, B, SCORES, "xyz"), "subsets is one str; expected a list of str"),
        (([*A, None], B, SCORES), "sentence1[3]: got None, expected a str"),
        ((A, B, [1, None, 2]), "scores[1]: got None, expected a number"),
        ((A, B, [1, 2, "3"]), "scores[2]: got '3', expected a number"),
        ((A, B, [True, 2, 3]), "scores[0]: got True, expected a number"),
        ((A, B, [1, 1j, 3]), "scores[1]: got 1j, expected a number"),
        ((A, B, [1, 2, float("nan")]), "scores[2]: got nan, expected a finite number"),
        ((A, B, [1, 2, 10**5000]), "scores[2]: got inf, expected a finite number"),
    ],
)
def test_from_columns_refuses(columns: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Pairs.from_columns("p", *columns)
    assert str(caught.value) == message


def test_pair_columns_must_differ() -> None:
    with pytest.raises(InputError, match="column names: got column 'a' twice, expected each"):
        PairColumns(sentence1="a", sentence2="a")


# What is written reads back


def write_tsv(table: dict[str, Sequence[Any]]) -> bytes:
    records = [tuple(table), *zip(*table.values(), strict=True)]
    return "".join("\t".join(map(str, record)) + "\n" for record in records).encode()


def write_csv(table: dict[str, Sequence[Any]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([tuple(table), *zip(*table.values(), strict=True)])
    return file.getvalue().encode()


def write_jsonl(table: dict[str, Sequence[Any]]) -> bytes:
    rows = (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_parquet(table: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({name: pa.array(values) for name, values in table.items()}), file)
    return file.getvalue()


WRITERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    ".tsv": write_tsv,
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}

# Characters that a format cannot hold; csv reads NUL since Python 3.11.
EXCLUDED = {".tsv": "\t\n", ".csv": "\0" if sys.version_info < (3, 11) else ""}


def write(path: Path, table: dict[str, Any]) -> Path:
    zipped = path.suffix == ".gz"
    data = WRITERS[path.with_suffix("").suffix if zipped else path.suffix](table)
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


@pytest.mark.parametrize("suffix", READERS)
def test_texts_are_verbatim(suffix: str, tmp_path: Path) -> None:
    texts = [
        "",
        " a ",
        '"',
        '""a", b',
        "\\n",
        "\u2028\u2029\x85\x0b\x0c\x1c",
        "한국어 文 ع",
        "👩‍👩‍👧",
    ]
    if not suffix.startswith(".csv") or sys.version_info >= (3, 11):
        texts.append("\0")
    scores = range(len(texts))
    table = {"sentence1": texts, "sentence2": texts[::-1], "score": scores}
    got = read_pairs(write(tmp_path / f"pairs{suffix}", table))
    assert list(got.sentence1) == texts
    assert list(got.sentence2) == texts[::-1]
    assert got.scores.tolist() == list(scores)


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", READERS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_what_is_written_reads_back(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    excluded = EXCLUDED.get(suffix.removesuffix(".gz"), "")
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters=excluded)
    text = st.text(alphabet)
    number = st.floats(allow_nan=False, allow_infinity=False)
    row = st.tuples(text, text, text, number)
    rows = data.draw(st.lists(row, min_size=3).filter(lambda rows: len({r[3] for r in rows}) > 1))
    sentence1, sentence2, subsets, scores = zip(*rows, strict=True)
    # The score comes last: a text at the end of a TSV line would lose a final "\r".
    table = {"subset": subsets, "sentence1": sentence1, "id": scores, "sentence2": sentence2}
    path = tmp_path_factory.getbasetemp() / f"a.pair{suffix}"
    got = read_pairs(write(path, {**table, "score": scores}))

    assert got.name == "a.pair"
    assert got.sentence1 == sentence1
    assert got.sentence2 == sentence2
    assert got.subsets == subsets
    assert got.scores.tolist() == list(scores)


@pytest.mark.parametrize("suffix", READERS)
def test_columns_by_other_names(suffix: str, tmp_path: Path) -> None:
    table = {"score": B, "label": SCORES, "premise": A, "hypothesis": B, "source": ("x", "y", "x")}
    path = write(tmp_path / f"nli{suffix}", table)
    got = read_pairs(str(path), PairColumns("premise", "hypothesis", "label", "source"))
    assert (got.name, got.sentence1, got.sentence2) == ("nli", A, B)
    assert got.scores.tolist() == [1.0, 2.5, 4.0]
    assert got.subsets == ("x", "y", "x")
    assert read_pairs(path, PairColumns("premise", "hypothesis", "label")).subsets is None
    with pytest.raises(InputError, match="'source', expected 'genre' among them"):
        read_pairs(path, PairColumns("premise", "hypothesis", "label", "genre"))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_byte_order_mark_and_line_ends(
    suffix: str, bom: bytes, end: bytes, last: bool, tmp_path: Path
) -> None:
    table = {"score": SCORES, "sentence1": A, "sentence2": B}
    data = WRITERS[suffix](table).replace(b"\r\n", b"\n").replace(b"\n", end)
    path = tmp_path / f"pairs{suffix.upper()}"
    path.write_bytes(bom + (data if last else data.removesuffix(end)))
    got = read_pairs(path)
    assert (got.sentence1, got.sentence2, got.scores.tolist()) == (A, B, [1.0, 2.5, 4.0])


def test_tsv_strips_one_carriage_return_a_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"score\tsentence1\tsentence2\r\n1\ta\rb\tc\r\r\n2\t\t\r\n3\tx\ty")
    got = read_pairs(path)
    assert got.sentence1 == ("a\rb", "", "x")
    assert got.sentence2 == ("c\r", "", "y")


def test_csv_cells_have_no_size_limit_and_the_global_one_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = 'Ünï "x",\r\n' * 20_000
    got = read_pairs(
        write(
            tmp_path / "long.csv", {"sentence1": (long, *A), "sentence2": "wxyz", "score": "1234"}
        )
    )
    assert got.sentence1 == (long, *A)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("suffix", "cells"),
    [(".tsv", (" 1e0", "+2.50", "4 ")), (".jsonl", (1, 2.5, 4)), (".parquet", (1, 2.5, 4))],
)
def test_spellings_of_numbers(suffix: str, cells: Any, tmp_path: Path) -> None:
    path = write(tmp_path / f"pairs{suffix}", {"sentence1": A, "sentence2": B, "score": cells})
    assert read_pairs(path).scores.tolist() == [1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(9, 3)], ids=str
)
def test_parquet_score_types(kind: pa.DataType, tmp_path: Path) -> None:
    table = {"sentence1": A, "sentence2": B, "score": pa.array([3.0, 0.0, 5.0]).cast(kind)}
    assert read_pairs(write(tmp_path / "pairs.parquet", table)).scores.tolist() == [3.0, 0.0, 5.0]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_parquet_string_types(kind: pa.DataType, tmp_path: Path) -> None:
    table = {"sentence1": pa.array(A, kind), "sentence2": pa.array(B, kind), "score": SCORES}
    got = read_pairs(write(tmp_path / "pairs.parquet", table))
    assert (got.sentence1, got.sentence2) == (A, B)


# Errors. Files are read by a relative name, so that a message is the same everywhere.


def parquet(**changes: Any) -> bytes:
    return write_parquet({"sentence1": A, "sentence2": B, "score": SCORES, **changes})


def jsonl(*lines: str) -> bytes:
    good = '{"sentence1": "a", "sentence2": "b", "score": 1}'
    return "\n".join([good, *lines]).encode()


def jsonl_row(**changes: Any) -> str:
    return json.dumps({"sentence1": "a", "sentence2": "b", "score": 2, **changes})


ROWS = "a\tb\t1\nc\td\t2\n"
NOT_UTF8 = (
    "expected UTF-8 (a Korean file may be CP949: say --encoding cp949, in Python encoding='cp949')"
)
NOT_CLOSED = "expected each opening quote to have its closing one at the end of the cell"
ALL_SUFFIXES = ".tsv, .tsv.gz, .csv, .csv.gz, .jsonl, .jsonl.gz, .parquet"

BAD_JSON_CELLS: list[tuple[dict[str, Any], str]] = [
    ({"sentence1": None}, "'sentence1': got None, expected a str"),
    ({"sentence2": 12}, "'sentence2': got 12, expected a str"),
    (
        {"sentence2": "ok \ud800!"},
        "'sentence2': got the lone surrogate '\\ud800' at index 3, expected valid Unicode",
    ),
    ({"score": "2.5"}, "'score': got '2.5', expected a number"),
    ({"score": True}, "'score': got True, expected a number"),
    ({"score": None}, "'score': got None, expected a number"),
    ({"score": [2]}, "'score': got [2], expected a number"),
    ({"score": float("nan")}, "'score': got nan, expected a finite number"),
    ({"score": 10**400}, "'score': got inf, expected a finite number"),
]
BAD_PARQUET_TYPES: list[tuple[dict[str, Any], str]] = [
    ({"sentence1": [1, 2, 3]}, "'sentence1': got type int64, expected strings"),
    ({"sentence2": [b"a", b"b", b"c"]}, "'sentence2': got type binary, expected strings"),
    ({"sentence2": [None] * 3}, "'sentence2': got type null, expected strings"),
    ({"subset": [1, 2, 3]}, "'subset': got type int64, expected strings"),
    ({"score": ["1", "2", "3"]}, "'score': got type string, expected numbers"),
    ({"score": [True, False, True]}, "'score': got type bool, expected numbers"),
    (
        {"score": pa.array([1, 2, 3], pa.timestamp("ns"))},
        "'score': got type timestamp[ns], expected numbers",
    ),
]
BAD_PARQUET_CELLS: list[tuple[dict[str, Any], str]] = [
    ({"sentence1": ["a", None, "c"]}, "'sentence1': got None, expected a str"),
    ({"subset": ["a", None, "c"]}, "'subset': got None, expected a str"),
    ({"score": [1, None, 3]}, "'score': got None, expected a number"),
    ({"score": [1, np.nan, 3]}, "'score': got nan, expected a finite number"),
]
BROKEN: list[tuple[str, bytes, str]] = [
    # the file
    ("x.txt", b"a", f"x.txt: got an unknown suffix, expected one of {ALL_SUFFIXES}"),
    ("x", b"a", f"x: got an unknown suffix, expected one of {ALL_SUFFIXES}"),
    (
        "x.parquet.gz",
        gzip.compress(parquet()),
        f"x.parquet.gz: got an unknown suffix, expected one of {ALL_SUFFIXES}",
    ),
    *[
        (name, data, f"{name}: got an empty file, expected rows")
        for name, data in [
            ("x.tsv", b""),
            ("x.csv", b"\xef\xbb\xbf"),
            ("x.jsonl", b""),
            ("x.jsonl.gz", gzip.compress(b"")),
            ("x.tsv.gz", b""),
            ("x.parquet", b""),
        ]
    ],
    *[
        (f"x{suffix}", data, f"x{suffix}, line 2: got byte 0xc7 at offset 3, {NOT_UTF8}")
        for suffix in (".tsv", ".csv", ".jsonl")
        for data in ["ab\n한국어".encode("cp949")]
    ],
    # the header
    (
        "x.tsv",
        b"sentence1\tb\tscore\n",
        "x.tsv, header (line 1): got columns 'sentence1', 'b', 'score', "
        "expected 'sentence2' among them",
    ),
    (
        "x.csv",
        b"sentence1;sentence2\n",
        "x.csv, header (line 1): got columns 'sentence1;sentence2', "
        "expected 'sentence1' among them",
    ),
    *[
        (f"x{suffix}", b"\r\n\n", f"x{suffix}: got an empty file, expected rows")
        for suffix in (".tsv", ".csv", ".jsonl")
    ],
    (
        "x.tsv",
        b'"sentence1"\t"sentence2"\t"score"\n',
        "x.tsv, header (line 1): got columns '\"sentence1\"', '\"sentence2\"', '\"score\"', "
        "expected 'sentence1' among them (TSV is read without quoting: save as CSV)",
    ),
    (
        "x.csv",
        b"anchor,positive,negative\na,b,c\n",
        "x.csv, header (line 1): got columns 'anchor', 'positive', 'negative', expected "
        "'sentence1' among them (train bi-encoder --loss in-batch reads anchors and positives)",
    ),
    *[
        (
            name,
            data,
            f"{name}: got {encoding} by its byte order mark, expected UTF-8 "
            f"(say --encoding {encoding.lower()}, in Python encoding='{encoding.lower()}')",
        )
        for encoding in ("UTF-16", "UTF-32")
        for data in [f"{HEADER}{ROWS}".encode(encoding)]
        for name, data in [("x.tsv", data), ("x.csv.gz", gzip.compress(data)), ("x.jsonl", data)]
    ],
    (
        "x.tsv",
        b"sentence1\tid\tid\n",
        "x.tsv, header (line 1): got column 'id' twice, expected each name once",
    ),
    (
        "x.csv",
        b"score,score\n",
        "x.csv, header (line 1): got column 'score' twice, expected each name once",
    ),
    # rows
    ("x.tsv", f"{HEADER}{ROWS}e\tf".encode(), "x.tsv, row 3 (line 4): got 2 cells, expected 3"),
    (
        "x.tsv",
        f"{HEADER}a\tb\t1\t\n{ROWS}".encode(),
        "x.tsv, row 1 (line 2): got 4 cells, expected 3",
    ),
    (
        "x.tsv",
        f"{HEADER}\n{ROWS}\n\nx\n".encode(),
        "x.tsv, row 3 (line 7): got 1 cells, expected 3",
    ),
    (
        "x.csv",
        b'sentence1,sentence2,score\n"a\n\na",b,1\nc,d\n',
        "x.csv, row 2 (line 5): got 2 cells, expected 3",
    ),
    (
        "x.csv",
        b"sentence1,sentence2,score\n\na,b,1\n\r\nc,d\n",
        "x.csv, row 2 (line 5): got 2 cells, expected 3",
    ),
    (
        "x.csv",
        b'sentence1,sentence2,score\n"a\n",b,1\n"c,d,2\ne,f,3\n',
        f"x.csv, row 2 (line 4): got malformed CSV (unexpected end of data), {NOT_CLOSED}",
    ),
    (
        "x.csv",
        b'sentence1,sentence2,score\na,"b"b,1\n',
        f"x.csv, row 1 (line 2): got malformed CSV (',' expected after '\"'), {NOT_CLOSED}",
    ),
    (
        "x.csv",
        b'"sentence1',
        f"x.csv, header (line 1): got malformed CSV (unexpected end of data), {NOT_CLOSED}",
    ),
    # scores as text
    *[
        (
            "pairs.tsv",
            f"{HEADER}{ROWS}e\tf\t{cell}\n".encode(),
            f"pairs.tsv, row 3 (line 4), column 'score': got {got}",
        )
        for cell, got in [
            ("abc", "'abc', expected a number"),
            ("", "'', expected a number"),
            ("3,5", "'3,5', expected a number"),
            ("1_0", "'1_0', expected a number"),
            ("NaN", "nan, expected a finite number"),
            ("-inf", "-inf, expected a finite number"),
            ("1e999", "inf, expected a finite number"),
        ]
    ],
    (
        "x.csv",
        b'sentence1,sentence2,score\n"a\n",b,1\nc,d,"e\nf"\n',
        "x.csv, row 2 (line 4), column 'score': got 'e\\nf', expected a number",
    ),
    # JSONL
    (
        "x.jsonl",
        jsonl('{"sentence1": a}'),
        "x.jsonl, row 2 (line 2): got no JSON (Expecting value at character 15), "
        "expected an object",
    ),
    (
        "x.jsonl",
        jsonl("", " \t", "x", jsonl_row()),
        "x.jsonl, row 2 (line 4): got no JSON (Expecting value at character 1), expected an object",
    ),
    ("x.jsonl", jsonl("[1, 2]"), "x.jsonl, row 2 (line 2): got [1, 2], expected a JSON object"),
    ("x.jsonl", jsonl("null"), "x.jsonl, row 2 (line 2): got None, expected a JSON object"),
    (
        "x.jsonl",
        jsonl('{"score": 1, "score": 2}'),
        "x.jsonl, row 2 (line 2): got unusable JSON (a key is given twice), expected an object",
    ),
    (
        "x.jsonl",
        jsonl('{"score": 1, "sentence1": "a"}'),
        "x.jsonl, row 2 (line 2): got columns 'score', 'sentence1', "
        "expected 'sentence2' among them",
    ),
    *[
        ("x.jsonl", jsonl(jsonl_row(**cell)), f"x.jsonl, row 2 (line 2), column {message}")
        for cell, message in BAD_JSON_CELLS
    ],
    (
        "x.jsonl",
        "\n".join([jsonl_row(subset="x"), jsonl_row(subset=2012)]).encode(),
        "x.jsonl, row 2 (line 2), column 'subset': got 2012, expected a str",
    ),
    (
        "x.jsonl",
        jsonl(jsonl_row(subset="x")),
        "x.jsonl, row 1 (line 1), column 'subset': got None, expected a str",
    ),
    # Parquet
    (
        "x.parquet",
        write_parquet({"sentence1": A, "sentence2": B, "stars": SCORES}),
        "x.parquet: got columns 'sentence1', 'sentence2', 'stars', expected 'score' among them",
    ),
    *[
        ("x.parquet", parquet(**column), f"x.parquet, column {message}")
        for column, message in BAD_PARQUET_TYPES
    ],
    *[
        ("x.parquet", parquet(**column), f"x.parquet, row 2, column {message}")
        for column, message in BAD_PARQUET_CELLS
    ],
    # all pairs
    ("x.tsv", HEADER.encode(), "x.tsv: got 0 pairs, expected at least 3"),
    ("x.tsv", f"{HEADER}{ROWS}".encode(), "x.tsv: got 2 pairs, expected at least 3"),
    ("x.jsonl", jsonl(jsonl_row()), "x.jsonl: got 2 pairs, expected at least 3"),
    (
        "x.parquet",
        parquet(score=[2.5, 2.5, 2.5]),
        "x.parquet: got the score 2.5 for all 3 pairs, expected at least two different scores",
    ),
]


@pytest.mark.parametrize(
    ("name", "data", "message"), BROKEN, ids=[message[:70] for *_, message in BROKEN]
)
def test_a_broken_file_is_refused_in_one_sentence(
    name: str, data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_pairs(name)
    assert str(caught.value) == message


# What a library says of a broken file changes with its version: here the start and end are ours.
TSV_GZ, CSV_GZ = gzip.compress(b"sentence1\t" * 99), gzip.compress(b"sentence1,")
NOT_UTF8_STRING = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
UNREADABLE = [
    *[
        (name, data, f"{name}: got broken gzip (", "), expected a whole .gz file")
        for name, data in [
            ("plain.tsv.gz", b"sentence1"),
            ("cut.tsv.gz", TSV_GZ[:-9]),
            ("changed.csv.gz", CSV_GZ[:10] + b"\xff" * 20),
            ("checksum.csv.gz", CSV_GZ[:-8] + b"\xff" * 8),
        ]
    ],
    *[
        (name, jsonl(line), f"{name}, row 2 (line 2): got unusable JSON (", "), expected an object")
        for name, line in [("deep.jsonl", "[" * 200_000), ("digits.jsonl", "9" * 5000)]
    ],
    *[
        (name, data, f"{name}: cannot be read as Parquet (", "); expected a whole file")
        for name, data in [
            ("text.parquet", b"sentence1\tsentence2\tscore\n"),
            ("cut.parquet", parquet()[:-5]),
            ("footer.parquet", parquet()[:-60] + b"\xff" * 52 + parquet()[-8:]),
            ("latin.parquet", parquet(sentence1=NOT_UTF8_STRING)),
        ]
    ],
]


@pytest.mark.parametrize(
    ("name", "data", "start", "end"), UNREADABLE, ids=[name for name, *_ in UNREADABLE]
)
def test_an_unreadable_file_is_refused_with_the_library_s_reason(
    name: str,
    data: bytes,
    start: str,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_pairs(name)
    message = str(caught.value)
    assert message.startswith(start)
    assert message.endswith(end)
    assert len(message) > len(start + end)
    assert "\n" not in message


def test_a_duplicated_parquet_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(A)] * 2, ["sentence1"] * 2), path)
    with pytest.raises(InputError, match="parquet: got column 'sentence1' twice, expected each"):
        read_pairs(path)


@pytest.mark.parametrize("name", ["folder", "folder.tsv", "folder.parquet"])
def test_a_directory_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: got a directory, expected a file$"):
        read_pairs(tmp_path / name)


@pytest.mark.parametrize("suffix", READERS)
def test_a_missing_file_is_refused(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot be read \(No such file or directory\); expected a"
    ):
        read_pairs(tmp_path / f"missing{suffix}")


def test_importing_loads_no_heavy_library() -> None:
    code = (
        "import sys, embedkit.data.pairs; "
        "print({'torch', 'pandas', 'scipy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


# Real files


@pytest.mark.filterwarnings("error")
def test_stsb_test(shared_data: SharedData) -> None:
    """Some of its sentences are in quotes, and that is no reason for a warning."""
    got = read_pairs(shared_data("sts_en/stsb_test.tsv"))
    assert (got.name, len(got.scores), got.subsets) == ("stsb_test", 1379, None)
    assert got.sentence1[0] == "A girl is styling her hair."
    assert got.sentence2[0] == "A girl is brushing her hair."
    assert got.scores[0] == 2.5
    assert got.sentence2[-1] == "North Korea Delegation Meets With South Korean Officials"
    assert got.scores[-1] == 0
    assert any(text[0] == text[-1] == '"' for text in (*got.sentence1, *got.sentence2))


def test_korsts_train(shared_data: SharedData) -> None:
    got = read_pairs(shared_data("sts_ko/korsts_train.tsv.gz"))
    assert (got.name, len(got.scores), got.subsets) == ("korsts_train", 5749, None)
    assert (got.sentence1[0], got.scores[0]) == ("비행기가 이륙하고 있다.", 5)
    assert got.sentence1[-1] == "푸틴 대변인 : 도핑 혐의는 근거 없는 것으로 보인다."


def test_sts12_test(shared_data: SharedData) -> None:
    got = read_pairs(shared_data("sts_en/sts12_test.tsv"))
    assert (got.name, len(got.scores)) == ("sts12_test", 3108)
    assert got.subsets is not None
    assert Counter(got.subsets) == {
        "MSRpar": 750,
        "MSRvid": 750,
        "SMTeuroparl": 459,
        "OnWN": 750,
        "SMTnews": 399,
    }
