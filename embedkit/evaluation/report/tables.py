"""The title and the table of a report: recipes compared, heads, or one recipe's data sets."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import delta, interval, number, p_value, percent
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.report.locale import catalogue, kind_words
from embedkit.evaluation.results import (
    CROSS_ENCODER,
    MAIN_METRICS,
    OTHER_METRICS,
    RETRIEVAL,
    Result,
)
from embedkit.evaluation.significance import significant
from embedkit.retrieval.fusion import BM25

# A narrow terminal drops these columns, in this order, and keeps the first score. With several data
# sets, the average is in the group `_SCORE`, and their own scores are in `_DATASET`.
_RECIPE, _OTHER, _SHARE, _SUBSET, _P, _INTERVAL, _DATASET, _DIFFERENCE, _SCORE = range(9)
_ONE_BY_ONE = (_DATASET, _SCORE)


def title_of(report: ReportData, language: str) -> str:
    """The model, and what the numbers are."""
    words, model = catalogue(language)["table"], report.model
    several = len(report.compared) > 1
    if not several:
        metrics = [words[task.metrics] for task in report.tasks]
    elif report.has_heads:
        metrics = [words["correlations"]]
    else:
        metrics = [words[task.title] for task in report.tasks]
    key = {CROSS_ENCODER: "of_cross_encoder", "head": "of_head"}.get(report.decided_by, "of_recipe")
    if report.compared[next(iter(report.compared))] is None:  # BM25
        key = "compared"
    described = words["model" if model["recipe"] is not None else "model_without_recipe"]
    return words["compared" if several else key].format(
        model=report.model_names if report.models else described.format(**model),
        recipe=next(iter(report.compared)),
        metrics=words["and"].join(metrics),
    )


def table_of(report: ReportData, language: str) -> Grid:
    """The table that people see."""
    words = catalogue(language)["table"]
    if report.has_heads:
        return _heads(report, words)
    if len(report.compared) > 1:
        return _comparison(report, words, kind_words(report.kind, language)["kind"])
    return _evaluation(report, words)


class _Column(NamedTuple):
    dataset: str
    similarity: str
    name: str
    group: int


def _comparison(report: ReportData, words: dict[str, str], kind: str) -> Grid:
    """A row for each candidate, best first; columns for each data set and similarity.

    Of several data sets the intervals and the differences are those of averages; `*` marks a
    significant difference on one of them.
    """
    columns: dict[_Column, str] = {}
    cells: dict[tuple[str, _Column], str] = {}
    values: dict[_Column, dict[str, float]] = {}
    rows = report.deciding(*MAIN_METRICS)
    several_sets = len({row.dataset for row in rows}) > 1
    several_similarities = len({row.similarity for row in rows}) > 1
    several_suites = len({row.dataset for row in report.averages}) > 1
    against = report.row_of(report.baseline or "")

    def add(row: Result, name: str, cell: str, group: int, *heading: str) -> None:
        column = _Column(row.dataset, row.similarity, name, group)
        columns.setdefault(column, " ".join(heading))
        cells[row.candidate, column] = cell
        if group in _ONE_BY_ONE and row.value is not None:
            values.setdefault(column, {})[row.candidate] = row.value

    def add_row(row: Result, names: list[str], *, tested: bool) -> None:
        """The score, and where it is what is tested its interval and its difference."""
        aggregation = [] if row.aggregation == "all" else [f"({row.aggregation})"]
        mark = "*" * (not tested and significant(row.baseline))
        heading = [*(names or [words[row.metric]]), *aggregation]
        score = _SCORE if tested else _DATASET
        add(row, "", number(row.value, row.metric) + mark, score, *heading)
        if several_similarities:  # the rest is too wide for a terminal, and stands in report.html
            return
        if tested:
            add(row, "95 %", interval(row.ci95, row.metric), _INTERVAL, *names, words["interval"])
        for name, subset in (row.subsets or {}).items():
            add(row, name, number(subset.value, row.metric), _SUBSET, *names, name)
        if tested and report.baseline is not None:
            shown, p = words["baseline"], ""
            if row.candidate != against:
                shown = delta(row.baseline, row.metric)
                p = p_value(row.baseline, report.run_metadata.resamples)
            suite = names if several_suites else []
            add(row, "difference", shown, _DIFFERENCE, *suite, f"vs {against}")
            add(row, "p", p, _P, *suite, words["p_holm"])
            add(row, "share", percent(row.best_share), _SHARE, words["best_in"])

    if report.kind == "model":
        for row in rows:
            add(replace(row, dataset=""), "recipe", row.recipe, _RECIPE, words["recipe"])
    for row in rows:
        names = [row.dataset] * several_sets + [row.similarity] * several_similarities
        names += [words[row.metric]] * (len(report.tasks) > 1)
        add_row(row, names, tested=not several_sets)
    if not several_similarities:
        for row in report.averages if several_sets else ():
            suite = words["average"] if row.dataset == "all" else row.dataset
            add_row(row, [suite], tested=True)
        for row in () if several_sets else report.deciding(*OTHER_METRICS):
            add(row, row.metric, number(row.value, row.metric), _OTHER, words[row.metric])
    groups = [
        tuple(at for at, column in enumerate(columns, start=1) if column.group == group)
        for group in range(_SCORE + 1)
    ]
    expendable: list[tuple[int, ...]] = []
    for group, of_group in enumerate(groups):
        one_by_one = [(at,) for at in reversed(of_group)]
        expendable += one_by_one if group in _ONE_BY_ONE else [of_group]
    best, ranking = report.best_name, report.rows()
    return Grid(
        (kind, *columns.values(), ""),
        tuple(
            (
                name,
                *(cells.get((name, column), "-") for column in columns),
                _marks(report, name, words),
            )
            for name in ranking
        ),
        texts=frozenset({0, len(columns) + 1, *groups[_RECIPE]}),
        bold=None if best is None else ranking.index(best),
        expendable=tuple(group for group in expendable if group)[:-1],
        equals=tuple(", ".join(report.equals(name)) for name in ranking),
        highest=frozenset(
            (ranking.index(name), at)
            for at, column in enumerate(columns, start=1)
            for name, value in values.get(column, {}).items()
            if name in ranking and value == max(values[column].values())
        ),
    )


def _heads(report: ReportData, words: dict[str, str]) -> Grid:
    """Rows for each recipe, best first: the similarities, a line on the cosine, and its head."""
    present = {row.metric for row in report.results}
    metrics = (*CORRELATIONS, *(name for name in ("mse", "f1") if name in present))
    tested = ("spearman", "mse")
    by_row: dict[tuple[str, str, str], dict[str, Result]] = {}
    for row in report.deciding(*metrics):
        by_row.setdefault((row.candidate, row.dataset, row.similarity), {})[row.metric] = row
    rows = []
    for recipe in report.rows():
        for key, of in ((key, of) for key, of in by_row.items() if key[0] == recipe):
            values = [number(of[name].value if name in of else None, name) for name in metrics]
            deltas = [delta(of[name].difference, name, "") if name in of else "" for name in tested]
            marks = _marks(report, recipe, words) if key[2] == "head" else ""
            rows.append((*key, *values, *deltas, marks))
    names = [words[metric] for metric in metrics]
    differences = [words["line_difference"].format(metric=words[metric]) for metric in tested]
    headings = (words["recipe"], words["dataset"], words["by"], *names, *differences, "")
    others = [words[metric] for metric in ("f1", "mse") if metric in present]
    same = [words["dataset"]] * (len(report.datasets) == 1)
    first = (words["pearson"], differences[1], *same, *others, differences[0])
    return Grid(
        headings,
        tuple(rows),
        texts=frozenset({0, 1, 2, len(headings) - 1}),
        expendable=tuple((headings.index(name),) for name in first),
    )


def _evaluation(report: ReportData, words: dict[str, str]) -> Grid:
    """A row for each data set, similarity and aggregation, and for each subset."""
    metrics = tuple(dict.fromkeys(row.metric for row in report.results))
    units = words[report.tasks[0].units if len(report.tasks) == 1 else "n"]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in report.results:
        similarity = row.similarity if report.compared[row.candidate] else BM25
        key = (row.dataset, f"{row.n:,}", similarity, row.aggregation)
        rows.setdefault(key, {})[row.metric] = number(row.value, row.metric)
        if row.aggregation == "all":
            within = words["in"].format(dataset=row.dataset)
            for name, part in (row.subsets or {}).items():
                key = (f"  {name}", f"{part.n:,}", row.similarity, within)
                rows.setdefault(key, {})[row.metric] = number(part.value, row.metric)
    # Retrieval sets have no subsets.
    named = 3 if report.tasks == [RETRIEVAL] else 4
    headings = (words["dataset"], units, words["similarity"], words["aggregation"])[:named]
    constant = [at for at in range(2, named) if len({key[at] for key in rows}) == 1]
    others = range(named + len(metrics) - 1, named, -1)
    return Grid(
        (*headings, *(words[metric] for metric in metrics)),
        tuple(
            (*key[:named], *(cells.get(metric, "") for metric in metrics))
            for key, cells in rows.items()
        ),
        texts=frozenset({0, 2, 3} & {*range(named)}),
        expendable=tuple((at,) for at in (*others, 1, *constant[::-1])),
    )


def _marks(report: ReportData, recipe: str, words: dict[str, str]) -> str:
    return ", ".join(words[mark] for mark in report.marks(recipe))
