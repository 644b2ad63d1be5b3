"""The title and the table of a report: recipes compared, heads, or one recipe's data sets."""

from __future__ import annotations

from typing import NamedTuple

from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import delta, interval, number, percent
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.results import (
    CROSS_ENCODER,
    MAIN_METRICS,
    OTHER_METRICS,
    PAIRS,
    RETRIEVAL,
    Result,
)

# What a narrow terminal goes without, in this order; other columns stay.
_OTHER, _SHARE, _INTERVAL, _SUBSET, _P, _KEPT = range(6)


def title_of(report: ReportData) -> str:
    """The model, and what the numbers are."""
    model, tasks = report.model, report.tasks
    described = f"{model['name']} ({model['family']}, {model['layers']} layers"
    described += ", no recipe of its own)" if model["recipe"] is None else ")"
    if len(report.compared) > 1:
        titles = " and ".join(task.title for task in tasks)
        return f"{described}: {'correlations' if report.has_heads else titles} x 100"
    (recipe,) = report.compared
    metrics = " and ".join(task.metrics for task in tasks)
    if report.decided_by == CROSS_ENCODER:
        return f"{described}, a cross-encoder that reads {recipe}: {metrics} x 100"
    by = ", by its head" if report.decided_by == "head" else ""
    return f"{described}, recipe {recipe}{by}: {metrics} x 100"


def table_of(report: ReportData) -> Grid:
    """The table that people see."""
    if report.has_heads:
        return _heads(report)
    return _comparison(report) if len(report.compared) > 1 else _evaluation(report)


class _Column(NamedTuple):
    dataset: str
    similarity: str
    name: str
    group: int


def _comparison(report: ReportData) -> Grid:
    """A row for each recipe, best first; columns for each data set and similarity."""
    columns: dict[_Column, str] = {}
    cells: dict[tuple[str, _Column], str] = {}
    rows = report.deciding(*MAIN_METRICS)
    several_sets = len({row.dataset for row in rows}) > 1
    several_similarities = len({row.similarity for row in rows}) > 1
    several_tasks = len(report.tasks) > 1

    def add(row: Result, name: str, cell: str, group: int = _KEPT, *, heading: str) -> None:
        column = _Column(row.dataset, row.similarity, name, group)
        columns.setdefault(column, heading)
        cells[row.recipe, column] = cell

    for row in rows:
        names = [row.dataset] * several_sets + [row.similarity] * several_similarities
        names += [row.metric] * several_tasks
        value_names = [*names, *[row.aggregation] * bool(row.subsets)]
        add(row, "", number(row.value, row.metric), heading=" ".join(value_names) or row.metric)
        if several_similarities:  # the rest is too wide for a terminal, and stands in report.html
            continue
        shown = interval(row.ci95, row.metric)
        add(row, "95 %", shown, _INTERVAL, heading=" ".join([*names, "95 %"]))
        for name, subset in (row.subsets or {}).items():
            shown = number(subset.value, row.metric)
            add(row, name, shown, _SUBSET, heading=" ".join([*names, name]))
        if report.baseline is not None and report.tasks == [PAIRS] and not several_sets:
            is_baseline = row.recipe == report.baseline
            held = row.baseline
            shown = "baseline" if is_baseline else delta(held, row.metric)
            add(row, "difference", shown, heading=f"- {report.baseline}")
            p = "-" if held is None or held.p_holm is None else f"{held.p_holm:.4f}"
            add(row, "p", "" if is_baseline else p, _P, heading="p (Holm)")
            add(row, "share", percent(row.best_share), _SHARE, heading="best in")
    if not several_similarities and not several_tasks:
        for row in report.deciding(*OTHER_METRICS):
            heading = " ".join([*[row.dataset] * several_sets, row.metric])
            add(row, row.metric, number(row.value, row.metric), _OTHER, heading=heading)
    groups = [
        tuple(at for at, column in enumerate(columns, start=1) if column.group == group)
        for group in range(_KEPT)
    ]
    best, ranking = report.best_name, report.ranking()
    return Grid(
        ("recipe", *columns.values(), ""),
        tuple(
            (
                recipe,
                *(cells.get((recipe, column), "-") for column in columns),
                _marks(report, recipe),
            )
            for recipe in ranking
        ),
        texts=frozenset({0, len(columns) + 1}),
        bold=None if best is None else ranking.index(best),
        expendable=tuple(group for group in groups if group),
    )


def _heads(report: ReportData) -> Grid:
    """Rows for each recipe, best first: the similarities, a line on the cosine, and its head."""
    present = {row.metric for row in report.results}
    metrics = (*CORRELATIONS, *(name for name in ("mse", "f1") if name in present))

    def key(row: Result) -> tuple[str, str, str]:
        return row.recipe, row.dataset, row.similarity

    by_metric = {(*key(row), row.metric): row for row in report.deciding(*metrics)}
    rows = []
    for recipe in report.ranking():
        for row in report.deciding("spearman"):
            if row.recipe != recipe:
                continue
            by = {metric: by_metric.get((*key(row), metric)) for metric in metrics}
            values = [number(one.value if one else None, metric) for metric, one in by.items()]
            deltas = [
                delta(one.difference if one else None, metric, missing="")
                for metric, one in by.items()
                if metric in ("spearman", "mse")
            ]
            marks = _marks(report, recipe) if row.similarity == "head" else ""
            rows.append((*key(row), *values, *deltas, marks))
    headings = ("recipe", "dataset", "by", *metrics)
    headings = (*headings, "spearman: head - line", "mse: head - line", "")
    return Grid(
        headings,
        tuple(rows),
        texts=frozenset({0, 1, 2, len(headings) - 1}),
        expendable=tuple((headings.index(name),) for name in ("pearson", "mse: head - line")),
    )


def _evaluation(report: ReportData) -> Grid:
    """A row for each data set, similarity and aggregation, and for each subset."""
    metrics = tuple(dict.fromkeys(row.metric for row in report.results))
    units = report.tasks[0].units if len(report.tasks) == 1 else "n"
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in report.results:
        key = (row.dataset, f"{row.n:,}", row.similarity, row.aggregation)
        rows.setdefault(key, {})[row.metric] = number(row.value, row.metric)
        if row.aggregation == "all":
            for name, part in (row.subsets or {}).items():
                key = (f"  {name}", f"{part.n:,}", row.similarity, f"in {row.dataset}")
                rows.setdefault(key, {})[row.metric] = number(part.value, row.metric)
    # Retrieval sets have no subsets.
    named = 3 if report.tasks == [RETRIEVAL] else 4
    return Grid(
        (*("dataset", units, "similarity", "aggregation")[:named], *metrics),
        tuple(
            (*key[:named], *(cells.get(metric, "") for metric in metrics))
            for key, cells in rows.items()
        ),
        texts=frozenset({0, 2, 3} & {*range(named)}),
    )


def _marks(report: ReportData, recipe: str) -> str:
    return ", ".join(mark.replace("_", " ") for mark in report.marks(recipe))
