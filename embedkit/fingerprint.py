"""What makes two embedders one: the same vectors for the same texts."""

from __future__ import annotations

import hashlib
import json

import torch

from embedkit.encoder import Encoder
from embedkit.settings import Settings
from embedkit.steps import Bound, Dense
from embedkit.tokens import TextTokenizer


def fingerprint(
    encoder: Encoder, tokenizer: TextTokenizer, bound: Bound, settings: Settings
) -> str:
    """SHA-256, as 64 hexadecimal digits, of all that goes into a float32 vector.

    Weights above the last layer that the recipe reads are left out, so a model and the shorter
    one that `save_pretrained` writes have the same fingerprint.
    """
    recipe = bound.recipe
    states = recipe.states(encoder.num_layers)
    top = states[-1] if encoder.cuts and states else encoder.num_layers
    default = settings.default_prompt_name
    digest = hashlib.sha256()
    said = {
        "encoder": encoder.identity,
        "poolings": recipe.poolings,
        "states": states or (top,),
        "steps": recipe.steps,
        "tokenizer": json.loads(tokenizer.backend.to_str()),
        "include_prompt": settings.include_prompt,
        "prompt": "" if default is None else settings.prompts[default],
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    tensors = encoder.tensors(top)
    for name in sorted(tensors):
        if not states or "pooler" not in name.split("."):
            digest.update(name.encode())
            flat = tensors[name].detach().to("cpu", torch.float32).contiguous()
            digest.update(flat.numpy().tobytes())
    for step in bound.steps:
        if isinstance(step, Dense):
            digest.update(step.activation.encode())
            digest.update(step.weight.tobytes())
            digest.update(b"" if step.bias is None else step.bias.tobytes())
    return digest.hexdigest()
