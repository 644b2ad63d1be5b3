"""Dense and LayerNorm layers after the pooling, and their activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from embedkit.errors import InputError
from embedkit.recipes.steps import DENSE, LAYER_NORM, Float32Array


@dataclass(frozen=True)
class Dense:
    """activation(W v + b): steps fitted and folded, or a trained layer of a folder."""

    weight: Float32Array  # (out, in) float32
    bias: Float32Array | None  # (out,) float32, or None
    activation: str  # a name from `ACTIVATIONS`
    name: str = DENSE
    slope: Float32Array | None = None  # (1,) or (out,) of PReLU

    def dim(self, before: int) -> int:
        _check_dim(self.name, self.weight.shape[1], before)
        return len(self.weight) // (2 if self.activation.endswith(".GLU") else 1)

    def __call__(self, vectors: Float32Array) -> Float32Array:
        out: Float32Array = vectors @ self.weight.T
        if self.bias is not None:
            out += self.bias
        if self.slope is not None:
            out *= np.where(out >= 0, np.float32(1), self.slope)
        elif self.activation != IDENTITY:
            with torch.inference_mode():
                out = _inferring(self.activation)(torch.from_numpy(out)).numpy()
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
        rows, weight, bias = map(torch.from_numpy, (vectors, self.weight, self.bias))
        normed: Float32Array = nn.functional.layer_norm(rows, weight.shape, weight, bias).numpy()
        return normed


def _check_dim(name: str, taken: int, before: int) -> None:
    if before != taken:
        raise InputError(
            f"the model's step {name} takes vectors of {taken} numbers; "
            f"those before it have {before}"
        )


IDENTITY = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"

_CLASSES = (
    *("Tanh", "ReLU", "Sigmoid", "CELU", "ELU", "GELU", "GLU", "Hardshrink", "Hardsigmoid"),
    *("Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU"),
    *("ReLU6", "SELU", "SiLU", "Softmax", "Softmin", "Softplus", "Softshrink", "Softsign"),
    "Tanhshrink",
)

# The names of classes that sentence-transformers writes, and those that it reads as well.
ACTIVATIONS = (
    IDENTITY,
    *(f"torch.nn.modules.activation.{name}" for name in _CLASSES),
    "torch.nn.Identity",
    *(f"torch.nn.{name}" for name in _CLASSES),
)


def activation_module(activation: str) -> nn.Module:
    """The module of torch that one of ACTIVATIONS names."""
    module: Any = getattr(nn, activation.rpartition(".")[2])()
    if getattr(module, "dim", 1) is None:
        module.dim = 1  # Softmax and its like warn where they choose it themselves
    made: nn.Module = module
    return made


@cache
def _inferring(activation: str) -> nn.Module:
    return activation_module(activation).eval()
