"""A report as columns of stable names, for CSV and pandas: a row for each result."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.results import Difference, Result

_NONE = Difference("", None)


def _interval(ends: tuple[float, float] | None, end: int) -> float | None:
    return None if ends is None else ends[end]


# Values as in report.json, not x 100; `line_*` is a head's difference to a line on the cosine.
_COLUMNS: dict[str, tuple[str, Callable[[Result], Any]]] = {
    "model": ("str", lambda row: row.model),
    "recipe": ("str", lambda row: row.recipe),
    "dataset": ("str", lambda row: row.dataset),
    "metric": ("str", lambda row: row.metric),
    "similarity": ("str", lambda row: row.similarity),
    "aggregation": ("str", lambda row: row.aggregation),
    "n": ("int64", lambda row: row.n),
    "value": ("float64", lambda row: row.value),
    "ci95_low": ("float64", lambda row: _interval(row.ci95, 0)),
    "ci95_high": ("float64", lambda row: _interval(row.ci95, 1)),
    "baseline": ("str", lambda row: row.baseline and row.baseline.to),
    "difference": ("float64", lambda row: (row.baseline or _NONE).value),
    "difference_low": ("float64", lambda row: _interval((row.baseline or _NONE).ci95, 0)),
    "difference_high": ("float64", lambda row: _interval((row.baseline or _NONE).ci95, 1)),
    "p": ("float64", lambda row: (row.baseline or _NONE).p),
    "p_holm": ("float64", lambda row: (row.baseline or _NONE).p_holm),
    "line_difference": ("float64", lambda row: (row.difference or _NONE).value),
    "line_low": ("float64", lambda row: _interval((row.difference or _NONE).ci95, 0)),
    "line_high": ("float64", lambda row: _interval((row.difference or _NONE).ci95, 1)),
    "best_share": ("float64", lambda row: row.best_share),
    "ties": ("float64", lambda row: row.ties),
    "equal_to": ("str", lambda row: row.equal_to),
    "reason": ("str", lambda row: row.reason),
    "candidate": ("str", lambda row: row.candidate),
}


def report_columns(report: ReportData) -> dict[str, tuple[str, list[Any]]]:
    """The columns of `docs/reference/report-json.md` by name, each with its dtype; None is missing.

    Averages over several data sets come last, with `average` as their aggregation.
    """
    rows = [*report.results]
    if len(report.datasets) > 1:
        rows += [replace(row, aggregation="average") for row in report.averages]
    rows = [row if row.model else replace(row, model=report.model["name"]) for row in rows]
    return {name: (dtype, [of(row) for row in rows]) for name, (dtype, of) in _COLUMNS.items()}


def report_csv(report: ReportData) -> str:
    """`report_columns` as CSV (RFC 4180 with plain newlines); a missing value is empty."""
    columns = report_columns(report)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(values for _, values in columns.values()), strict=True))
    return text.getvalue()
