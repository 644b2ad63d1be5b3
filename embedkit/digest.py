"""SHA-256 of rows: what tells one set of texts, scores or labels from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable


class RowDigest:
    """Takes in rows as they come: a line of JSON each, in UTF-8."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Iterable[object]) -> None:
        """Rows that follow those before."""
        for row in rows:
            self._digest.update((json.dumps(row, ensure_ascii=False) + "\n").encode())

    @property
    def sha256(self) -> str:
        """Of all rows so far, as 64 hexadecimal digits."""
        return self._digest.hexdigest()


def rows_sha256(rows: Iterable[object]) -> str:
    """That of rows which are all there."""
    digest = RowDigest()
    digest.add(rows)
    return digest.sha256
