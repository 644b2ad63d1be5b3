"""Hits: the rows that a search returns, with ids, scores and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


class Hit(NamedTuple):
    """One row that a search returned.

    Attributes:
        score: the similarity to the query; larger is more similar.
        id: of the row.
        text: or None where the index has no texts.
    """

    score: float
    id: str | int
    text: str | None


class Hits:
    """The rows nearest to each of n queries, best first; item i is the list of query i's `Hit`s.

    Attributes:
        scores: float32 (n, k); -inf where a query has fewer than k hits.

    Example:
        >>> import numpy as np
        >>> from embedkit import VectorIndex
        >>> index = VectorIndex.build(np.eye(3), ids=["x", "y", "z"])
        >>> hits = index.search(np.array([[3.0, 4.0, 0.0]]), k=2)
        >>> hits.ids
        [['y', 'x']]
        >>> [(hit.id, round(hit.score, 2)) for hit in hits[0]]
        [('y', 0.8), ('x', 0.6)]
    """

    def __init__(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], tables: Sequence[pa.Table]
    ) -> None:
        """`rows` (n, k) count through the tables one after another; -1 is none."""
        self.scores = scores
        self._rows = rows
        self._tables = tables

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, query: int) -> list[Hit]:
        ids, scores = self.ids[query], self.scores[query].tolist()
        texts = [None] * len(ids) if self.texts is None else self.texts[query]
        return list(map(Hit, scores[: len(ids)], ids, texts))

    def __iter__(self) -> Iterator[list[Hit]]:
        return map(self.__getitem__, range(len(self)))

    @cached_property
    def ids(self) -> list[list[str | int]]:
        """For each query the ids."""
        return self._column("id")

    @cached_property
    def texts(self) -> list[list[str]] | None:
        """For each query the texts, or None where the index has none."""
        if not self._tables or "text" not in self._tables[0].column_names:
            return None
        return self._column("text")

    def _column(self, name: str) -> list[list[Any]]:
        exists = self._rows >= 0
        flat = _take(self._tables, name, self._rows[exists])
        counts = exists.sum(1).tolist()
        ends = accumulate(counts)
        return [flat[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _take(tables: Sequence[pa.Table], name: str, rows: NDArray[np.int64]) -> list[Any]:
    """Cells of a column by row, counted through the tables one after another."""
    if len(tables) == 1:
        return _cells(tables[0].column(name), rows)
    cells = np.empty(len(rows), dtype=object)
    start = 0
    for table in tables:
        inside = np.flatnonzero((rows >= start) & (rows < start + len(table)))
        cells[inside] = _cells(table.column(name), rows[inside] - start)
        start += len(table)
    return cells.tolist()


def _cells(column: pa.ChunkedArray[Any], rows: NDArray[np.int64]) -> list[Any]:
    # A segment has one chunk: numpy takes integers from it, and Arrow strings from it rather than
    # from the column, in a fraction of the time of a query.
    whole = column.chunk(0) if column.num_chunks == 1 else column
    if column.type == "int64":
        integers: list[Any] = whole.to_numpy()[rows].tolist()
        return integers
    return whole.take(rows).to_pylist()
