"""FAISS: its kinds of index, similarities, search parameters, and checks of its files."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_count, check_type
from embedkit.errors import InputError
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import unit

# Short names for FAISS's factory strings; any other string is taken as one.
KINDS = {"flat": "Flat", "hnsw": "HNSW32"}

# Malkov and Yashunin 2018: candidates while building and while searching. With 32 links a node
# they find 95 of the 100 nearest among a million vectors of 384 numbers and more
# (benchmarks/index.py).
_EF_CONSTRUCTION = 100
_EF_SEARCH = 100

_faiss: Any = faiss  # FAISS's annotations leave out what its Python side adds
_READING = threading.Lock()  # FAISS's limit is the process's


def _same(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x


def _norms(vectors: Float32Array) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return norms


class Ranking(NamedTuple):
    """A similarity as FAISS computes it."""

    metric: int
    prepare: Callable[[Float32Array], Float32Array]  # of stored vectors and queries
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # of FAISS's distances
    longest: float = 1e18  # the largest norm whose scores fit into float32

    def check_norms(self, what: str, vectors: Float32Array, first_row: int = 0) -> None:
        """Refuse vectors whose scores would overflow."""
        if self.longest == math.inf:
            return
        norms = _norms(vectors)
        if len(norms) and norms.max() > self.longest:
            row = int((norms > self.longest).argmax())
            raise InputError(
                f"{what}: got a vector of length {norms[row]:.3g} in row {first_row + row}, "
                f"expected at most {self.longest:g}, as float32 scores of longer ones overflow"
            )


RANKINGS = {
    "cosine": Ranking(faiss.METRIC_INNER_PRODUCT, unit, _same, math.inf),
    "dot": Ranking(faiss.METRIC_INNER_PRODUCT, _same, _same),
    "euclidean": Ranking(faiss.METRIC_L2, _same, lambda d: -np.sqrt(np.maximum(d, 0))),
}


def find_ranking(similarity: str) -> Ranking:
    """The row of a similarity; InputError where there is none."""
    if similarity not in RANKINGS:
        raise InputError(f"similarity is {similarity!r}; an index has one of {', '.join(RANKINGS)}")
    return RANKINGS[similarity]


def new_index(kind: str, dimension: int, similarity: str) -> Any:
    """An empty FAISS index, not trained."""
    metric = find_ranking(similarity).metric
    check_type("kind", kind, str, f"{', '.join(KINDS)} or a factory string of FAISS")
    factory = KINDS.get(kind, kind)
    if "IDMap" in factory:
        raise InputError(f"kind is {kind!r}; expected one without IDMap: the index keeps ids")
    try:
        index = faiss.index_factory(dimension, factory, metric)
    except (RuntimeError, MemoryError) as error:
        raise InputError(
            f"kind is {kind!r}, and FAISS has none for {dimension} dimensions and {similarity} "
            f"({_reason(error)}); expected {', '.join(KINDS)} or a factory string such as "
            "'IVF256,Flat'"
        ) from error
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efConstruction, index.hnsw.efSearch = _EF_CONSTRUCTION, _EF_SEARCH
    return index


def check_trainable(index: Any, rows: int, kind: str) -> None:
    """Refuse a kind with more clusters than there are rows, before these are encoded."""
    base = base_of(index)
    clusters = max(getattr(base, "nlist", 0), getattr(getattr(base, "pq", None), "ksub", 0))
    if rows < clusters:
        raise InputError(
            f"kind {kind!r} cannot be trained on {rows} vectors, as it has {clusters} clusters; "
            "expected more vectors, or another kind, such as flat"
        )


def train(index: Any, sample: Float32Array, kind: str) -> None:
    """Train an index on a sample of prepared vectors."""
    with _refusals(
        f"kind {kind!r} cannot be trained on {len(sample)} vectors", "more vectors, or "
    ):
        index.train(sample)


def add(index: Any, vectors: Float32Array, kind: str) -> None:
    """Add prepared vectors."""
    with _refusals(f"kind {kind!r} cannot take these {len(vectors)} vectors"):
        index.add(vectors)


def bytes_of(index: Any) -> int:
    """What an index takes in memory, about: its bytes as they are written."""
    sizes: list[int] = []

    def count(block: bytes) -> int:
        sizes.append(len(block))
        return len(block)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))  # type: ignore[attr-defined]
    return sum(sizes)


@contextmanager
def _refusals(message: str, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"{message} ({_reason(error)}); expected {remedy}another kind, such as flat"
        ) from error


def deserialized(content: NDArray[np.uint8]) -> Any:
    """What `faiss.serialize_index` wrote, while no file is read."""
    with _READING:
        return faiss.deserialize_index(content)


def read_faiss(path: Path, kind: str, dimension: int, similarity: str) -> Any:
    """A FAISS index from a file; ValueError where its numbers would lead a search astray."""
    made = new_index(kind, dimension, similarity)
    with _READING:
        if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
            index = faiss.read_index(str(path))
        else:
            usual = _faiss.get_deserialization_vector_byte_limit()
            try:
                # A vector of a file is not longer than the file, but for a table that is made anew.
                limit = max(path.stat().st_size, _table_bytes(made))
                _faiss.set_deserialization_vector_byte_limit(limit)
                index = faiss.read_index(str(path))
            finally:
                _faiss.set_deserialization_vector_byte_limit(usual)
    empty = deserialized(faiss.serialize_index(made))
    for part, wanted in zip(_parts(index), _parts(empty), strict=False):
        got, expected = ((type(x).__name__, x.d, x.metric_type) for x in (part, wanted))
        check_equal("an index", got, expected)
        check_equal("vectors", part.ntotal, index.ntotal)
        check_equal("is trained", part.is_trained, True)
    base: Any = base_of(index)
    row_arrays: list[Any] = []
    lowest = 0
    if isinstance(base, faiss.IndexIVF):
        lists: Any = base.invlists
        check_equal("lists", base.nlist, lists.nlist)
        row_arrays = list(rows_of_lists(base))
        check_equal("entries of lists", sum(map(len, row_arrays)), index.ntotal)
    elif isinstance(base, faiss.IndexHNSW):
        hnsw: Any = base.hnsw
        row_arrays, lowest = [faiss.vector_to_array(hnsw.neighbors)], -1
    for rows in row_arrays:
        if len(rows) and (rows.min() < lowest or rows.max() >= index.ntotal):
            raise ValueError("got numbers of rows that there are not")
    return index


def _table_bytes(index: Any) -> int:
    """What reading an IVF-PQ index allocates beside the file, at most 2 GiB as in FAISS."""
    base = base_of(index)
    if not isinstance(base, faiss.IndexIVFPQ):
        return 0
    quantizer: Any = base.pq
    entries = int(base.nlist * quantizer.M * quantizer.ksub)
    return min(4 * (entries + 1), 1 << 31)


def check_equal(name: str, got: object, expected: object) -> None:
    """Refuse a file that disagrees with another, or with itself; the caller names the file."""
    if got != expected:
        raise ValueError(f"got {name} {got}, expected {expected}")


def _parts(index: Any) -> Iterator[Any]:
    """An index and those inside it."""
    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "refine_index", "storage"):
        if getattr(index, name, None) is not None:
            yield from _parts(getattr(index, name))


def is_flat(index: Any) -> bool:
    """Whether FAISS compares a query with every vector, exactly."""
    return type(index) in (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2)


def holds_vectors(index: Any) -> bool:
    """Whether FAISS can give back the vectors as they were added, bit for bit."""
    return is_flat(index) or type(index) is faiss.IndexHNSWFlat


def scores_exactly(index: Any) -> bool:
    """Whether the distances of FAISS are those of the vectors as they were added."""
    return holds_vectors(index) or type(index) is faiss.IndexIVFFlat


def held_vectors(index: Any) -> Float32Array:
    """(n, dim): the vectors of an index that holds them, without a copy."""
    flat: Any = index if is_flat(index) else faiss.downcast_index(index.storage)
    vectors: Float32Array = faiss.rev_swig_ptr(flat.get_xb(), index.ntotal * index.d)
    return vectors.reshape(index.ntotal, index.d)


def base_of(index: Any) -> Any:
    """The index that is searched, behind transforms and without refinement."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return base_of(index.index)
    return base_of(index.base_index) if isinstance(index, faiss.IndexRefine) else index


