"""What every encoder offers, whatever runs it, and which one runs a model folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from embedkit.encoders.auto import AutoModelEncoder
from embedkit.encoders.families import FAMILIES
from embedkit.encoders.packed import PackedEncoder, runs
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.files import read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from embedkit.encoders.linear import Affine
    from embedkit.encoders.quantization import Quantization
    from embedkit.encoders.states import TokenStates
    from embedkit.tokenization.token_batch import TokenBatch


ENGINES = ("torch", "openvino")


class Encoder(Protocol):
    """Token ids to hidden states, packed on both sides."""

    engine: str  # that runs it, one of ENGINES
    int8: Quantization | None  # that it runs in
    family: str  # model_type of config.json
    dim: int  # of a hidden state
    num_layers: int
    vocab_size: int
    max_positions: int | None  # tokens of a text, special ones included
    device: torch.device
    cuts: bool  # whether its hidden state k is the last one of the encoder cut to k layers
    whole: bool  # whether transformers can load it alone, and not only with the decoder beside it

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        """Hidden states `layers` (0 to num_layers), each (tokens, dim), and pooler_output."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same encoder elsewhere or in another precision.

        Its hidden states have that dtype, or float32 where another engine than torch runs it.
        """

    @property
    def pooler(self) -> Affine | None:
        """W: (dim, dim) and b: (dim,) of tanh(W h_cls + b), where the checkpoint has them."""

    @property
    def identity(self) -> dict[str, Any]:
        """What of config.json changes the states, beside the weights."""

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        """The weights, float32, of the first layers; a cut encoder has no pooler."""

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> dict[str, Any]:
        """Write config.json and model.safetensors of the first layers.

        Returns the arguments that AutoModel needs beside the folder, so as to invent no pooler.
        """


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a model folder: packed where we run its family, else an AutoModel."""
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


def on_engine(encoder: Encoder, engine: str) -> Encoder:
    """The same encoder, of the CPU, run by this one of ENGINES."""
    if engine == encoder.engine:
        return encoder
    if not isinstance(encoder, PackedEncoder):
        raise InputError(
            f"engine is {engine!r}, which does not run this {encoder.family} encoder; "
            f"expected engine torch, or a model of {', '.join(FAMILIES)}"
        )
    from embedkit.encoders.openvino import OpenVINOEncoder  # not at the top: few use it

    kind = OpenVINOEncoder if engine == "openvino" else PackedEncoder
    other = kind.__new__(kind)
    other.__setstate__(encoder.__getstate__())
    return other
