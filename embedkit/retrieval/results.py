"""Hits: the rows that a search returns, with ids, scores and texts."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.dataframe import dataframe
from embedkit.html_table import html_table
from embedkit.metadata.columns import metadata_kinds
from embedkit.vectors.shards import rows_of_parts

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Of pandas, whose int64 and bool have no missing values.
_DTYPES = {"text": "str", "integers": "Int64", "floats": "float64", "booleans": "boolean"}
_SHOWN = 3  # queries, and in a repr hits of each


class Hit(NamedTuple):
    """One row that a search returned.

    Attributes:
        score: the similarity to the query; larger is more similar.
        id: of the row.
        text: or None where the index has no texts.
        metadata: the values of its columns, None for a missing one; or None where the index has no
            metadata.
    """

    score: float
    id: str | int
    text: str | None
    metadata: dict[str, Any] | None = None


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
        >>> hits
        Hits(queries=1, k=2)
          0: 'y' 0.8000, 'x' 0.6000
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
        metadata = [None] * len(ids) if self.metadata is None else self.metadata[query]
        return list(map(Hit, scores[: len(ids)], ids, texts, metadata))

    def __iter__(self) -> Iterator[list[Hit]]:
        return map(self.__getitem__, range(len(self)))

    @cached_property
    def ids(self) -> list[list[str | int]]:
        """For each query the ids."""
        return self._column("id")

    @cached_property
    def texts(self) -> list[list[str]] | None:
        """For each query the texts, or None where the index has none."""
        return self._column("text") if self._has("text") else None

    @cached_property
    def metadata(self) -> list[list[dict[str, Any]]] | None:
        """For each query the metadata of its hits, or None where the index has none."""
        return self._column("metadata") if self._has("metadata") else None

    def __repr__(self) -> str:
        lines = [f"Hits(queries={len(self)}, k={self.scores.shape[1]})"]
        for query, hits in enumerate(self._first(_SHOWN)):
            shown = [f"{reprlib.repr(hit.id)} {hit.score:.4f}" for hit in hits[:_SHOWN]]
            lines.append(f"  {query}: {', '.join([*shown, *['...'] * (len(hits) > _SHOWN)])}")
        return "\n".join([*lines, *["  ..."] * (len(self) > _SHOWN)])

    def _repr_html_(self) -> str:
        """What notebooks show: the first queries with all of their hits."""
        shown = self._first(_SHOWN)
        names = ["query", "rank", "id", "score"] + ["text"] * (shown.texts is not None)
        first, schema = len(names), self._tables[0].schema if self._tables else None
        names += metadata_kinds(schema)
        rows = (
            (query, rank, hit.id, f"{hit.score:.4f}", hit.text)[:first]
            + tuple("" if x is None else x for x in (hit.metadata or {}).values())
            for query, hits in enumerate(shown)
            for rank, hit in enumerate(hits, start=1)
        )
        table = html_table(names, rows, {2, *range(4, len(names))})
        more = f"<p>and {len(self) - len(shown):,} more queries</p>"
        return table + (more if len(self) > len(shown) else "")

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each hit, as a pandas DataFrame.

        Its columns are `query` (int64, from 0), `rank` (int64, from 1), `id` (str or int64),
        `score` (float64), `text` (str) where the index has texts, and those of the metadata; one
        that has the name of another column is called `metadata.NAME`.
        """
        exists = self._rows >= 0
        query, rank = np.nonzero(exists)
        ids = list(chain.from_iterable(self.ids))
        kind = "int64" if ids and isinstance(ids[0], int) else "str"
        columns: dict[str, tuple[str, Any]] = {
            "query": ("int64", query),
            "rank": ("int64", rank + 1),
            "id": (kind, ids),
            "score": ("float64", self.scores[exists]),
        }
        if self.texts is not None:
            columns["text"] = ("str", list(chain.from_iterable(self.texts)))
        if self.metadata is not None:
            rows = list(chain.from_iterable(self.metadata))
            for name, kind in metadata_kinds(self._tables[0].schema).items():
                cells = [row[name] for row in rows]
                column = name
                while column in columns:
                    column = f"metadata.{column}"
                columns[column] = (_DTYPES.get(kind, "object"), cells)
        return dataframe(columns)

    def _has(self, name: str) -> bool:
        return bool(self._tables) and name in self._tables[0].column_names

    def ordered(self, order: NDArray[np.int64], scores: NDArray[np.float32]) -> Hits:
        """The hits at positions `order` (n, k) of each query, by other scores (n, hits)."""
        return Hits(
            np.take_along_axis(scores, order, 1),
            np.take_along_axis(self._rows, order, 1),
            self._tables,
        )

    def _first(self, n: int) -> Hits:
        return Hits(self.scores[:n], self._rows[:n], self._tables)

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
    for table, (inside, own) in zip(tables, rows_of_parts(rows, map(len, tables)), strict=True):
        cells[inside] = _cells(table.column(name), own)
    return cells.tolist()


def _cells(column: pa.ChunkedArray[Any], rows: NDArray[np.int64]) -> list[Any]:
    # A segment has one chunk: numpy takes integers from it, and Arrow strings from it rather than
    # from the column, in a fraction of the time of a query.
    whole = column.chunk(0) if column.num_chunks == 1 else column
    if column.type == "int64":
        integers: list[Any] = whole.to_numpy()[rows].tolist()
        return integers
    return whole.take(rows).to_pylist()
