"""Checks of what goes into an index or asks it: vectors, ids, texts and queries."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_list
from embedkit.data.texts import as_python, as_texts, check_id
from embedkit.embedder.prompts import query_prompt
from embedkit.errors import InputError
from embedkit.metadata.columns import completed, metadata_type, row_schema
from embedkit.metadata.typed_columns import Metadata, as_metadata, as_structs
from embedkit.recipes.steps import Float32Array as Matrix
from embedkit.retrieval.bm25 import TermCounts
from embedkit.retrieval.faiss_index import Ranking
from embedkit.vectors.embeddings import Vectors
from embedkit.vectors.provenance import Provenance
from embedkit.vectors.shards import vectors_of

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


class Searched(Protocol):
    """What of an index says how queries become vectors."""

    embedder: Embedder | None
    provenance: Provenance | None
    dimension: int
    _ranking: Ranking


def query_matrix(
    index: Searched, queries: Any, prompt: str | None = None, prompt_name: str | None = None
) -> Matrix:
    """float32 (n, dim): queries that are vectors, or texts as the index's embedder encodes them."""
    if isinstance(queries, str):
        raise InputError(f"queries is the str {queries!r}; expected a list, such as [{queries!r}]")
    if not _is_matrix(queries):
        embedder = index.embedder
        if embedder is None:
            raise InputError(
                f"queries: got a {type(queries).__name__} without numbers, and the index has no "
                "embedder; open it with one, or search with an array of numbers (n, dim)"
            )
        prompt = query_prompt(embedder, index.provenance, prompt, prompt_name)
        queries = embedder.encode(queries, prompt=prompt, show_progress=False)
    matrix = check_vectors("queries", queries, index.dimension)
    index._ranking.check_norms("queries", matrix)
    return matrix


def _is_matrix(queries: object) -> bool:
    if isinstance(queries, list | tuple):
        return bool(queries) and not isinstance(queries[0], str)
    dtype = getattr(queries, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "f") in "fiub"


class RowBatch(NamedTuple):
    """Rows of an index."""

    rows: pa.Table  # n rows of the columns that `row_schema` says
    vectors: Matrix  # (n, dim)
    terms: TermCounts | None = None  # of rows whose terms were counted before


@dataclass(frozen=True)
class NewRows:
    """Rows for an index, which can be read as often as needed."""

    source: Vectors | Matrix
    table: pa.Table  # n rows; of `Vectors` without text and content, which are read with a batch
    schema: pa.Schema  # of the batches
    dimension: int
    provenance: Provenance | None = None  # the embedder behind the vectors, where it is known
    chosen: NDArray[np.bool_] | None = None  # of the rows of `Vectors`; None takes all

    @classmethod
    def of(
        cls,
        vectors: Vectors | NDArray[Any],
        ids: Iterable[str | int] | None,
        texts: Iterable[str] | None,
        metadata: Metadata | None = None,
        *,
        schema: pa.Schema | None = None,  # of the rows of the index, where it has some
        dimension: int | None = None,  # that the vectors must have, or None
        first_id: Callable[[], int] = lambda: 0,
        chosen: NDArray[np.bool_] | None = None,
    ) -> NewRows:
        """Rows of `Vectors`, or of an array (n, dim) with n ids and perhaps n texts."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        if isinstance(vectors, Vectors):
            if ids is not None or texts is not None:
                raise InputError("got ids or texts with Vectors; they have their own")
            _check_dimension("vectors", vectors.dimension, dimension)
            source: Vectors | Matrix = vectors
            columns["id"] = vectors.ids if chosen is None else vectors.ids.filter(pa.array(chosen))
            has_texts, width, provenance = vectors.has_texts, vectors.dimension, vectors.provenance
        else:
            source = check_vectors("vectors", vectors, dimension)
            (n, width), provenance, has_texts = source.shape, None, texts is not None
            if ids is None:
                start = first_id() if n else 0
                ids = range(start, start + n)
            columns["id"] = id_column(ids)
            if texts is not None:
                columns["text"] = pa.array(as_texts(texts), pa.string())
            for name, column in columns.items():
                if len(column) != n:
                    raise InputError(
                        f"got {len(column)} {name}s and {n} vectors, expected as many of each"
                    )
        n = len(columns["id"])
        if n == 0:
            raise InputError("vectors: got none, expected at least one")
        if schema is not None:
            check_id_type(columns["id"].type, schema)
            if has_texts != ("text" in schema.names):
                got, expected = ("texts", "no texts") if has_texts else ("no texts", "texts")
                raise InputError(f"texts: got {got}, expected {expected} as in the index")
        kind = metadata_type(schema)
        if metadata is not None:
            values = as_metadata(metadata)
            if values.num_columns and len(values) != n:
                raise InputError(
                    f"got {len(values)} rows of metadata and {n} vectors, expected as many of each"
                )
            if values.num_columns:
                columns["metadata"] = as_structs(
                    values, kind if schema is None else kind or pa.struct([])
                )
                kind = columns["metadata"].type
        if schema is None:
            knows_content = isinstance(vectors, Vectors) and not has_texts
            schema = row_schema(columns["id"].type, has_texts, knows_content, kind)
        return cls(source, pa.table(columns), schema, width, provenance, chosen)

    @classmethod
    def into(cls, index: Searched, *given: Any, **options: Any) -> NewRows:
        """As `of`, and refuse rows that the index cannot take."""
        rows = cls.of(*given, **options, dimension=index.dimension)
        if rows.provenance is not None and index.provenance is not None:
            index.provenance.check_rows(rows.provenance)
        rows.check(index._ranking)
        return rows

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> pa.ChunkedArray[Any]:
        """The ids of all rows."""
        return self.table.column("id")

    def check(self, ranking: Ranking) -> None:
        """Refuse what an index cannot take; too long `Vectors` are refused when they are read."""
        check_once(self.ids)
        if not isinstance(self.source, Vectors):
            ranking.check_norms("vectors", self.source)

    def batches(self, ranking: Ranking) -> Iterator[RowBatch]:
        """The rows in batches, their vectors prepared for FAISS."""
        start = 0
        for vectors, others in self._parts():
            ranking.check_norms("vectors", vectors, start)
            rows = self.table.slice(start, len(vectors))
            yield RowBatch(completed(rows, others, self.schema), ranking.prepare(vectors))
            start += len(vectors)

    def _parts(self) -> Iterator[tuple[Matrix, Mapping[str, Any]]]:
        """Vectors, and columns that are not in the table."""
        import pyarrow as pa

        if not isinstance(self.source, Vectors):
            for start in range(0, len(self), _BATCH):
                yield self.source[start : start + _BATCH], {}
            return
        start = 0
        for whole in self.source.record_batches():
            end = start + whole.num_rows
            batch = whole if self.chosen is None else whole.filter(pa.array(self.chosen[start:end]))
            if batch.num_rows:
                others = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield check_vectors("vectors", vectors_of(batch)), others
            start = end

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


def check_once(ids: pa.ChunkedArray[Any] | pa.Array[Any]) -> None:
    """Refuse an id that is there twice."""
    twice = repeated(ids)
    if twice is not None:
        raise InputError(f"ids: got {twice!r} twice, expected each id once")


def repeated(ids: pa.ChunkedArray[Any] | pa.Array[Any]) -> str | int | None:
    """An id that is there twice, if any."""
    import pyarrow.compute as pc

    if pc.count_distinct(ids).as_py() == len(ids):
        return None
    counts: Any = pc.value_counts(ids)
    name: str | int = next(row["values"] for row in counts.to_pylist() if row["counts"] > 1)
    return name
