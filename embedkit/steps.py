"""Steps: post-processing of sentence vectors, from (n, in) to (n, out) float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.recipe import DENSE, Recipe

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
    """v / max(|v|, 1e-12): unit length, and a vector of zero norm stays zero."""

    name: str = "normalize"

    def width(self, before: int) -> int:
        return before

    def __call__(self, vectors: Vectors) -> Vectors:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = vectors / np.maximum(norms, np.float32(1e-12))
        return unit


@dataclass(frozen=True)
class Dense:
    """activation(W v + b), a trained layer of a sentence-transformers folder.

    Attributes:
        weight: (out, in) float32.
        bias: (out,) float32, or None.
        activation: a name from `ACTIVATIONS`.
    """

    weight: Vectors
    bias: Vectors | None
    activation: str
    name: str = DENSE

    def width(self, before: int) -> int:
        if before != self.weight.shape[1]:
            raise InputError(
                f"the model's step dense takes vectors of {self.weight.shape[1]} numbers; "
                f"those before it have {before}"
            )
        return len(self.weight)

    def __call__(self, vectors: Vectors) -> Vectors:
        out = vectors @ self.weight.T
        if self.bias is not None:
            out += self.bias
        return ACTIVATIONS[self.activation](out)


def _sigmoid(x: Vectors) -> Vectors:
    half = np.float32(0.5)
    y: Vectors = half * np.tanh(half * x) + half
    return y


# By the class name that sentence-transformers writes.
ACTIVATIONS: dict[str, Callable[[Vectors], Vectors]] = {
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, np.float32(0)),
    "torch.nn.modules.activation.Sigmoid": _sigmoid,
}


def make_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The steps that a typed recipe names."""
    return tuple({"normalize": Normalize}[name]() for name in recipe.steps)


@dataclass(frozen=True)
class Bound:
    """A recipe resolved against an encoder, with its steps ready to run."""

    recipe: Recipe
    steps: tuple[Step, ...]

    def width(self, encoder_width: int) -> int:
        """Numbers in a sentence vector."""
        width = encoder_width * len(self.recipe.poolings)
        for step in self.steps:
            width = step.width(width)
        return width

    def apply(self, vectors: Vectors) -> Vectors:
        """All steps in turn: (n, in) -> (n, out) float32."""
        for step in self.steps:
            vectors = step(vectors)
        return vectors
