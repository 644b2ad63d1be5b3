"""transformers' hidden states, to compare with ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from embedkit.encoders.encoder import Encoder
from embedkit.encoders.states import TokenStates
from helpers import tiny

TOLERANCE = 1e-5  # of a layer's largest value
LENGTHS = (1, 512, 2, 7, 7, 3, 64)


def random_texts(lengths: Sequence[int], vocab_size: int = 90, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, vocab_size, (n,), generator=generator).tolist() for n in lengths]


def load_theirs(folder: Path, **kwargs: Any) -> transformers.PreTrainedModel:
    """With AutoModel, or with the class of T5's encoder alone."""
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    name = architecture if architecture.endswith("EncoderModel") else "AutoModel"
    model_class = getattr(transformers, name)
    return model_class.from_pretrained(folder, attn_implementation="eager", **kwargs)


@torch.inference_mode()
def their_states(
    model: transformers.PreTrainedModel, texts: Sequence[Sequence[int]]
) -> tuple[dict[int, Tensor], Tensor | None]:
    """Hidden states, packed, and pooler_output of transformers: one text at a time, no padding."""
    outputs = [model(torch.tensor([text]), output_hidden_states=True) for text in texts]
    # Without layers transformers returns no hidden states, only the last one.
    states = [output.hidden_states or (output.last_hidden_state,) for output in outputs]
    layers = {k: torch.cat([state[k][0] for state in states]) for k in range(len(states[0]))}
    poolers = [getattr(output, "pooler_output", None) for output in outputs]
    return layers, None if poolers[0] is None else torch.cat(poolers)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= TOLERANCE * expected.abs().max()


def all_states(encoder: Encoder, texts: Sequence[Sequence[int]]) -> TokenStates:
    layers = range(encoder.num_layers + 1)
    return encoder(tiny.pack(texts), layers, pooler=encoder.pooler is not None)


def assert_as_theirs(encoder: Encoder, folder: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """Every layer and, where the checkpoint has one, the pooler."""
    texts = random_texts(lengths)
    states = all_states(encoder, texts)
    expected, pooled = their_states(load_theirs(folder), texts)
    assert sorted(states.layers) == sorted(expected)
    for k, layer in expected.items():
        assert_close(states.layers[k], layer)
    if encoder.pooler is not None:
        assert pooled is not None
        assert states.pooler_output is not None
        assert_close(states.pooler_output, pooled)
