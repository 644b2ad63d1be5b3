"""Checks of what goes into an index or asks it: vectors, ids, texts and queries."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_list
from embedkit.data.texts import as_python, as_texts, check_id
from embedkit.errors import InputError
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.embeddings import VectorBatch, Vectors
from embedkit.retrieval.faiss_index import Ranking
from embedkit.retrieval.provenance import Provenance

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder

_BATCH = 8192


def check_vectors(name: str, values: object, dimension: int | None = None) -> Matrix:
    """float32 (n, dim), C-contiguous."""
    try:
        given = np.asarray(values)
        numeric = given.dtype.kind in "fiu"
    except ValueError:  # rows of differing lengths
        numeric = False
    if not numeric or given.ndim != 2:
        got = f"{given.dtype} {given.shape}" if numeric else reprlib.repr(values)
        raise InputError(f"{name}: got {got}, expected an array of numbers (n, dim)")
    _check_dimension(name, given.shape[1], dimension)
    with np.errstate(over="ignore"):
        vectors: Matrix = np.ascontiguousarray(given, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(finite.all(axis=1).argmin())
        wrong = given[row][~np.isfinite(vectors[row])][0]
        raise InputError(f"{name}: got {wrong} in row {row}, expected finite numbers of float32")
    return vectors


def _check_dimension(name: str, dimension: int, expected: int | None) -> None:
    if expected not in (None, dimension):
        raise InputError(
            f"{name}: got vectors of width {dimension}, expected {expected} as in the index"
        )


def query_matrix(
    queries: Any, embedder: Embedder | None, dimension: int, *, prompt: str | None
) -> Matrix:
    """float32 (n, dim): queries that are vectors, or texts as the embedder encodes them."""
    if isinstance(queries, str):
        raise InputError(f"queries is the str {queries!r}; expected a list, such as [{queries!r}]")
    if not _is_matrix(queries):
        if embedder is None:
            raise InputError(
                f"queries: got a {type(queries).__name__} without numbers, and the index has no "
                "embedder; open it with one, or search with an array of numbers (n, dim)"
            )
        queries = embedder.encode(queries, prompt=prompt, show_progress=False)
    return check_vectors("queries", queries, dimension)


def _is_matrix(queries: object) -> bool:
    if isinstance(queries, list | tuple):
        return bool(queries) and not isinstance(queries[0], str)
    dtype = getattr(queries, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "f") in "fiub"


@dataclass(frozen=True)
class NewRows:
    """Rows for an index, which can be read as often as needed."""

    source: Vectors | VectorBatch
    ids: pa.ChunkedArray[Any]
    dimension: int
    has_texts: bool
    provenance: Provenance | None  # the embedder behind the vectors, where it is known

    @classmethod
    def of(
        cls,
        vectors: Vectors | NDArray[Any],
        ids: Iterable[str | int] | None,  # of an array; None numbers its rows from `first_id()`
        texts: Iterable[str] | None,
        *,
        dimension: int | None = None,  # that the vectors must have, or None
        first_id: Callable[[], int] = lambda: 0,
    ) -> NewRows:
        """Rows of `Vectors`, or of an array (n, dim) with n ids and perhaps n texts."""
        import pyarrow as pa

        if isinstance(vectors, Vectors):
            if ids is not None or texts is not None:
                raise InputError("got ids or texts with Vectors; they have their own")
            _check_dimension("vectors", vectors.dimension, dimension)
            rows = cls(
                vectors, vectors.ids, vectors.dimension, vectors.has_texts, vectors.provenance
            )
        else:
            matrix = check_vectors("vectors", vectors, dimension)
            n = len(matrix)
            if ids is None:
                start = first_id() if n else 0
                ids = range(start, start + n)
            column = id_column(ids)
            if len(column) != n:
                raise InputError(f"got {len(column)} ids and {n} vectors, expected as many of each")
            written = None
            if texts is not None:
                written = pa.array(as_texts(texts), pa.string())
                if len(written) != n:
                    raise InputError(
                        f"got {len(written)} texts and {n} vectors, expected as many of each"
                    )
            batch = VectorBatch(column, matrix, written)
            rows = cls(batch, pa.chunked_array([column]), matrix.shape[1], texts is not None, None)
        if len(rows) == 0:
            raise InputError("vectors: got none, expected at least one")
        return rows

    def __len__(self) -> int:
        return len(self.ids)

    def check(self, ranking: Ranking, schema: pa.Schema | None) -> None:
        """Refuse what an index cannot take; too long `Vectors` are refused when they are read."""
        if schema is not None:
            check_id_type(self.ids.type, schema)
            if self.has_texts != ("text" in schema.names):
                got, expected = ("texts", "no texts") if self.has_texts else ("no texts", "texts")
                raise InputError(f"texts: got {got}, expected {expected} as in the index")
        twice = _repeated(self.ids)
        if twice is not None:
            raise InputError(f"ids: got {twice!r} twice, expected each id once")
        if not isinstance(self.source, Vectors):
            ranking.check_norms("vectors", self.source.vectors)

    def batches(self, ranking: Ranking) -> Iterator[VectorBatch]:
        """The rows in batches, their vectors prepared for FAISS."""
        start = 0
        for batch in self._checked_batches():
            ranking.check_norms("vectors", batch.vectors, start)
            yield batch._replace(vectors=ranking.prepare(batch.vectors))
            start += len(batch.vectors)

    def _checked_batches(self) -> Iterator[VectorBatch]:
        if isinstance(self.source, Vectors):
            for batch in self.source:
                yield batch._replace(vectors=check_vectors("vectors", batch.vectors))
            return
        ids, vectors, texts = self.source
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            yield VectorBatch(ids[part], vectors[part], None if texts is None else texts[part])

    def sample(self, ranking: Ranking, size: int) -> Matrix:
        """float32 (size, dim): prepared vectors of `size` rows, or of all where there are fewer."""
        chosen = np.zeros(len(self), dtype=np.bool_)
        order = np.random.default_rng(0).choice(len(self), min(len(self), size), replace=False)
        chosen[order] = True
        parts = []
        start = 0
        for batch in self.batches(ranking):
            parts.append(batch.vectors[chosen[start : start + len(batch.vectors)]])
            start += len(batch.vectors)
        return np.concatenate(parts)


def id_column(ids: Iterable[str | int]) -> pa.Array[Any]:
    """Ids of one type, which may be repeated."""
    import pyarrow as pa

    check_list("ids", ids, "a list of ids")
    names = [name.item() if isinstance(name, np.generic) else name for name in as_python(ids)]
    for row, name in enumerate(names):
        check_id(f"ids[{row}]", name)
        if type(name) is not type(names[0]):
            raise InputError(f"ids[{row}]: got {name!r}, expected an id of one kind with ids[0]")
    return pa.array(names, pa.int64() if names and isinstance(names[0], int) else pa.string())


def check_id_type(got: pa.DataType, schema: pa.Schema) -> None:
    """Refuse ids of another type than those of an index, whose rows have this schema."""
    expected = schema.field("id").type
    if got != expected:
        raise InputError(f"ids: got type {got}, expected {expected} as in the index")


def _repeated(ids: pa.ChunkedArray[Any]) -> str | int | None:
    """An id that is there twice, if any."""
    import pyarrow.compute as pc

    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    counts: Any = pc.value_counts(ids)
    name: str | int = next(row["values"] for row in counts.to_pylist() if row["counts"] > 1)
    return name
