"""Kinds of index and what they rank by, on FAISS's terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.steps import Vectors

# Short names for FAISS's factory strings; any other string is taken as one.
KINDS = {"flat": "Flat", "hnsw": "HNSW32"}
# Malkov and Yashunin 2018: candidates while building and while searching. With 32 links a node
# they find 95 of the 100 nearest among a million vectors of 384 numbers and more
# (benchmarks/index.py).
_EF_CONSTRUCTION = 100
_EF_SEARCH = 100


def _same(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x


def _unit(vectors: Vectors) -> Vectors:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    unit: Vectors = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit


class Ranking(NamedTuple):
    """A similarity as FAISS computes it.

    Attributes:
        metric: FAISS's.
        prepare: (n, dim) -> (n, dim), done to stored vectors and to queries.
        score: FAISS's distances -> scores; larger is more similar.
    """

    metric: int
    prepare: Callable[[Vectors], Vectors]
    score: Callable[[NDArray[np.float32]], NDArray[np.float32]]


RANKINGS = {
    "cosine": Ranking(faiss.METRIC_INNER_PRODUCT, _unit, _same),
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


def train(index: Any, sample: Vectors, kind: str) -> None:
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


def add(index: Any, vectors: Vectors, kind: str) -> None:
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


def holds_vectors(index: Any) -> bool:
    """Whether FAISS can give back the vectors as they were added, bit for bit."""
    return type(index) in (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2) or (
        type(index) is faiss.IndexHNSWFlat
    )


def _reason(error: Exception) -> str:
    """FAISS's message without its place in the source."""
    return str(error).rsplit(": ", 1)[-1].strip()
