"""sentence-transformers folders: what they say in our words, and our recipes in theirs.

Reads the keys of sentence-transformers before and after 5.4; writes those of before, which both
read. No class that a folder names is ever imported.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from embedkit.checkpoint import Weights, check_entries, load_json, read_json
from embedkit.durable import write_text
from embedkit.encoder import Encoder
from embedkit.errors import InputError
from embedkit.interop.model_card import read_recipe, write_card
from embedkit.pooling import POOLINGS
from embedkit.recipe import LAST, Recipe, split_step
from embedkit.rows import check_text
from embedkit.settings import Settings
from embedkit.similarity import SIMILARITIES
from embedkit.steps import (
    ACTIVATIONS,
    IDENTITY,
    Bound,
    Dense,
    Normalize,
    Step,
    Truncate,
    Vectors,
    fold,
)
from embedkit.tokens import TextTokenizer

_NEW = "sentence_transformers.sentence_transformer.modules"
_BASE = "sentence_transformers.base.modules"
_CLASSES = {
    **{
        f"sentence_transformers.models.{name}": name
        for name in ("Transformer", "WeightedLayerPooling", "Pooling", "Dense", "Normalize")
    },
    f"{_BASE}.transformer.Transformer": "Transformer",
    f"{_NEW}.weighted_layer_pooling.WeightedLayerPooling": "WeightedLayerPooling",
    f"{_NEW}.pooling.Pooling": "Pooling",
    f"{_BASE}.dense.Dense": "Dense",
    f"{_BASE}.normalize.Normalize": "Normalize",
}
_LEGACY_POOLINGS = {row.legacy_key: name for name, row in POOLINGS.items() if row.legacy_key}
_POOLING_MODES = {
    row.sentence_transformers: name for name, row in POOLINGS.items() if row.sentence_transformers
}
_TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


def read_settings(folder: Path) -> Settings:
    """What the folder's modules.json and its companions say.

    Raises:
        InputError: a path that leaves the folder, a class that is not sentence-transformers' own,
            or one that no recipe can express.
    """
    modules_path = folder / "modules.json"
    if not modules_path.exists():
        return Settings(folder)
    modules = _read_modules(modules_path)
    kinds = [kind for kind, _ in modules]
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") > 1:
        raise InputError(f"{modules_path}: got {' > '.join(kinds)}, expected a Transformer first")
    encoder_folder = modules[0][1]
    rest = modules[1:]
    layers: tuple[int, ...] = LAST
    if rest and rest[0][0] == "WeightedLayerPooling":
        layers = _read_layers(rest.pop(0)[1], encoder_folder)
    if not rest or rest[0][0] != "Pooling":
        raise InputError(f"{modules_path}: got {' > '.join(kinds)}, expected a Pooling")
    poolings, include_prompt = _read_pooling(rest.pop(0)[1] / "config.json")
    steps: list[Step] = []
    if ("Normalize", "Normalize") in pairwise(kind for kind, _ in rest):
        raise InputError(
            f"{modules_path}: got {' > '.join(kinds)}, expected one Normalize at a time"
        )
    for kind, path in rest:
        if kind not in ("Dense", "Normalize"):
            raise InputError(
                f"{modules_path}: got {' > '.join(kinds)}, expected only Dense and Normalize "
                "after the Pooling"
            )
        steps.append(_read_dense(path) if kind == "Dense" else _read_normalize(path))
    config: dict[str, Any] = {}
    for name in _TRANSFORMER_CONFIGS:
        if (encoder_folder / name).exists():
            config = read_json(encoder_folder / name)
            break
    general_path = folder / "config_sentence_transformers.json"
    general = read_json(general_path) if general_path.exists() else {}
    similarity = general.get("similarity_fn_name") or "cosine"
    if similarity not in list(SIMILARITIES):
        raise InputError(
            f"{general_path}: similarity_fn_name is {similarity!r}; "
            f"expected one of {', '.join(SIMILARITIES)}"
        )
    prompts = general.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise InputError(f"{general_path}: prompts must map names to texts, got {prompts!r}")
    for said in (*prompts, *prompts.values()):
        check_text(f"{general_path}: prompts", said)
    default = general.get("default_prompt_name")
    if default is not None and not isinstance(default, str):
        raise InputError(f"{general_path}: the default prompt is {default!r}; expected a name")
    return Settings(
        encoder_folder,
        Recipe(poolings, layers, _step_names(folder, steps)),
        tuple(steps),
        config.get("max_seq_length"),
        bool(config.get("do_lower_case", False)),
        include_prompt,
        prompts,
        default,
        similarity,
    )


def _step_names(folder: Path, steps: list[Step]) -> tuple[str, ...]:
    """What the steps are called: as in embedkit's own file where that fits, else what they are.

    The weights decide what a step does; the file only says how it came to be.
    """
    plain = tuple(step.name for step in steps)
    said = read_recipe(folder)
    if said is None:
        return plain
    # The pooler is written as a Dense in front of the steps.
    first = 1 if said.poolings == ("pooler",) else 0
    groups = fold(said.steps)
    fits = len(steps) == first + len(groups) and all(
        _could_be(step, names) for step, names in zip(steps[first:], groups, strict=True)
    )
    return plain[:first] + said.steps if fits else plain


def _could_be(step: Step, names: tuple[str, ...]) -> bool:
    if not isinstance(step, Dense):
        return step.name == names[-1]
    numbers = [number for name, number in map(split_step, names) if name != "remove_top"]
    return (
        names != ("normalize",)
        and step.activation == IDENTITY
        and all(number is None or len(step.weight) <= number for number in numbers)
    )


def _read_modules(path: Path) -> list[tuple[str, Path]]:
    """The modules as (kind, folder), checked and in order."""
    entries = load_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: expected a list of modules")
    modules = []
    for number, entry in enumerate(entries):
        name, place = entry.get("type"), entry.get("path")
        if not isinstance(name, str) or not isinstance(place, str):
            raise InputError(f"{path}, module {number}: expected a type and a path, both text")
        parts = PurePosixPath(place.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in place or not place.isprintable():
            raise InputError(
                f"{path}, module {number}: path {place!r} leads out of the model's folder"
            )
        if name.endswith(".Dropout") and name.startswith("sentence_transformers."):
            continue  # it does nothing once training is over
        if name not in _CLASSES:
            raise InputError(
                f"{path}, module {number}: {name!r} is not a module that embedkit can read; "
                f"expected sentence-transformers' own {', '.join(sorted(set(_CLASSES.values())))}"
            )
        target = path.parent / place
        try:
            is_folder = target.is_dir()
        except OSError as error:  # too long a name, for one
            raise InputError(
                f"{path}, module {number}: path {place!r} is no folder's ({error.strerror})"
            ) from error
        if is_folder:
            if not target.resolve().is_relative_to(path.parent.resolve()):
                raise InputError(
                    f"{path}, module {number}: {place!r} is a link out of the model's folder"
                )
            check_entries(target)
        modules.append((_CLASSES[name], target))
    return modules


def _read_pooling(path: Path) -> tuple[tuple[str, ...], bool]:
    config = read_json(path)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = [modes] if isinstance(modes, str) else modes
        if not isinstance(modes, list) or not all(mode in list(_POOLING_MODES) for mode in modes):
            raise InputError(
                f"{path}: pooling_mode is {config['pooling_mode']!r}; "
                f"expected some of {', '.join(_POOLING_MODES)}"
            )
        poolings = [_POOLING_MODES[mode] for mode in modes]
    else:
        poolings = [name for key, name in _LEGACY_POOLINGS.items() if config.get(key)]
        poolings = poolings or ["mean"]  # as sentence-transformers reads a file that says nothing
    if poolings != [name for name in POOLINGS if name in poolings]:
        raise InputError(
            f"{path}: poolings are joined in the order {', '.join(poolings)}; "
            f"expected the order {', '.join(name for name in POOLINGS if name in poolings)}"
        )
    return tuple(poolings), bool(config.get("include_prompt", True))


def _read_layers(folder: Path, encoder_folder: Path) -> tuple[int, ...]:
    """The hidden states that a WeightedLayerPooling averages; others are not a recipe."""
    if not read_json(encoder_folder / "config.json").get("output_hidden_states"):
        raise InputError(
            f"{folder}: sentence-transformers ignores this WeightedLayerPooling, because "
            "config.json does not set output_hidden_states; set it, or remove the module"
        )
    config = read_json(folder / "config.json")
    start = config.get("layer_start", 4)
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise InputError(
            f"{folder / 'config.json'}: layer_start is {start!r}; expected a hidden state from 0"
        )
    tensor = Weights(folder)["layer_weights"]
    if tensor.ndim != 1:
        raise InputError(f"{folder}: layer_weights have shape {tuple(tensor.shape)}; expected (n,)")
    weights = tensor.float().tolist()
    used = [start + place for place, weight in enumerate(weights) if weight != 0]
    if not used or len({weight for weight in weights if weight != 0}) > 1:
        raise InputError(
            f"{folder}: the layers are weighted {weights}; a recipe has only plain averages"
        )
    return tuple(used)


def _check_plain(path: Path, config: dict[str, Any]) -> None:
    """Refuse a module that reads or writes anything but the sentence vector."""
    plain = "sentence_embedding"
    names = (config.get("module_input_name", plain), config.get("module_output_name") or plain)
    if names != (plain, plain):
        raise InputError(f"{path}: reads and writes {names}; expected {plain} for both")


def _read_normalize(folder: Path) -> Normalize:
    path = folder / "config.json"
    if path.exists():  # older folders have none
        _check_plain(path, read_json(path))
    return Normalize()


def _read_dense(folder: Path) -> Dense | Truncate:
    config = read_json(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in list(ACTIVATIONS):
        raise InputError(
            f"{folder / 'config.json'}: activation_function is {activation!r}; "
            f"expected one of {', '.join(ACTIVATIONS)}"
        )
    _check_plain(folder / "config.json", config)
    if config.get("use_residual"):
        raise InputError(f"{folder / 'config.json'}: has a residual; expected a plain Dense")
    weights = Weights(folder)
    weight = weights["linear.weight"].float()
    bias = weights["linear.bias"].float() if config.get("bias", True) else None
    wide = weight.ndim == 2 and weight.numel() > 0
    if not wide or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = [tuple(tensor.shape) for tensor in (weight, bias) if tensor is not None]
        raise InputError(f"{folder}: weight and bias do not fit, got shapes {shapes}")
    dense = Dense(weight.numpy(), None if bias is None else bias.numpy(), activation)
    kept, width = dense.weight.shape
    plain = bias is None and activation == IDENTITY and kept < width
    return Truncate(kept) if plain and np.array_equal(dense.weight, np.eye(kept, width)) else dense


def check_saveable(encoder: Encoder, bound: Bound, settings: Settings) -> None:
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
    bound: Bound,
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
                "word_embedding_dimension": encoder.width,
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
            "word_embedding_dimension": encoder.width,
            **{key: pool in poolings for key, pool in _LEGACY_POOLINGS.items()},
            "include_prompt": settings.include_prompt,
        },
    )
    steps = bound.steps
    if pooler and (affine := encoder.pooler) is not None:
        weight, bias = (tensor.float().cpu().numpy() for tensor in (affine.weight, affine.bias))
        steps = (Dense(weight, bias, "torch.nn.modules.activation.Tanh"), *steps)
    width = encoder.width * len(recipe.poolings)
    for step in steps:
        dense = step.dense(width) if isinstance(step, Truncate) else step
        width = step.width(width)
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
            _write_tensors(place, tensors)
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


def _write_tensors(folder: Path, tensors: dict[str, Vectors]) -> None:
    from safetensors.numpy import save_file

    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(plain, folder / "model.safetensors", {"format": "pt"})
