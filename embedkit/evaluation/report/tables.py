"""A report's results as a table of texts, for terminals and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from embedkit.errors import printable
from embedkit.evaluation.correlation import CORRELATIONS
from embedkit.evaluation.results import MAIN, OTHERS, PAIRS, RETRIEVAL, Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from embedkit.evaluation.report.report import Report


@dataclass(frozen=True)
class Grid:
    """Cells as people read them.

    Attributes:
        headings: one a column.
        rows: of as many cells.
        texts: columns of words, which stand left; numbers stand right.
        bold: the row to point out.
        expendable: columns that a narrow terminal goes without, those of the first group first.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int]
    bold: int | None = None
    expendable: tuple[tuple[int, ...], ...] = ()

    def fitting(self, width: int) -> tuple[Grid, list[str]]:
        """This grid in a terminal of so many columns, and the headings that it goes without."""
        from rich.cells import cell_len

        widths = [
            3 + max(cell_len(printable(cells[at])) for cells in (self.headings, *self.rows))
            for at in self._places
        ]
        gone: list[int] = []
        for group in self.expendable:
            if 1 + sum(widths) - sum(widths[at] for at in gone) <= width:
                break
            gone += group
        kept = [place for place in self._places if place not in gone]

        def of(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cells[place] for place in kept)

        texts = frozenset(at for at, place in enumerate(kept) if place in self.texts)
        grid = Grid(of(self.headings), tuple(map(of, self.rows)), texts, self.bold)
        return grid, [self.headings[place] for place in sorted(gone)]

    def markdown(self) -> str:
        """A Markdown table."""
        rules = tuple("---" if place in self.texts else "---:" for place in self._places)
        lines = (self.headings, rules, *self.rows)
        return "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)

    def html(self) -> str:
        """A plain HTML table."""

        def row(cells: Iterable[str], tag: str, *, bold: bool = False) -> str:
            sides = ("left" if place in self.texts else "right" for place in self._places)
            start, end = ("<b>", "</b>") if bold else ("", "")
            return "".join(
                f'<{tag} style="text-align:{side}">{start}{escape(cell)}{end}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )

        body = "".join(
            f"<tr>{row(cells, 'td', bold=place == self.bold)}</tr>"
            for place, cells in enumerate(self.rows)
        )
        head = f"<thead><tr>{row(self.headings, 'th')}</tr></thead>"
        return f"<table>{head}<tbody>{body}</tbody></table>"

    def print(self, console: Console) -> list[str]:
        """Print what fits on a console of rich's; the headings that it goes without."""
        grid, left_out = self.fitting(console.width)
        console.print(grid.terminal())
        return left_out

    def terminal(self) -> Table:
        """A table for rich, which knows how wide Korean letters are."""
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold")
        for place in self._places:
            heading = Text(printable(self.headings[place]))
            if place in self.texts:
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, overflow="fold", justify="right")
        for place, cells in enumerate(self.rows):
            style = "bold" if place == self.bold else None
            table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
        return table

    @property
    def _places(self) -> range:
        return range(len(self.headings))


class _Column(NamedTuple):
    dataset: str
    similarity: str
    part: str | None  # a subset, or one of those below


# No name of a subset holds a line break.
_INTERVAL, _OTHER = "\n95 %", "\n"


_DIFFERENCE, _P, _SHARE = "\ndifference", "\np", "\nshare"


def comparison(report: Report) -> Grid:
    """A row a recipe, best first; a column a dataset and similarity, and subsets apart."""
    columns: dict[_Column, str] = {}
    cells: dict[tuple[str, _Column], str] = {}
    shown = report.deciding(*MAIN)
    several_sets = len({row.dataset for row in shown}) > 1
    several_similarities = len({row.similarity for row in shown}) > 1
    # Elsewhere they are too wide for a terminal, and stand in report.html.
    tested = report.kinds == [PAIRS] and not several_sets and not several_similarities
    for result in shown:
        names = [result.dataset] * several_sets + [result.similarity] * several_similarities
        names += [result.metric] * (len(report.kinds) > 1)
        for column, extra, cell in _cells(result, detailed=not several_similarities):
            columns.setdefault(column, " ".join([*names, *extra]) or result.metric)
            cells[result.recipe, column] = cell
        if report.baseline is not None and tested:
            for kind, heading, cell in _against(result, report.baseline):
                column = _Column(result.dataset, result.similarity, kind)
                columns.setdefault(column, heading)
                cells[result.recipe, column] = cell
    brief = several_similarities or len(report.kinds) > 1  # else too wide for a terminal
    for result in [] if brief else report.deciding(*OTHERS):
        column = _Column(result.dataset, result.similarity, _OTHER + result.metric)
        columns.setdefault(column, " ".join([*[result.dataset] * several_sets, result.metric]))
        cells[result.recipe, column] = _percent(result.value)
    best, ranked = report.best_name, report.ranking()
    rows = tuple(
        (recipe, *(cells.get((recipe, column), "-") for column in columns), _marks(report, recipe))
        for recipe in ranked
    )
    return Grid(
        ("recipe", *columns.values(), ""),
        rows,
        frozenset({0, len(columns) + 1}),
        None if best is None else ranked.index(best),
        _expendable(columns),
    )


