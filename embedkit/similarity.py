"""Similarities of sentence vectors; larger is more similar in all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError

_Array = NDArray[np.float64]


def _unit(x: _Array) -> _Array:
    peaks = np.abs(x).max(axis=1, keepdims=True)
    x = x / np.where(peaks > 1e150, peaks, 1.0)  # their squares would overflow
    unit: _Array = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def _squared_distances(a: _Array, b: _Array) -> _Array:
    squares: _Array = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
    return np.maximum(squares, 0, out=squares)


def _manhattan(a: _Array, b: _Array) -> _Array:
    return np.stack([np.abs(row - b).sum(1) for row in a])


class Similarity(NamedTuple):
    """A row of the table.

    Attributes:
        name: what reports and options say.
        pairwise: (n, dim), (n, dim) -> (n,).
        matrix: (n, dim), (m, dim) -> (n, m).
    """

    name: str
    pairwise: Callable[[_Array, _Array], _Array]
    matrix: Callable[[_Array, _Array], _Array]


_ROWS = (
    Similarity(
        "cosine",
        lambda a, b: (_unit(a) * _unit(b)).sum(1),
        lambda a, b: _unit(a) @ _unit(b).T,
    ),
    Similarity("dot", lambda a, b: (a * b).sum(1), lambda a, b: a @ b.T),
    Similarity(
        "euclidean",
        lambda a, b: -np.linalg.norm(a - b, axis=1),
        lambda a, b: -np.sqrt(_squared_distances(a, b)),
    ),
    Similarity("manhattan", lambda a, b: -np.abs(a - b).sum(1), lambda a, b: -_manhattan(a, b)),
)

SIMILARITIES: dict[str, Similarity] = {row.name: row for row in _ROWS}


def as_vectors(values: object, name: str) -> _Array | None:
    """Finite vectors (n, dim) of an array, a tensor or lists of numbers; None for anything else.

    Raises:
        InputError: numbers of another shape, rows of different lengths, or NaN.
    """
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
    """A row of the table by name.

    Raises:
        InputError: an unknown name.
    """
    if name not in SIMILARITIES:
        raise InputError(f"unknown similarity {name!r}; choose from {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]
