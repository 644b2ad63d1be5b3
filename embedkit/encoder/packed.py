"""BERT and its kin without padding: every linear runs over one flat row of tokens.

Devlin et al. 2019; what tells the families apart is in `families`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from embedkit.encoder.families import FAMILIES, Numbers
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

_WORDS = "embeddings.word_embeddings.weight"
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_NORM = "embeddings.LayerNorm"
_PROJECTION = "embeddings_project"
_POOLER = "pooler.dense"


class TensorSource(Protocol):
    """Tensors by name: a checkpoint on disk, or a model's state_dict."""

    @property
    def names(self) -> frozenset[str]: ...

    def __getitem__(self, name: str) -> Tensor: ...


@dataclass(frozen=True)
class Affine:
    """weight: (out, in) of a linear, or (width,) of a layer norm; bias: (out,) or (width,)."""

    weight: Tensor
    bias: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Affine:
        return Affine(self.weight.to(device, dtype), self.bias.to(device, dtype))


@dataclass(frozen=True)
class Layer:
    """One layer; the three projections of attention are one linear here."""

    qkv: Affine
    attention_output: Affine
    attention_norm: Affine
    up: Affine
    down: Affine
    norm: Affine


def runs(config: dict[str, Any]) -> bool:
    """Whether a config.json is of an encoder that this file computes as transformers does."""
    family = FAMILIES.get(config["model_type"])
    if family is None:
        return False
    key, default = family.numbers["activation"]
    # transformers also takes BERT's keys for those of another name; this file does not.
    foreign = {key for key, _ in FAMILIES["bert"].numbers.values()}
    foreign -= {key for key, _ in family.numbers.values()}
    return (
        config.get(key, default) in list(ACTIVATIONS)
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
        and not config.get("add_cross_attention", False)
        and foreign.isdisjoint(config)
    )


