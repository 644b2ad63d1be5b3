"""Save a model as a sentence-transformers folder that its versions before and after 5.4 load."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from embedkit.embedder.model_card import write_card
from embedkit.embedder.model_config import Settings
from embedkit.embedder.sentence_transformers import LEGACY_POOLINGS, RECIPE_POOLING
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.files import write_json
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe, Step, Truncate
from embedkit.recipes.dense import TANH, Dense, LayerNorm
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.tokenizer import TextTokenizer

_THEIRS = "sentence_transformers.models."


class _Module(NamedTuple):
    kind: str
    config: dict[str, Any]
    tensors: dict[str, Float32Array] = {}  # noqa: RUF012


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

    modules: list[_Module] = []
    dims = {"word_embedding_dimension": encoder.dim}
    include = {"include_prompt": settings.include_prompt}
    if weighted:
        weights = bound.layer_weights
        if weights is None:
            weights = np.array([k in used for k in range(used[0], num_layers + 1)], np.float32)
        layers = {**dims, "layer_start": used[0], "num_hidden_layers": num_layers}
        modules.append(_Module("WeightedLayerPooling", layers, {"layer_weights": weights}))
    poolings = ("cls",) if pooler else recipe.poolings
    if bound.query is not None:
        sizes = {"embedding_dimension": encoder.dim, "num_layers": num_layers}
        pooled = {"recipe": str(Recipe(poolings)), **sizes, **include}
        modules.append(_Module("RecipePooling", pooled, {"pooling.query": bound.query}))
    else:
        modes = {key: pool in poolings for key, pool in LEGACY_POOLINGS.items()}
        modules.append(_Module("Pooling", {**dims, **modes, **include}))
    steps = bound.steps
    if pooler and (affine := encoder.pooler) is not None:
        weight, bias = (tensor.float().cpu().numpy() for tensor in (affine.weight, affine.bias))
        steps = (Dense(weight, bias, TANH), *steps)
    dim = encoder.dim * len(recipe.poolings)
    for step in steps:
        modules.append(_module_of(step, dim))
        dim = step.dim(dim)

    folders = [""]
    for index, (kind, config, tensors) in enumerate(modules, start=1):
        target = folder / f"{index}_{kind}"
        target.mkdir()
        write_json(target / "config.json", config)
        if tensors:
            plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
            save_file(plain, target / "model.safetensors", {"format": "pt"})
        folders.append(target.name)
    kinds = ["Transformer", *(module.kind for module in modules)]
    classes = {"RecipePooling": RECIPE_POOLING}
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": classes.get(kind, _THEIRS + kind)}
        for index, (kind, path) in enumerate(zip(kinds, folders, strict=True))
    ]
    write_json(folder / "modules.json", entries)
    transformer = {"max_seq_length": tokenizer.max_length, "do_lower_case": tokenizer.lower_case}
    of_model = {"model_args": model_args} if model_args else {}
    write_json(folder / "sentence_bert_config.json", transformer | of_model)
    general = {
        "prompts": settings.prompts,
        "default_prompt_name": settings.default_prompt_name,
        "similarity_fn_name": settings.similarity,
    }
    write_json(folder / "config_sentence_transformers.json", general)
    write_card(
        folder,
        kinds,
        encoder,
        bound,
        settings,
        name=name,
        num_layers=num_layers,
        max_length=tokenizer.max_length,
    )


def _module_of(step: Step, dim: int) -> _Module:
    """The module of a step behind vectors of `dim` numbers."""
    if isinstance(step, Truncate):
        step = step.dense(dim)
    if isinstance(step, LayerNorm):
        tensors = {"norm.weight": step.weight, "norm.bias": step.bias}
        return _Module("LayerNorm", {"dimension": dim}, tensors)
    if not isinstance(step, Dense):
        return _Module("Normalize", {})
    config = {
        "in_features": step.weight.shape[1],
        "out_features": step.weight.shape[0],
        "bias": step.bias is not None,
        "activation_function": step.activation,
    }
    optional = {"linear.bias": step.bias, "activation_function.weight": step.slope}
    tensors = {name: values for name, values in optional.items() if values is not None}
    return _Module("Dense", config, {"linear.weight": step.weight, **tensors})
