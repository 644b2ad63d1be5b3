"""Dense and LayerNorm layers after the pooling, and their activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import InputError
from embedkit.recipes.steps import DENSE, LAYER_NORM, Float32Array

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Dense:
    """activation(W v + b): steps fitted and folded, or a trained layer of a folder."""

    weight: Float32Array  # (out, in) float32
    bias: Float32Array | None  # (out,) float32, or None
    activation: str  # a name from `ACTIVATIONS`
    name: str = DENSE
    # (1,) or (out,) float32 of negative numbers, where the activation is PReLU
    slope: Float32Array | None = None

    def dim(self, before: int) -> int:
        _check_dim(self.name, self.weight.shape[1], before)
        return len(self.weight) // (2 if self.activation.endswith(".GLU") else 1)

    def __call__(self, vectors: Float32Array) -> Float32Array:
        out: Float32Array = vectors @ self.weight.T
        if self.bias is not None:
            out += self.bias
        if self.slope is None:
            return ACTIVATIONS[self.activation](out)
        out *= np.where(out >= 0, np.float32(1), self.slope)
        return out


@dataclass(frozen=True)
class LayerNorm:
    """torch's: mean 0 and variance 1 of each vector, then weight * v + bias, both (dim,)."""

    weight: Float32Array
    bias: Float32Array
    name: str = LAYER_NORM

    def dim(self, before: int) -> int:
        _check_dim(self.name, len(self.weight), before)
        return before

    def __call__(self, vectors: Float32Array) -> Float32Array:
        import torch

        rows, weight, bias = map(torch.from_numpy, (vectors, self.weight, self.bias))
        normed: Float32Array = torch.nn.functional.layer_norm(
            rows, weight.shape, weight, bias
        ).numpy()
        return normed


def _check_dim(name: str, taken: int, before: int) -> None:
    if before != taken:
        raise InputError(
            f"the model's step {name} takes vectors of {taken} numbers; "
            f"those before it have {before}"
        )


def _sigmoid(x: Float32Array) -> Float32Array:
    half = np.float32(0.5)
    y: Float32Array = half * np.tanh(half * x) + half
    return y


def torch_activation(name: str) -> nn.Module:
    """The activation of a class name of torch.nn."""
    import torch

    module: Any = getattr(torch.nn, name)()
    if getattr(module, "dim", 1) is None:
        module.dim = 1  # Softmax and its like warn where they choose it themselves
    made: nn.Module = module
    return made


def _of_torch(name: str, vectors: Float32Array) -> Float32Array:
    import torch

    with torch.inference_mode():
        activated: Float32Array = torch_activation(name).eval()(torch.from_numpy(vectors)).numpy()
    return activated


IDENTITY = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"

_FUNCTIONS: dict[str, Callable[[Float32Array], Float32Array]] = {
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
ACTIVATIONS: dict[str, Callable[[Float32Array], Float32Array]] = {
    IDENTITY: lambda x: x,
    **{f"torch.nn.modules.activation.{name}": run for name, run in _FUNCTIONS.items()},
    "torch.nn.Identity": lambda x: x,
    **{f"torch.nn.{name}": run for name, run in _FUNCTIONS.items()},
}
