"""An HTML table for notebooks: texts are escaped, and colours are the notebook's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape


def html_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    texts: Collection[int],  # the columns of words, aligned left; numbers are aligned right
    *,
    bold: int | None = None,  # a row in bold
    equals: Sequence[str] = (),  # for each row, a second line of its first cell, or ""
) -> str:
    """A table of cells.

    Example:
        >>> html_table(["a"], [["<b>"]], {0})[:58]
        '<table><thead><tr><th style="text-align:left">a</th></tr><'
    """
    sides = ["left" if column in texts else "right" for column in range(len(headings))]

    def row(cells: Iterable[str], tag: str) -> str:
        marked = zip(sides, cells, strict=True)
        return "".join(f'<{tag} style="text-align:{side}">{cell}</{tag}>' for side, cell in marked)

    body = ""
    for index, cells in enumerate(rows):
        shown = [escape(str(cell)) for cell in cells]
        if index == bold:
            shown = [f"<b>{cell}</b>" for cell in shown]
        if equals and equals[index]:
            shown[0] += f"<br>= {escape(equals[index])}"
        body += f"<tr>{row(shown, 'td')}</tr>"
    head = row(map(escape, headings), "th")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
