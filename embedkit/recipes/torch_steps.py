"""Steps as differentiable modules of torch, for `embedkit.Pooling`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedkit.recipes.bound_recipe import Step, Truncate
from embedkit.recipes.dense import Dense, LayerNorm, activation_module


class StepModule(nn.Module):
    """A fitted step; its weights are parameters, as in sentence-transformers."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        for name in ("weight", "bias", "slope"):
            values = getattr(step, name, None)
            self.register_parameter(
                name, None if values is None else nn.Parameter(torch.tensor(values))
            )
        if isinstance(step, Dense):
            self.activation = activation_module(step.activation)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n, in) -> (n, out), in the dtype of the rows whatever that of the weights."""
        dim = self.step.dim(rows.shape[1])
        weights = {name: value.to(rows.dtype) for name, value in self.named_parameters("", False)}
        weight, bias, slope = map(weights.get, ("weight", "bias", "slope"))
        if isinstance(self.step, Truncate):
            return rows[:, :dim]
        if isinstance(self.step, LayerNorm):
            return F.layer_norm(rows, rows.shape[1:], weight, bias)
        if isinstance(self.step, Dense) and weight is not None:
            mapped = F.linear(rows, weight, bias)
            made: Tensor = self.activation(mapped) if slope is None else F.prelu(mapped, slope)
            return made
        # normalize. The scale changes neither result nor gradient, and no square overflows.
        largest = rows.detach().abs().amax(1, keepdim=True)
        rows = rows / largest.where(largest > 0, 1)
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        units: Tensor = rows / norms.where(norms > 0, 1)
        return units

    def extra_repr(self) -> str:
        """Its name."""
        return self.step.name
