"""A table of texts: printed in a terminal of any width, as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from embedkit.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# What Markdown, or the HTML in it, takes for markup; `_` within a word is none.
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class Grid:
    """Cells as people read them."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: frozenset[int]  # columns of words, aligned left; numbers are aligned right
    bold: int | None = None  # a row
    expendable: tuple[tuple[int, ...], ...] = ()  # columns to drop when narrow, first groups first
    equals: tuple[str, ...] = ()  # for each row, the names that its first cell stands for too

    def fitting(self, width: int) -> tuple[Grid, list[str]]:
        """This grid in a terminal of `width` columns, and the headings that are left out."""
        from rich.cells import cell_len

        widths = [
            3 + max(cell_len(printable(cells[column])) for cells in (self.headings, *self.rows))
            for column in self._columns
        ]
        widths[0] = max([widths[0], *(4 + cell_len(printable(names)) for names in self.equals)])
        dropped: list[int] = []
        for group in self.expendable:
            if 1 + sum(widths) - sum(widths[column] for column in dropped) <= width:
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
        rows = [
            (f"{first} = {equals}" if equals else first, *others)
            for (first, *others), equals in zip(self.rows, self._equals, strict=True)
        ]
        lines = (self.headings, rules, *rows)
        return "\n".join(f"| {' | '.join(map(in_markdown, cells))} |" for cells in lines)

    def html(self) -> str:
        """A plain HTML table."""

        def row(cells: Iterable[str], tag: str, *, bold: bool = False, equals: str = "") -> str:
            sides = ("left" if column in self.texts else "right" for column in self._columns)
            start, end = ("<b>", "</b>") if bold else ("", "")
            seconds = [f"<br>= {escape(equals)}" if equals else "", *[""] * len(self.headings)]
            return "".join(
                f'<{tag} style="text-align:{side}">{start}{escape(cell)}{end}{second}</{tag}>'
                for side, cell, second in zip(sides, cells, seconds, strict=False)
            )

        body = "".join(
            f"<tr>{row(cells, 'td', bold=index == self.bold, equals=equals)}</tr>"
            for index, (cells, equals) in enumerate(zip(self.rows, self._equals, strict=True))
        )
        head = f"<thead><tr>{row(self.headings, 'th')}</tr></thead>"
        return f"<table>{head}<tbody>{body}</tbody></table>"

    def print(self, console: Console) -> list[str]:
        """Print what fits on a console of rich's; returns the headings that are left out."""
        grid, left_out = self.fitting(console.width)
        console.print(grid.terminal())
        return left_out

    def terminal(self) -> Table:
        """A table for rich, which knows how wide Korean letters are."""
        from rich.table import Table
        from rich.text import Text

        table = Table(header_style="bold")
        for column, heading in enumerate(self.headings):
            table.add_column(
                Text(printable(heading)),
                overflow="fold",
                justify="left" if column in self.texts else "right",
            )
        for index, (cells, equals) in enumerate(zip(self.rows, self._equals, strict=True)):
            style = "bold" if index == self.bold else None
            first, *others = map(printable, cells)
            lines = f"{first}\n={printable(equals)}" if equals else first
            table.add_row(*map(Text, (lines, *others)), style=style)
        return table

    @property
    def _equals(self) -> tuple[str, ...]:
        return self.equals or ("",) * len(self.rows)

    @property
    def _columns(self) -> range:
        return range(len(self.headings))


def in_markdown(text: str) -> str:
    """A text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", escape(printable(text), quote=False))
