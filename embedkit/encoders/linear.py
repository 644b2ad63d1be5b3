"""Linear layers, fused with the activation or the residual sum that follows them.

On a CPU oneDNN runs them as one operation over a weight that it laid out once, where this torch has
the operations that its own compiler calls. They are not public, so they are tried first; elsewhere
the same arithmetic is plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """weight: (out, in) of a linear, or (dim,) of a layer norm; bias: (out,) or (dim,)."""

    weight: Tensor
    bias: Tensor


class Activation(NamedTuple):
    """A function between two linears, and what oneDNN calls it."""

    function: Callable[[Tensor], Tensor]
    fused: str
    algorithm: str | None = None


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_GELU_TANH = Activation(_gelu_tanh, "gelu", "tanh")
_SILU = Activation(F.silu, "swish")


ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(F.gelu, "gelu", "none"),
    "gelu_new": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "relu": Activation(F.relu, "relu"),
    "silu": _SILU,
    "swish": _SILU,
}


class PlainLinear:
    """(tokens, in) -> (tokens, out) in public operations, on any device."""

    def __init__(self, affine: Affine) -> None:
        self._affine = affine

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._affine.weight, self._affine.bias)

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(W x + b)"""
        return activation.function(self(x))

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """W x + b + residual"""
        return self(x) + residual


class FusedLinear:
    """The same in oneDNN's operations, which keep the weight in a layout of their own."""

    def __init__(self, affine: Affine) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(affine.weight)
        self._bias = affine.bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._pointwise(x, "none", None)

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        return self._pointwise(x, activation.fused, activation.algorithm)

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        sums: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, residual, self._weight, self._bias, "add"
        )
        return sums

    def _pointwise(self, x: Tensor, name: str, algorithm: str | None) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, name, [], algorithm
        )
        return y


Linear: TypeAlias = PlainLinear | FusedLinear


def ready(affine: Affine) -> Linear:
    """The fastest linear of these weights on their device, in their dtype."""
    weight = affine.weight
    if weight.device.type == "cpu" and fuses(weight.dtype):
        return FusedLinear(affine)
    return PlainLinear(affine)


@cache
def fuses(dtype: torch.dtype) -> bool:
    """Whether this torch, on this CPU, has oneDNN's operations and they compute what we mean."""
    generator = torch.Generator().manual_seed(0)
    x, weight, residual = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((5, 32), (16, 32), (5, 16))
    )
    affine = Affine(weight, residual[0])
    plain = PlainLinear(affine)
    step = torch.finfo(dtype).eps

    def near(a: Tensor, b: Tensor) -> bool:
        # oneDNN rounds once to the low precisions where plain torch rounds twice.
        return torch.allclose(a, b, rtol=8 * step, atol=64 * step)

    try:
        with torch.inference_mode():
            fused = FusedLinear(affine)
            return near(fused.added(x, residual), plain.added(x, residual)) and all(
                near(fused.activated(x, activation), plain.activated(x, activation))
                for activation in ACTIVATIONS.values()
            )
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
