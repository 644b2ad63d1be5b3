"""`Report.to_dataframe`: the values of report.json in flat columns."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pytest
from helpers import tiny

from embedkit import Embedder, Report, compare

pytest.importorskip("pandas", reason="not installed: pandas")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    bert = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    recipes = ["mean", "mean/normalize", "cls"]
    return compare(Embedder(bert, device="cpu"), "first_look", recipes)


def test_values_are_those_of_report_json(report: Report) -> None:
    frame, results = report.to_dataframe(), json.loads(report.to_json())["results"]
    assert len(frame) == len(results) > 0
    for row, result in zip(frame.to_dict("records"), results, strict=True):
        baseline = result.get("baseline", {})
        for name in ("recipe", "dataset", "metric", "similarity", "aggregation", "n", "value"):
            assert row[name] == result[name]
        wanted = {
            "ci95_low": (result["ci95"] or [np.nan])[0],
            "ci95_high": (result["ci95"] or [np.nan])[-1],
            "difference": baseline.get("value"),
            "difference_low": (baseline.get("ci95") or [np.nan])[0],
            "difference_high": (baseline.get("ci95") or [np.nan])[-1],
            "p": baseline.get("p"),
            "p_holm": baseline.get("p_holm"),
            "best_share": result.get("best_share"),
        }
        got = [row[name] for name in wanted]
        np.testing.assert_array_equal(got, np.array([*wanted.values()], float))
        assert row["model"] == report.model["name"]
        for name, value in (("baseline", baseline.get("to")), ("equal_to", result.get("equal_to"))):
            assert row[name] == value if value else np.isnan(row[name])
    assert frame["equal_to"].notna().any()
    assert frame["p_holm"].notna().any()


def test_names_and_dtypes_stay(report: Report) -> None:
    frame = report.to_dataframe()
    dtypes = frame.dtypes.astype(str)
    assert dtypes["n"] == "int64"
    numbers = [name for name in frame if dtypes[name] == "float64"]
    assert numbers == [
        *("value", "ci95_low", "ci95_high", "difference", "difference_low", "difference_high"),
        *("p", "p_holm", "line_difference", "line_low", "line_high", "best_share", "ties"),
    ]
    texts = [name for name in frame if name not in numbers and name != "n"]
    assert texts == [
        *("model", "recipe", "dataset", "metric", "similarity", "aggregation"),
        *("baseline", "equal_to", "reason", "candidate"),
    ]
    assert len({dtypes[name] for name in texts}) == 1


def test_a_report_is_one_line(report: Report) -> None:
    assert repr(report) == f"Report({str(report.verdict)!r})"


@pytest.mark.parametrize("name", ["report-json.md", "report-json.ko.md"])
def test_columns_and_keys_are_documented(
    report: Report, name: str, pytestconfig: pytest.Config
) -> None:
    page = (pytestconfig.rootpath / "docs/reference" / name).read_text(encoding="utf-8")
    content = report.to_dict()
    rows = [*content["results"], *content["averages"]]
    undocumented = {*report.to_dataframe(), *content, *content["verdict"], *chain(*rows)}
    undocumented -= {"schema", "embedkit"}
    assert not [key for key in undocumented if f"`{key}`" not in page]
