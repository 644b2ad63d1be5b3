"""The steps that follow the pooling, one table: grammar, fitting and docs derive from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from embedkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Float32Array: TypeAlias = "NDArray[np.float32]"
Float64Array: TypeAlias = "NDArray[np.float64]"


class Sample(NamedTuple):
    """What an affine step sees of the vectors that it is fitted on."""

    step: str  # the step as it prints, for errors and notes
    size: int
    covariance: Float64Array  # (dim, dim), divided by size - 1
    noise: float  # the variance up to which a direction is rounding error

    def check_size(self, most: int) -> None:
        """Refuse `most` vectors or fewer."""
        if self.size <= most:
            texts = "text" if most == 1 else "texts"
            raise InputError(
                f"step {self.step} needs more than {most:,} {texts} to fit on, got {self.size:,}"
            )

    def check_varies(self, problem: str) -> None:
        """Refuse a covariance that is rounding error only."""
        if self.covariance.diagonal().max() <= self.noise:
            raise InputError(
                f"step {self.step} {problem}: the vectors of the texts to fit on do not vary enough"
            )


# What fitting an affine step gives: its matrix (out, dim), and a note for readers or "".
Fitted: TypeAlias = tuple[Float64Array, str]

_UNRESOLVED = "vary less than float32 resolves"
_NOTHING = "has nothing to fit"


# numpy is imported where it is used, so that parsing a recipe does not wait for it.


def _first(sample: Sample, k: int) -> Fitted:
    import numpy as np

    return np.eye(k, len(sample.covariance)), ""


def _standardize(sample: Sample, k: int) -> Fitted:
    """1 / standard deviation; a dimension that does not vary is left, as in scikit-learn."""
    import numpy as np

    sample.check_size(1)
    sample.check_varies(_NOTHING)
    variances = sample.covariance.diagonal() * (1 - 1 / sample.size)  # scikit-learn divides by n
    constant = variances <= sample.noise
    note = ""
    if constant.any():
        note = (
            f"{sample.step} leaves {constant.sum()} of {len(constant)} dimensions unscaled; "
            f"they {_UNRESOLVED}"
        )
    matrix: Float64Array = np.diag(1 / np.sqrt(np.where(constant, 1, variances)))
    return matrix, note


def _top(sample: Sample, k: int) -> tuple[Float64Array, Float64Array]:
    """The directions of largest variance, (k, dim), and their variances; without rounding error.

    The largest number of each direction is positive, as in scikit-learn's PCA.
    """
    import numpy as np

    sample.check_size(k)
    sample.check_varies(_NOTHING)
    values, vectors = np.linalg.eigh((sample.covariance + sample.covariance.T) / 2)
    values, rows = values[::-1], vectors.T[::-1]
    kept = min(k, int((values > sample.noise).sum()))
    values, rows = values[:kept], rows[:kept]
    return rows * np.sign(rows[np.arange(kept), np.abs(rows).argmax(1)])[:, None], values


def _remove_top(sample: Sample, k: int) -> Fitted:
    """I - V'V of the top directions V: Mu and Viswanath 2018, "All-but-the-Top", algorithm 1."""
    import numpy as np

    rows, _ = _top(sample, k)
    rest: Float64Array = np.eye(len(sample.covariance)) - rows.T @ rows
    sample._replace(covariance=rest @ sample.covariance @ rest.T).check_varies("leaves nothing")
    return rest, ""


def _whiten(sample: Sample, k: int) -> Fitted:
    """Su et al. 2021, "Whitening Sentence Representations for Better Semantics", algorithm 1."""
    import numpy as np

    rows, values = _top(sample, k)
    return rows / np.sqrt(values)[:, None], _dropped(sample, k, len(rows))


def _pca(sample: Sample, k: int) -> Fitted:
    rows, _ = _top(sample, k)
    return rows, _dropped(sample, k, len(rows))


def _normalize(rows: Float32Array) -> Float32Array:
    from embedkit.similarity import unit

    return unit(rows)


def _dropped(sample: Sample, k: int, kept: int) -> str:
    if kept == k:
        return ""
    dim = len(sample.covariance)
    return f"{sample.step} keeps {kept} of {dim} directions; the others {_UNRESOLVED}"


