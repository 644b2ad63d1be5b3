"""Steps: post-processing of sentence vectors, from (n, in) to (n, out) float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.recipes.recipe import (
    DENSE,
    LAYER_NORM,
    STEPS,
    TRAINED,
    Recipe,
    RecipeError,
    split_step,
)
from embedkit.similarity import unit

Vectors = NDArray[np.float32]


class Step(Protocol):
    """A row-wise map of sentence vectors."""

    @property
    def name(self) -> str:
        """What a recipe calls it."""
        ...

    def width(self, before: int) -> int:
        """The width of its vectors."""
        ...

    def __call__(self, vectors: Vectors) -> Vectors: ...


@dataclass(frozen=True)
class Normalize:
    """v / |v|: unit length, and a vector of zeros stays."""

    name: str = "normalize"

    def width(self, before: int) -> int:
        return before

    def __call__(self, vectors: Vectors) -> Vectors:
        return unit(vectors)


@dataclass(frozen=True)
class Dense:
    """activation(W v + b): steps fitted and folded, or a trained layer of a folder.

    Attributes:
        weight: (out, in) float32.
        bias: (out,) float32, or None.
        activation: a name from `ACTIVATIONS`.
        slope: (1,) or (out,) float32 of negative numbers, where the activation is PReLU.
    """

    weight: Vectors
    bias: Vectors | None
    activation: str
    name: str = DENSE
    slope: Vectors | None = None

    def width(self, before: int) -> int:
        if before != self.weight.shape[1]:
            raise InputError(
                f"the model's step dense takes vectors of {self.weight.shape[1]} numbers; "
                f"those before it have {before}"
            )
        return len(self.weight) // (2 if self.activation.endswith(".GLU") else 1)

    def __call__(self, vectors: Vectors) -> Vectors:
        out: Vectors = vectors @ self.weight.T
        if self.bias is not None:
            out += self.bias
        if self.slope is None:
            return ACTIVATIONS[self.activation](out)
        out *= np.where(out >= 0, np.float32(1), self.slope)
        return out


@dataclass(frozen=True)
class LayerNorm:
    """torch's: mean 0 and variance 1 of each vector, then weight * v + bias, both (dim,)."""

    weight: Vectors
    bias: Vectors
    name: str = LAYER_NORM

    def width(self, before: int) -> int:
        if before != len(self.weight):
            raise InputError(
                f"the model's step {self.name} takes vectors of {len(self.weight)} numbers; "
                f"those before it have {before}"
            )
        return before

    def __call__(self, vectors: Vectors) -> Vectors:
        import torch

        rows, weight, bias = map(torch.from_numpy, (vectors, self.weight, self.bias))
        normed: Vectors = torch.nn.functional.layer_norm(rows, weight.shape, weight, bias).numpy()
        return normed


def _sigmoid(x: Vectors) -> Vectors:
    half = np.float32(0.5)
    y: Vectors = half * np.tanh(half * x) + half
    return y


def _of_torch(name: str, vectors: Vectors) -> Vectors:
    import torch

    module = getattr(torch.nn, name)().eval()
    if getattr(module, "dim", 1) is None:
        module.dim = 1  # Softmax and its like warn where they choose it themselves
    with torch.inference_mode():
        activated: Vectors = module(torch.from_numpy(vectors)).numpy()
    return activated


IDENTITY = "torch.nn.modules.linear.Identity"


TANH = "torch.nn.modules.activation.Tanh"


