"""The models of an evaluation: their names, what is set for each alone, loaded one at a time."""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedkit.arguments import as_path, check_type
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.folder_kind import check_kind, folder_kind
from embedkit.embedder.precision import AUTO, check_precision
from embedkit.encoders.hub import find_folder
from embedkit.errors import InputError, first_line
from embedkit.evaluation.options import Options
from embedkit.recipes.recipe import Recipe
from embedkit.scoring.loading import LoadedModel, load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.pair_regressor import PairRegressor

Model: TypeAlias = (
    "Embedder | str | Path | PreTrainedModel | SentenceTransformer | Callable[[], Embedder]"
)
AnyModel: TypeAlias = "Model | PairRegressor | CrossEncoder | Callable[[], Any]"
# One model or several; a mapping has the fields of a [[model]] of a file of models.
_OneModel: TypeAlias = "AnyModel | Mapping[str, Any] | ModelSettings"
Models: TypeAlias = "_OneModel | Sequence[_OneModel]"

KEYS = ("name", "recipe", "prompt", "query_prompt", "document_prompt", "precision", "engine")
_PROMPTS = KEYS[2:5]


@dataclass(frozen=True)
class ModelSettings:
    """A model, and what is set for it alone; None is what holds for all."""

    model: AnyModel
    recipe: str | Recipe | None = None
    prompt: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    precision: str | None = None
    engine: str | None = None
    name: str = ""  # what a report of several models calls it
    shows_recipe: bool = True  # whether a report names its recipe
    loading: Mapping[str, Any] = field(default_factory=dict)  # arguments of `load_model`

    @classmethod
    def of(cls, given: Any) -> ModelSettings:
        """From a model, or the fields of a [[model]]."""
        if isinstance(given, ModelSettings):
            return given
        if not isinstance(given, Mapping):
            return cls(given)
        values = dict(given)
        for key in values.keys() - set(KEYS):
            near = get_close_matches(str(key), KEYS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"unknown key {key!r} of a model; expected some of {', '.join(KEYS)}{hint}"
            )
        if "name" not in values:
            raise InputError(f"a model of {reprlib.repr(values)} has no name; expected one")
        model = values.pop("name")
        for key, value in values.items():
            kinds = (str, Recipe) if key == "recipe" else (str,)
            check_type(f"{key} of model {model}", value, kinds, "a str")
        return cls(model, **values)

    def __post_init__(self) -> None:
        if self.recipe is not None:
            Recipe.of(self.recipe)
        check_precision(self.precision or AUTO, self.engine or AUTO)

    def check(self, *, embedder: bool) -> str | None:
        """Find the model without loading it; its kind, or None where a function will load it."""
        if isfunction(self.model):
            return None
        kind = str(getattr(self.model, "kind", "model"))
        if isinstance(self.model, str | Path):
            folder = find_folder(self.model, revision=self.loading.get("revision"))
            of_folder = folder_kind(folder)
            if of_folder is None:
                raise InputError(f"{folder}: has no config.json; expected a model folder")
            if embedder or of_folder not in ("head", "cross-encoder"):
                check_kind(folder, "model")
            else:
                kind = of_folder
        if kind != "model" and self.own:
            raise InputError(f"got {', '.join(self.own)} for {self.name}, a {kind}; expected none")
        return kind

    @property
    def source(self) -> str:
        """The model as its caller calls it: a path, a hub id or another name."""
        if isinstance(self.model, str | Path):
            return str(self.model)
        names = (getattr(self.model, key, None) for key in ("name", "name_or_path", "__name__"))
        return str(next(filter(None, names), type(self.model).__name__))

    @property
    def own(self) -> dict[str, Any]:
        """What is set for it alone."""
        return {key: value for key in KEYS[1:] if (value := getattr(self, key)) is not None}

    def load(self, *, embedder: bool) -> LoadedModel:
        """The model, or only the embedder of its folder; float32 where no precision is set."""
        model: Any = self.model() if isfunction(self.model) else self.model
        own = {key: x for key, x in self.own.items() if key not in _PROMPTS}
        options = {**self.loading, **own}
        if isinstance(model, Embedder):
            for key in ("precision", "engine"):
                if options.get(key, getattr(model, key)) != getattr(model, key):
                    raise InputError(f"got another {key} for {model.name}, which is already loaded")
            return model if self.recipe is None else model.with_recipe(self.recipe)
        if embedder:
            return Embedder.from_pretrained(model, **{"precision": "float32", **options})
        return load_model(model, **options)

    def options(self, options: Options) -> Options:
        """The options with the prompts of this model."""
        own = {key: x for key, x in self.own.items() if key in _PROMPTS}
        return replace(options, **({"prompt_name": None} if "prompt" in own else {}) | own)

    def candidate(self, recipe: object) -> str:
        """What the report calls this model with a recipe."""
        return " ".join([self.name] * bool(self.name) + [str(recipe)] * self.shows_recipe)


def read_models(
    given: Models, *, embedders: bool, crossed: bool, named: bool = False
) -> list[ModelSettings]:
    """The models that a caller names; of several, all are found before one is loaded.

    `embedders` says that only the embedders of folders are used, and `crossed` that several
    recipes of each model are compared; `named` that one model alone gets a name too.
    """
    items: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not items:
        raise InputError("there is no model; expected at least one")
    models = [ModelSettings.of(item) for item in items]
    if len(models) == 1 and not named:
        return models
    models = [
        replace(model, name=name, shows_recipe=crossed)
        for model, name in zip(models, _names(models), strict=True)
    ]
    kinds = {kind: model.name for model in models if (kind := model.check(embedder=embedders))}
    if len(kinds) > 1:
        listed = " and ".join(f"{name} (a {kind})" for kind, name in kinds.items())
        raise InputError(f"got models of several kinds, {listed}; expected one kind")
    return models


def read_model_file(path: str | Path) -> list[Mapping[str, Any]]:
    """The models of a TOML file, a [[model]] each with some of `KEYS`."""
    path = as_path("models", path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a TOML file of models") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({first_line(error)})") from error
    models = content.get("model")
    others = [key for key in content if key != "model"]
    if others or not isinstance(models, list) or not all(isinstance(x, dict) for x in models):
        shown = f" (got {', '.join(others)})" if others else ""
        raise InputError(f"{path}: expected a [[model]] for each model, and nothing else{shown}")
    for model in models:
        try:
            ModelSettings.of(model)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return models


def _names(models: Sequence[ModelSettings]) -> list[str]:
    """Short names: the last part of a path or hub id, more of it, or what is set, as need be."""
    parts = [_parts(model.source) for model in models]
    names = []
    for model, own in zip(models, parts, strict=True):
        length = 1
        while any(other != own and other[-length:] == own[-length:] for other in parts):
            length += 1
        name = "/".join(own[-length:])
        same = [x.own for x, other in zip(models, parts, strict=True) if other == own]
        differing = [
            f"{key}={value if key == 'recipe' else repr(value)}"
            for key, value in model.own.items()
            if len({str(one.get(key)) for one in same}) > 1
        ]
        names.append(f"{name} ({', '.join(differing)})" if differing else name)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"model {name} is given twice; expected it once")
    return names


def _parts(source: str) -> tuple[str, ...]:
    parts = tuple(part for part in source.split("/") if part)
    return Path(source).resolve().parts[1:] if parts[-1:] in ((), (".",), ("..",)) else parts