def _expendable(columns: Iterable[_Column]) -> tuple[tuple[int, ...], ...]:
    """Places of columns in groups, the most dispensable first; what decides is in none."""

    def rank(part: str) -> int:
        if not part.startswith("\n"):
            return 3  # a subset
        return {_SHARE: 1, _INTERVAL: 2, _P: 4}.get(part, 0)

    groups: dict[int, list[int]] = {}
    for place, column in enumerate(columns, start=1):
        if column.part not in (None, _DIFFERENCE):
            groups.setdefault(rank(column.part), []).append(place)
    return tuple(tuple(group) for _, group in sorted(groups.items()))


def _cells(result: Result, *, detailed: bool) -> Iterator[tuple[_Column, list[str], str]]:
    """Columns of a result, what their headings add to its name, and their texts."""
    column = _Column(result.dataset, result.similarity, None)
    yield column, [result.aggregation] if result.subsets else [], _percent(result.value)
    if detailed:
        yield column._replace(part=_INTERVAL), ["95 %"], _interval(result.ci95, 100, ".1f")
        for name, subset in (result.subsets or {}).items():
            yield column._replace(part=name), [name], _percent(subset.value)


def _against(result: Result, baseline: str) -> Iterator[tuple[str, str, str]]:
    """Columns of how a result stands beside the others: their kind, heading and text."""
    held = result.baseline
    shown, p = ("baseline", "") if result.recipe == baseline else ("-", "-")
    if held is not None and held.value is not None:
        shown = f"{100 * held.value:+.2f} {_interval(held.ci95, 100, '+.2f')}".rstrip()
        p = "-" if held.p_holm is None else f"{held.p_holm:.4f}"
    yield _DIFFERENCE, f"- {baseline}", shown
    yield _P, "p (Holm)", p
    share = result.best_share
    yield _SHARE, "best in", "-" if share is None else f"{100 * share:.1f} %"


def _marks(report: Report, recipe: str) -> str:
    return ", ".join(mark.replace("_", " ") for mark in report.marks(recipe))


def heads(report: Report) -> Grid:
    """Rows of a recipe, best first: the similarities, a line on the cosine, and its head."""
    rows: list[tuple[str, ...]] = []
    metrics = [name for name in ("mse", "f1") if any(r.metric == name for r in report.results)]
    by_metric = {
        (row.recipe, row.dataset, row.similarity, metric): row
        for metric in (*CORRELATIONS, *metrics)
        for row in report.deciding(metric)
    }
    for recipe in report.ranking():
        for result in report.deciding("spearman"):
            if result.recipe != recipe:
                continue
            cells = [recipe, result.dataset, result.similarity]
            differences = []
            for metric in (*CORRELATIONS, *metrics):
                found = by_metric.get((recipe, result.dataset, result.similarity, metric))
                shown = _percent if metric in CORRELATIONS else _plain
                cells.append(shown(found.value) if found else "-")
                if metric in ("spearman", "mse"):
                    differences.append(_difference(found, 100 if metric == "spearman" else 1))
            marks = _marks(report, recipe) if result.similarity == "head" else ""
            rows.append((*cells, *differences, marks))
    headings = ("recipe", "dataset", "by", *CORRELATIONS, *metrics)
    all_headings = (*headings, "spearman: head - line", "mse: head - line", "")
    first = tuple((all_headings.index(name),) for name in ("pearson", "mse: head - line"))
    texts = frozenset({0, 1, 2, len(headings) + 2})
    return Grid(all_headings, tuple(rows), texts, expendable=first)


def _difference(result: Result | None, scale: int) -> str:
    """A difference with its interval."""
    found = None if result is None else result.difference
    if found is None or found.value is None:
        return ""
    digits = "+.2f" if scale == 100 else "+.3f"
    return f"{scale * found.value:{digits}} {_interval(found.ci95, scale, digits)}".rstrip()


def _interval(ci95: tuple[float, float] | None, scale: int, digits: str) -> str:
    if ci95 is None:
        return ""
    low, high = (f"{scale * end:{digits}}" for end in ci95)
    return f"[{low}, {high}]"


def evaluation(report: Report) -> Grid:
    """A row a dataset, similarity and aggregation, and a row a subset; a column a metric."""
    metrics = tuple(dict.fromkeys(result.metric for result in report.results))
    units = report.kinds[0].units if len(report.kinds) == 1 else "n"
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for result in report.results:
        shown = _percent if result.metric in (*MAIN, *OTHERS) else _plain
        row = (result.dataset, f"{result.n:,}", result.similarity, result.aggregation)
        rows.setdefault(row, {})[result.metric] = shown(result.value)
        if result.aggregation == "all":
            for name, subset in (result.subsets or {}).items():
                row = (f"  {name}", f"{subset.n:,}", result.similarity, f"in {result.dataset}")
                rows.setdefault(row, {})[result.metric] = shown(subset.value)
    # Retrieval sets have no subsets.
    named = ("dataset", units, "similarity", "aggregation")[
        : 3 if report.kinds == [RETRIEVAL] else 4
    ]
    return Grid(
        (*named, *metrics),
        tuple(
            (*row[: len(named)], *(cells.get(metric, "") for metric in metrics))
            for row, cells in rows.items()
        ),
        frozenset({0, 2, 3} & {*range(len(named))}),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# What Markdown, or the HTML in it, would take for markup; `_` within a word is none.
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")


def in_markdown(text: str) -> str:
    """A text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", escape(printable(text), quote=False))
