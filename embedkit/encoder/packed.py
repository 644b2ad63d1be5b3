"""BERT without padding: every linear runs over one flat row of tokens.

Devlin et al. 2019; the layout of weights and names is that of transformers' BertModel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from embedkit.errors import InputError
from embedkit.states import TokenBatch, TokenStates


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}

_PREFIXES = ("", "bert.")
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
# (ours, theirs): the three projections of attention are one linear here.
_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
_LAYER_PARTS = (
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


class TensorSource(Protocol):
    """Tensors by name: a checkpoint on disk, or a model's state_dict."""

    @property
    def names(self) -> frozenset[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class BertConfig:
    """What of config.json the forward pass needs; defaults are transformers'."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    vocab_size: int = 30522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"

    @staticmethod
    def reads(config: dict[str, Any]) -> bool:
        """Whether a config.json is of a BERT that this file computes as transformers does."""
        return (
            config.get("model_type") == "bert"
            and config.get("hidden_act", "gelu") in list(ACTIVATIONS)
            and config.get("position_embedding_type", "absolute") == "absolute"
            and not config.get("is_decoder", False)
            and not config.get("add_cross_attention", False)
        )

    @classmethod
    def from_json(cls, config: dict[str, Any], source: str) -> BertConfig:
        """Check the numbers of a config.json.

        Raises:
            InputError: a value of the wrong kind or out of range.
        """
        values: dict[str, Any] = {}
        for name, default in cls().__dict__.items():
            value = config.get(name, default)
            if isinstance(default, float):
                wrong = isinstance(value, bool) or not isinstance(value, int | float)
                wrong = wrong or not 0 < value < float("inf")
            elif isinstance(default, int):
                lowest = 0 if name == "num_hidden_layers" else 1
                wrong = isinstance(value, bool) or not isinstance(value, int) or value < lowest
            else:
                wrong = False
            if wrong:
                raise InputError(
                    f"{source}/config.json: {name} is {value!r}; expected a positive number"
                )
            values[name] = value
        self = cls(**values)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"{source}/config.json: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        return self


@dataclass(frozen=True)
class Affine:
    """weight: (out, in) of a linear, or (width,) of a layer norm; bias: (out,) or (width,)."""

    weight: Tensor
    bias: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Affine:
        return Affine(self.weight.to(device, dtype), self.bias.to(device, dtype))


@dataclass(frozen=True)
class Layer:
    qkv: Affine
    attention_output: Affine
    attention_norm: Affine
    up: Affine
    down: Affine
    norm: Affine


class PackedBert:
    """A BERT encoder that takes and returns packed tokens.

    Args:
        config: a BERT's config.json (see `BertConfig.reads`).
        weights: its tensors under transformers' names, with or without the prefix "bert.".
        source: what errors call the model.

    Raises:
        InputError: a missing tensor or a wrong shape.
    """

    family = "bert"
    cuts = True
    whole = True

    def __init__(
        self, config: dict[str, Any], weights: TensorSource, *, source: str = "model"
    ) -> None:
        self.config = config
        self._c = BertConfig.from_json(config, source)
        self._device = torch.device("cpu")
        self._dtype = torch.float32
        names = weights.names
        anchor = "embeddings.word_embeddings.weight"
        prefix = next((p for p in _PREFIXES if p + anchor in names), None)
        if prefix is None:
            raise InputError(
                f"{source}: the weights have no tensor {anchor!r}; expected those of a BERT"
            )
        c, h = self._c, self._c.hidden_size

        def tensor(name: str, *shape: int) -> Tensor:
            # TensorFlow's names for a layer norm survive in old checkpoints.
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            old = old.replace("LayerNorm.bias", "LayerNorm.beta")
            found = weights[prefix + (old if prefix + old in names else name)]
            if tuple(found.shape) != shape:
                raise InputError(
                    f"{source}: tensor {prefix + name!r} has shape {tuple(found.shape)}, "
                    f"expected {shape} by config.json"
                )
            if not found.is_floating_point():
                raise InputError(
                    f"{source}: tensor {prefix + name!r} is {found.dtype}, expected floats"
                )
            return found.detach().to(torch.float32)

        def linear(name: str, out: int, inside: int) -> Affine:
            return Affine(tensor(f"{name}.weight", out, inside), tensor(f"{name}.bias", out))

        def norm(name: str) -> Affine:
            return Affine(tensor(f"{name}.weight", h), tensor(f"{name}.bias", h))

        self._words = tensor(anchor, c.vocab_size, h)
        self._positions = tensor(
            "embeddings.position_embeddings.weight", c.max_position_embeddings, h
        )
        self._types = tensor("embeddings.token_type_embeddings.weight", c.type_vocab_size, h)
        self._norm = norm("embeddings.LayerNorm")
        self._layers: list[Layer] = []
        for index in range(c.num_hidden_layers):
            at = f"encoder.layer.{index}."
            parts = [linear(at + name, h, h) for name in _QKV]
            qkv = Affine(
                torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
            )
            self._layers.append(
                Layer(
                    qkv,
                    linear(at + "attention.output.dense", h, h),
                    norm(at + "attention.output.LayerNorm"),
                    linear(at + "intermediate.dense", c.intermediate_size, h),
                    linear(at + "output.dense", h, c.intermediate_size),
                    norm(at + "output.LayerNorm"),
                )
            )
        self._pooler: Affine | None = None
        if all(prefix + name in names for name in _POOLER):
            self._pooler = linear("pooler.dense", h, h)

    @property
    def width(self) -> int:
        return self._c.hidden_size

    @property
    def num_layers(self) -> int:
        return self._c.num_hidden_layers

    @property
    def vocab_size(self) -> int:
        return self._c.vocab_size

    @property
    def max_positions(self) -> int | None:
        return self._c.max_position_embeddings

    @property
    def pooler(self) -> Affine | None:
        """The checkpoint's pooler, W: (width, width) and b: (width,), or None."""
        return self._pooler

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights; hidden states come in that dtype."""
        self._device, self._dtype = device, dtype

        def moved(part: Affine) -> Affine:
            return part.to(device, dtype)

        self._words, self._positions, self._types = (
            table.to(device, dtype) for table in (self._words, self._positions, self._types)
        )
        self._norm = moved(self._norm)
        self._layers = [
            Layer(*(moved(part) for part in layer.__dict__.values())) for layer in self._layers
        ]
        self._pooler = moved(self._pooler) if self._pooler else None

    @torch.inference_mode()
    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        """Hidden states `layers` (0 to num_layers), each (tokens, width), and pooler_output."""
        batch = batch.to(self._device)
        top = self.num_layers if pooler else max(layers)
        states: dict[int, Tensor] = {}
        x = self._words[batch.token_ids] + self._positions[batch.positions] + self._types[0]
        x = self._layer_norm(x, self._norm)
        for index in range(top + 1):
            if index > 0:
                x = self._run(self._layers[index - 1], x, batch)
            if index in layers:
                states[index] = x
        pooled = None
        if pooler:
            if self._pooler is None:
                raise ValueError("this checkpoint has no pooler")
            first = x[batch.offsets[:-1]]
            pooled = F.linear(first, self._pooler.weight, self._pooler.bias).tanh()
        return TokenStates(states, batch, pooled)

    def _layer_norm(self, x: Tensor, part: Affine) -> Tensor:
        return F.layer_norm(x, (self.width,), part.weight, part.bias, self._c.layer_norm_eps)

    def _run(self, layer: Layer, x: Tensor, batch: TokenBatch) -> Tensor:
        attended = self._attend(F.linear(x, layer.qkv.weight, layer.qkv.bias), batch)
        part = layer.attention_output
        x = self._layer_norm(x + F.linear(attended, part.weight, part.bias), layer.attention_norm)
        inner = ACTIVATIONS[self._c.hidden_act](F.linear(x, layer.up.weight, layer.up.bias))
        return self._layer_norm(x + F.linear(inner, layer.down.weight, layer.down.bias), layer.norm)

    def _attend(self, qkv: Tensor, batch: TokenBatch) -> Tensor:
        """(tokens, 3 width) -> (tokens, width); a run of texts shares a call."""
        heads = self._c.num_attention_heads
        out = qkv.new_empty(len(qkv), self.width)
        for run in batch.runs:
            block = qkv[run.tokens].view(-1, run.length, 3, heads, self.width // heads)
            q, k, v = (part.transpose(1, 2) for part in block.unbind(2))
            mixed = F.scaled_dot_product_attention(q, k, v)
            out[run.tokens] = mixed.transpose(1, 2).reshape(-1, self.width)
        return out

    @property
    def identity(self) -> dict[str, Any]:
        """What of config.json changes the states, beside the shapes."""
        c = self._c
        return {
            "family": self.family,
            "heads": c.num_attention_heads,
            "act": ACTIVATIONS[c.hidden_act].__name__,
            "eps": c.layer_norm_eps,
        }

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        """The weights under transformers' names, cut to the first `num_layers` layers.

        A cut encoder has no pooler: it was made for the last layer.
        """
        tensors = {
            "embeddings.word_embeddings.weight": self._words,
            "embeddings.position_embeddings.weight": self._positions,
            "embeddings.token_type_embeddings.weight": self._types,
        }

        def put(name: str, part: Affine) -> None:
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = part.weight, part.bias

        put("embeddings.LayerNorm", self._norm)
        for index, layer in enumerate(self._layers[:num_layers]):
            at = f"encoder.layer.{index}."
            split = zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
            for name, (weight, bias) in zip(_QKV, split, strict=True):
                put(at + name, Affine(weight, bias))
            parts = (
                layer.attention_output,
                layer.attention_norm,
                layer.up,
                layer.down,
                layer.norm,
            )
            for name, part in zip(_LAYER_PARTS, parts, strict=True):
                put(at + name, part)
        if self._pooler and num_layers == self.num_layers:
            put("pooler.dense", self._pooler)
        return tensors

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> None:
        """Write config.json and model.safetensors, cut to the first `num_layers` layers."""
        config = dict(self.config) | {
            "architectures": ["BertModel"],
            "num_hidden_layers": num_layers,
            "output_hidden_states": output_hidden_states,
            "dtype": "float32",
        }
        config.pop("torch_dtype", None)
        # safetensors writes no views, and the three projections are views of one tensor.
        tensors = {
            name: tensor.to("cpu", torch.float32).clone()
            for name, tensor in self.tensors(num_layers).items()
        }
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
