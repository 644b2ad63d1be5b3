"""Save a model as a sentence-transformers folder that its versions before and after 5.4 load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from embedkit.embedder.model_card import write_card
from embedkit.embedder.model_config import Settings
from embedkit.embedder.sentence_transformers import RECIPE_POOLING
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.files import write_json
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe, Truncate
from embedkit.recipes.dense import TANH, Dense, LayerNorm
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import TextTokenizer

_LEGACY_POOLINGS = {row.legacy_key: name for name, row in POOLINGS.items() if row.legacy_key}


def check_saveable(encoder: Encoder, bound: BoundRecipe, settings: Settings) -> None:
    """Refuse what a sentence-transformers folder cannot express."""
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
        spec = POOLINGS[name]
        if name != "pooler" and spec.sentence_transformers is None and not spec.trained:
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
    name: str,  # what the model card calls the model
) -> None:
    """Write encoder, tokenizer, recipe, prompts and similarity into an empty folder."""
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

    def add_module(
        kind: str, config: dict[str, Any], tensors: dict[str, Float32Array] | None = None
    ) -> None:
        target = folder / f"{len(modules)}_{kind}"
        target.mkdir()
        write_json(target / "config.json", config)
        if tensors is not None:
            plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
            save_file(plain, target / "model.safetensors", {"format": "pt"})
        modules.append((kind, target.name))

    if weighted:
        weights = bound.layer_weights
        if weights is None:
            weights = np.array([k in used for k in range(used[0], num_layers + 1)], np.float32)
        add_module(
            "WeightedLayerPooling",
            {
                "word_embedding_dimension": encoder.dim,
                "layer_start": used[0],
                "num_hidden_layers": num_layers,
            },
            {"layer_weights": weights},
        )
    poolings = ("cls",) if pooler else recipe.poolings
    if bound.query is not None:
        config = {
            "recipe": str(Recipe(poolings)),
            "embedding_dimension": encoder.dim,
            "num_layers": num_layers,
            "include_prompt": settings.include_prompt,
        }
        add_module("RecipePooling", config, {"pooling.query": bound.query})
    else:
        add_module(
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
            config = {
                "in_features": dense.weight.shape[1],
                "out_features": dense.weight.shape[0],
                "bias": dense.bias is not None,
                "activation_function": dense.activation,
            }
            tensors = {"linear.weight": dense.weight}
            if dense.bias is not None:
                tensors["linear.bias"] = dense.bias
            if dense.slope is not None:
                tensors["activation_function.weight"] = dense.slope
            add_module("Dense", config, tensors)
        elif isinstance(dense, LayerNorm):
            tensors = {"norm.weight": dense.weight, "norm.bias": dense.bias}
            add_module("LayerNorm", {"dimension": width}, tensors)
        else:
            add_module("Normalize", {})

    transformer: dict[str, Any] = {
        "max_seq_length": tokenizer.max_length,
        "do_lower_case": tokenizer.lower_case,
    }
    if model_args:
        transformer["model_args"] = model_args
    write_json(folder / "sentence_bert_config.json", transformer)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": settings.prompts,
            "default_prompt_name": settings.default_prompt_name,
            "similarity_fn_name": settings.similarity,
        },
    )
    write_json(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": {"RecipePooling": RECIPE_POOLING}.get(
                    kind, f"sentence_transformers.models.{kind}"
                ),
            }
            for index, (kind, path) in enumerate(modules)
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
