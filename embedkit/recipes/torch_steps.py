"""Steps as differentiable modules of torch, for `embedkit.Pooling`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.recipes.bound_recipe import Step, Truncate
from embedkit.recipes.dense import Dense, LayerNorm, torch_activation
from embedkit.recipes.steps import Float32Array


def step_module(step: Step) -> StepModule:
    """A step that is fitted; its weights become parameters, as sentence-transformers has them."""
    if isinstance(step, Dense):
        return DenseStep(step)
    if isinstance(step, LayerNorm):
        return LayerNormStep(step)
    return TruncateStep(step) if isinstance(step, Truncate) else NormalizeStep(step)


class StepModule(nn.Module):
    """Rows (n, in) -> (n, out), in the dtype of the rows whatever that of the weights."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, rows: Tensor) -> Tensor:
        self.step.dim(rows.shape[1])  # refuses another dimension than that of its weights
        return self.apply_to(rows)

    def apply_to(self, rows: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return self.step.name


class TruncateStep(StepModule):
    def apply_to(self, rows: Tensor) -> Tensor:
        return rows[:, : self.step.dim(rows.shape[1])]


class NormalizeStep(StepModule):
    def apply_to(self, rows: Tensor) -> Tensor:
        # Its scale changes neither the result nor the gradient, and no square over- or underflows.
        largest = rows.detach().abs().amax(1, keepdim=True)
        scaled = rows / largest.where(largest > 0, 1)
        norms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        units: Tensor = scaled / norms.where(norms > 0, 1)
        return units


class DenseStep(StepModule):
    def __init__(self, step: Dense) -> None:
        super().__init__(step)
        self.weight = _parameter(step.weight)
        self.bias = None if step.bias is None else _parameter(step.bias)
        self.slope = None if step.slope is None else _parameter(step.slope)
        self.activation = torch_activation(step.activation.rpartition(".")[2])

    def apply_to(self, rows: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(rows.dtype)
        mapped = F.linear(rows, self.weight.to(rows.dtype), bias)
        if self.slope is not None:
            return F.prelu(mapped, self.slope.to(rows.dtype))
        activated: Tensor = self.activation(mapped)
        return activated


class LayerNormStep(StepModule):
    def __init__(self, step: LayerNorm) -> None:
        super().__init__(step)
        self.weight, self.bias = _parameter(step.weight), _parameter(step.bias)

    def apply_to(self, rows: Tensor) -> Tensor:
        weight, bias = self.weight.to(rows.dtype), self.bias.to(rows.dtype)
        return F.layer_norm(rows, weight.shape, weight, bias)


def _parameter(values: Float32Array) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(values.copy()))
