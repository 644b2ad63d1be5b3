"""The shape of sentence vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedkit.similarity import unit
from embedkit.steps import Vectors


@dataclass(frozen=True)
class Geometry:
    """The shape of n distinct sentence vectors.

    Attributes:
        mean_cosine: expected cosine of two random sentences, that is, the mean over all pairs:
            the anisotropy of Ethayarajh 2019, equation 3.
        top_share: share of the variance along the first principal component.
        effective_rank: of the centred vectors (Roy and Vetterli 2007): exp of the entropy of their
            singular values as shares of their sum. From 1 to the number of dimensions.
    """

    mean_cosine: float | None
    top_share: float | None
    effective_rank: float | None

    @classmethod
    def of(cls, vectors: Vectors) -> Geometry:
        """Of vectors (n, dim); None for what one vector, or equal ones, do not have."""
        x = vectors.astype(np.float64)
        n = len(x)
        if n == 1:
            return cls(None, None, None)
        units = unit(x)
        # |sum of u|^2 holds each pair twice, and each vector with itself.
        mean_cosine = float(
            (np.square(units.sum(0)).sum() - np.square(units).sum()) / (n * (n - 1))
        )
        centred = x - x.mean(0)
        gram = centred @ centred.T if n < x.shape[1] else centred.T @ centred
        variances = np.linalg.eigvalsh(gram).clip(min=0)
        total = variances.sum()
        if total <= 1e-12 * np.square(x).sum():
            return cls(mean_cosine, None, None)
        shares = np.sqrt(variances / total)
        shares = shares[shares > 0] / shares.sum()
        entropy = -(shares * np.log(shares)).sum()
        return cls(mean_cosine, float(variances[-1] / total), float(np.exp(entropy)))
