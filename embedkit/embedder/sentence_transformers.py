"""Read the recipe, prompts and limits of a sentence-transformers folder.

Reads the keys of sentence-transformers before and after 5.4. No class that a folder names is ever
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from embedkit.arguments import check_count
from embedkit.embedder.model_card import read_recipe
from embedkit.embedder.model_config import Settings, check_prompts
from embedkit.encoders.hub import check_entries
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.files import load_json, read_json
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import RowStep, Step, Truncate
from embedkit.recipes.dense import ACTIVATIONS, IDENTITY, TANH, Dense, LayerNorm
from embedkit.recipes.recipe import LAST, MIX, Recipe
from embedkit.recipes.steps import Float32Array, fold, split_step
from embedkit.similarity import SIMILARITIES

# embedkit's own class for trained poolings; see `recipe_pooling`.
RECIPE_POOLING = "embedkit.embedder.recipe_pooling.RecipePooling"

_NEW = "sentence_transformers.sentence_transformer.modules"
_BASE = "sentence_transformers.base.modules"

_NEW_CLASSES = {
    "Transformer": f"{_BASE}.transformer.Transformer",
    "WeightedLayerPooling": f"{_NEW}.weighted_layer_pooling.WeightedLayerPooling",
    "Pooling": f"{_NEW}.pooling.Pooling",
    "Dense": f"{_BASE}.dense.Dense",
    "LayerNorm": f"{_NEW}.layer_norm.LayerNorm",
    "Normalize": f"{_BASE}.normalize.Normalize",
}
_CLASSES = {
    **{f"sentence_transformers.models.{name}": name for name in _NEW_CLASSES},
    **{path: name for name, path in _NEW_CLASSES.items()},
    RECIPE_POOLING: "RecipePooling",
}

LEGACY_POOLINGS = {row.legacy_key: name for name, row in POOLINGS.items() if row.legacy_key}

_POOLING_MODES = {
    row.sentence_transformers: name for name, row in POOLINGS.items() if row.sentence_transformers
}

_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

_MOST_LAYERS = 1 << 10

_TEXT_MODALITY = {"method": "forward", "method_output_name": "last_hidden_state"}

_LOADING = frozenset(
    {"trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "device_map"}
    | {"low_cpu_mem_usage", "use_safetensors", "add_pooling_layer"}
)

_TOKENIZING = frozenset({"trust_remote_code", "model_max_length", "padding_side", "use_fast"})

# Of sentence_bert_config.json what changes vectors, but for max_seq_length and do_lower_case: the
# value that we follow, and of an object the keys, which do not matter or are read.
_TRANSFORMER_KEYS: dict[str, tuple[Any, frozenset[str]]] = {
    "transformer_task": ("feature-extraction", frozenset()),
    "module_output_name": ("token_embeddings", frozenset()),
    "modality_config": ({"text": _TEXT_MODALITY}, frozenset()),
    "processing_kwargs": ({}, frozenset()),
    "tokenizer_name_or_path": (None, frozenset()),
    **dict.fromkeys(("query_length", "document_length", "query_expansion"), (None, frozenset())),
    **dict.fromkeys(("model_args", "model_kwargs"), ({}, _LOADING)),
    **dict.fromkeys(("config_args", "config_kwargs"), ({}, frozenset({"trust_remote_code"}))),
    **dict.fromkeys(("tokenizer_args", "processor_kwargs"), ({}, _TOKENIZING)),
}


def read_settings(folder: Path) -> Settings:
    """What the folder's modules.json and its companions say."""
    modules_path = folder / "modules.json"
    if not modules_path.exists():
        return Settings(folder)
    modules = _read_modules(modules_path)
    kinds = [kind for kind, _ in modules]

    def refused(expected: str) -> InputError:
        return InputError(f"{modules_path}: got {' > '.join(kinds)}, expected {expected}")

    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") > 1:
        raise refused("a Transformer first")
    (_, encoder_folder), *rest = modules
    layers: tuple[int, ...] = LAST
    layer_weights = query = None
    if rest and rest[0][0] == "WeightedLayerPooling":
        layers, layer_weights = _read_layers(rest.pop(0)[1], encoder_folder)
    if rest and rest[0][0] == "RecipePooling":
        pooling, include_prompt, query, mix = _read_recipe_pooling(rest.pop(0)[1])
        poolings, layer_weights = pooling.poolings, layer_weights if mix is None else mix
    elif rest and rest[0][0] == "Pooling":
        poolings, include_prompt = _read_pooling(rest.pop(0)[1] / "config.json")
    else:
        raise refused("a Pooling")
    after = [kind for kind, _ in rest]
    if ("Normalize", "Normalize") in pairwise(after):
        raise refused("one Normalize at a time")
    if not set(after) <= set(_STEPS):
        raise refused(f"only {', '.join(_STEPS)} after the Pooling")
    steps = tuple(_STEPS[kind](path) for kind, path in rest)
    config = _read_transformer(encoder_folder)
    return Settings(
        encoder_folder,
        recipe=Recipe(poolings, layers, _step_names(folder, steps), layer_weights is not None),
        steps=steps,
        query=query,
        layer_weights=layer_weights,
        max_length=config["max_seq_length"],
        lower_case=bool(config.get("do_lower_case", False)),
        include_prompt=include_prompt,
        **_read_general(folder / "config_sentence_transformers.json"),
    )


