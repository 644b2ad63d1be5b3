"""Texts in Markdown, of reports and model cards: they are shown as they are."""

from __future__ import annotations

import re
from html import escape

from embedkit.errors import printable

# What Markdown, or the HTML in it, takes for markup; `_` within a word is none.
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")


def in_markdown(text: object) -> str:
    """A text as Markdown that shows it as it is.

    Example:
        >>> in_markdown("<b>sts_en*")
        '&lt;b&gt;sts_en\\\\*'
    """
    return _MARKUP.sub(r"\\\g<0>", escape(printable(str(text)), quote=False))
