"""Encoders of BERT's family: read and written as transformers does, run without padding.

Devlin et al. 2019; how the families differ is in `families`, the forward pass in `network`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from embedkit.encoders.devices import check_fork
from embedkit.encoders.families import FAMILIES, POOLER, WORDS, EncoderConfig
from embedkit.encoders.linear import ACTIVATIONS, Affine, Linear, ready
from embedkit.encoders.network import Network
from embedkit.encoders.openvino_graph import PARTS
from embedkit.encoders.quantization import Quantization
from embedkit.encoders.states import TokenStates
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.files import write_json
from embedkit.tokenization.token_batch import TokenBatch

_building = Lock()


def runs(config: dict[str, Any]) -> bool:
    """Whether PackedEncoder computes the encoder of this config.json as transformers does."""
    family = FAMILIES.get(config["model_type"])
    if family is None:
        return False
    key, default = family.keys["activation"]
    # transformers also takes BERT's keys for those of another name; we do not.
    foreign = {key for key, _ in FAMILIES["bert"].keys.values()}
    foreign -= {key for key, _ in family.keys.values()}
    return (
        config.get(key, default) in list(ACTIVATIONS)
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
        and not config.get("add_cross_attention", False)
        and foreign.isdisjoint(config)
    )


class PackedEncoder:
    """An `Encoder` of a family whose network we run ourselves."""

    engine = "torch"
    int8: Quantization | None = None  # that it runs in
    calibration: Quantization | None = None  # that its folder has, or was made for it
    cuts = True
    whole = True

    def __init__(self, config: dict[str, Any], weights: Weights, *, source: str = "model") -> None:
        self.config = config
        self.family: str = config["model_type"]
        self._family = family = FAMILIES[self.family]
        self._sizes = n = EncoderConfig.from_json(config, family, source)
        self.dim, self.num_layers, self.vocab_size = n.dim, n.layers, n.vocabulary
        self.max_positions: int | None = n.max_positions
        self.device = torch.device("cpu")
        self._dtype = torch.float32
        names = weights.names
        prefix = next((p for p in ("", family.prefix) if p + WORDS in names), None)
        if prefix is None:
            raise InputError(
                f"{source}: the weights have no tensor {WORDS!r}; "
                f"expected those of a {family.architecture}"
            )
        # Under transformers' names, in float32 whatever the precision that they run in.
        self._tensors: dict[str, Tensor] = {}
        both = {f"{prefix}{POOLER}.weight", f"{prefix}{POOLER}.bias"}
        for name, shape in n.shapes(family, pooler=family.has_pooler and both <= names):
            # TensorFlow's names for a layer norm survive in old checkpoints.
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            old = old.replace("LayerNorm.bias", "LayerNorm.beta")
            tensor = weights[prefix + (old if prefix + old in names else name)]
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"{source}: tensor {prefix + name!r} has shape {tuple(tensor.shape)}, "
                    f"expected {shape} by config.json"
                )
            if not tensor.is_floating_point():
                raise InputError(
                    f"{source}: tensor {prefix + name!r} is {tensor.dtype}, expected floats"
                )
            self._tensors[name] = tensor.detach().to(torch.float32)

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of the linears of a layer, as they run: attention's three are one."""
        n = self._sizes
        return [(3 * n.dim, n.dim), (n.dim, n.dim), (n.inner, n.dim), (n.dim, n.inner)]

    @property
    def linear_parts(self) -> list[tuple[int, str]]:
        """The linears of all layers, by layer and name."""
        return [(layer, part) for layer in range(self.num_layers) for part in PARTS]

    @property
    def pooler(self) -> Affine | None:
        if f"{POOLER}.weight" not in self._tensors:
            return None
        return Affine(self._tensors[f"{POOLER}.weight"], self._tensors[f"{POOLER}.bias"])

    def to(self, device: torch.device, dtype: torch.dtype) -> PackedEncoder:
        if (device, dtype) == (self.device, self._dtype):
            return self
        other = copy.copy(self)
        other.device, other._dtype = device, dtype
        _ = other._engine  # built now, so that a device that is none is found here
        return other

    @cached_property
    def _engine(self) -> Callable[..., TokenStates]:
        with _building:  # threads may ask at once
            if "_engine" not in self.__dict__:
                self.__dict__["_engine"] = self._network()
        engine: Callable[..., TokenStates] = self.__dict__["_engine"]
        return engine

    def _network(self) -> Callable[..., TokenStates]:
        return self.network(ready)

    def network(self, linear: Callable[[Affine], Linear]) -> Network:
        """The forward pass in torch, with these linears."""
        sizes = self._family, self._sizes
        return Network(*sizes, self._tensors, self.device, self._dtype, linear)

    def with_int8(self, quantization: Quantization | None) -> Self:
        """The same encoder, run in int8, or not for None; a calibration that it has stays known."""
        if quantization is self.int8:
            return self
        other = copy.copy(self)
        other.int8, other.calibration = quantization, quantization or self.calibration
        return other

    def uncalibrated(self) -> Self:
        """The same encoder without what its folder says of int8."""
        other = copy.copy(self)
        other.int8 = other.calibration = None
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine, whose layout is this CPU's; it is built again on first use."""
        return {name: value for name, value in self.__dict__.items() if name != "_engine"}

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        if pooler and self.pooler is None:
            raise ValueError("this checkpoint has no pooler")
        check_fork()
        return self._engine(batch.to(self.device), layers, pooler=pooler)

    @property
    def identity(self) -> dict[str, Any]:
        n = self._sizes
        identity = {
            "family": self.family,
            "heads": n.heads,
            "act": ACTIVATIONS[n.activation].function.__name__,
            "eps": n.eps,
        }
        return identity if n.padding is None else {**identity, "padding": n.padding}

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        cut = range(num_layers, self.num_layers)
        left_out = [self._family.layer.format(index) for index in cut]
        if left_out:
            left_out.append(POOLER)
        return {
            name: tensor
            for name, tensor in self._tensors.items()
            if not name.startswith(tuple(left_out))
        }

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> dict[str, Any]:
        config = dict(self.config) | {
            "architectures": [self._family.architecture],
            self._family.keys["layers"][0]: num_layers,
            "output_hidden_states": output_hidden_states,
            "dtype": "float32",
        }
        config.pop("torch_dtype", None)
        # safetensors writes no views, which a state_dict may have.
        tensors = {name: tensor.clone() for name, tensor in self.tensors(num_layers).items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write_json(folder / "config.json", config)
        without = self._family.has_pooler and f"{POOLER}.weight" not in tensors
        return {"add_pooling_layer": False} if without else {}
