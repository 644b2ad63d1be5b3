"""Tables in terminals of any width."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from embedkit import Report, compare
from embedkit.evaluation.report.grid import Grid

GRID = Grid(
    ("recipe", "spearman", "en", "ko", "pearson"),
    (("mean", "82.03", "52.04", "12.98", "37.22"), ("한국어", "1", "2", "3", "4")),
    frozenset({0}),
    expendable=((4,), (2, 3)),
)
WIDTH = 1 + (3 + 6) + (3 + 8) + (3 + 5) + (3 + 5) + (3 + 7)


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (WIDTH, []),
        (WIDTH - 1, ["pearson"]),
        (WIDTH - 10, ["pearson"]),
        (WIDTH - 11, ["en", "ko", "pearson"]),
        (1, ["en", "ko", "pearson"]),
    ],
)
def test_what_does_not_fit_is_left_out_in_order(width: int, left_out: list[str]) -> None:
    grid, gone = GRID.fitting(width)
    assert gone == left_out
    assert grid.headings == tuple(name for name in GRID.headings if name not in left_out)
    assert grid.rows[1] == ("한국어", *"1234"[: len(grid.headings) - 1])
    assert grid.texts == {0}


def test_korean_letters_are_two_columns_wide() -> None:
    grid = Grid(("recipe", "x"), (("문장" * 5, "1"),), frozenset({0}), expendable=((1,),))
    assert grid.fitting(1 + 23 + 4)[1] == []
    assert grid.fitting(1 + 23 + 3)[1] == ["x"]


@pytest.fixture(scope="module")
def report() -> Report:
    return compare("minilm", "first_look", recipes=["mean/normalize", "cls", "mean@1,-1"])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (160, None),
        (110, "best in, pearson"),
        (80, "95 %, en, ko, best in, pearson"),
    ],
)
def test_a_comparison_is_never_folded_at_80_columns(
    report: Report, width: int, left_out: str | None
) -> None:
    text = StringIO()
    report.print(Console(file=text, width=width))
    rows = [line for line in text.getvalue().splitlines() if line.startswith("│")]
    assert [re.split(" *│ *", row)[1] for row in rows] == ["mean/normalize", "cls", "mean@1,-1"]
    said = re.search(r"Too narrow for: (.*)\. report.md and report.json", text.getvalue())
    assert (said and said[1]) == left_out
