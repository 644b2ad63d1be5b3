"""The recipe, prompts and limits that a model folder sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from embedkit.data.texts import check_text
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.recipes.bound_recipe import BoundRecipe, Step, Truncate
from embedkit.recipes.dense import Dense
from embedkit.recipes.recipe import LAST, Recipe
from embedkit.recipes.steps import Float32Array


def check_prompts(where: str, prompts: object) -> dict[str, str]:
    """The prompts, names and texts; `where` begins the error message."""
    if not isinstance(prompts, Mapping):
        raise InputError(f"{where} is {prompts!r}; expected names and texts")
    for text in (*prompts, *prompts.values()):
        check_text(where, text)
    return dict(prompts)


@dataclass(frozen=True)
class Settings:
    """The folder's own recipe, prompts and limits."""

    encoder_folder: Path  # where config.json and the weights are
    recipe: Recipe | None = None  # None for a plain transformers folder
    steps: tuple[Step, ...] = ()  # of `recipe`, with their weights; affine neighbours are one
    query: Float32Array | None = None
    layer_weights: Float32Array | None = None
    max_length: int | None = None  # tokens; None leaves it to the tokenizer
    lower_case: bool = False
    include_prompt: bool = True  # prompt tokens count in the pooling
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None  # the one used where none is asked for
    similarity: str = "cosine"  # a name from the table of similarities
    engine: str = "auto"  # that runs the encoder
    truncate_dim: int | None = None  # numbers that are kept of a vector; see `truncated`

    def with_prompts(self, prompts: Mapping[str, str] | None) -> Settings:
        """With prompts of the caller beside the folder's own."""
        own = {} if prompts is None else check_prompts("prompts", prompts)
        together = {**self.prompts, **own}
        default = self.default_prompt_name
        if default is not None and default not in together:
            raise InputError(
                f"the default prompt {default!r} is not among the prompts "
                f"{', '.join(together) or '(none)'}"
            )
        return replace(self, prompts=together)

    def own(self, encoder: Encoder) -> BoundRecipe | None:
        """The folder's own recipe, bound to its encoder."""
        if self.recipe is None:
            return None
        for what, weights, size in (
            ("query of attention", self.query, encoder.dim),
            ("weights of the layers", self.layer_weights, encoder.num_layers + 1),
        ):
            if weights is not None and len(weights) != size:
                raise InputError(
                    f"{self.encoder_folder}: the {what} are {len(weights)} numbers; expected {size}"
                )
        resolved = _resolve(self.recipe, encoder)
        return BoundRecipe(resolved, self.steps, query=self.query, layer_weights=self.layer_weights)

    def bind(self, recipe: Recipe, encoder: Encoder) -> BoundRecipe:
        """A recipe bound to the encoder, with the folder's own steps where it is the own one."""
        resolved = _resolve(recipe, encoder)
        own = self.own(encoder)
        if own is not None and own.recipe == resolved:
            return own
        return BoundRecipe.of(resolved, encoder.dim).with_weights_of(own)

    def truncated(self, encoder: Encoder) -> Settings:
        """With `truncate_dim` as the last step, where the folder's vectors have more numbers."""
        recipe, own = self.recipe, self.own(encoder)
        if self.truncate_dim is None or recipe is None or own is None:
            return self
        if own.dim(encoder.dim) <= self.truncate_dim:
            return self
        step = Truncate(self.truncate_dim)
        recipe = replace(recipe, steps=(*recipe.steps, step.name))
        return replace(self, recipe=recipe, steps=(*self.steps, step))

    def recognise_pooler(self, encoder: Encoder) -> Settings:
        """cls, then a Dense with the checkpoint's own pooler weights: that is `pooler`."""
        recipe, pooler = self.recipe, encoder.pooler
        if recipe is None or pooler is None or recipe.poolings != ("cls",) or not self.steps:
            return self
        dense = self.steps[0]
        if (
            recipe.layers != LAST
            or not isinstance(dense, Dense)
            or not dense.activation.endswith(".Tanh")
            or dense.bias is None
            or not np.array_equal(dense.weight, pooler.weight.float().cpu().numpy())
            or not np.array_equal(dense.bias, pooler.bias.float().cpu().numpy())
        ):
            return self
        pooler_recipe = Recipe(("pooler",), LAST, recipe.steps[1:])
        return replace(self, recipe=pooler_recipe, steps=self.steps[1:])


def _resolve(recipe: Recipe, encoder: Encoder) -> Recipe:
    return recipe.resolve(encoder.num_layers, has_pooler=encoder.pooler is not None)
