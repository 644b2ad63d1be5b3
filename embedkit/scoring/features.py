"""Features of a pair of sentence embeddings, in one table.

|u-v| and u*v are those of InferSent (Conneau et al. 2017, section 3.1); so are u and v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.similarity import SIMILARITIES

Features = NDArray[np.float64]

# u (n, dim), v (n, dim) -> (n, dim) or (n, 1), by the names that options and saved heads say. All
# but u and v are symmetric.
FEATURES: dict[str, Callable[[Features, Features], Features]] = {
    "|u-v|": lambda u, v: np.abs(u - v),
    "u*v": lambda u, v: u * v,
    "cosine": lambda u, v: SIMILARITIES["cosine"].pairwise(u, v)[:, None],
    "u": lambda u, v: u,
    "v": lambda u, v: v,
}


def check_features(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the table's order."""
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise InputError(f"features is {names!r}; expected some of {', '.join(FEATURES)}")
    for name in names:
        if not isinstance(name, str) or name not in FEATURES:
            raise InputError(f"unknown feature {name!r}; choose from {', '.join(FEATURES)}")
        if list(names).count(name) > 1:
            raise InputError(f"feature {name!r} is given twice; expected it once")
    return tuple(name for name in FEATURES if name in names)


def pair_features(vectors: NDArray[np.float32], names: Sequence[str]) -> Features:
    """(n, 2, dim) sentence vectors -> (n, features) float64, joined in the table's order."""
    u, v = vectors[:, 0].astype(np.float64), vectors[:, 1].astype(np.float64)
    return np.hstack([FEATURES[name](u, v) for name in check_features(names)])
