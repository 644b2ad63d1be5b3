"""What a search finds."""

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
    """A row that was found.

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
    """

    def __init__(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], tables: Sequence[pa.Table]
    ) -> None:
        """`rows` (n, k) are numbers in the tables one after another, -1 for none."""
        self.scores = scores
        self._rows = rows
        self._tables = tables

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, query: int) -> list[Hit]:
        texts = self.texts
        names, scores = self.ids[query], self.scores[query].tolist()
        written = [None] * len(names) if texts is None else texts[query]
        return list(map(Hit, scores[: len(names)], names, written))

    def __iter__(self) -> Iterator[list[Hit]]:
        return map(self.__getitem__, range(len(self)))

    @cached_property
    def ids(self) -> list[list[str | int]]:
        """For each query the ids."""
        ids: list[list[str | int]] = self._column("id")
        return ids

    @cached_property
    def texts(self) -> list[list[str]] | None:
        """For each query the texts, or None where the index has none."""
        if not self._tables or "text" not in self._tables[0].column_names:
            return None
        return self._column("text")

    def _column(self, name: str) -> list[list[Any]]:
        found = self._rows >= 0
        flat = take(self._tables, name, self._rows[found])
        counts = found.sum(1).tolist()
        ends = accumulate(counts)
        return [flat[end - count : end] for count, end in zip(counts, ends, strict=True)]


def take(tables: Sequence[pa.Table], name: str, rows: NDArray[np.int64]) -> list[Any]:
    """Cells of a column by row number, counted through the tables one after another."""
    if len(tables) == 1:
        column = tables[0].column(name)
        # A segment has one chunk of each: numpy takes from its numbers, and Arrow from it rather
        # than from the column, in a fraction of the time that one query has.
        whole = column.chunk(0) if column.num_chunks == 1 else column
        if column.type == "int64":
            numbers: list[Any] = whole.to_numpy()[rows].tolist()
            return numbers
        return whole.take(rows).to_pylist()
    ends = np.cumsum([len(table) for table in tables])
    places = np.searchsorted(ends, rows, side="right")
    cells: list[Any] = [None] * len(rows)
    for number, table in enumerate(tables):
        here = np.flatnonzero(places == number)
        start = int(ends[number]) - len(table)
        for place, cell in zip(here, table.column(name).take(rows[here] - start), strict=True):
            cells[place] = cell.as_py()
    return cells
