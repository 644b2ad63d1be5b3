"""Which texts run together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TOKEN_BUDGET = 4096


def batches(lengths: NDArray[np.int64], budget: int = TOKEN_BUDGET) -> Iterator[NDArray[np.int64]]:
    """Numbers of texts, longest first, in batches of at most `budget` tokens or one text.

    Neighbours are of one length or nearly, and texts of one length share an encoder's calls.
    Longest first shows at once whether memory is enough.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count
