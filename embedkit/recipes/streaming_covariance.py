"""Mean and covariance of vectors that stream by, in one pass and constant memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class StreamingCovariance:
    """Mean (dim,) and covariance of all `count` vectors added so far, in float64.

    Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1983), "Algorithms for
    Computing the Sample Variance", equations 2.1: deviations are taken from each block's own mean,
    so that a mean that is large beside the deviations costs no digits.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(dim)
        self._scatter: NDArray[np.float64] = np.zeros((dim, dim))

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add a block of vectors, (n, dim)."""
        if len(vectors) == 0:
            return
        block = vectors.astype(np.float64)
        mean = block.mean(0)
        block -= mean
        total = self.count + len(block)
        step = mean - self.mean
        self._scatter += block.T @ block
        self._scatter += np.outer(step, step) * (self.count * len(block) / total)
        self.mean = self.mean + step * (len(block) / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(dim, dim), divided by count - 1; zeros for a single vector."""
        return self._scatter / max(1, self.count - 1)
