"""Reports as LaTeX, CSV and the other formats: read back, with hostile names."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.command import Run, refused
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from embedkit import InputError, Report, compare
from embedkit.cli import choices
from embedkit.evaluation.report.grid import Grid, in_latex

pytestmark = pytest.mark.thorough  # the report of two models

HOSTILE = [
    *("50 % & more_of {this} #1", r"C:\new~home^2 $x$", "a<b>c|d", "한국어_모델 100%", '"quoted"'),
    *("mean@1,-1/whiten:256", "* star", "", "[x]"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("models")
    tiny_model = tiny.make_bert(folder / "50%_모델", layers=1, width=16)
    other = tiny.make_bert(folder / "other", layers=1, width=32, seed=1)
    recipes = ["mean", "cls@0"]
    data = ["first_look_en", "first_look_ko"]
    return compare([other, tiny_model], data, recipes, show_progress=False)


def table_of(latex: str) -> list[list[str]]:
    """The cells of a tabular, as a parser of LaTeX reads them."""
    nodes, *_ = LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    (tabular,) = (node for node in nodes if isinstance(node, LatexEnvironmentNode))
    assert tabular.environmentname == "tabular"
    inner = "".join(node.latex_verbatim() for node in tabular.nodelist[1:])
    inner = re.sub(r"\\(top|mid|bottom)rule\n", "", inner)
    to_text = LatexNodes2Text(math_mode="text", keep_comments=False).latex_to_text
    rows = [row for row in re.split(r" ?\\\\\n", inner) if row.strip()]
    return [[to_text(cell).strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows]


def test_latex_is_read_back(report: Report) -> None:
    for language in ("en", "ko"):
        grid = report.grid(language)
        head, *rows = table_of(report.to_latex(language))
        assert head == [cell.strip() for cell in grid.headings]
        shown = [[re.sub(r"\*$", "^*", cell) for cell in row] for row in grid.rows]
        for cells, equals in zip(shown, grid.equals, strict=True):
            cells[0] += f" = {equals}" * bool(equals)
        assert rows == shown
    comments = [line for line in report.to_latex().splitlines() if line.startswith("%")]
    assert comments[0] == f"% {report.verdict}"
    assert r"% \usepackage{booktabs}" in comments


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    to_text = LatexNodes2Text(math_mode="text").latex_to_text
    assert to_text(in_latex(text)).replace("ˆ", "^") == text
    grid = Grid((text, "x"), ((text, "-0.5"),), frozenset({0}), highest=frozenset({(0, 1)}))
    read = [[cell.replace("ˆ", "^") for cell in row] for row in table_of(grid.latex())]
    assert read == [[text.strip(), "x"], [text.strip(), "-0.5"]]


def test_the_highest_value_is_bold_and_marks_are_raised() -> None:
    grid = Grid(
        ("model", "d", "e"),
        (("a", "1.00", "2.00*"), ("b", "3.00*", "-1.00")),
        frozenset({0}),
        highest=frozenset({(1, 1), (0, 2)}),
    )
    assert grid.latex().splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"model & d & e \\",
        r"\midrule",
        r"a & 1.00 & \textbf{2.00$^{*}$} \\",
        r"b & \textbf{3.00$^{*}$} & $-$1.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_bold_cells_are_the_highest_of_each_column(report: Report) -> None:
    grid = report.grid()
    rows = [grid.rows[row][0] for row in range(len(grid.rows))]
    for column, dataset in ((1, "first_look_en"), (2, "first_look_ko")):
        values = {x.candidate: x.value for x in report.deciding("spearman") if x.dataset == dataset}
        best = max(x for x in values.values() if x is not None)
        assert {rows[row] for row, at in grid.highest if at == column} == {
            name for name in rows if values[name] == best
        }


def test_csv_has_every_value(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(rows) == len(report.results) + len(report.averages)
    for row, result in zip(rows, (*report.results, *report.averages), strict=True):
        assert (row["candidate"], row["dataset"]) == (result.candidate, result.dataset)
        assert (row["model"], row["recipe"]) == (result.model, result.recipe)
        assert row["value"] == ("" if result.value is None else repr(result.value))
        delta = result.baseline
        assert row["difference"] == (repr(delta.value) if delta and delta.value is not None else "")
    assert {row["aggregation"] for row in rows[len(report.results) :]} == {"average"}


def test_dataframe_and_csv_are_the_same(report: Report) -> None:
    pd = pytest.importorskip("pandas", reason="not installed: pandas")
    read = pd.read_csv(io.StringIO(report.to_csv()))
    frame = report.to_dataframe()
    assert [*read] == [*frame]
    assert read["value"].tolist() == pytest.approx(frame["value"].tolist(), nan_ok=True)
    assert read["candidate"].tolist() == frame["candidate"].tolist()


def test_the_command_prints_each_format(run: Run, tmp_path: Path) -> None:
    bert = tiny.make_bert(tmp_path / "bert", layers=1, width=16)
    base = ("compare", "first_look_en", "-m", bert, "--recipes", "mean cls")
    shown: dict[str, Any] = {}
    for name in choices.FORMATS:
        done = run(*base, "--format", name)
        assert (done.code, done.err) == (0, "")
        shown[name] = done.out
    assert shown["markdown"].startswith("# Keep mean")
    assert table_of(shown["latex"])[0][:2] == ["recipe", "spearman"]
    assert next(csv.DictReader(io.StringIO(shown["csv"])))["recipe"] == "mean"
    assert json.loads(shown["json"])["results"] == run(*base, "--json").json["results"]
    assert "─" in shown["table"]
    korean = run(*base, "--format", "latex", "--lang", "ko").out
    assert table_of(korean)[0][:2] == ["레시피", "Spearman"]
    out = tmp_path / "out"
    latex = run(*base, "--format", "latex", "--out", out).out
    assert latex.rstrip().endswith(shown["latex"].rstrip().splitlines()[-1])
    assert (out / "report.html").exists()
    for options, problem in (
        (("--format", "pdf"), "--format is 'pdf'; expected one of table, markdown, latex, csv"),
        (("--format", "csv", "--json"), "got --json and --format csv; expected one of them"),
    ):
        assert refused(run(*base, *options)).startswith(problem)


def test_an_unknown_format(report: Report) -> None:
    assert report.to_format("table") == str(report)
    with pytest.raises(InputError, match="unknown format 'pdf'; choose from table, markdown"):
        report.to_format("pdf")
    with pytest.raises(InputError, match="unknown language"):
        replace(report).to_latex("de")
