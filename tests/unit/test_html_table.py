"""Tables of notebooks: escaped, and in the notebook's own colours."""

from __future__ import annotations

import re

from embedkit.html_table import html_table

HOSTILE = "<script>alert('한국어')</script>"


def test_a_table() -> None:
    assert html_table(["a", "b"], [["x", 1]], {0}) == (
        '<table><thead><tr><th style="text-align:left">a</th><th style="text-align:right">b</th>'
        '</tr></thead><tbody><tr><td style="text-align:left">x</td>'
        '<td style="text-align:right">1</td></tr></tbody></table>'
    )


def test_a_bold_row_and_a_second_line() -> None:
    table = html_table(["a"], [["x"], ["y"]], {0}, bold=1, equals=["x2", ""])
    assert re.findall(r"<td[^>]*>(.*?)</td>", table) == ["x<br>= x2", "<b>y</b>"]


def test_every_text_is_escaped() -> None:
    table = html_table([HOSTILE], [[HOSTILE]], {0}, equals=[HOSTILE])
    assert "<script" not in table
    assert table.count("&lt;script&gt;alert(&#x27;한국어&#x27;)&lt;/script&gt;") == 3
