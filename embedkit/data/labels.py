"""The range of labels, which training scales to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import as_label_range
from embedkit.data.pairs import Pairs
from embedkit.errors import InputError


def label_range(data: Sequence[Pairs], declared: tuple[float, float] | None) -> tuple[float, float]:
    """The lowest and the highest possible label: as declared, or those of the data.

    Raises:
        InputError: a label is outside of what was declared.
    """
    if not data:
        raise InputError("got no data to learn from; expected at least one set of pairs")
    if declared is None:
        scores = np.concatenate([pairs.scores for pairs in data])
        return float(scores.min()), float(scores.max())
    low, high = as_label_range(declared)
    for pairs in data:
        pairs.check_range(low, high)
    return low, high


def scaled(data: Sequence[Pairs], limits: tuple[float, float]) -> NDArray[np.float64]:
    """(n,) scores of all sets, so that the limits are 0 and 1."""
    low, high = limits
    return (np.concatenate([pairs.scores for pairs in data]) - low) / (high - low)
