"""Every renderer of a report, of every kind of result: missing values, hostile names, failures."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run
from helpers.terminal import rows_of
from rich.console import Console

from embedkit import Pairs, Recipe, Report
from embedkit.evaluation.error_analysis import PairPredictions, analyse_errors
from embedkit.evaluation.report.locale import LANGUAGES
from embedkit.evaluation.results import Difference, Result, SubsetValue
from embedkit.evaluation.run_metadata import PairsUsed, RetrievalUsed, RunMetadata, Search
from embedkit.evaluation.verdict import Verdict

PAIRS = Pairs.from_columns(
    "d", ["a b", "c", "d e f", "g"], ["a", "c d", "e", "h"], [0.0, 1.0, 2.5, 5.0]
)
SUBSETS = {"en": SubsetValue(4, 0.3), "ko": SubsetValue(5, None, "2 pairs are too few")}
NO_POOLER = "the checkpoint has no pooler weights"


def result(recipe: str, metric: str = "spearman", value: float | None = 0.5, **more: Any) -> Result:
    given = {"similarity": "cosine", "aggregation": "all", "ties": 0.1, **more}
    return Result(recipe, "d", 9, given.pop("similarity"), metric, value=value, **given)


def report(*results: Result, **more: Any) -> Report:
    recipes = dict.fromkeys(row.recipe for row in results)
    retrieval = any(row.metric == "ndcg@10" for row in results)
    shown = results[-1].recipe  # the last recipe has predictions of its own
    predictions = [] if retrieval else [PairPredictions(PAIRS, {shown: np.arange(4.0)})]
    used: PairsUsed | RetrievalUsed = PairsUsed("d", "scored", 9, 8, 0.25, 0.5, "0" * 64)
    if retrieval:
        used = RetrievalUsed("d", "scored", 9, 20, 3, 0, 0, 29, 0.25, "0" * 64)
    metadata = RunMetadata(
        prompt="",
        similarities=("cosine",),
        aggregation="all",
        head=None,
        threshold=None,
        resamples=10_000,
        seed=0,
        device="cpu",
        precision="float32",
        max_length=128,
        model_sha256="1" * 64,
        data=(used,),
        search=Search("flat", 1000, "query: ", "") if retrieval else None,
        versions={"embedkit": "1"},
        date="2026-03-01T09:30:00+09:00",
    )
    fields: dict[str, Any] = {
        "model": {"name": "m", "family": "bert", "layers": 2, "width": 4, "recipe": None},
        "compared": {name: Recipe.parse(name) for name in recipes},
        "fitted": {},
        "decided_by": "cosine",
        "run_metadata": metadata,
        "sentences": 18,
        "forward_passes": 8,
        "verdict": Verdict("single", shown, score=0.5, metrics=("Spearman",)),
        "truncated": 2,
        "seconds": {"encode": 1.0, "score": 1.0},
        "pair_predictions": tuple(predictions),
        "error_analyses": tuple(analyse_errors(of, {}, shown) for of in predictions),
    }
    return Report(results=results, **{**fields, **more})


class Case(NamedTuple):
    """A report, and the cells of its rows in the table and in the page (before its marks)."""

    report: Report
    table: list[list[str]]
    page: list[list[str]]
    note: str = ""


INTERVAL: dict[str, Any] = {"ci95": (0.4, 0.6)}
CASES = {
    "one recipe": Case(
        report(result("mean", **INTERVAL), result("mean", "pearson", 0.25)),
        [["d", "9", "cosine", "all", "50.00", "25.00"]],
        [["mean", "50.00", "[40.0, 60.0]", "25.00", "10.0 %"]],
    ),
    "one recipe without a value": Case(
        report(result("mean", value=None, reason="the scores are all the same", ties=None)),
        [["d", "9", "cosine", "all", "-"]],
        [["mean", "-", "", "-"]],
        "mean: no value (the scores are all the same).",
    ),
    "no interval": Case(
        report(result("mean", reason="some resamples have no value"), result("cls", value=0.2)),
        [["mean", "50.00", "", "best"], ["cls", "20.00", "", ""]],
        [["mean", "50.00", "", "10.0 %"], ["cls", "20.00", "", "10.0 %"]],
        "mean: no interval (some resamples have no value).",
    ),
    "no value anywhere": Case(
        report(result("mean", value=None, reason=NO_POOLER), result("cls", value=None)),
        [["mean", "-", "", ""], ["cls", "-", "", ""]],
        [["mean", "-", "", "10.0 %"], ["cls", "-", "", "10.0 %"]],
        f"mean: no value ({NO_POOLER}).",
    ),
    "subsets, and a recipe without": Case(
        report(
            result("mean", subsets=SUBSETS, **INTERVAL),
            result("pooler", value=None, reason=NO_POOLER, ties=None),
        ),
        [
            ["mean", "50.00", "[40.0, 60.0]", "30.00", "-", "best"],
            ["pooler", "-", "", "-", "-", ""],
        ],
        [
            ["mean", "50.00", "[40.0, 60.0]", "30.00", "-", "10.0 %"],
            ["pooler", "-", "", "-", "-", "-"],
        ],
        f"pooler: no value ({NO_POOLER}).",
    ),
    "a recipe without subsets first": Case(
        report(
            result("pooler", value=None, reason=NO_POOLER, ties=None),
            result("mean", subsets=SUBSETS, **INTERVAL),
        ),
        [
            ["mean", "50.00", "[40.0, 60.0]", "30.00", "-", "best"],
            ["pooler", "-", "", "-", "-", ""],
        ],
        [
            ["mean", "50.00", "[40.0, 60.0]", "30.00", "-", "10.0 %"],
            ["pooler", "-", "", "-", "-", "-"],
        ],
    ),
    "a baseline, and one without a difference": Case(
        report(
            result("mean", **INTERVAL),
            result("cls", value=0.4, baseline=Difference("mean", -0.1, (-0.2, 0.05), 0.3, 0.6)),
            result("max", value=None, baseline=Difference("mean", None, reason="max has no value")),
            baseline="mean",
        ),
        [
            ["mean", "50.00", "[40.0, 60.0]", "baseline", "", "-", "best"],
            ["cls", "40.00", "", "-10.00 [-20.00, +5.00]", "0.6000", "-", ""],
            ["max", "-", "", "-", "-", "-", ""],
        ],
        [
            ["mean", "50.00", "[40.0, 60.0]", "", "", "-", "10.0 %"],
            ["cls", "40.00", "", "-10.00 [-20.00, +5.00]", "0.6000", "-", "10.0 %"],
            ["max", "-", "", "-", "-", "-", "10.0 %"],
        ],
        "p-values are two-sided and Holm-corrected over the recipes.",
    ),
    "retrieval": Case(
        report(
            *(
                result("mean", metric, value, ties=None, **INTERVAL)
                for metric, value in (("ndcg@10", 0.5), ("recall@100", 0.75), ("map", None))
            ),
        ),
        [["d", "9", "cosine", "50.00", "75.00", "-"]],
        [["mean", "50.00", "[40.0, 60.0]", "75.00", "-"]],
        "d: exact search ranks 20 documents for each query, to a depth of 1,000.",
    ),
    "retrieval without a value": Case(
        report(
            result("mean", "ndcg@10", 0.5, ties=None, **INTERVAL),
            result("mean", "map", 0.25, ties=None),
            result("pooler", "ndcg@10", None, ties=None, reason=NO_POOLER),
        ),
        [["mean", "50.00", "[40.0, 60.0]", "25.00", "best"], ["pooler", "-", "", "-", ""]],
        [["mean", "50.00", "[40.0, 60.0]", "25.00"], ["pooler", "-", "", "-"]],
        f"pooler: no value ({NO_POOLER}).",
    ),
    "heads": Case(
        report(
            *(
                result("mean", metric, value, similarity=by, difference=difference)
                for by, difference in (
                    ("line", None),
                    ("head", Difference("line", 0.1, (0.05, 0.2))),
                )
                for metric, value in (("spearman", 0.5), ("mse", 1.25))
            ),
            result("pooler", value=None, reason=NO_POOLER),
            decided_by="head",
        ),
        [
            ["mean", "d", "line", "50.00", "-", "1.250", "", "", ""],
            [
                *("mean", "d", "head", "50.00", "-", "1.250"),
                *("+10.00 [+5.00, +20.00]", "+0.100 [+0.050, +0.200]", "best"),
            ],
            ["pooler", "d", "cosine", "-", "-", "-", "", "", ""],
        ],
        [
            ["mean", "head", "50.00", "", "1.250", "10.0 %"],
            ["mean", "line", "50.00", "", "1.250", "10.0 %"],
            ["pooler", "cosine", "-", "", "-", "10.0 %"],
        ],
        "Differences of heads are to a linear regression on the cosine. Both are fitted on the "
        "training pairs; "
        "the 95 % interval comes from a paired bootstrap.",
    ),
    "cross-encoder": Case(
        report(
            result("cls", similarity="cross-encoder", **INTERVAL),
            result("cls", "mse", None, similarity="cross-encoder"),
            decided_by="cross-encoder",
        ),
        [["d", "9", "cross-encoder", "all", "50.00", "-"]],
        [["cls", "50.00", "[40.0, 60.0]", "-", "10.0 %"]],
        "8 pairs were scored, both sentences in one pass; 2 of them (25.0 %) were truncated to 128 "
        "tokens.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_missing_values_in_the_terminal_and_in_markdown(name: str) -> None:
    case = CASES[name]
    text = StringIO()
    case.report.print(Console(file=text, width=200))
    rows = rows_of(text.getvalue())[1 : 1 + len(case.table)]
    assert rows == [[cell.strip() for cell in row if cell] for row in case.table]
    assert case.note in " ".join(text.getvalue().split())
    markdown = case.report.to_markdown()
    lines = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
    assert [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines] == case.table
    assert case.note in markdown


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CASES)
def test_missing_values_in_the_page(name: str, language: str) -> None:
    case = CASES[name]
    page = case.report.to_html(language).partition('<script id="data"')[0]
    rows = re.findall(r"<tr>\s*(<td.*?)\s*</tr>", page, re.DOTALL)
    found = [re.findall(r"<td[^>]*>(.*?)(?: <span.*)?</td>", row) for row in rows]
    assert found == case.page
    notes = case.report.notes_in(language)
    assert all(html.escape(note, quote=False) in html.unescape(page) for note in notes)
    if language == "en":
        assert case.note in " ".join(notes)


@pytest.mark.parametrize("name", CASES)
def test_missing_values_in_json(name: str) -> None:
    case = CASES[name]
    results = json.loads(case.report.to_json())["results"]
    assert [row["value"] for row in results] == [row.value for row in case.report.results]


HOSTILE = "<img src=x onerror=alert(1)> a|b *c* `d` [e](f) __g__ \\h & ~~i~~"


def test_markup_in_names_is_text_in_markdown() -> None:
    import markdown_it

    made = report(*(replace(result("mean_sqrt_len"), dataset=name) for name in (HOSTILE, "d")))
    made = replace(made, model={**made.model, "name": HOSTILE})
    page = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(made.to_markdown())
    assert html.escape(HOSTILE) in page
    assert f"<td>{html.escape(HOSTILE, quote=False)}</td>" in page
    assert set(re.findall(r"<(\w+)", page)) == {
        *("h1", "p", "table", "thead", "tr", "th", "tbody", "td", "ul", "li")
    }
    assert "mean_sqrt_len" in made.to_markdown()


# A renderer that fails


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16, pooler=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.tsv"
    rows = [(f"a {i} b", f"a {i % 3} c", str(i % 4), "en" if i % 2 else "ko") for i in range(20)]
    lines = ["\t".join(row) for row in [("sentence1", "sentence2", "score", "subset"), *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_missing_values_a_model_without_a_pooler_and_data_with_subsets(
    run: Run, bert: Path, data: Path, tmp_path: Path
) -> None:
    out, best = tmp_path / "out", tmp_path / "best"
    done = run("compare", data, "-m", bert, "--out", out, "--save-best", best)
    assert done.code == 0
    assert f"pooler: no value ({NO_POOLER})." in " ".join(done.out.split())
    assert sorted(path.name for path in out.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert (best / "modules.json").exists()


@pytest.mark.process
def test_a_reader_that_goes_away_loses_no_model(bert: Path, data: Path, tmp_path: Path) -> None:
    """As in `embedkit compare ... | head`."""
    best, reader = tmp_path / "best", os.pipe()
    os.close(reader[0])
    command = [sys.executable, "-m", "embedkit", "compare", data, "-m", bert, "--save-best", best]
    with os.fdopen(reader[1], "w") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (best / "modules.json").exists()


@pytest.mark.parametrize("broken", ["to_html", "to_markdown", "print"])
def test_a_renderer_that_fails_loses_no_result(
    broken: str, run: Run, bert: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise KeyError("en")

    monkeypatch.setattr(Report, broken, fail)
    out, best = tmp_path / "out", tmp_path / "best"
    done = run(*("compare", data, "-m", bert, "--out", out, "--save-best", best))
    name = {"to_html": "report.html", "to_markdown": "report.md", "print": "the table"}[broken]
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        f"error: failed to make {name} (KeyError: 'en'); the rest is complete"
    )
    written = {"report.html", "report.json", "report.md"} - {name}
    assert {path.name for path in out.iterdir()} == written
    assert json.loads((out / "report.json").read_text())["best"]
    assert (best / "modules.json").exists()
    assert ("mean_sqrt_len" in done.out) == (broken != "print")


def test_a_renderer_that_fails_does_so_after_the_results(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Report, "to_html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        CASES["one recipe"].report.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md"}
