"""Encoders: token ids to hidden states, packed on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from embedkit.errors import InputError
from embedkit.files import read_json

if TYPE_CHECKING:
    from embedkit.encoders.auto import AutoModelEncoder
    from embedkit.encoders.packed import PackedEncoder

# Both have the same attributes and methods.
Encoder: TypeAlias = "PackedEncoder | AutoModelEncoder"


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
