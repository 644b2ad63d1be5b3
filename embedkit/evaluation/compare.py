"""Which recipe: every one from a single pass over the distinct sentences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedkit.embedder import Embedder
from embedkit.errors import InputError
from embedkit.evaluation.data import Pairs, read_pairs
from embedkit.evaluation.report import Report
from embedkit.evaluation.statistics import AGGREGATIONS
from embedkit.evaluation.sts import Result, absent, score_pairs
from embedkit.pooling import POOLINGS
from embedkit.recipe import FIRST_LAST, Recipe
from embedkit.similarity import find_similarity
from embedkit.steps import Bound

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

Model: TypeAlias = "Embedder | str | Path | PreTrainedModel | SentenceTransformer"
Data: TypeAlias = "str | Path | Pairs | Sequence[str | Path | Pairs]"


def compare(
    model: Model,
    data: Data,
    recipes: Sequence[str | Recipe] | None = None,
    *,
    layers: str | Sequence[int] | None = None,
    similarities: Sequence[str] = ("cosine",),
    aggregation: str = "all",
    prompt: str | None = None,
    prompt_name: str | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Score many recipes of one model on sentence pairs.

    Args:
        model: an `Embedder`, or anything that `Embedder.from_pretrained` takes.
        data: files or `Pairs`, one or several.
        recipes: which; None for every pooling on the last layer, `mean@first-last` and the model's
            own recipe.
        layers: with `recipes` None, cross the poolings with these hidden states; "all" for all.
        similarities: names from the table of similarities; the first one decides what is best.
        aggregation: which aggregation decides what is best, where the pairs have subsets.
        prompt: put in front of each sentence.
        prompt_name: one of the model's prompts instead.
        show_progress: a bar on stderr; None shows it where stderr is a terminal.

    Raises:
        InputError: wrong input, before the encoder runs.
    """
    started = time.perf_counter()
    sets = _read(data)
    parsed = None if recipes is None else [_parse(recipe) for recipe in recipes]
    _check_options(similarities, aggregation)
    if parsed is not None and layers is not None:
        raise InputError("got recipes and layers; expected one of them: a recipe names its layers")
    if parsed is not None and not parsed:
        raise InputError("recipes is empty; expected at least one")
    embedder = _embedder(model)
    missing: list[Recipe] = []
    if parsed is not None:
        bounds = [embedder.bind(recipe) for recipe in parsed]
    else:
        bounds, missing = _default_recipes(embedder, layers)
    bounds = list({bound.recipe: bound for bound in bounds}.values())
    return _report(
        embedder,
        sets,
        bounds,
        missing,
        similarities,
        aggregation,
        {"prompt": prompt, "prompt_name": prompt_name, "show_progress": show_progress},
        started,
    )


def evaluate(
    model: Model,
    data: Data,
    *,
    similarities: Sequence[str] = ("cosine",),
    aggregation: str = "all",
    prompt: str | None = None,
    prompt_name: str | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Score a model's own recipe on sentence pairs; see `compare`."""
    started = time.perf_counter()
    sets = _read(data)
    _check_options(similarities, aggregation)
    embedder = _embedder(model)
    return _report(
        embedder,
        sets,
        [embedder.bound],
        [],
        similarities,
        aggregation,
        {"prompt": prompt, "prompt_name": prompt_name, "show_progress": show_progress},
        started,
    )


def _report(
    embedder: Embedder,
    sets: list[Pairs],
    bounds: list[Bound],
    missing: list[Recipe],
    similarities: Sequence[str],
    aggregation: str,
    encoding: dict[str, Any],
    started: float,
) -> Report:
    texts = [text for pairs in sets for text in (*pairs.sentence1, *pairs.sentence2)]
    loaded = time.perf_counter()
    encoded = embedder.encode_recipes(texts, bounds, **encoding)
    ran = time.perf_counter()
    results: list[Result] = []
    start = 0
    for pairs in sets:
        n = len(pairs.scores)
        first = encoded.distinct.inverse[start : start + n]
        second = encoded.distinct.inverse[start + n : start + 2 * n]
        for bound, vectors in zip(bounds, encoded.vectors, strict=True):
            name = str(bound.recipe)
            results += score_pairs(name, pairs, vectors[first], vectors[second], similarities)
        for recipe in missing:
            reason = "the checkpoint has no pooler weights"
            results += absent(str(recipe), pairs, similarities, reason)
        start += 2 * n
    own = embedder.own
    return Report(
        model={
            "name": embedder.name,
            "family": embedder.encoder.family,
            "layers": embedder.encoder.num_layers,
            "width": embedder.encoder.width,
            "pooler": embedder.encoder.pooler is not None,
            "recipe": str(own.recipe) if own else None,
            "max_length": embedder.tokenizer.max_length,
            "precision": embedder.precision,
        },
        results=tuple(results),
        compared={str(recipe): recipe for recipe in (*(b.recipe for b in bounds), *missing)},
        aggregation=aggregation,
        sentences=len(texts),
        forward_passes=len(encoded.distinct.texts),
        truncated=int(encoded.tokens.truncated.sum()),
        seconds={
            "load": loaded - started,
            "encode": ran - loaded,
            "score": time.perf_counter() - ran,
        },
    )


def _read(data: Data) -> list[Pairs]:
    items = [data] if isinstance(data, str | Path | Pairs) else list(data)
    if not items:
        raise InputError("data is empty; expected at least one file of sentence pairs")
    sets = [item if isinstance(item, Pairs) else read_pairs(item) for item in items]
    names = [pairs.name for pairs in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two data sets are called {name!r}; expected different names, "
                "because results are filed under them"
            )
    return sets


def _parse(recipe: str | Recipe) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else Recipe.parse(recipe)


def _check_options(similarities: Sequence[str], aggregation: str) -> None:
    if isinstance(similarities, str) or not similarities:
        raise InputError(f"similarities is {similarities!r}; expected a list of names")
    for name in similarities:
        find_similarity(name)
    if aggregation not in AGGREGATIONS:
        raise InputError(
            f"unknown aggregation {aggregation!r}; choose from {', '.join(AGGREGATIONS)}"
        )


def _embedder(model: Model) -> Embedder:
    return model if isinstance(model, Embedder) else Embedder.from_pretrained(model)


def _default_recipes(
    embedder: Embedder, layers: str | Sequence[int] | None
) -> tuple[list[Bound], list[Recipe]]:
    """The recipes to compare where none are named, and those that the model does not have."""
    top = embedder.encoder.num_layers
    if layers is None:
        chosen: Sequence[int] = (-1,)
    elif isinstance(layers, str):
        if layers != "all":
            raise InputError(f"layers is {layers!r}; expected all, or hidden states such as 0 6 -1")
        chosen = range(top + 1)
    else:
        chosen = layers
    poolings = [name for name in POOLINGS if name != "pooler"]
    recipes = [Recipe((name,), (layer,)) for layer in chosen for name in poolings]
    if layers is None and top > 1:
        recipes.append(Recipe(("mean",), FIRST_LAST))
    pooler = Recipe(("pooler",))
    missing = []
    if embedder.encoder.pooler is None:
        missing.append(pooler)
    else:
        recipes.append(pooler)
    bounds = [embedder.bind(recipe) for recipe in recipes]
    if embedder.own is not None:
        bounds.append(embedder.own)
    return bounds, missing
