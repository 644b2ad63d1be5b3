"""A report's results as a table of texts, for terminals and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from embedkit.evaluation.sts import Result

if TYPE_CHECKING:
    from rich.table import Table

    from embedkit.evaluation.report import Report


@dataclass(frozen=True)
class Grid:
    """Cells as people read them.

    Attributes:
        headings: one a column.
        rows: of as many cells.
        texts: columns of words, which stand left; numbers stand right.
        bold: the row to point out.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int]
    bold: int | None = None

    def markdown(self) -> str:
        """A Markdown table."""
        rules = tuple("---" if place in self.texts else "---:" for place in self._places)
        lines = (self.headings, rules, *self.rows)
        return "\n".join(f"| {' | '.join(map(_escape, cells))} |" for cells in lines)

    def terminal(self) -> Table:
        """A table for rich, which knows how wide Korean letters are."""
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold")
        for place in self._places:
            heading = Text(self.headings[place])
            if place in self.texts:
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, overflow="fold", justify="right")
        for place, cells in enumerate(self.rows):
            style = "bold" if place == self.bold else None
            table.add_row(*(Text(cell) for cell in cells), style=style)
        return table

    @property
    def _places(self) -> range:
        return range(len(self.headings))


class _Column(NamedTuple):
    dataset: str
    similarity: str
    subset: str | None


def comparison(report: Report) -> Grid:
    """A row a recipe, best first; a column a dataset and similarity, and subsets apart."""
    columns: dict[_Column, str] = {}
    cells: dict[tuple[str, _Column], float | None] = {}
    several_sets = len({result.dataset for result in report.results}) > 1
    several_similarities = len({result.similarity for result in report.results}) > 1
    for result in report.deciding("spearman"):
        names = [result.dataset] * several_sets + [result.similarity] * several_similarities
        for column, extra, value in _values(result, with_subsets=not several_similarities):
            columns.setdefault(column, " ".join([*names, *extra]) or "spearman")
            cells[result.recipe, column] = value
    own = report.model["recipe"]
    ranked = report.ranking()
    marks = {own: "own"} | {report.best_name: "best, own" if report.best_name == own else "best"}
    rows = tuple(
        (recipe, *(_percent(cells.get((recipe, c))) for c in columns), marks.get(recipe, ""))
        for recipe in ranked
    )
    return Grid(
        ("recipe", *columns.values(), ""),
        rows,
        frozenset({0, len(columns) + 1}),
        None if report.best_name is None else ranked.index(report.best_name),
    )


def _values(
    result: Result, *, with_subsets: bool
) -> Iterator[tuple[_Column, list[str], float | None]]:
    """Columns of a result, what their headings add to its name, and their values."""
    column = _Column(result.dataset, result.similarity, None)
    yield column, [result.aggregation] if result.subsets else [], result.value
    if with_subsets:
        for name, subset in (result.subsets or {}).items():
            yield column._replace(subset=name), [name], subset.value


def evaluation(report: Report) -> Grid:
    """A row a dataset, similarity and aggregation, and a row a subset."""
    pearson = {_key(result): result for result in report.results if result.metric == "pearson"}
    rows: list[tuple[str, ...]] = []
    for result in report.results:
        if result.metric != "spearman":
            continue
        other = pearson[_key(result)]
        values = _percent(result.value), _percent(other.value)
        row = (result.dataset, f"{result.n:,}", result.similarity, result.aggregation)
        rows.append((*row, *values))
        if result.aggregation != "all" or not result.subsets or not other.subsets:
            continue
        for name, subset in result.subsets.items():
            values = _percent(subset.value), _percent(other.subsets[name].value)
            rows.append((f"  {name}", f"{subset.n:,}", result.similarity, "", *values))
    headings = ("dataset", "pairs", "similarity", "aggregation", "spearman", "pearson")
    return Grid(headings, tuple(rows), frozenset({0, 2, 3}))


def _key(result: Result) -> tuple[str, ...]:
    return result.recipe, result.dataset, result.similarity, result.aggregation


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")