class PackedEncoder:
    """A post-LN encoder that takes and returns packed tokens.

    Args:
        config: a config.json that `runs` says yes to.
        weights: its tensors under transformers' names, with or without the family's prefix.
        source: what errors call the model.

    Raises:
        InputError: a missing tensor or a wrong shape.
    """

    cuts = True
    whole = True

    def __init__(
        self, config: dict[str, Any], weights: TensorSource, *, source: str = "model"
    ) -> None:
        self.config = config
        self.family: str = config["model_type"]
        self._family = family = FAMILIES[self.family]
        self._numbers = n = Numbers.from_json(config, family, source)
        self._device = torch.device("cpu")
        self._dtype = torch.float32
        names = weights.names
        prefix = next((p for p in ("", family.prefix) if p + _WORDS in names), None)
        if prefix is None:
            raise InputError(
                f"{source}: the weights have no tensor {_WORDS!r}; "
                f"expected those of a {family.architecture}"
            )

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

        def norm(name: str, width: int) -> Affine:
            return Affine(tensor(f"{name}.weight", width), tensor(f"{name}.bias", width))

        self._tables = {
            name: tensor(name, rows, n.embedding)
            for name, rows in ((_WORDS, n.vocabulary), (_POSITIONS, n.positions), (_TYPES, n.types))
            if rows
        }
        self._norm = norm(_NORM, n.embedding)
        self._projection: Affine | None = None
        if n.embedding != n.width:
            self._projection = linear(_PROJECTION, n.width, n.embedding)
        part, w = family.names, n.width
        self._layers: list[Layer] = []
        for index in range(n.layers):
            at = family.layer.format(index)
            qkv = [linear(at + name, w, w) for name in (part.query, part.key, part.value)]
            self._layers.append(
                Layer(
                    Affine(torch.cat([p.weight for p in qkv]), torch.cat([p.bias for p in qkv])),
                    linear(at + part.attention_output, w, w),
                    norm(at + part.attention_norm, w),
                    linear(at + part.up, n.inner, w),
                    linear(at + part.down, w, n.inner),
                    norm(at + part.norm, w),
                )
            )
        self._pooler: Affine | None = None
        both = {f"{prefix}{_POOLER}.weight", f"{prefix}{_POOLER}.bias"}
        if family.has_pooler and both <= names:
            self._pooler = linear(_POOLER, w, w)

    @property
    def width(self) -> int:
        return self._numbers.width

    @property
    def num_layers(self) -> int:
        return self._numbers.layers

    @property
    def vocab_size(self) -> int:
        return self._numbers.vocabulary

    @property
    def max_positions(self) -> int | None:
        return self._numbers.max_positions

    @property
    def pooler(self) -> Affine | None:
        """The checkpoint's pooler, W: (width, width) and b: (width,), or None."""
        return self._pooler

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights; hidden states come in that dtype."""
        self._device, self._dtype = device, dtype

        def moved(part: Affine) -> Affine:
            return part.to(device, dtype)

        self._tables = {name: table.to(device, dtype) for name, table in self._tables.items()}
        self._norm = moved(self._norm)
        self._projection = moved(self._projection) if self._projection else None
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
        x = self._embed(batch)
        for index in range(top + 1):
            if index > 0:
                x = self._run(self._layers[index - 1], x, batch)
            if index in layers:
                states[index] = x
        pooled = None
        if pooler:
            if self._pooler is None:
                raise ValueError("this checkpoint has no pooler")
            pooled = _linear(x[batch.offsets[:-1]], self._pooler).tanh()
        return TokenStates(states, batch, pooled)

    def _embed(self, batch: TokenBatch) -> Tensor:
        """(tokens, width): the input of the first layer."""
        x = self._tables[_WORDS][batch.token_ids] + self._tables[_POSITIONS][self._places(batch)]
        if _TYPES in self._tables:
            x = x + self._tables[_TYPES][0]
        x = self._layer_norm(x, self._norm)
        return _linear(x, self._projection) if self._projection else x

    def _places(self, batch: TokenBatch) -> Tensor:
        """(tokens,) int64: rows of the table of positions.

        RoBERTa counts the tokens of a text that are no pad, from `padding` + 1; a pad, which a
        text can spell, is at `padding`.
        """
        padding = self._numbers.padding
        if padding is None:
            return batch.positions
        counted = (batch.token_ids != padding).long()
        before = F.pad(counted.cumsum(0), (1, 0))
        return padding + counted * (before[1:] - before[batch.offsets[batch.segments]])

    def _layer_norm(self, x: Tensor, part: Affine) -> Tensor:
        return F.layer_norm(x, part.weight.shape, part.weight, part.bias, self._numbers.eps)

    def _run(self, layer: Layer, x: Tensor, batch: TokenBatch) -> Tensor:
        attended = self._attend(_linear(x, layer.qkv), batch)
        x = self._layer_norm(x + _linear(attended, layer.attention_output), layer.attention_norm)
        inner = ACTIVATIONS[self._numbers.activation](_linear(x, layer.up))
        return self._layer_norm(x + _linear(inner, layer.down), layer.norm)

    def _attend(self, qkv: Tensor, batch: TokenBatch) -> Tensor:
        """(tokens, 3 width) -> (tokens, width); a run of texts shares a call."""
        heads = self._numbers.heads
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
        n = self._numbers
        said = {
            "family": self.family,
            "heads": n.heads,
            "act": ACTIVATIONS[n.activation].__name__,
            "eps": n.eps,
        }
        return said if n.padding is None else {**said, "padding": n.padding}

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        """The weights under transformers' names, cut to the first `num_layers` layers.

        A cut encoder has no pooler: it was made for the last layer.
        """
        tensors = dict(self._tables)

        def put(name: str, part: Affine) -> None:
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = part.weight, part.bias

        put(_NORM, self._norm)
        if self._projection:
            put(_PROJECTION, self._projection)
        names = asdict(self._family.names)
        for index, layer in enumerate(self._layers[:num_layers]):
            at = self._family.layer.format(index)
            q, k, v = map(Affine, layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3))
            parts = {**layer.__dict__, "query": q, "key": k, "value": v}
            for part, name in names.items():
                put(at + name, parts[part])
        if self._pooler and num_layers == self.num_layers:
            put(_POOLER, self._pooler)
        return tensors

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> dict[str, Any]:
        """Write config.json and model.safetensors, cut to the first `num_layers` layers."""
        config = dict(self.config) | {
            "architectures": [self._family.architecture],
            self._family.numbers["layers"][0]: num_layers,
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
        without = self._family.has_pooler and f"{_POOLER}.weight" not in tensors
        return {"add_pooling_layer": False} if without else {}


def _linear(x: Tensor, part: Affine) -> Tensor:
    return F.linear(x, part.weight, part.bias)
