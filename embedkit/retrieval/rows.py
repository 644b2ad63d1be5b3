"""Vectors on their way into an index, with their ids and texts, checked."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.data.texts import check_id, check_text
from embedkit.errors import InputError
from embedkit.recipes.steps import Vectors as Matrix
from embedkit.retrieval.embeddings import VectorBatch, Vectors
from embedkit.retrieval.faiss_index import Ranking
from embedkit.retrieval.provenance import Origin

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.embedder.embedder import Embedder


_BATCH = 8192


def check_vectors(what: str, values: object, dimension: int | None = None) -> Matrix:
    """float32 (n, dim), C-contiguous.

    Raises:
        InputError: no array of numbers (n, dim), another width, or a number that is not finite in
            float32, with its row.
    """
    try:
        given = np.asarray(values)
        numbers = given.dtype.kind in "fiu"
    except ValueError:  # rows of differing lengths
        numbers = False
    if not numbers or given.ndim != 2:
        got = f"{given.dtype} {given.shape}" if numbers else reprlib.repr(values)
        raise InputError(f"{what}: got {got}, expected an array of numbers (n, dim)")
    if dimension is not None and given.shape[1] != dimension:
        raise InputError(
            f"{what}: got vectors of width {given.shape[1]}, expected {dimension} as in the index"
        )
    with np.errstate(over="ignore"):
        vectors: Matrix = np.ascontiguousarray(given, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(finite.all(axis=1).argmin())
        wrong = given[row][~np.isfinite(vectors[row])][0]
        raise InputError(f"{what}: got {wrong} in row {row}, expected finite numbers of float32")
    return vectors


def is_matrix(queries: object) -> bool:
    """Whether queries are meant as vectors, not as texts."""
    if isinstance(queries, list | tuple):
        return bool(queries) and not isinstance(queries[0], str)
    dtype = getattr(queries, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "f") in "fiub"


def query_matrix(
    queries: Any,
    embedder: Embedder | None,
    dimension: int,
    *,
    prompt: str | None,
) -> Matrix:
    """float32 (n, dim): queries that are vectors, or texts as the embedder encodes them.

    Raises:
        InputError: what is wrong, or texts without an embedder.
    """
    if isinstance(queries, str):
        raise InputError(f"queries is the str {queries!r}; expected a list, such as [{queries!r}]")
    if not is_matrix(queries):
        if embedder is None:
            raise InputError(
                f"queries: got a {type(queries).__name__} without numbers, and the index has no "
                "embedder; open it with one, or search with an array of numbers (n, dim)"
            )
        queries = embedder.encode(queries, prompt=prompt, show_progress=False)
    return check_vectors("queries", queries, dimension)


class Batches:
    """Rows for an index, in batches, as often as needed.

    Args:
        vectors: `Vectors`, or an array (n, dim).
        ids: n of them; None for those of `Vectors`, or numbers from `first_id()`.
        texts: n of them; None for those of `Vectors`, or no texts.
        dimension: that the vectors must have, or None.
        first_id: see `ids`.

    Raises:
        InputError: what is wrong, with its row; damaged `Vectors` are found when they are read.
    """

    def __init__(
        self,
        vectors: Vectors | NDArray[Any],
        ids: Iterable[str | int] | None,
        texts: Iterable[str] | None,
        *,
        dimension: int | None = None,
        first_id: Callable[[], int] = lambda: 0,
    ) -> None:
        import pyarrow as pa

        if isinstance(vectors, Vectors):
            if ids is not None or texts is not None:
                raise InputError("got ids or texts with Vectors; they have their own")
            if dimension not in (None, vectors.dimension):
                raise InputError(
                    f"vectors: got width {vectors.dimension}, expected {dimension} as in the index"
                )
            self._source: Vectors | VectorBatch = vectors
            self.dimension, self.ids = vectors.dimension, vectors.ids
            self.has_texts = vectors.has_texts
            self.origin: Origin | None = vectors.origin
            return
        matrix = check_vectors("vectors", vectors, dimension)
        if len(matrix) == 0:
            raise InputError("vectors: got none, expected at least one")
        names = ids
        if names is None:
            first = first_id()
            names = range(first, first + len(matrix))
        column = id_column(names)
        if len(column) != len(matrix):
            raise InputError(
                f"got {len(column)} ids and {len(matrix)} vectors, expected as many of each"
            )
        written = None if texts is None else _text_column(texts, len(matrix))
        self._source = VectorBatch(column, matrix, written)
        self.dimension, self.ids = matrix.shape[1], pa.chunked_array([column])
        self.has_texts = texts is not None
        self.origin = None

    def __len__(self) -> int:
        return len(self.ids)

    def check(self, ranking: Ranking, texts: bool | None) -> None:
        """Refuse what an index cannot take; long `Vectors` are found when they are read.

        Args:
            ranking: of the index.
            texts: whether it has texts, or None where both are right.

        Raises:
            InputError: what is wrong.
        """
        if len(self) == 0:
            raise InputError("vectors: got none, expected at least one")
        twice = _repeated(self.ids)
        if twice is not None:
            raise InputError(f"ids: got {twice!r} twice, expected each id once")
        if texts not in (None, self.has_texts):
            got, wanted = ("texts" if has else "no texts" for has in (self.has_texts, texts))
            raise InputError(f"texts: got {got}, expected {wanted} as in the index")
        if not isinstance(self._source, Vectors):
            ranking.check_norms("vectors", self._source.vectors)

    def prepared(self, ranking: Ranking) -> Iterator[VectorBatch]:
        """The batches as FAISS takes them."""
        start = 0
        for batch in self:
            ranking.check_norms("vectors", batch.vectors, start)
            yield batch._replace(vectors=ranking.prepare(batch.vectors))
            start += len(batch.vectors)

    def __iter__(self) -> Iterator[VectorBatch]:
        if isinstance(self._source, Vectors):
            for batch in self._source:
                yield batch._replace(vectors=check_vectors("vectors", batch.vectors))
            return
        ids, vectors, texts = self._source
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            yield VectorBatch(ids[part], vectors[part], None if texts is None else texts[part])


def id_column(ids: Iterable[str | int]) -> pa.Array[Any]:
    """Ids of one kind, which may be repeated."""
    import pyarrow as pa

    names = _listed("ids", ids)
    for row, name in enumerate(names):
        check_id(f"ids[{row}]", name)
        if type(name) is not type(names[0]):
            raise InputError(f"ids[{row}]: got {name!r}, expected an id of one kind with ids[0]")
    return pa.array(names, pa.int64() if names and isinstance(names[0], int) else pa.string())


def _text_column(texts: Iterable[str], n: int) -> pa.Array[Any]:
    import pyarrow as pa

    written = _listed("texts", texts)
    if len(written) != n:
        raise InputError(f"got {len(written)} texts and {n} vectors, expected as many of each")
    return pa.array([check_text(f"texts[{row}]", text) for row, text in enumerate(written)])


def _listed(what: str, values: Any) -> list[Any]:
    """The values of a list, array, Series or generator, as Python's own."""
    if isinstance(values, str):
        raise InputError(f"{what} is the str {values!r}; expected a list, such as [{values!r}]")
    if (
        not isinstance(values, Iterable)
        or isinstance(values, Mapping | bytes)
        or hasattr(values, "columns")
        or getattr(values, "ndim", 1) != 1
    ):
        raise InputError(f"{what}: got {reprlib.repr(values)}, expected a list")
    for method in ("to_pylist", "tolist"):  # of Arrow; of numpy and pandas
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def sample(batches: Iterable[VectorBatch], n: int, size: int) -> Matrix:
    """float32 (size, dim): vectors of `size` of the n rows, or all where there are fewer."""
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[np.random.default_rng(0).choice(n, min(n, size), replace=False)] = True
    parts = []
    start = 0
    for batch in batches:
        parts.append(batch.vectors[chosen[start : start + len(batch.vectors)]])
        start += len(batch.vectors)
    return np.concatenate(parts)


def _repeated(ids: pa.ChunkedArray[Any]) -> str | int | None:
    """An id that is there twice, if any."""
    import pyarrow.compute as pc

    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    counts: Any = pc.value_counts(ids)
    name: str | int = next(row["values"] for row in counts.to_pylist() if row["counts"] > 1)
    return name