def _read_general(path: Path) -> dict[str, Any]:
    """Prompts, similarity and truncation, by the names of `Settings`."""
    config = read_json(path) if path.exists() else {}
    model_type = config.get("model_type", "SentenceTransformer")
    if model_type != "SentenceTransformer":
        raise InputError(f"{path}: model_type is {model_type!r}; expected SentenceTransformer")
    dim = config.get("truncate_dim")
    if dim is not None:
        check_count(f"{path}: truncate_dim", dim)
    similarity = config.get("similarity_fn_name") or "cosine"
    if similarity not in list(SIMILARITIES):
        raise InputError(
            f"{path}: similarity_fn_name is {similarity!r}; "
            f"expected one of {', '.join(SIMILARITIES)}"
        )
    default = config.get("default_prompt_name")
    if default is not None and not isinstance(default, str):
        raise InputError(f"{path}: the default prompt is {default!r}; expected a name")
    return {
        "prompts": check_prompts(f"{path}: prompts", config.get("prompts") or {}),
        "default_prompt_name": default,
        "similarity": similarity,
        "truncate_dim": dim,
    }


def _read_transformer(folder: Path) -> dict[str, Any]:
    """The keys of a Transformer module that we follow; others that change vectors are refused."""
    path = next((folder / name for name in _TRANSFORMER_CONFIGS if (folder / name).exists()), None)
    config = {} if path is None else read_json(path)
    for name, (default, known) in _TRANSFORMER_KEYS.items():
        value = config.get(name)
        if value in (None, default):
            continue
        unknown = set(value) - known if isinstance(value, dict) else {str(value)}
        if unknown:
            raise InputError(
                f"{path}: {name} has {', '.join(sorted(unknown))}, which changes what the model "
                "reads or gives in a way that embedkit does not follow; expected it without"
            )
    arguments = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    length = arguments.get("model_max_length", config.get("max_seq_length"))
    return {**config, "max_seq_length": length}


