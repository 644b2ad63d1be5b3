"""The fingerprint of an embedder: equal where two give the same embeddings of the same texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from embedkit.embedder.model_config import Settings
from embedkit.encoders.encoder import Encoder
from embedkit.encoders.loading import of_pooler
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.dense import Dense, LayerNorm
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import TextTokenizer


def identity(
    encoder: Encoder,
    tokenizer: TextTokenizer,
    bound: BoundRecipe,
    settings: Settings,
    digests: dict[str, str] | None = None,
) -> dict[str, str | int | bool]:
    """All that goes into a float32 embedding, part by part, so that a difference can be named.

    Weights above the last layer that the recipe reads are left out, so a model and the shorter
    one that `save_pretrained` writes have the same identity. `digests` are those of weights by
    name; what it lacks is added.
    """
    states = bound.recipe.states(encoder.num_layers)
    top = states[-1] if encoder.cuts and states else encoder.num_layers
    digests, used = {} if digests is None else digests, {}
    for name, tensor in encoder.tensors(top).items():
        if not states or not of_pooler(name):
            used[name] = digests[name] = digests.get(name) or _tensor(tensor)
    steps = []
    for step in bound.steps:
        if isinstance(step, Dense):
            slope = () if step.slope is None else (_array(step.slope),)
            steps.append((step.activation, _array(step.weight), _array(step.bias), *slope))
        elif isinstance(step, LayerNorm):
            steps.append((step.name, _array(step.weight), _array(step.bias)))
    names = [step.name for step in bound.steps]  # as they run: dense, whatever it was fitted as
    weights = (bound.token_weights, bound.query, bound.layer_weights)
    learnt = [_array(values) for values in weights if values is not None]
    backend = json.loads(tokenizer.backend.to_str())
    side = backend.pop("truncation")["direction"]
    default = settings.default_prompt_name
    int8 = {} if encoder.int8 is None else {"quantization": encoder.int8.digest(top)}
    return {
        "weights": _digest([encoder.identity, used]),
        "tokenizer": _digest([backend, side]),
        "recipe": _digest([bound.recipe.poolings, states or (top,), names, steps, *learnt]),
        "max_length": tokenizer.max_length,
        "default_prompt": "" if default is None else settings.prompts[default],
        "include_prompt": settings.include_prompt,
        **int8,
    }


def fingerprint(parts: Mapping[str, str | int | bool]) -> str:
    """SHA-256 of an `identity`, as 64 hexadecimal digits."""
    return _digest(parts)


def network_fingerprint(network: nn.Module, tokenizer: TextTokenizer) -> str:
    """SHA-256 of weights, tokenizer and maximum length of a model that has no recipe."""
    content = tokenizer.backend.to_str() + state_sha256(network)
    return hashlib.sha256(content.encode()).hexdigest()


def state_sha256(network: nn.Module) -> str:
    """SHA-256 of the names and values of all weights, as 64 hexadecimal digits."""
    state = network.state_dict()
    return _digest({name: _tensor(tensor) for name, tensor in state.items()})


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _tensor(tensor: Tensor) -> str:
    flat = tensor.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(flat.numpy().data).hexdigest()


def _array(values: Float32Array | None) -> str:
    return "" if values is None else hashlib.sha256(values.tobytes()).hexdigest()
