"""The forward pass of a post-LN encoder in torch: every linear runs over one flat row of tokens.

Devlin et al. 2019, figures 1 and 2; Vaswani et al. 2017, figure 1 (left).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.encoders.attention import attend
from embedkit.encoders.families import (
    NORM,
    POOLER,
    POSITIONS,
    PROJECTION,
    TYPES,
    WORDS,
    EncoderConfig,
    Family,
)
from embedkit.encoders.linear import ACTIVATIONS, Affine, Linear, ready
from embedkit.encoders.states import TokenStates
from embedkit.tokenization.token_batch import TokenBatch


@dataclass(frozen=True)
class Layer:
    """One layer; the three projections of attention are one linear here."""

    qkv: Linear
    attention_output: Linear
    attention_norm: Affine
    up: Linear
    down: Linear
    norm: Affine


class Network:
    """An encoder on one device, in one precision."""

    def __init__(
        self,
        family: Family,
        config: EncoderConfig,
        tensors: Mapping[str, Tensor],  # float32, under transformers' names
        device: torch.device,
        dtype: torch.dtype,  # that it computes in, and of its hidden states
        linear: Callable[[Affine], Linear] = ready,  # of the layers
    ) -> None:
        self._config = config
        self._activation = ACTIVATIONS[config.activation]

        def affine(*names: str) -> Affine:
            weights = [tensors[f"{name}.weight"].to(device, dtype) for name in names]
            biases = [tensors[f"{name}.bias"].to(device, dtype) for name in names]
            if len(names) == 1:
                return Affine(weights[0], biases[0])
            return Affine(torch.cat(weights), torch.cat(biases))

        self._tables = {
            name: tensors[name].to(device, dtype)
            for name in (WORDS, POSITIONS, TYPES)
            if name in tensors
        }
        self._norm = affine(NORM)
        self._projection = None
        if config.embedding != config.dim:
            self._projection = ready(affine(PROJECTION))
        self.layers = [
            Layer(
                linear(affine(names["query"], names["key"], names["value"])),
                linear(affine(names["attention_output"])),
                affine(names["attention_norm"]),
                linear(affine(names["up"])),
                linear(affine(names["down"])),
                affine(names["norm"]),
            )
            for names in map(family.layer_names, range(config.layers))
        ]
        self._pooler = ready(affine(POOLER)) if f"{POOLER}.weight" in tensors else None

    @torch.inference_mode()
    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        """Hidden states `layers`, each (tokens, dim), and pooler_output."""
        top = len(self.layers) if pooler else max(layers)
        states: dict[int, Tensor] = {}
        x = self._embed(batch)
        for index in range(top + 1):
            if index > 0:
                x = self._run(self.layers[index - 1], x, batch)
            if index in layers:
                states[index] = x
        pooled = None
        if pooler and self._pooler is not None:
            pooled = self._pooler(x[batch.offsets[:-1]]).tanh()
        return TokenStates(states, batch, pooled)

    def _embed(self, batch: TokenBatch) -> Tensor:
        """(tokens, dim): the input of the first layer."""
        places = positions(batch, self._config.padding)
        x = self._tables[WORDS][batch.token_ids] + self._tables[POSITIONS][places]
        if TYPES in self._tables:
            x = x + self._tables[TYPES][0]
        x = self._layer_norm(x, self._norm)
        return self._projection(x) if self._projection else x

    def _layer_norm(self, x: Tensor, part: Affine) -> Tensor:
        return F.layer_norm(x, part.weight.shape, part.weight, part.bias, self._config.eps)

    def _run(self, layer: Layer, x: Tensor, batch: TokenBatch) -> Tensor:
        attended = attend(layer.qkv(x), batch, self._config.heads)
        x = self._layer_norm(layer.attention_output.added(attended, x), layer.attention_norm)
        inner = layer.up.activated(x, self._activation)
        return self._layer_norm(layer.down.added(inner, x), layer.norm)


def positions(batch: TokenBatch, padding: int | None) -> Tensor:
    """(tokens,) int64: rows of the position table.

    RoBERTa counts the tokens of a text that are not padding, from `padding` + 1; a padding token,
    which a text can spell, is at `padding`.
    """
    if padding is None:
        return batch.positions
    counted = (batch.token_ids != padding).long()
    before = F.pad(counted.cumsum(0), (1, 0))
    return padding + counted * (before[1:] - before[batch.offsets[batch.segments]])
