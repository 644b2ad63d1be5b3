"""Steps that are affine maps, fitted from the moments of vectors and folded into one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.recipes.recipe import split_step
from embedkit.recipes.steps import IDENTITY, Dense
from embedkit.recipes.streaming_covariance import Moments

_Array: TypeAlias = NDArray[np.float64]


# What varies by less than this share of the largest number is rounding, and would be blown up.
_RESOLUTION = 4 * float(np.finfo(np.float32).eps)


_VARY = "vary less than float32 resolves"


def fit_affine(steps: Sequence[str], moments: Moments) -> tuple[Dense, tuple[str, ...]]:
    """Neighbouring steps, fitted and folded.

    Each is fitted on what the ones before it leave. An affine map takes mean and covariance along,
    so those in front of the first step serve all of them.

    Args:
        steps: as they print; none is `normalize`.
        moments: of the vectors in front of the first one.

    Returns:
        The map, and notes on directions that were dropped.

    Raises:
        InputError: too few vectors for a step, or vectors that do not vary.
    """
    mean, covariance = moments.mean, moments.covariance
    if not np.isfinite(covariance).all():
        raise InputError(f"step {steps[0]}: the vectors to fit it on are not finite")
    weight, bias = np.eye(len(mean)), np.zeros(len(mean))
    noise = _RESOLUTION**2 * float((mean**2 + covariance.diagonal()).max())
    notes = []
    for step in steps:
        name, asked = split_step(step)
        kind, width = _KINDS[name], len(mean)
        number = width if asked is None else asked
        least = number if kind.least is None else kind.least
        if moments.count <= least:
            texts = "text" if least == 1 else "texts"
            raise InputError(
                f"step {step} needs more than {least:,} {texts} to fit on, got {moments.count:,}"
            )
        if number > width:
            raise InputError(f"step {step}: only {width} directions are left before it")
        dead = float(noise * np.linalg.norm(weight, 2) ** 2)
        if kind.reads_variance:
            _check_varies(f"step {step} has nothing to fit", covariance, dead)
        scale = 1 if kind.unbiased else 1 - 1 / moments.count
        turn = kind.matrix(covariance * scale, number, dead)
        if kind.chooses and len(turn) < number:
            notes.append(f"{step} keeps {len(turn)} of {width} directions; the others {_VARY}")
        left = int((covariance.diagonal() * scale <= dead).sum())
        if name == "standardize" and left:
            notes.append(f"{step} leaves {left} of {width} dimensions unscaled; they {_VARY}")
        covariance = turn @ covariance @ turn.T
        if name == "remove_top":
            _check_varies(f"step {step} leaves nothing", covariance, dead)
        weight, bias = turn @ weight, turn @ (bias - mean if kind.centers else bias)
        mean = turn @ (np.zeros(width) if kind.centers else mean)
    return Dense(weight.astype(np.float32), bias.astype(np.float32), IDENTITY), tuple(notes)


def _check_varies(problem: str, covariance: _Array, dead: float) -> None:
    """Refuse a covariance that is rounding and nothing more."""
    if covariance.diagonal().max() <= dead:
        raise InputError(f"{problem}: the vectors of the texts to fit on do not vary enough")


def _eye(covariance: _Array, number: int, dead: float) -> _Array:
    return np.eye(number, len(covariance))


def _standardize(covariance: _Array, number: int, dead: float) -> _Array:
    """1 / standard deviation; a number that does not vary is left, as in scikit-learn's scaler."""
    variances = covariance.diagonal()
    matrix: _Array = np.diag(1 / np.sqrt(np.where(variances > dead, variances, 1)))
    return matrix


def _top(covariance: _Array, number: int, dead: float) -> tuple[_Array, _Array]:
    """The directions that vary most, (k, width), and their variances, (k,); dead ones left out.

    The largest number of each is positive, as in scikit-learn's PCA.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    values, rows = values[::-1], vectors.T[::-1]
    kept = min(number, int((values > dead).sum()))
    values, rows = values[:kept], rows[:kept]
    return rows * np.sign(rows[np.arange(kept), np.abs(rows).argmax(1)])[:, None], values


def _remove_top(covariance: _Array, number: int, dead: float) -> _Array:
    """I - V'V of the top directions V: Mu and Viswanath 2018, "All-but-the-Top", algorithm 1."""
    rows, _ = _top(covariance, number, dead)
    rest: _Array = np.eye(len(covariance)) - rows.T @ rows
    return rest


def _whiten(covariance: _Array, number: int, dead: float) -> _Array:
    """Su et al. 2021, "Whitening Sentence Representations for Better Semantics", algorithm 1."""
    rows, values = _top(covariance, number, dead)
    return rows / np.sqrt(values)[:, None]


def _pca(covariance: _Array, number: int, dead: float) -> _Array:
    return _top(covariance, number, dead)[0]


class _Kind(NamedTuple):
    """A row of the table.

    Attributes:
        matrix: covariance (width, width), number, and the variance up to which a direction is dead
            -> (out, width).
        centers: whether the mean is subtracted first.
        reads_variance: whether it needs vectors that vary.
        unbiased: whether variances are divided by n - 1, as in scikit-learn's PCA, and not by n, as
            in its scaler.
        chooses: whether the rows of its matrix are directions that it keeps.
        least: it needs more vectors than this; None for its number.
    """

    matrix: Callable[[_Array, int, float], _Array]
    centers: bool = True
    reads_variance: bool = True
    unbiased: bool = True
    chooses: bool = False
    least: int | None = None


_KINDS = {
    "center": _Kind(_eye, reads_variance=False, least=0),
    "standardize": _Kind(_standardize, unbiased=False, least=1),
    "remove_top": _Kind(_remove_top),
    "whiten": _Kind(_whiten, chooses=True),
    "pca": _Kind(_pca, chooses=True),
    "truncate": _Kind(_eye, centers=False, reads_variance=False, least=0),
}