def rows_of_lists(index: Any) -> Iterator[NDArray[np.int64]]:
    """The row numbers of each list of an IVF index."""
    lists = base_of(index).invlists
    for row in range(lists.nlist):
        size = lists.list_size(row)
        empty: NDArray[np.int64] = np.empty(0, np.int64)
        yield faiss.rev_swig_ptr(lists.get_ids(row), size) if size else empty


def probed_lists(index: Any, queries: Float32Array, nprobe: int) -> NDArray[np.int64]:
    """(n, nprobe): the lists that a search of an IVF index looks at."""
    index = faiss.downcast_index(index)
    while not isinstance(index, faiss.IndexIVF):
        if isinstance(index, faiss.IndexPreTransform):
            chain: Any = index.chain
            for step in range(chain.size()):
                queries = faiss.downcast_VectorTransform(chain.at(step)).apply(queries)
            index = faiss.downcast_index(index.index)
        else:
            index = faiss.downcast_index(index.base_index)
    lists: NDArray[np.int64] = index.quantizer.search(queries, nprobe)[1]
    return lists


class Effort(NamedTuple):
    """How much of an index a search looks at."""

    option: str | None  # `nprobe` or `ef_search`; None for a kind without one
    value: int  # the kind's default
    most: int  # a larger value changes nothing

    @classmethod
    def of(cls, index: Any) -> Effort:
        """The default of a FAISS index."""
        base = base_of(index)
        if isinstance(base, faiss.IndexIVF):
            return cls("nprobe", math.ceil(math.sqrt(base.nlist)), base.nlist)
        if isinstance(base, faiss.IndexHNSW):
            return cls("ef_search", _EF_SEARCH, index.ntotal)
        return cls(None, 0, 0)


