"""Recipes as sentence-transformers folders, in the keys that it reads before and after 5.4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.embedder.model_card import write_card
from embedkit.embedder.model_config import Settings
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.files import write_text
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe, Truncate
from embedkit.recipes.dense import TANH, Dense, LayerNorm
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import TextTokenizer

_LEGACY_POOLINGS = {row.legacy_key: name for name, row in POOLINGS.items() if row.legacy_key}


def check_saveable(encoder: Encoder, bound: BoundRecipe, settings: Settings) -> None:
    """Refuse what a sentence-transformers folder cannot say.

    Raises:
        InputError: the reason.
    """
    if not encoder.whole:
        raise InputError(
            f"the encoder of a {encoder.family} model cannot be saved: AutoModel would look for "
            "the decoder"
        )
    if bound.recipe.poolings == ("pooler",) and not settings.include_prompt:
        raise InputError(
            "recipe 'pooler' cannot be saved for a model that leaves the prompt out of the "
            "pooling: sentence-transformers would feed the pooler the first token after the prompt"
        )
    for name in bound.recipe.poolings:
        if name != "pooler" and POOLINGS[name].sentence_transformers is None:
            raise InputError(
                f"recipe {str(bound.recipe)!r} cannot be saved: sentence-transformers has no "
                f"pooling {name}; choose one that it has, such as mean"
            )


def write_folder(
    folder: Path,
    encoder: Encoder,
    tokenizer: TextTokenizer,
    bound: BoundRecipe,
    settings: Settings,
    *,
    name: str,
) -> None:
    """Write a folder that sentence-transformers loads, before and after 5.4.

    Args:
        folder: an empty folder.
        encoder: in float32.
        tokenizer: its files are written, and its maximum length.
        bound: the recipe to say.
        settings: prompts and similarity.
        name: what the model card calls the model.

    Raises:
        InputError: the recipe cannot be said there.
    """
    check_saveable(encoder, bound, settings)
    recipe = bound.recipe
    pooler = recipe.poolings == ("pooler",)
    used = recipe.states(encoder.num_layers) or (encoder.num_layers,)
    # Cutting a post-LN encoder to its first k layers gives its hidden state k as the last one.
    num_layers = used[-1] if encoder.cuts else encoder.num_layers
    weighted = used != (num_layers,)
    model_args = encoder.save(folder, num_layers=num_layers, output_hidden_states=weighted)
    tokenizer.save(folder)

    modules = [("Transformer", "")]

    def new_module(kind: str, config: dict[str, Any]) -> Path:
        place = folder / f"{len(modules)}_{kind}"
        place.mkdir()
        _write_json(place / "config.json", config)
        modules.append((kind, place.name))
        return place

    if weighted:
        place = new_module(
            "WeightedLayerPooling",
            {
                "word_embedding_dimension": encoder.dim,
                "layer_start": used[0],
                "num_hidden_layers": num_layers,
            },
        )
        weights = np.array([k in used for k in range(used[0], num_layers + 1)], dtype=np.float32)
        _write_tensors(place, {"layer_weights": weights})
    poolings = ("cls",) if pooler else recipe.poolings
    new_module(
        "Pooling",
        {
            "word_embedding_dimension": encoder.dim,
            **{key: pool in poolings for key, pool in _LEGACY_POOLINGS.items()},
            "include_prompt": settings.include_prompt,
        },
    )
    steps = bound.steps
    if pooler and (affine := encoder.pooler) is not None:
        weight, bias = (tensor.float().cpu().numpy() for tensor in (affine.weight, affine.bias))
        steps = (Dense(weight, bias, TANH), *steps)
    width = encoder.dim * len(recipe.poolings)
    for step in steps:
        dense = step.dense(width) if isinstance(step, Truncate) else step
        width = step.dim(width)
        if isinstance(dense, Dense):
            place = new_module(
                "Dense",
                {
                    "in_features": dense.weight.shape[1],
                    "out_features": dense.weight.shape[0],
                    "bias": dense.bias is not None,
                    "activation_function": dense.activation,
                },
            )
            tensors = {"linear.weight": dense.weight}
            if dense.bias is not None:
                tensors["linear.bias"] = dense.bias
            if dense.slope is not None:
                tensors["activation_function.weight"] = dense.slope
            _write_tensors(place, tensors)
        elif isinstance(dense, LayerNorm):
            place = new_module("LayerNorm", {"dimension": width})
            _write_tensors(place, {"norm.weight": dense.weight, "norm.bias": dense.bias})
        else:
            new_module("Normalize", {})

    transformer: dict[str, Any] = {
        "max_seq_length": tokenizer.max_length,
        "do_lower_case": tokenizer.lower_case,
    }
    if model_args:
        transformer["model_args"] = model_args
    _write_json(folder / "sentence_bert_config.json", transformer)
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": settings.prompts,
            "default_prompt_name": settings.default_prompt_name,
            "similarity_fn_name": settings.similarity,
        },
    )
    _write_json(
        folder / "modules.json",
        [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, (kind, path) in enumerate(modules)
        ],
    )
    write_card(
        folder,
        [kind for kind, _ in modules],
        encoder,
        bound,
        settings,
        name=name,
        num_layers=num_layers,
        max_length=tokenizer.max_length,
    )


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def _write_tensors(folder: Path, tensors: dict[str, Float32Array]) -> None:
    from safetensors.numpy import save_file

    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(plain, folder / "model.safetensors", {"format": "pt"})
