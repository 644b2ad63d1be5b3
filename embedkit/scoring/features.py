"""Features of a pair of sentence embeddings, in one table.

|u-v| and u*v are those of InferSent (Conneau et al. 2017, section 3.1); so are u and v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.similarity import SIMILARITIES

Features = NDArray[np.float64]


class Feature(NamedTuple):
    """A row of the table."""

    name: str  # what options and saved heads say
    make: Callable[[Features, Features], Features]  # u (n, dim), v (n, dim) -> (n, dim) or (n, 1)
    symmetric: bool  # whether u and v can be exchanged
    note: str  # what it says of a pair


_ROWS = (
    Feature("|u-v|", lambda u, v: np.abs(u - v), True, "how far apart in each dimension"),
    Feature("u*v", lambda u, v: u * v, True, "how far the dimensions agree"),
    Feature(
        "cosine",
        lambda u, v: SIMILARITIES["cosine"].pairwise(u, v)[:, None],
        True,
        "one number, the cosine",
    ),
    Feature("u", lambda u, v: u, False, "the first vector"),
    Feature("v", lambda u, v: v, False, "the second vector"),
)

FEATURES: dict[str, Feature] = {row.name: row for row in _ROWS}


def check_features(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the table's order."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise InputError(f"features is {names!r}; expected some of {', '.join(FEATURES)}")
    for name in names:
        if not isinstance(name, str) or name not in FEATURES:
            raise InputError(f"unknown feature {name!r}; choose from {', '.join(FEATURES)}")
        if list(names).count(name) > 1:
            raise InputError(f"feature {name!r} is there twice; expected it once")
    return tuple(name for name in FEATURES if name in names)


def pair_features(vectors: NDArray[np.float32], names: Sequence[str]) -> Features:
    """(n, 2, dim) sentence vectors -> (n, features) float64, joined in the table's order."""
    u, v = vectors[:, 0].astype(np.float64), vectors[:, 1].astype(np.float64)
    return np.hstack([FEATURES[name].make(u, v) for name in check_features(names)])
