"""A table of texts: printed in a terminal of any width, as Markdown, HTML and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.errors import printable
from embedkit.html_table import html_table
from embedkit.markdown import in_markdown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"${mark}$" for mark in "<>|"},
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}

_GAP = 2  # columns of a terminal between two of a table


@dataclass(frozen=True)
class Grid:
    """Cells as people read them."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int]  # columns of words, aligned left; numbers are aligned right
    bold: int | None = None  # a row
    expendable: tuple[tuple[int, ...], ...] = ()  # columns to drop when narrow, first groups first
    equals: tuple[str, ...] = ()  # for each row, the names that its first cell stands for too
    highest: frozenset[tuple[int, int]] = frozenset()  # cells, by row and column, bold in LaTeX

    def fitting(self, width: int) -> tuple[Grid, list[str]]:
        """This grid in a terminal of `width` columns, and the headings that are left out."""
        from rich.cells import cell_len

        def needed(column: int) -> int:
            cells = [self.headings[column], *(cells[column] for cells in self.rows)]
            if column == 0:
                cells += [word for names in self.equals for word in f"={names}".split()]
            return _GAP + max(cell_len(printable(cell)) for cell in cells)

        dropped: list[int] = []
        for group in self.expendable:
            shown = [needed(column) for column in self._columns if column not in dropped]
            if sum(shown) - _GAP <= width:
                break
            dropped += group
        kept = [column for column in self._columns if column not in dropped]

        def of(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cells[column] for column in kept)

        texts = frozenset(new for new, column in enumerate(kept) if column in self.texts)
        rows = tuple(map(of, self.rows))
        grid = Grid(of(self.headings), rows, texts, self.bold, equals=self.equals)
        return grid, [self.headings[column] for column in sorted(dropped)]

    def markdown(self) -> str:
        """A Markdown table."""
        rules = tuple("---" if column in self.texts else "---:" for column in self._columns)
        lines = (self.headings, rules, *self._cells)
        return "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)

    def latex(self) -> str:
        """A tabular of the package booktabs; Korean needs XeLaTeX, LuaLaTeX or kotex."""
        sides = "".join("l" if column in self.texts else "r" for column in self._columns)
        lines = [self.headings, *self._cells]

        def line(row: int, cells: Sequence[str]) -> str:
            shown = [in_latex(cell) for cell in cells]
            for column in self._columns:
                bold = (row, column) in self.highest if self.highest else row == self.bold
                if bold and shown[column]:
                    shown[column] = rf"\textbf{{{shown[column]}}}"
            return " & ".join(shown) + r" \\"

        head, *body = (line(row, cells) for row, cells in enumerate(lines, start=-1))
        above = (rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule")
        return "\n".join((*above, *body, r"\bottomrule", r"\end{tabular}"))

    def html(self) -> str:
        """A plain HTML table."""
        return html_table(self.headings, self.rows, self.texts, bold=self.bold, equals=self.equals)

    def print(self, console: Console) -> list[str]:
        """Print what fits on a console of rich's; returns the headings that are left out."""
        grid, left_out = self.fitting(console.width)
        console.print(grid.terminal())
        return left_out

    def terminal(self) -> Table:
        """A table for rich, which knows how wide Korean letters are."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=SIMPLE_HEAD,
            header_style="bold",
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for column, heading in enumerate(self.headings):
            is_text = column in self.texts
            table.add_column(
                Text(printable(heading)),
                no_wrap=not is_text,
                overflow="fold" if is_text else "ellipsis",
                justify="left" if is_text else "right",
            )
        for index, (cells, equals) in enumerate(zip(self.rows, self._equals, strict=True)):
            style = "bold" if index == self.bold else None
            first, *others = map(printable, cells)
            lines = f"{first}\n={printable(equals)}" if equals else first
            table.add_row(*map(Text, (lines, *others)), style=style)
        return table

    @property
    def _cells(self) -> list[tuple[str, ...]]:
        """The rows, with what their first cell stands for."""
        return [
            (f"{first} = {equals}" if equals else first, *others)
            for (first, *others), equals in zip(self.rows, self._equals, strict=True)
        ]

    @property
    def _equals(self) -> tuple[str, ...]:
        return self.equals or ("",) * len(self.rows)

    @property
    def _columns(self) -> range:
        return range(len(self.headings))


def in_latex(text: str) -> str:
    """A text as LaTeX that shows it as it is; a mark of significance is raised, minus a minus.

    Example:
        >>> in_latex("50 % of a_b"), in_latex("82.03*"), in_latex("-0.5")
        ('50 \\\\% of a\\\\_b', '82.03$^{*}$', '$-$0.5')
    """
    shown = "".join(_LATEX.get(mark, mark) for mark in printable(text))
    shown = re.sub(r"(?<=\d)\*$", "$^{*}$", shown)
    return re.sub(r"(?<![\w.}])-(?=\d)", "$-$", shown)
