"""What the integrations share: a model that is named or given, and its embeddings, cached."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack

import numpy as np

from embedkit.arguments import as_path
from embedkit.data.texts import as_texts, listed
from embedkit.embedder.cache import encode_texts, open_cache
from embedkit.embedder.embedder import Embedder, LoadOptions
from embedkit.embedder.one_pass import Distinct
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.fitting import fit_recipes
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

Model: TypeAlias = "Embedder | str | Path | SentenceTransformer | PreTrainedModel"
Cache: TypeAlias = bool | str | Path  # a folder; True for the usual one, see `open_cache`


def check_arguments(
    model: Model, recipe: str | Recipe | None, cache: Cache, options: Collection[str]
) -> None:
    """What can be checked before a model is loaded: `options` are names of those of `Embedder`."""
    known = sorted(LoadOptions.__optional_keys__)
    if unknown := [name for name in options if name not in known]:
        raise InputError(f"got the option {listed(unknown)}, expected {', '.join(known)}")
    if options and isinstance(model, Embedder):
        raise InputError(f"got {', '.join(options)} and an Embedder; it has options of its own")
    if recipe is not None:
        Recipe.of(recipe)
    if not isinstance(cache, bool):
        as_path("cache", cache)


def load(
    model: Model, recipe: str | Recipe | None, cache: Cache, /, **options: Unpack[LoadOptions]
) -> Embedder:
    """An embedder as it is, with another recipe, or loaded."""
    check_arguments(model, recipe, cache, options)
    if not isinstance(model, Embedder):
        return Embedder.from_pretrained(model, recipe, **options)
    return model if recipe is None else model.with_recipe(recipe)


def encode(
    embedder: Embedder, texts: Sequence[str], prompt: str, cache: Cache = False
) -> Float32Array:
    """Embeddings float32 (n, dim) of n texts behind a prompt; equal texts run once."""
    embedder.bound.check_fitted()
    if len(texts) == 0:
        return np.empty((0, embedder.dimension), np.float32)
    distinct = Distinct.of(as_texts(texts))
    pooled = _pooled(embedder, distinct, embedder.bound, prompt, cache)
    return _apply(embedder, pooled)[distinct.inverse]


def encode_role(
    embedder: Embedder,
    role: str,
    texts: Sequence[str],
    cache: Cache,
    prompt: str | None = None,
    prompt_name: str | None = None,
) -> list[list[float]]:
    """As `encode`, behind the prompt of a role (see `role_prompt`), in floats of Python."""
    vectors: list[list[float]] = encode(
        embedder, texts, role_prompt(embedder, role, prompt, prompt_name), cache
    ).tolist()
    return vectors


def fit_encode(
    embedder: Embedder, texts: Sequence[str], source: str, prompt: str, cache: Cache = False
) -> tuple[Embedder, Float32Array]:
    """The embedder with its recipe fitted on texts, and their embeddings: the encoder runs once."""
    bound = BoundRecipe.of(embedder.recipe, embedder.encoder.dim).with_weights_of(embedder.bound)
    bare = _without_steps(bound)
    if bare.unfitted is not None:
        (bare,) = embedder.fit_recipes([bare], texts, source=source, prompt=prompt)
        bound = replace(bound, token_weights=bare.token_weights, fit=bare.fit)
    distinct = Distinct.of(as_texts(texts))
    pooled = _pooled(embedder, distinct, bound, prompt, cache)
    rows = {text: row for row, text in enumerate(distinct.texts)}

    def with_steps(chunk: Sequence[str], bounds: Sequence[BoundRecipe]) -> list[Float32Array]:
        vectors = pooled[[rows[text] for text in chunk]]
        return [prefix.apply(vectors) for prefix in bounds]

    (bound,) = fit_recipes(
        [bound], texts, with_steps, lambda _: np.zeros(0, np.int64), source=source
    )
    fitted = embedder.with_recipe(bound)
    if fitted.precision != embedder.precision:  # `auto` may choose another once it is fitted
        return fitted, encode(fitted, texts, prompt, cache)
    return fitted, _apply(fitted, pooled)[distinct.inverse]


def _pooled(
    embedder: Embedder, distinct: Distinct, bound: BoundRecipe, prompt: str, cache: Cache
) -> Float32Array:
    """What the pooling gives: the cache keeps this, for all recipes that differ in their steps."""
    bare = [_without_steps(bound)]
    with open_cache(cache) as opened:
        return encode_texts(embedder, distinct.texts, bare, prompt, opened).vectors[0]


def _without_steps(bound: BoundRecipe) -> BoundRecipe:
    return replace(bound, recipe=replace(bound.recipe, steps=()), steps=())


def _apply(embedder: Embedder, pooled: Float32Array) -> Float32Array:
    return embedder.bound.apply(pooled, batch_invariant=embedder.reproducible)