_FUNCTIONS: dict[str, Callable[[Vectors], Vectors]] = {
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
    "Sigmoid": _sigmoid,
    **{
        name: partial(_of_torch, name)
        for name in (
            *("CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh"),
            *("LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU6", "SELU"),
            *("SiLU", "Softmax", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanhshrink"),
        )
    },
}


# By the names of classes that sentence-transformers writes, and those that it reads as well.
ACTIVATIONS: dict[str, Callable[[Vectors], Vectors]] = {
    IDENTITY: lambda x: x,
    **{f"torch.nn.modules.activation.{name}": run for name, run in _FUNCTIONS.items()},
    "torch.nn.Identity": lambda x: x,
    **{f"torch.nn.{name}": run for name, run in _FUNCTIONS.items()},
}


@dataclass(frozen=True)
class Truncate:
    """The first `number` numbers."""

    number: int

    @property
    def name(self) -> str:
        return f"truncate:{self.number}"

    def width(self, before: int) -> int:
        if before < self.number:
            raise InputError(f"step {self.name} has vectors of {before} numbers; expected more")
        return self.number

    def __call__(self, vectors: Vectors) -> Vectors:
        return np.ascontiguousarray(vectors[:, : self.number])

    def dense(self, before: int) -> Dense:
        """The same as a matrix."""
        return Dense(np.eye(self.number, before, dtype=np.float32), None, IDENTITY)


@dataclass(frozen=True)
class Unfitted:
    """Neighbouring affine steps that have seen no texts yet."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "/".join(self.names)

    def width(self, before: int) -> int:
        """At most: directions that do not vary are dropped when it is fitted."""
        numbers = [number for name, number in map(split_step, self.names) if name != "remove_top"]
        return next((number for number in reversed(numbers) if number is not None), before)

    def __call__(self, vectors: Vectors) -> Vectors:
        raise InputError(_unfitted(self.name))


def _unfitted(what: str) -> str:
    return (
        f"{what} is not fitted yet; fit it on texts first, with Embedder.fit(texts) "
        "(embedkit compare --fit FILE --save-best DIR on the command line)"
    )


@dataclass(frozen=True)
class Fit:
    """What a recipe was fitted on.

    Attributes:
        source: where the texts are from, as a person would say it.
        texts: how many.
        sha256: of the texts, see `RowDigest`.
        notes: what a reader must know of the result, such as directions that were dropped.
    """

    source: str
    texts: int
    sha256: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        texts = "text" if self.texts == 1 else "texts"
        return "; ".join((f"fitted on {self.texts:,} {texts} ({self.source})", *self.notes))


@dataclass(frozen=True)
class Bound:
    """A recipe resolved against an encoder, with its steps ready to run.

    Attributes:
        recipe: resolved.
        steps: of `recipe`, but neighbours that are affine are one.
        token_weights: (vocabulary,) float32, where a pooling of `recipe` learns them.
        fit: what was fitted here, if anything.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    token_weights: Vectors | None = None
    fit: Fit | None = None

    @classmethod
    def of(cls, recipe: Recipe, encoder_width: int) -> Bound:
        """A typed recipe; what it learns from texts is still to be fitted.

        Raises:
            RecipeError: a step that keeps more numbers than there are.
        """
        _check_widths(recipe, encoder_width * len(recipe.poolings))
        return cls(recipe, tuple(_unfold(names) for names in fold(recipe.steps)))

    @property
    def unfitted(self) -> str | None:
        """The first part that has to be fitted, as it prints."""
        if self.token_weights is None:
            for name in self.recipe.poolings:
                if name in self.recipe.to_fit:
                    return name
        return next((step.name for step in self.steps if isinstance(step, Unfitted)), None)

    def check_fitted(self) -> None:
        """Refuse a recipe that has not seen its texts.

        Raises:
            InputError: what is not fitted, and what to do.
        """
        if self.unfitted is not None:
            raise InputError(f"recipe {str(self.recipe)!r}: {_unfitted(self.unfitted)}")

    def width(self, encoder_width: int) -> int:
        """Numbers in a sentence vector."""
        width = encoder_width * len(self.recipe.poolings)
        for step in self.steps:
            width = step.width(width)
        return width

    def apply(self, vectors: Vectors, *, apart: bool = False) -> Vectors:
        """All steps in turn: (n, in) -> (n, out) float32.

        `apart`: each row for itself, so that its bits do not depend on its place: OpenBLAS has
        kernels that sum the rows at the edge of a block in another order.
        """
        if apart and self.steps:
            return np.concatenate([self.apply(row) for row in np.split(vectors, len(vectors))])
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def fold(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names of steps, grouped as they run: `normalize` alone, neighbours of others together."""
    groups = groupby(steps, lambda name: name == "normalize")
    return [tuple(names) for _, names in groups]


def _unfold(names: tuple[str, ...]) -> Step:
    if names == ("normalize",):
        return Normalize()
    kinds = [split_step(name) for name in names]
    if any(STEPS[name].fitted for name, _ in kinds):
        return Unfitted(names)
    return Truncate(kinds[-1][1] or 0)


def _check_widths(recipe: Recipe, width: int) -> None:
    for step in recipe.steps:
        if step in TRAINED:
            raise RecipeError(f"the step {step} comes with a model and cannot be asked for")
        name, number = split_step(step)
        most = width - 1 if name == "remove_top" else width
        if number is not None and number > most:
            raise RecipeError(
                f"recipe {str(recipe)!r}: step {step} has vectors of {width} numbers before it; "
                f"expected 1 to {most}"
            )
        if number is not None and name != "remove_top":
            width = number
