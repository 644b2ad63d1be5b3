"""Tables in terminals of any width."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from helpers.terminal import rows_of
from rich.cells import cell_len
from rich.console import Console

from embedkit import Report, compare
from embedkit.evaluation.report.grid import Grid

GRID = Grid(
    ("recipe", "spearman", "en", "ko", "pearson"),
    (("mean", "82.03", "52.04", "12.98", "37.22"), ("한국어", "1", "2", "3", "4")),
    frozenset({0}),
    expendable=((4,), (2, 3)),
)
WIDTH = 6 + (2 + 8) + (2 + 5) + (2 + 5) + (2 + 7)


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (WIDTH, []),
        (WIDTH - 1, ["pearson"]),
        (WIDTH - 9, ["pearson"]),
        (WIDTH - 10, ["en", "ko", "pearson"]),
        (1, ["en", "ko", "pearson"]),
    ],
)
def test_what_does_not_fit_is_left_out_in_order(width: int, left_out: list[str]) -> None:
    grid, gone = GRID.fitting(width)
    assert gone == left_out
    assert grid.headings == tuple(name for name in GRID.headings if name not in left_out)
    assert grid.rows[1][:2] == ("한국어", "1")
    assert grid.texts == {0}


def test_korean_letters_are_two_columns_wide() -> None:
    grid = Grid(("recipe", "x"), (("문장" * 5, "1"),), frozenset({0}), expendable=((1,),))
    assert grid.fitting(20 + 2 + 1)[1] == []
    assert grid.fitting(20 + 2)[1] == ["x"]


@pytest.fixture(scope="module")
def report() -> Report:
    return compare("minilm", "first_look", recipes=["mean/normalize", "cls", "mean@1,-1"])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (160, "spearman|95 %|en|ko|vs mean/normalize|p (Holm)|best in|pearson"),
        (83, "spearman|95 %|vs mean/normalize|p (Holm)"),
        (73, "spearman|95 %|vs mean/normalize"),
        (60, "spearman|vs mean/normalize"),
        (40, "spearman"),
    ],
)
def test_a_narrow_terminal_keeps_what_decides(report: Report, width: int, columns: str) -> None:
    text = StringIO()
    report.print(Console(file=text, width=width))
    header, *rows = rows_of(text.getvalue())
    assert header == ["recipe", *columns.split("|")]
    assert [row[0] for row in rows[:3]] == ["mean/normalize", "cls", "mean@1,-1"]
    assert rows[0][-1] == "best, own"
    for row in rows[1:3]:
        if len(header) > 2:
            number = r"[+-]?\d+\.\d\d"
            assert any(re.fullmatch(rf"{number} \[{number}, {number}\]", cell) for cell in row)
    left_out = [name for name in report.grid().headings if name not in [*header, ""]]
    told = re.search(r"Too narrow for: (.*)\. The Markdown form", " ".join(text.getvalue().split()))
    assert (told[1] if told else "") == ", ".join(left_out)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("similarities", "columns"),
    [
        (
            ["cosine"],
            ["first_look_en|average|vs mean/normalize", "average|vs mean/normalize", "average"],
        ),
        (["cosine", "dot"], ["first_look_en cosine|first_look_en dot", "first_look_en cosine"]),
    ],
)
def test_of_several_sets_the_average_goes_last(similarities: list[str], columns: list[str]) -> None:
    """It is what the rows are sorted by and what the verdict is about."""
    sets = ["first_look_en", "first_look_ko"]
    recipes = ["mean/normalize", "cls"]
    grid = compare("minilm", sets, recipes, similarities=similarities).grid()
    shown = [grid.fitting(width)[0].headings[1:-1] for width in range(150)]
    steps = dict.fromkeys("|".join(shown_columns) for shown_columns in reversed(shown))
    assert list(steps)[-len(columns) :] == columns


@pytest.mark.thorough
@pytest.mark.parametrize("width", [80, 60, 40])
def test_korean_columns_are_aligned(report: Report, width: int) -> None:
    text = StringIO()
    report.print(Console(file=text, width=width), "ko")
    lines = text.getvalue().splitlines()
    rule = next(at for at, line in enumerate(lines) if line and set(line) == {"─"})
    assert cell_len(lines[rule]) <= width
    assert lines[rule - 1].startswith("레시피 ")
    ends = {
        cell_len(line[: match.end()])
        for line in lines[rule + 1 : rule + 4]
        if (match := re.search(r" \d\d\.\d\d(?= )", line))
    }
    assert len(ends) == 1
    assert ends == {cell_len(lines[rule - 1].partition("Spearman")[0]) + 8}


def test_a_long_recipe_is_folded_and_its_score_is_not() -> None:
    grid = Grid(
        ("recipe", "spearman", ""),
        (("mean@1,-1/whiten:256/normalize+", "82.03", "best, own"),),
        frozenset({0, 2}),
    )
    text = StringIO()
    grid.print(Console(file=text, width=40))
    assert "82.03" in text.getvalue()
    assert max(map(cell_len, text.getvalue().splitlines())) <= 40
    shown = "".join(line[:20].strip() for line in text.getvalue().splitlines()[2:])
    assert "mean@1,-1/whiten:256/normalize+" in shown.replace(" ", "")
