"""The similarities of sentence embeddings: cosine, dot, euclidean, manhattan; larger is closer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError

_Array = NDArray[np.float64]
_Floats = TypeVar("_Floats", NDArray[np.float32], NDArray[np.float64])

_SAFE = (1e-12, 1e18)  # norms whose squares neither overflow nor vanish, in float32 too
_NEAR = 1e-6  # of the squared norms: a squared distance below is mostly cancelled


def scaled(x: _Floats) -> _Floats:
    """Rows divided by a power of two, which is exact: the largest number of each is in [0.5, 1)."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    exact: _Floats = np.ldexp(x, -np.frexp(largest)[1])
    return exact


def unit(x: _Floats) -> _Floats:
    """Rows (n, dim) of unit length, whatever their scale; a row of zeros stays."""
    with np.errstate(over="ignore", under="ignore"):
        norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not ((norms > _SAFE[0]) & (norms < _SAFE[1])).all():
        x = scaled(x)
        norms = np.linalg.norm(x, axis=1, keepdims=True)
    lengths: Any = np.where(norms > 0, norms, 1).astype(x.dtype)
    units: _Floats = x / lengths
    return units


def _squared_distances(a: _Array, b: _Array) -> _Array:
    sums = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :]
    squares: _Array = sums - 2 * a @ b.T
    for row, of_row, summed in zip(a, squares, sums, strict=True):
        near = np.flatnonzero(of_row <= _NEAR * summed)
        of_row[near] = np.square(row - b[near]).sum(1)
    return squares


class Similarity(NamedTuple):
    """A row of the table of similarities."""

    name: str  # in reports and options
    pairwise: Callable[[_Array, _Array], _Array]  # (n, dim), (n, dim) -> (n,)
    matrix: Callable[[_Array, _Array], _Array]  # (n, dim), (m, dim) -> (n, m)


_ROWS = (
    Similarity(
        "cosine",
        lambda a, b: (unit(a) * unit(b)).sum(1),
        lambda a, b: unit(a) @ unit(b).T,
    ),
    Similarity("dot", lambda a, b: (a * b).sum(1), lambda a, b: a @ b.T),
    Similarity(
        "euclidean",
        lambda a, b: -np.linalg.norm(a - b, axis=1),
        lambda a, b: -np.sqrt(_squared_distances(a, b)),
    ),
    Similarity(
        "manhattan",
        lambda a, b: -np.abs(a - b).sum(1),
        lambda a, b: -np.stack([np.abs(row - b).sum(1) for row in a]),
    ),
)

SIMILARITIES: dict[str, Similarity] = {row.name: row for row in _ROWS}


def as_vectors(values: object, name: str) -> _Array | None:
    """Finite vectors (n, dim) of an array, a tensor or lists of numbers; None for anything else."""
    if hasattr(values, "detach"):  # a tensor of torch, wherever it is
        values = values.detach().float().cpu().numpy()
    if isinstance(values, list | tuple):
        if any(isinstance(row, str) or not hasattr(row, "__len__") for row in values):
            return None
    elif not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        return None
    try:
        vectors = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} has rows of different lengths; expected texts or (n, dim)"
        ) from error
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"{name} has rows that are not numbers; expected texts or (n, dim)")
    vectors = vectors.astype(np.float64)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise InputError(f"{name} has shape {vectors.shape}; expected texts or (n, dim)")
    if not np.isfinite(vectors).all():
        raise InputError(f"{name} has numbers that are not finite; expected finite ones")
    return vectors


def find_similarity(name: str) -> Similarity:
    """A row of the table by name."""
    if name not in [*SIMILARITIES]:
        raise InputError(f"unknown similarity {name!r}; choose from {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]


def float32_matrix(name: str, a: _Array, b: _Array) -> NDArray[np.float32]:
    """The similarity (n, m) of each a (n, dim) with each b (m, dim)."""
    exact = find_similarity(name).matrix(a, b)
    with np.errstate(over="ignore"):
        matrix = exact.astype(np.float32)
    beyond = np.argwhere(np.isinf(matrix))
    if len(beyond):
        row, column = beyond[0].tolist()
        raise InputError(
            f"the {name} similarity of a[{row}] and b[{column}] is {exact[row, column]:g}; "
            "expected vectors whose similarity float32 can hold"
        )
    return matrix
