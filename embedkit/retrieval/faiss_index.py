"""Kinds of index and what they rank by, on FAISS's terms."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.recipes.steps import Float32Array

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


def _unit(vectors: Float32Array) -> Float32Array:
    norms = _norms(vectors)[:, None]
    unit: Float32Array = (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)
    return unit


def _norms(vectors: Float32Array) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return norms


class Ranking(NamedTuple):
    """A similarity as FAISS computes it.

    Attributes:
        metric: FAISS's.
        prepare: (n, dim) -> (n, dim), done to stored vectors and to queries.
        score: FAISS's distances -> scores; larger is more similar.
        longest: the largest norm whose scores fit into float32.
    """

    metric: int
    prepare: Callable[[Float32Array], Float32Array]
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    longest: float = 1e18

    def check_norms(self, what: str, vectors: Float32Array, first_row: int = 0) -> None:
        """Refuse vectors whose scores would overflow.

        Raises:
            InputError: a vector that is too long, with its row.
        """
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
    "cosine": Ranking(faiss.METRIC_INNER_PRODUCT, _unit, _same, math.inf),
    "dot": Ranking(faiss.METRIC_INNER_PRODUCT, _same, _same),
    "euclidean": Ranking(faiss.METRIC_L2, _same, lambda d: -np.sqrt(np.maximum(d, 0))),
}


def find_ranking(similarity: str) -> Ranking:
    """A row of the table by name.

    Raises:
        InputError: an unknown name.
    """
    if similarity not in RANKINGS:
        raise InputError(f"similarity is {similarity!r}; an index has one of {', '.join(RANKINGS)}")
    return RANKINGS[similarity]


def new_index(kind: str, dimension: int, similarity: str) -> Any:
    """An empty FAISS index, not trained.

    Args:
        kind: one of `KINDS`, or a factory string of FAISS.
        dimension: numbers in a vector.
        similarity: one of `RANKINGS`.

    Raises:
        InputError: FAISS knows no such kind, or not for this similarity or dimension.
    """
    metric = find_ranking(similarity).metric
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


def train(index: Any, sample: Float32Array, kind: str) -> None:
    """Train an index on a sample of prepared vectors.

    Raises:
        InputError: FAISS cannot, mostly for too few vectors.
    """
    try:
        index.train(sample)
    except RuntimeError as error:
        raise InputError(
            f"kind {kind!r} cannot be trained on {len(sample)} vectors ({_reason(error)}); "
            "expected more vectors, or another kind, such as flat"
        ) from error


def add(index: Any, vectors: Float32Array, kind: str) -> None:
    """Add prepared vectors.

    Raises:
        InputError: FAISS cannot.
    """
    try:
        index.add(vectors)
    except RuntimeError as error:
        raise InputError(
            f"kind {kind!r} cannot take these {len(vectors)} vectors ({_reason(error)}); "
            "expected another kind, such as flat"
        ) from error


def deserialized(content: NDArray[np.uint8]) -> Any:
    """What `faiss.serialize_index` wrote, while no file is read."""
    with _READING:
        return faiss.deserialize_index(content)


def read_faiss(path: Path, kind: str, dimension: int, similarity: str) -> Any:
    """A FAISS index from a file, after checks that keep a search within memory.

    Raises:
        RuntimeError, MemoryError: of FAISS.
        ValueError: not an index of this kind, or one whose numbers disagree.
    """
    with _READING:
        if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
            index = faiss.read_index(str(path))
        else:
            usual = _faiss.get_deserialization_vector_byte_limit()
            try:
                # A vector of a file is not longer than the file.
                _faiss.set_deserialization_vector_byte_limit(path.stat().st_size)
                index = faiss.read_index(str(path))
            finally:
                _faiss.set_deserialization_vector_byte_limit(usual)
    empty = deserialized(faiss.serialize_index(new_index(kind, dimension, similarity)))
    for part, wanted in zip(_parts(index), _parts(empty), strict=False):
        got, expected = ((type(x).__name__, x.d, x.metric_type) for x in (part, wanted))
        if got != expected:
            raise ValueError(f"got an index {got}, expected {expected}")
        if part.ntotal != index.ntotal or not part.is_trained:
            raise ValueError(f"got {part.ntotal} of {index.ntotal} vectors, or no training")
    base: Any = base_of(index)
    numbers: list[Any] = []
    if isinstance(base, faiss.IndexIVF):
        lists: Any = base.invlists
        numbers = [rows for rows in rows_of_lists(base) if len(rows)]
        _same_number("entries of lists", sum(map(len, numbers)), index.ntotal)
        _same_number("lists", base.nlist, lists.nlist)
    elif isinstance(base, faiss.IndexHNSW):
        hnsw: Any = base.hnsw
        numbers = [faiss.vector_to_array(hnsw.neighbors)]
    low = -1 if isinstance(base, faiss.IndexHNSW) else 0
    if any(part.min() < low or part.max() >= index.ntotal for part in numbers if len(part)):
        raise ValueError("got numbers of rows that there are not")
    return index


def _same_number(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"got {got} {what}, expected {expected}")


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
    for number in range(lists.nlist):
        size = lists.list_size(number)
        rows: NDArray[np.int64] = np.empty(0, np.int64)
        yield faiss.rev_swig_ptr(lists.get_ids(number), size) if size else rows


def probed_lists(index: Any, queries: Float32Array, nprobe: int) -> NDArray[np.int64]:
    """(n, nprobe): the lists that a search of an IVF index looks at."""
    index = faiss.downcast_index(index)
    while not isinstance(index, faiss.IndexIVF):
        if isinstance(index, faiss.IndexPreTransform):
            chain: Any = index.chain
            for place in range(chain.size()):
                queries = faiss.downcast_VectorTransform(chain.at(place)).apply(queries)
            index = faiss.downcast_index(index.index)
        else:
            index = faiss.downcast_index(index.base_index)
    lists: NDArray[np.int64] = index.quantizer.search(queries, nprobe)[1]
    return lists


class Effort(NamedTuple):
    """How much of an index a search looks at.

    Attributes:
        option: `nprobe` or `ef_search`; None for a kind without one.
        value: the kind's default.
        most: a larger value changes nothing.
    """

    option: str | None
    value: int
    most: int

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
    """The effort that is asked for by name, or None for the default.

    Raises:
        InputError: no number from 1, or an option that the kind does not have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        check_count(name, value)
        if name != Effort.of(index).option:
            raise InputError(
                f"got {name}, which kind {kind!r} does not have; expected nprobe with an IVF kind, "
                "ef_search with an HNSW kind"
            )
    return next((int(value) for value in given.values()), None)


def check_count(name: str, value: object) -> int:
    """A whole number from 1.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number from 1")
    return int(value)


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
