"""BM25: which rows have which terms and how often, and the rows that fit a query best."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

from embedkit.metadata.columns import as_array
from embedkit.retrieval.words import Words

if TYPE_CHECKING:
    import pyarrow as pa

# Robertson and Zaragoza 2009, with the values of Lucene.
K1 = 1.2
B = 0.75


class TermCounts(NamedTuple):
    """How often each of some rows has each term."""

    terms: pa.Array[pa.StringScalar]
    counts: Any  # csr_array (rows, terms)

    @classmethod
    def of(cls, texts: Iterable[str], words: Words) -> TermCounts:
        """Of the rows of some texts."""
        import pyarrow as pa

        vocabulary: defaultdict[str, int] = defaultdict()
        vocabulary.default_factory = vocabulary.__len__
        columns, ends = array("i"), [0]
        for text in texts:
            columns.extend(vocabulary[term] for term in words(text))
            ends.append(len(columns))
        shape = len(ends) - 1, len(vocabulary)
        counts = csr_array((np.ones(len(columns), np.int32), columns, ends), shape=shape)
        counts.sum_duplicates()
        return cls(pa.array(vocabulary, pa.string()), counts)


@dataclass(frozen=True, eq=False)
class Postings:
    """For each term the rows that have it."""

    terms: pa.Array[pa.StringScalar]  # each once, in the order of their code points
    starts: NDArray[np.int64]  # (terms + 1,) where the rows of each term start
    rows: NDArray[np.int32]  # ascending for each term
    counts: NDArray[np.int32]  # of the term in each of `rows`
    n: int  # rows, with those that have no term

    @classmethod
    def of(cls, parts: Sequence[TermCounts]) -> Postings:
        """Of the rows of all parts, one part after another."""
        import pyarrow as pa
        import pyarrow.compute as pc

        terms: Any = pa.concat_arrays([part.terms for part in parts]).unique()
        terms = terms.take(pc.sort_indices(terms))
        moved = []
        for own, counts in parts:
            columns = pc.index_in(own, value_set=terms).to_numpy()[counts.indices]
            shape = counts.shape[0], len(terms)
            moved.append(csr_array((counts.data, columns, counts.indptr), shape=shape))
        by_term = csc_array(vstack(moved, format="csc"))
        by_term.sort_indices()
        kept = np.diff(by_term.indptr) > 0  # terms that only removed rows had are dropped
        starts = np.concatenate([[0], by_term.indptr[1:][kept]]).astype(np.int64)
        rows, counts = by_term.indices.astype(np.int32), by_term.data.astype(np.int32)
        return cls(terms.filter(pa.array(kept)), starts, rows, counts, by_term.shape[0])

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """(n,): the terms of each row, repeated ones too."""
        return np.bincount(self.rows, self.counts, self.n).astype(np.float64)

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The rows that have a term, and how often they do."""
        position = bisect_left(self.terms, term, key=lambda scalar: scalar.as_py())
        start = end = 0
        if position < len(self.terms) and self.terms[position].as_py() == term:
            start, end = self.starts[position : position + 2]
        return self.rows[start:end], self.counts[start:end]

    @cached_property
    def _by_row(self) -> Any:
        shape = self.n, len(self.terms)
        return csr_array(csc_array((self.counts, self.rows, self.starts), shape=shape))

    def take(self, rows: NDArray[np.int64]) -> TermCounts:
        """The counts of some rows."""
        return TermCounts(self.terms, self._by_row[rows])

    def to_table(self) -> pa.Table:
        """A row for each term, to be stored."""
        import pyarrow as pa

        lists: Any = pa.LargeListArray
        columns = (lists.from_arrays(self.starts, x) for x in (self.rows, self.counts))
        return pa.table([self.terms, *columns], ["term", "rows", "counts"])

    @classmethod
    def from_table(cls, table: pa.Table, n: int) -> Postings:
        """What `to_table` gave; ValueError where it does not fit n rows."""
        types = {field.name: str(field.type) for field in table.schema}
        lists = "large_list<item: int32>"
        if types != {"term": "string", "rows": lists, "counts": lists}:
            raise ValueError(f"got columns {types}, expected terms with their rows and counts")
        parts: Iterable[Any] = (
            column.chunk(0) if column.num_chunks == 1 else as_array(column)
            for column in table.combine_chunks().columns
        )
        terms, rows, counts = parts
        starts = rows.offsets.to_numpy()
        if not np.array_equal(starts, counts.offsets.to_numpy()):
            raise ValueError("got other rows than counts")
        made = cls(terms, starts, rows.values.to_numpy(), counts.values.to_numpy(), n)
        if len(made.rows) and not 0 <= made.rows.min() <= made.rows.max() < n:
            raise ValueError("got numbers of rows that there are not")
        return made


def search_terms(
    parts: Sequence[Postings],
    live: Sequence[NDArray[np.bool_]],
    queries: Sequence[Sequence[str]],
    k: int,
    wanted: Sequence[NDArray[np.bool_]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The rows that fit best to each query by BM25, as Lucene has it, best first.

    A row's score is the sum of `log(1 + (N - df + 1/2) / (df + 1/2)) tf / (tf + K1 (1 - B + B
    length / mean length))` over the query's terms. Rows without any of them are not found.

    Args:
        parts: of the rows, one part after another.
        live: of each part (n,) bool, the rows that count for N, df and the mean length.
        queries: their terms.
        k: rows of a query at most.
        wanted: of each part (n,) bool, the live rows that may be found; None for all.

    Returns:
        Scores (queries, k), -inf where there is none, and rows, counted through all parts; -1 is
        none. Of equal rows the first comes first.
    """
    total = sum(int(of_part.sum()) for of_part in live)
    length = sum(float(part.lengths @ x) for part, x in zip(parts, live, strict=True))
    mean = length / max(1, total) or 1.0
    starts = np.cumsum([0, *(part.n for part in parts)])
    eligible = np.concatenate([*(live if wanted is None else wanted), np.empty(0, np.bool_)])
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for query, terms in enumerate(queries):
        sums = np.zeros(starts[-1])
        for term, repeated in Counter(terms).items():
            postings = [part.find(term) for part in parts]
            having = zip(live, postings, strict=True)
            df = sum(int(np.count_nonzero(x[at])) for x, (at, _) in having)
            weight = repeated * math.log1p((total - df + 0.5) / (df + 0.5))
            for start, part, (at, tf) in zip(starts, parts, postings, strict=False):
                norm = K1 * (1 - B + B * part.lengths[at] / mean)
                sums[start + at] += weight * tf / (tf + norm)
        found = np.flatnonzero((sums > 0) & eligible)
        if len(found) > k:
            found = found[sums[found] >= np.partition(sums[found], -k)[-k]]
        best = found[np.argsort(-sums[found], kind="stable")[:k]]
        rows[query, : len(best)], scores[query, : len(best)] = best, sums[best]
    return scores, rows