def _step_names(folder: Path, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Names of the steps: what embedkit's own file says they were fitted as, else their kinds."""
    plain = tuple(step.name for step in steps)
    recorded = read_recipe(folder)
    if recorded is None:
        return plain
    # The pooler is written as a Dense in front of the steps.
    first = 1 if recorded.poolings == ("pooler",) else 0
    groups = fold(recorded.steps)
    fits = len(steps) == first + len(groups) and all(
        _could_be(step, names) for step, names in zip(steps[first:], groups, strict=True)
    )
    return plain[:first] + recorded.steps if fits else plain


def _could_be(step: Step, names: tuple[str, ...]) -> bool:
    if not isinstance(step, Dense):
        return step.name == names[-1]
    dims = [dim for name, dim in map(split_step, names) if name != "remove_top"]
    return (
        names != ("normalize",)
        and step.activation == IDENTITY
        and all(dim is None or len(step.weight) <= dim for dim in dims)
    )


def _read_modules(path: Path) -> list[tuple[str, Path]]:
    """The modules as (kind, folder), checked and in order."""
    entries = load_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: expected a list of modules")
    modules = []
    for index, entry in enumerate(entries):
        where = f"{path}, module {index}"
        name, relative = entry.get("type"), entry.get("path")
        if not isinstance(name, str) or not isinstance(relative, str):
            raise InputError(f"{where}: expected a type and a path, both text")
        posix = PurePosixPath(relative.replace("\\", "/"))
        outside = posix.is_absolute() or ".." in posix.parts or ":" in relative
        if outside or not relative.isprintable():
            raise InputError(f"{where}: path {relative!r} leads out of the model's folder")
        if name.endswith(".Dropout") and name.startswith("sentence_transformers."):
            continue  # it does nothing once training is over
        if name not in _CLASSES:
            raise InputError(
                f"{where}: {name!r} is not a module that embedkit can read; "
                f"expected sentence-transformers' own {', '.join(sorted(set(_CLASSES.values())))}"
            )
        target = path.parent / relative
        try:
            is_folder = target.is_dir()
        except OSError as error:  # too long a name, for one
            problem = f"path {relative!r} is no folder's ({error.strerror})"
            raise InputError(f"{where}: {problem}") from error
        if is_folder:
            if not target.resolve().is_relative_to(path.parent.resolve()):
                raise InputError(f"{where}: {relative!r} is a link out of the model's folder")
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
        poolings = [name for key, name in LEGACY_POOLINGS.items() if config.get(key)]
        poolings = poolings or ["mean"]  # as sentence-transformers reads a file that says nothing
    ordered = [name for name in POOLINGS if name in poolings]
    if poolings != ordered:
        raise InputError(
            f"{path}: poolings are joined in the order {', '.join(poolings)}; "
            f"expected the order {', '.join(ordered)}"
        )
    return tuple(poolings), bool(config.get("include_prompt", True))


def _read_recipe_pooling(
    folder: Path,
) -> tuple[Recipe, bool, Float32Array | None, Float32Array | None]:
    """Recipe, whether the prompt is pooled, query of attention, and weights of the layers."""
    path = folder / "config.json"
    config = read_json(path)
    recipe = Recipe.parse(config.get("recipe", ""))
    theirs = (POOLINGS[name].trained or POOLINGS[name].legacy_key for name in recipe.poolings)
    if recipe.steps or not (recipe.mix or recipe.layers == LAST) or not all(theirs):
        raise InputError(f"{path}: recipe is {str(recipe)!r}; expected one such as attention@mix")
    weights = Weights(folder)

    def read(name: str, part: str) -> Any:
        if part not in recipe.to_train:
            return None
        tensor = weights[f"pooling.{name}"].float()
        if tensor.ndim == 1 and name == "mix":
            tensor = tensor.softmax(0)
        if tensor.ndim != 1 or not tensor.isfinite().all():
            raise InputError(
                f"{folder}: {name} has shape {tuple(tensor.shape)}, or numbers that are not "
                "finite; expected (n,) finite numbers"
            )
        return tensor.numpy()

    include_prompt = bool(config.get("include_prompt", True))
    return recipe, include_prompt, read("query", "attention"), read("mix", MIX)


def _read_layers(folder: Path, encoder_folder: Path) -> tuple[tuple[int, ...], Float32Array | None]:
    """The hidden states that a WeightedLayerPooling averages, or its weights of all of them."""
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
    if start > _MOST_LAYERS or not 0 < sum(weights) < np.inf or min(weights) < 0:
        raise InputError(f"{folder}: the layers are weighted {weights}; expected weights from 0")
    used = [layer for layer, weight in enumerate(weights, start) if weight != 0]
    if len({weight for weight in weights if weight != 0}) == 1:
        return tuple(used), None
    total = sum(weights)
    total = 1.0 if abs(total - 1) < 1e-6 else total  # those of embedkit keep their bits
    return (), (np.array([0.0] * start + weights) / total).astype(np.float32)


def _check_plain(path: Path, config: dict[str, Any]) -> None:
    """Refuse a module that reads or writes anything but the sentence vector."""
    plain = "sentence_embedding"
    names = (config.get("module_input_name", plain), config.get("module_output_name") or plain)
    if names != (plain, plain):
        raise InputError(f"{path}: reads and writes {names}; expected {plain} for both")


def _read_normalize(folder: Path) -> RowStep:
    path = folder / "config.json"
    if path.exists():  # older folders have none
        _check_plain(path, read_json(path))
    return RowStep("normalize")


def _read_layer_norm(folder: Path) -> LayerNorm:
    weights = Weights(folder)
    weight, bias = (weights[f"norm.{name}"].float() for name in ("weight", "bias"))
    if weight.ndim != 1 or weight.shape != bias.shape:
        shapes = [tuple(tensor.shape) for tensor in (weight, bias)]
        raise InputError(f"{folder}: weight and bias do not fit, got shapes {shapes}")
    return LayerNorm(weight.numpy(), bias.numpy())


def _read_dense(folder: Path) -> Dense | Truncate:
    config = read_json(folder / "config.json")
    activation = config.get("activation_function", TANH)
    if activation not in list(ACTIVATIONS):
        raise InputError(
            f"{folder / 'config.json'}: activation_function is {activation!r}; "
            f"expected one of {', '.join(ACTIVATIONS)}"
        )
    _check_plain(folder / "config.json", config)
    if config.get("use_residual"):
        raise InputError(
            f"{folder / 'config.json'}: has a residual connection; expected a Dense without one"
        )
    weights = Weights(folder)
    weight = weights["linear.weight"].float()
    bias = weights["linear.bias"].float() if config.get("bias", True) else None
    wide = weight.ndim == 2 and weight.numel() > 0
    if not wide or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = [tuple(tensor.shape) for tensor in (weight, bias) if tensor is not None]
        raise InputError(f"{folder}: weight and bias do not fit, got shapes {shapes}")
    slope = None
    if activation.endswith(".PReLU"):
        slope = weights["activation_function.weight"].float().numpy()
        if slope.shape not in ((1,), weight.shape[:1]):
            raise InputError(f"{folder}: the slope of PReLU has shape {slope.shape}; expected (1,)")
    dense = Dense(weight.numpy(), None if bias is None else bias.numpy(), activation, slope=slope)
    kept, dim = dense.weight.shape
    plain = bias is None and activation == IDENTITY and kept < dim
    return Truncate(kept) if plain and np.array_equal(dense.weight, np.eye(kept, dim)) else dense


_STEPS: dict[str, Callable[[Path], Step]] = {
    "Dense": _read_dense,
    "LayerNorm": _read_layer_norm,
    "Normalize": _read_normalize,
}
