"""Encoders: token ids to hidden states, packed on both sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from embedkit.errors import InputError
from embedkit.files import read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from embedkit.encoders.linear import Affine
    from embedkit.encoders.states import TokenStates
    from embedkit.tokenization.token_batch import TokenBatch


class Engine(Protocol):
    """What runs the forward pass: token batch -> hidden states, on one device in one precision."""

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        """Hidden states `layers`, each (tokens, dim), and pooler_output if asked for."""
        ...


class Encoder(Engine, Protocol):
    """The contract of an encoder: an engine, its sizes, and its weights on disk."""

    @property
    def family(self) -> str: ...  # transformers' model_type

    # Whether transformers can load it alone, and not only with the decoder beside it.
    @property
    def whole(self) -> bool: ...

    # Whether its hidden state k is the last one of the encoder cut to k layers.
    @property
    def cuts(self) -> bool: ...

    # What of the configuration changes the states, as plain values.
    @property
    def identity(self) -> dict[str, Any]: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dim(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    # Tokens that a text may have, special ones included; None where there is no limit.
    @property
    def max_positions(self) -> int | None: ...

    @property
    def pooler(self) -> Affine | None: ...  # where the checkpoint has its weights

    def to(self, device: torch.device, dtype: torch.dtype) -> Encoder:
        """The same encoder elsewhere or in another precision; weights are shared where they can."""
        ...

    def tensors(self, num_layers: int) -> Mapping[str, Tensor]:
        """The weights, float32 whatever the precision, cut to `num_layers` layers."""
        ...

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> dict[str, Any]:
        """Write config.json and weights for transformers, cut to `num_layers` layers.

        Returns the arguments that AutoModel needs beside the folder, so as to invent no pooler.
        """
        ...


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a model folder: packed where we run its family, else an AutoModel."""
    from embedkit.encoders.auto import AutoModelEncoder
    from embedkit.encoders.packed import PackedEncoder, runs
    from embedkit.encoders.weights import Weights

    config = read_json(folder / "config.json")
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: has an adapter of PEFT (adapter_config.json), which changes the weights; "
            "expected a folder into which it is merged"
        )
    family = config.get("model_type")
    if not isinstance(family, str):
        raise InputError(f"{folder / 'config.json'}: has no model_type; expected one such as bert")
    weights = Weights(folder)
    if runs(config):
        return PackedEncoder(config, weights, source=str(folder))
    return AutoModelEncoder.from_folder(folder, family, weights)