class StepSpec(NamedTuple):
    """A row of the table.

    A step is an affine map, which has `fit` and is folded into one matrix with its neighbours, or
    it has `apply`.
    """

    name: str
    parameter: str  # how it takes a number K: "" for not at all, ":K", or "[:K]" if it may
    note: str  # what it does with a vector
    note_ko: str  # the same in Korean
    fitted: bool = False  # whether it learns from texts. Such a step subtracts the mean first
    keeps: bool = False  # whether K is the dimension of its result
    fit: Callable[[Sample, int], Fitted] | None = None  # affine; without a K it gets the dim
    apply: Callable[[Float32Array], Float32Array] | None = None  # rows (n, dim) -> rows


_ROWS = (
    StepSpec("center", "", "subtract the mean", "평균을 뺀다", fitted=True, fit=_first),
    StepSpec(
        "standardize",
        "",
        "subtract the mean, and divide each number by its standard deviation",
        "평균을 빼고 차원마다 표준편차로 나눈다",
        fitted=True,
        fit=_standardize,
    ),
    StepSpec(
        "remove_top",
        ":K",
        "subtract the mean, and project out the K directions that vary most",
        "평균을 빼고 분산이 가장 큰 방향 K개를 없앤다",
        fitted=True,
        fit=_remove_top,
    ),
    StepSpec(
        "whiten",
        "[:K]",
        "uncorrelated numbers of variance 1, of the K directions that vary most (or of all)",
        "분산이 가장 큰 방향 K개(생략하면 전부)를 서로 무상관이고 분산이 1이 되도록 변환한다",
        fitted=True,
        keeps=True,
        fit=_whiten,
    ),
    StepSpec(
        "pca",
        ":K",
        "subtract the mean, and keep the K directions that vary most",
        "평균을 빼고 분산이 가장 큰 방향 K개만 남긴다",
        fitted=True,
        keeps=True,
        fit=_pca,
    ),
    StepSpec(
        "truncate",
        ":K",
        "keep the first K numbers",
        "앞에서부터 K차원만 남긴다",
        keeps=True,
        fit=_first,
    ),
    StepSpec(
        "normalize",
        "",
        "divide by the norm; a zero vector stays zero",
        "노름으로 나눈다. 영벡터는 그대로 둔다",
        apply=_normalize,
    ),
)

STEPS: dict[str, StepSpec] = {row.name: row for row in _ROWS}

DENSE, LAYER_NORM = "dense", "layer_norm"
TRAINED = (DENSE, LAYER_NORM)  # the trained layers of a loaded folder: printed, never typed

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def split_step(step: str) -> tuple[str, int | None]:
    """A step's name and its number."""
    name, colon, number = step.partition(":")
    return name, int(number) if colon else None


def step_problem(step: str) -> str | None:
    """What is wrong with a step as it was typed, or None."""
    if step in TRAINED:
        return None
    name, colon, number = step.partition(":")
    spec = STEPS.get(name)
    if spec is None:
        return unknown_name("step", name, {row.name: row.name + row.parameter for row in _ROWS})
    if not colon:
        return f"step {name} needs a number, such as {name}:8" if spec.parameter == ":K" else None
    if not spec.parameter:
        return f"step {name} takes no number, got {number!r}"
    if not _NUMBER.fullmatch(number):
        return f"step {name} takes a whole number from 1, such as {name}:8; got {number!r}"
    return None


def output_dim(step: str, dim: int) -> int:
    """The dimension of a step's result, at most: fitting drops directions that do not vary."""
    name, k = split_step(step)
    return k if k is not None and STEPS[name].keeps else dim


def fold(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Steps grouped as they run: affine neighbours together, every other step by itself."""
    groups: list[tuple[str, ...]] = []
    for affine, group in groupby(steps, lambda step: STEPS[split_step(step)[0]].fit is not None):
        names = tuple(group)
        groups += [names] if affine else [(name,) for name in names]
    return groups


def unknown_name(what: str, name: str, choices: dict[str, str]) -> str:
    """The error text for a name that is not in a table; `choices` are names as they are shown."""
    close = get_close_matches(name, choices, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown {what} {name!r}{hint}; choose from {', '.join(choices.values())}"
