"""Retrieval sets: the record, and folders in BEIR's layout."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import beir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedkit import InputError, RetrievalSet, read_retrieval

DOCUMENTS = (
    {"_id": "d1", "title": "Cats", "text": "A cat  sleeps.", "metadata": {"url": "x"}},
    {"_id": "d2", "title": "", "text": "A dog runs."},
    {"_id": "d10", "text": "한국어 문서", "title": "제목"},
    {"_id": "d3", "text": ""},
)
QUERIES = (
    {"_id": "q1", "text": "Which animal sleeps?"},
    {"_id": "q2", "text": "not judged"},
    {"_id": "q3", "text": "runs"},
)
QRELS = "q3\td2\t2\nq1\td1\t1\nq1\td2\t0\nq1\td10\t-1\n"
HEADERS = {
    "BEIR's header": "query-id\tcorpus-id\tscore\n",
    "another": "query_id\tdoc_id\tscore\n",
    "none": "",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("qrels_name", ["qrels/test.tsv", "qrels_test.tsv"])
def test_a_folder(header: str, packed: bool, qrels_name: str, tmp_path: Path) -> None:
    qrels = HEADERS[header] + QRELS
    folder = tmp_path / "animals.v2"
    beir.write(folder, DOCUMENTS, QUERIES, qrels, qrels_name=qrels_name, packed=packed)
    data = read_retrieval(folder)
    assert data.name == "animals.v2"
    assert data.documents == {
        "d1": "Cats A cat  sleeps.",
        "d2": "A dog runs.",
        "d10": "제목 한국어 문서",
        "d3": "",
    }
    assert data.queries == {row["_id"]: row["text"] for row in QUERIES}
    assert data.judgements == {"q3": {"d2": 2}, "q1": {"d1": 1, "d2": 0, "d10": -1}}
    assert data.document_ids == ("d3", "d2", "d10", "d1")
    assert data.texts == {
        "query": ("runs", "Which animal sleeps?"),
        "document": ("", "A dog runs.", "제목 한국어 문서", "Cats A cat  sleeps."),
    }
    assert data.own_documents == frozenset()


def test_the_shared_scifact(shared_data: Callable[[str], Path]) -> None:
    data = read_retrieval(shared_data("retrieval/scifact"))
    assert (data.name, len(data.queries), len(data.documents)) == ("scifact", 1109, 5183)
    assert (len(data.judgements), sum(map(len, data.judgements.values()))) == (300, 339)
    assert data.documents["4983"].startswith(
        "Microstructural development of human newborn cerebral white matter assessed in vivo by "
        "diffusion tensor magnetic resonance imaging. Alterations of the architecture"
    )


# Wrong folders

LAYOUT = "corpus.jsonl, queries.jsonl and qrels/test.tsv or qrels_test.tsv (each also .gz)"


@pytest.mark.parametrize(
    ("missing", "names"),
    [
        ("corpus.jsonl", "corpus.jsonl"),
        ("queries.jsonl", "queries.jsonl"),
        ("qrels/test.tsv", "qrels/test.tsv or qrels_test.tsv"),
    ],
)
def test_a_missing_file(missing: str, names: str, tmp_path: Path) -> None:
    (beir.write(tmp_path, DOCUMENTS, QUERIES, QRELS) / missing).unlink()
    with pytest.raises(InputError) as error:
        read_retrieval(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: got a folder without {names}, expected a retrieval set in BEIR's layout: "
        f"{LAYOUT}"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("qrels/test.tsv", "qrels_test.tsv"), ("corpus.jsonl", "corpus.jsonl.gz")],
)
def test_a_file_twice(first: str, second: str, tmp_path: Path) -> None:
    beir.write(tmp_path, DOCUMENTS, QUERIES, QRELS)
    (tmp_path / second).write_text("")
    message = f"{tmp_path}: got {first} and {second}, expected one of them"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        read_retrieval(tmp_path)


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "a document twice": (
        {"documents": [*DOCUMENTS, DOCUMENTS[1]]},
        "corpus.jsonl, row 5 (line 5), column '_id': got 'd2', which {folder}/corpus.jsonl, row 2 "
        "(line 2) has too, expected each id once",
    ),
    "a query twice": (
        {"queries": [*QUERIES, QUERIES[0]]},
        "queries.jsonl, row 4 (line 4), column '_id': got 'q1', which {folder}/queries.jsonl, row "
        "1 (line 1) has too, expected each id once",
    ),
    "a document without a text": (
        {"documents": [{"_id": "d1", "title": "Cats"}]},
        "corpus.jsonl, row 1 (line 1): got columns '_id', 'title', expected 'text' among them",
    ),
    "a title that is a number": (
        {"documents": [{"_id": "d1", "title": 1, "text": "a"}]},
        "corpus.jsonl, row 1 (line 1), column 'title': got 1, expected a str",
    ),
    "a text that is null": (
        {"documents": [{"_id": "d1", "title": None, "text": None}]},
        "corpus.jsonl, row 1 (line 1), column 'text': got None, expected a str",
    ),
    "an id that is a number": (
        {"queries": [{"_id": 1, "text": "a"}]},
        "queries.jsonl, row 1 (line 1), column '_id': got 1, expected a str",
    ),
    "no documents": ({"documents": []}, "corpus.jsonl: got an empty file, expected rows"),
    "no queries": ({"queries": []}, "queries.jsonl: got an empty file, expected rows"),
    "no qrels": ({"qrels": ""}, "qrels/test.tsv: got an empty file, expected rows"),
    "a header alone": (
        {"qrels": HEADERS["another"]},
        "qrels/test.tsv: got no relevant document for any query, expected at least one",
    ),
    "nothing is relevant": (
        {"qrels": "q1\td1\t0\n"},
        "qrels/test.tsv: got no relevant document for any query, expected at least one",
    ),
    "an unknown query": (
        {"qrels": HEADERS["another"] + QRELS + "q4\td1\t1\n"},
        "qrels/test.tsv, row 5 (line 6), column 'query_id': got 'q4', expected an _id of the "
        "queries",
    ),
    "unknown documents only": (
        {"qrels": "q1\td4\t1\nq1\td5\t1\nq1\td1\t0\n"},
        "qrels/test.tsv: got no relevant document for any query (2 relevant ones are not in the "
        "set), expected at least one",
    ),
    **{
        f"a score of {len(digits)} digits": (
            {"qrels": f"{QRELS}\nq1\td3\t{digits}\n"},
            f"qrels/test.tsv, row 5 (line 6), column 'score': got {reprlib.repr(digits)}, expected "
            "at most 18 digits",
        )
        for digits in ("1" + "0" * 18, "9" * 20, "9" * 400, "-" + "9" * 5000)
    },
    "a score that is none": (
        {"qrels": "q1\td1\t0.5\n"},
        "qrels/test.tsv, row 1 (line 1), column 'score': got '0.5', expected a whole number",
    ),
    "TREC's four columns": (
        {"qrels": "q1\t0\td1\t1\n"},
        "qrels/test.tsv, row 1 (line 1): got 4 cells, expected 'query-id', 'corpus-id', 'score'",
    ),
    "another header": (
        {"qrels": "query\tdoc\tscore\nq1\td1\t1\n"},
        "qrels/test.tsv, row 1 (line 1), column 'query-id': got 'query', expected an _id of the "
        "queries",
    ),
    "judged twice": (
        {"qrels": HEADERS["BEIR's header"] + QRELS + "q1\td1\t0\n"},
        "qrels/test.tsv, row 5 (line 6): got query 'q1' and document 'd1', which "
        "{folder}/qrels/test.tsv, row 2 (line 3) has too, expected each pair once",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file(kind: str, tmp_path: Path) -> None:
    changes, message = BAD_FILES[kind]
    beir.write(tmp_path, **{"documents": DOCUMENTS, "queries": QUERIES, "qrels": QRELS, **changes})
    with pytest.raises(InputError) as error:
        read_retrieval(tmp_path)
    assert str(error.value) == f"{tmp_path}/{message.format(folder=tmp_path)}"


@given(
    content=st.binary(max_size=80),
    name=st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels_test.tsv"]),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_any_bytes_are_read_or_named(content: bytes, name: str, tmp_path: Path) -> None:
    beir.write(tmp_path, DOCUMENTS, QUERIES, QRELS, qrels_name="qrels_test.tsv")
    (tmp_path / name).write_bytes(content)
    try:
        data = read_retrieval(tmp_path)
    except InputError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
    else:
        assert any(grade > 0 for judged in data.judgements.values() for grade in judged.values())


def test_data_empty_lines_and_null_titles_are_nothing(tmp_path: Path) -> None:
    """In every file of the folder, inside and at the end."""
    documents = [{"_id": "d1", "title": None, "text": "a"}, {"_id": "d2", "title": "b", "text": ""}]
    beir.write(
        tmp_path, documents, QUERIES, HEADERS["another"] + "q3\td2\t2\nq1\td1\t-1\nq1\td2\t0\n"
    )
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\n\r\n\n"))
    data = read_retrieval(tmp_path)
    assert data.documents == {"d1": "a", "d2": "b "}
    assert data.queries == {row["_id"]: row["text"] for row in QUERIES}
    assert data.judgements == {"q3": {"d2": 2}, "q1": {"d1": -1, "d2": 0}}


def test_data_in_another_encoding(tmp_path: Path) -> None:
    beir.write(tmp_path, DOCUMENTS, QUERIES, QRELS)
    want = read_retrieval(tmp_path)
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp949"))
    with pytest.raises(InputError, match=r"corpus.jsonl, line 3: .* say --encoding cp949"):
        read_retrieval(tmp_path)
    assert read_retrieval(tmp_path, encoding="cp949").documents == want.documents


def test_data_counts_what_is_absent_and_keeps_plain_integers() -> None:
    judgements = {
        "q1": {"d1": np.int64(2), "gone": np.int8(1), "lost": 0},
        "q2": {"d2": 0, "gone": -1},
        "q3": {"gone": 3},
    }
    queries, documents = dict.fromkeys(judgements, "q"), {"d1": "a", "d2": "b"}
    data = RetrievalSet("r", queries, documents, judgements)
    assert (data.missing_documents, data.queries_without_relevant) == (2, 1)
    assert json.dumps(data.judgements) == (
        '{"q1": {"d1": 2, "gone": 1, "lost": 0}, "q2": {"d2": 0, "gone": -1}, "q3": {"gone": 3}}'
    )


# The record


def retrieval_set(**changes: Any) -> RetrievalSet:
    fields = {
        "name": "r",
        "queries": {"q1": "a", "q2": "b"},
        "documents": {"d1": "c", "d2": "d"},
        "judgements": {"q2": {"d1": 1}},
        **changes,
    }
    return RetrievalSet(**fields)


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        retrieval_set().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": ["a"]}, "queries: got ['a'], expected a dict by id"),
        ({"documents": {1: "a"}}, "an id of documents: got 1, expected a str"),
        ({"documents": {"d1": None}}, "documents['d1']: got None, expected a str"),
        ({"queries": {"q2": "\ud800"}}, "queries['q2']: got the lone surrogate '\\ud800' at index"),
        ({"judgements": {"q3": {"d1": 1}}}, "judgements['q3']: got an unknown query, expected"),
        ({"judgements": {"q1": ["d1"]}}, "judgements['q1']: got ['d1'], expected a dict by id"),
        ({"judgements": {"q1": {"d3": 1}}}, "for any query (1 relevant ones are not in the set)"),
        ({"judgements": {"q1": {3: 1}}}, "a document's id in judgements['q1']: got 3, expected a"),
        ({"judgements": {"q1": {"d1": 10**18}}}, "judgements['q1']['d1']: got 1000000000000000000"),
        ({"judgements": {"q1": {"d1": 10**400}}}, "expected at most 18 digits"),
        ({"judgements": {"q1": {"d1": None}}}, "judgements['q1']['d1']: got None, expected an int"),
        ({"name": None}, "name: got None, expected a str"),
        ({"queries": np.array(["a"])}, "queries: got array(['a'], dtype='<U1'), expected a dict"),
        ({"documents": (text for text in "ab")}, "documents: got <generator"),
        ({"judgements": {"q1": {"d1": True}}}, "judgements['q1']['d1']: got True, expected an int"),
        ({"judgements": {"q1": {"d1": 0.5}}}, "judgements['q1']['d1']: got 0.5, expected an int"),
        ({"judgements": {}}, "got no relevant document for any query, expected at least one"),
        ({"judgements": {"q1": {"d1": 0}}}, "got no relevant document for any query, expected at"),
    ],
)
def test_the_record_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        retrieval_set(**changes)
