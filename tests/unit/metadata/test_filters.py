"""Filters against SQLite, and what is said of wrong ones."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
import pytest
from helpers.conditions import CELLS, DAYS, ROWS, TEXTS, conditions, quoted, table_of
from hypothesis import HealthCheck, example, given, settings

from embedkit import InputError, VectorIndex
from embedkit.metadata.filter_language import as_filter


def by_sqlite(rows: list[dict[str, Any]], condition: str) -> list[int]:
    """The rows by SQLite; a list is a table of its own, as SQLite has none."""
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA case_sensitive_like = ON")
    database.execute(
        'CREATE TABLE t (id INTEGER, "text" TEXT, n INTEGER, x REAL, ok INTEGER, "날짜" TEXT, '
        "tags TEXT)"
    )
    database.create_function(
        "contains", 2, lambda text, tags: None if tags is None else text in tags.split("\x1f")[1:]
    )
    for number, row in enumerate(rows):
        tags = None if row["tags"] is None else "".join("\x1f" + tag for tag in row["tags"])
        day = row["날짜"] and str(row["날짜"])
        values = (number, row["text"], row["n"], row["x"], row["ok"], day, tags)
        database.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    for text in TEXTS:
        for no in ("", "NOT "):
            condition = condition.replace(
                f"{quoted(text)} {no}IN tags", f"{no}contains({quoted(text)}, tags)"
            )
    found = database.execute(f"SELECT id FROM t WHERE {condition} ORDER BY id")  # noqa: S608
    return [number for (number,) in found]


@pytest.mark.thorough
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, condition=conditions())
@example(rows=[dict.fromkeys(CELLS) | {"n": 2**53 + 1}], condition="n > 9007199254740992.0")
@example(rows=[dict.fromkeys(CELLS) | {"x": 2.0**53}], condition="x < 9007199254740993")
@example(rows=[dict.fromkeys(CELLS) | {"x": -0.0}], condition="x IN (0)")
@example(rows=[dict.fromkeys(CELLS) | {"text": "a\\b"}], condition="text LIKE 'a\\_'")
def test_filters_are_sqlites(rows: list[dict[str, Any]], condition: str) -> None:
    mask = as_filter(condition).mask(table_of(rows))  # type: ignore[union-attr]
    assert np.flatnonzero(mask).tolist() == by_sqlite(rows, condition), condition


ROW = {"text": "a", "n": 1, "x": 0.5, "ok": True, "날짜": DAYS[0], "tags": ["a"]}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "where, character 1: got the end, expected (, NOT, a column, a text in '...'"),
        ("n = 1 n", "where, character 7: got 'n', expected AND, OR, the end"),
        ("n = 1; n", "where, character 6: got '; n', expected AND, OR, the end"),
        ("n IN (1; 2)", "where, character 8: got '; 2)', expected ), a comma"),
        ("(n = 1", "where, character 7: got the end, expected )"),
        ("n == 1", "where, character 4: got '=', expected TRUE or FALSE, a number, a text in "),
        ('text = "a"', "where, character 8: got '\"a\"', expected TRUE or FALSE, a number"),
        ("n ! 1", "where, character 3: got '! 1', expected"),
        ("n = NULL", "where, character 5: got 'NULL', expected"),
        ("text = 'a", 'where, character 8: got "\'a", expected'),
        ("n = 1 OR m = 2", "where, character 10: got column 'm', expected one of 'text', 'n', 'x'"),
        ("n = '1'", "where, character 1: got '1' for 'n', expected integers"),
        ("text > 1", "where, character 1: got 1 for 'text', expected text"),
        ("ok = 1", "where, character 1: got 1 for 'ok', expected booleans"),
        ("n IN (1, TRUE)", "where, character 1: got TRUE for 'n', expected integers"),
        ("ok < TRUE", "where, character 1: got < for booleans, expected = or !="),
        ("날짜 > '2024-1-1'", "for '날짜', expected a date such as '2024-01-31'"),
        ("tags = 'a'", "where, character 1: got 'a' for 'tags', expected 'text' IN tags"),
        ("'a' IN text", "got IN for 'text', which has text, expected lists of texts"),
        ("n LIKE '1%'", "got LIKE for 'n', which has integers, expected text"),
        ("text LIKE 'a' ESCAPE 'xy'", "got ESCAPE 'xy', expected one character"),
        ("text LIKE 'ax' ESCAPE 'x'", "got a pattern that ends with its escape"),
        ("(" * 51 + "n = 1" + ")" * 51, "got 51 parentheses and NOTs inside one another"),
        ("NOT " * 51 + "n = 1", "got 51 parentheses and NOTs inside one another, expected at most"),
        ("text = '" + "가" * 1400 + "'", "where: got 4,209 bytes, expected at most 4,096"),
        (5, "where: got 5, expected a str"),
        (
            {"s": "\ud800"},
            "where, 's': got the lone surrogate '\\ud800' at index 0, expected valid",
        ),
        ({"s": ["a", "\ud800"]}, "where, 's': got the lone surrogate"),
        ({"m": 1}, "where: got column 'm', expected one of"),
        ({"n": float("nan")}, "where: got nan for 'n', expected integers"),
    ],
)
def test_wrong_conditions(condition: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        as_filter(condition).mask(table_of([ROW]))  # type: ignore[union-attr]
    assert message in str(error.value)


def test_the_longest_and_the_deepest_condition() -> None:
    table = table_of([ROW])
    for condition in (
        "(" * 50 + "n = 1" + ")" * 50,
        "NOT " * 50 + "n = 1",
        " OR ".join(["n=1"] * 585),
    ):
        assert as_filter(condition).mask(table).tolist() == [True]  # type: ignore[union-attr]


def test_conditions_from_values_need_no_quoting() -> None:
    hostile = "x' OR n = 1 OR text = '"
    table = table_of([ROW, ROW | {"text": hostile, "n": 2}, ROW | {"text": None, "n": None}])
    for where, rows in (
        ({"text": hostile}, [1]),
        ({"n": 1, "text": "a"}, [0]),
        ({"n": [2, 3]}, [1]),
        ({"n": np.array([2, 3]), "ok": np.True_}, [1]),
        ({"n": [np.int64(1)], "x": np.float32(0.5)}, [0]),
        ({"text": None}, [2]),
        ({"날짜": DAYS[0], "n": 2.0}, [1]),
    ):
        assert np.flatnonzero(as_filter(where).mask(table)).tolist() == rows  # type: ignore[union-attr]
    assert as_filter({}) is None


def test_id_and_text_of_a_row_are_columns_unless_the_metadata_have_them() -> None:
    index = VectorIndex.build(
        np.eye(3), ids=["a", "b", "c"], texts=["고양이", "개", "cat"], metadata={"text": [1, 2, 3]}
    )
    assert index.search(np.ones((1, 3)), where="id != 'b' AND text >= 2").ids == [["c"]]
