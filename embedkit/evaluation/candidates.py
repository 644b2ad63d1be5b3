"""The recipes of a model that an evaluation scores, and the baseline among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embedkit.arguments import check_list
from embedkit.embedder.embedder import Embedder
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import FIRST_LAST, Recipe


@dataclass(frozen=True)
class Candidates:
    """The recipes of one model."""

    bounds: tuple[BoundRecipe, ...]  # each recipe once
    missing: tuple[Recipe, ...]  # recipes of the default list that the model does not have
    baseline: Recipe  # one of `bounds`

    @classmethod
    def own(cls, embedder: Embedder) -> Candidates:
        """The embedder's present recipe alone."""
        return cls((embedder.bound,), (), embedder.recipe)

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        recipes: Sequence[Recipe] | None,
        layers: str | Sequence[int] | None,
        baseline: Recipe | None,
    ) -> Candidates:
        """Named recipes, or the default ones; a named baseline joins them.

        The default baseline is the model's own recipe, else `mean`, else the first one, of those
        that are compared.
        """
        missing: tuple[Recipe, ...] = ()
        if recipes is None:
            recipes, missing = _default_recipes(embedder, layers)
        named = [] if baseline is None else [baseline]
        bounds = {(one := embedder.bind(recipe)).recipe: one for recipe in (*recipes, *named)}
        if baseline is None:
            own = [] if embedder.own is None else [embedder.own.recipe]
            preferred = [*own, Recipe(("mean",)), *bounds]
            against = next(recipe for recipe in preferred if recipe in bounds)
        else:
            against = embedder.bind(baseline).recipe
        return cls(tuple(bounds.values()), missing, against)


def parse_recipes(
    recipes: Sequence[str | Recipe] | None, layers: str | Sequence[int] | None
) -> list[Recipe] | None:
    """The recipes that a caller names, or None for the default ones."""
    if recipes is None:
        return None
    if layers is not None:
        raise InputError("got recipes and layers; expected one of them: a recipe names its layers")
    if isinstance(recipes, str):
        raise InputError(f"recipes is the str {recipes!r}; expected a list, such as [{recipes!r}]")
    check_list("recipes", recipes, "a list of recipes")
    parsed = list(map(Recipe.of, recipes))
    if not parsed:
        raise InputError("recipes is empty; expected at least one")
    return parsed


def _default_recipes(
    embedder: Embedder, layers: str | Sequence[int] | None
) -> tuple[list[Recipe], tuple[Recipe, ...]]:
    """The recipes to compare where none are named, and those that the model does not have."""
    top = embedder.encoder.num_layers
    chosen: Any = (-1,) if layers is None else layers
    if isinstance(layers, str) and layers == "all":
        chosen = range(top + 1)
    if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not chosen:
        raise InputError(f"layers is {layers!r}; expected all, or hidden states such as 0 6 -1")
    for layer in chosen:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -top - 1 <= layer <= top:
            raise InputError(
                f"layers has {layer!r}, which is not in this model; expected 0 to {top}, or "
                f"{-top - 1} to -1 counted from the end"
            )
    # With the pooler below, these are what a saved model can have.
    poolings = [name for name, row in POOLINGS.items() if row.sentence_transformers]
    recipes = [Recipe((name,), (layer,)) for layer in chosen for name in poolings]
    if layers is None and top > 1:
        recipes.append(Recipe(("mean",), FIRST_LAST))
    own = [] if embedder.own is None else [embedder.own.recipe]
    pooler = Recipe(("pooler",))
    if embedder.encoder.pooler is None:
        return [*recipes, *own], (pooler,)
    return [*recipes, pooler, *own], ()