def check_effort(index: Any, kind: str, **options: int | None) -> int | None:
    """The effort that is asked for by name, or None for the default."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        check_count(name, value)
        if name != Effort.of(index).option:
            raise InputError(
                f"got {name}, which kind {kind!r} does not have; expected nprobe with an IVF kind, "
                "ef_search with an HNSW kind"
            )
    return next((int(value) for value in given.values()), None)


def search_parameters(index: Any, effort: int, selector: Any = None) -> Any:
    """FAISS's parameters of one search: how much to look at, and which rows."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = search_parameters(index.index, effort, selector)
        return inner and _faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = search_parameters(index.base_index, effort, selector)
        return inner and _faiss.IndexRefineSearchParameters(base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        return _faiss.SearchParametersIVF(nprobe=effort, sel=selector)
    if isinstance(index, faiss.IndexHNSW):
        return _faiss.SearchParametersHNSW(efSearch=effort)
    return None if selector is None else _faiss.SearchParameters(sel=selector)


def selector_of(index: Any, removed: NDArray[np.bool_]) -> Any:
    """What lets FAISS pass over rows; None for kinds that cannot, such as PQ.

    HNSW could, but then its hits do not say how many candidates were removed rows.
    """
    if isinstance(base_of(index), faiss.IndexHNSW):
        return None
    selector = _faiss.IDSelectorBitmap(np.packbits(~removed, bitorder="little"))
    if is_flat(index):
        return selector
    try:
        index.search(
            np.zeros((1, index.d), np.float32), 1, params=search_parameters(index, 1, selector)
        )
    except RuntimeError:
        return None
    return selector


def _reason(error: Exception) -> str:
    """FAISS's message without its place in the source."""
    return str(error).rsplit(": ", 1)[-1].strip()
