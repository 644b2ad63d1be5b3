"""A recipe bound to an encoder: its steps ready to run, fitted or still to be fitted."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from embedkit.errors import InputError
from embedkit.recipes.dense import IDENTITY, Dense, LayerNorm
from embedkit.recipes.recipe import MIX, Recipe, RecipeError
from embedkit.recipes.steps import STEPS, TRAINED, Float32Array, fold, output_dim, split_step


@dataclass(frozen=True)
class RowStep:
    """A step of the table that is not affine, such as `normalize`."""

    name: str

    def dim(self, before: int) -> int:
        return before

    def __call__(self, vectors: Float32Array) -> Float32Array:
        apply = STEPS[self.name].apply
        if apply is None:
            raise ValueError(f"step {self.name} is affine")
        return apply(vectors)


@dataclass(frozen=True)
class Truncate:
    """The first k numbers."""

    k: int

    @property
    def name(self) -> str:
        return f"truncate:{self.k}"

    def dim(self, before: int) -> int:
        if before < self.k:
            raise InputError(f"step {self.name} has vectors of {before} numbers; expected more")
        return self.k

    def __call__(self, vectors: Float32Array) -> Float32Array:
        return np.ascontiguousarray(vectors[:, : self.k])

    def dense(self, before: int) -> Dense:
        """The same as a matrix."""
        return Dense(np.eye(self.k, before, dtype=np.float32), None, IDENTITY)


@dataclass(frozen=True)
class Unfitted:
    """Neighbouring affine steps that have seen no texts yet."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "/".join(self.names)

    def dim(self, before: int) -> int:
        for name in self.names:
            before = output_dim(name, before)
        return before

    def __call__(self, vectors: Float32Array) -> Float32Array:
        raise InputError(_not_fitted(self.name))


# Each maps sentence embeddings row by row, and says the dimension of its results.
Step: TypeAlias = RowStep | Truncate | Unfitted | Dense | LayerNorm


def _not_fitted(what: str) -> str:
    return (
        f"{what} is not fitted yet; fit it on texts first, with Embedder.fit(texts) "
        "(embedkit compare --fit FILE --save-best DIR on the command line)"
    )


@dataclass(frozen=True)
class Fit:
    """What a recipe was fitted on."""

    source: str
    texts: int
    sha256: str  # of the texts, see `RowDigest`
    notes: tuple[str, ...] = ()  # such as directions that were dropped

    def __str__(self) -> str:
        texts = "text" if self.texts == 1 else "texts"
        return "; ".join((f"fitted on {self.texts:,} {texts} ({self.source})", *self.notes))


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe resolved against an encoder, with its steps ready to run."""

    recipe: Recipe
    steps: tuple[Step, ...]  # of `recipe`; affine neighbours are one
    token_weights: Float32Array | None = None  # (vocabulary,), which `idf_mean` learns
    fit: Fit | None = None  # what was fitted here, if anything
    query: Float32Array | None = None  # (encoder dim,), which `attention` trains
    layer_weights: Float32Array | None = None  # (layers + 1,) with sum 1, which `mix` trains

    @classmethod
    def of(cls, recipe: Recipe, encoder_dim: int) -> BoundRecipe:
        """Bind a recipe as it was typed; what it learns from texts is still to be fitted."""
        dim = encoder_dim * len(recipe.poolings)
        for step in recipe.steps:
            if step in TRAINED:
                raise RecipeError(f"the step {step} comes with a model and cannot be asked for")
            name, k = split_step(step)
            most = dim if STEPS[name].keeps else dim - 1
            if k is not None and k > most:
                raise RecipeError(
                    f"recipe {str(recipe)!r}: step {step} has vectors of {dim} numbers before it; "
                    f"expected 1 to {most}"
                )
            dim = output_dim(step, dim)
        return cls(recipe, tuple(_runnable(names) for names in fold(recipe.steps)))

    @property
    def unfitted(self) -> str | None:
        """The first part that has to be fitted, as it prints."""
        if self.token_weights is None:
            for name in self.recipe.poolings:
                if name in self.recipe.to_fit:
                    return name
        return next((step.name for step in self.steps if isinstance(step, Unfitted)), None)

    @property
    def untrained(self) -> str | None:
        """The first part that has no trained weights yet, as it prints."""
        weights = {"attention": self.query, MIX: self.layer_weights}
        return next((name for name in self.recipe.to_train if weights[name] is None), None)

    def initialised(self, encoder_dim: int, num_layers: int) -> BoundRecipe:
        """With the weights that training begins with: attention is `mean`, mix a plain average."""
        query, weights = self.query, self.layer_weights
        if query is None and "attention" in self.recipe.to_train:
            query = np.zeros(encoder_dim, np.float32)
        if weights is None and self.recipe.mix:
            weights = np.full(num_layers + 1, 1 / (num_layers + 1), np.float32)
        return replace(self, query=query, layer_weights=weights)

    def with_weights_of(self, trained: BoundRecipe | None) -> BoundRecipe:
        """With the trained weights of another recipe, where that reads the same hidden states."""
        of_states = (self.recipe.layers, self.recipe.mix)
        if trained is None or (trained.recipe.layers, trained.recipe.mix) != of_states:
            return self
        query = trained.query if "attention" in self.recipe.to_train else None
        return replace(self, query=query, layer_weights=trained.layer_weights)

    def check_trained(self) -> None:
        """Refuse a recipe with a part that is not trained."""
        if self.untrained is not None:
            raise InputError(
                f"recipe {str(self.recipe)!r}: {self.untrained} is not trained yet; train it with "
                f"embedkit train bi-encoder TRAIN --dev DEV --out DIR --recipe "
                f"{shlex.quote(str(self.recipe))} and load DIR (train_bi_encoder in Python)"
            )

    def check_fitted(self) -> None:
        """Refuse a recipe with a part that is not trained, or not fitted."""
        self.check_trained()
        if self.unfitted is not None:
            raise InputError(f"recipe {str(self.recipe)!r}: {_not_fitted(self.unfitted)}")

    def dim(self, encoder_dim: int) -> int:
        """The dimension of a sentence embedding."""
        dim = encoder_dim * len(self.recipe.poolings)
        for step in self.steps:
            dim = step.dim(dim)
        return dim

    def apply(self, vectors: Float32Array, *, batch_invariant: bool = False) -> Float32Array:
        """All steps in turn: (n, in) -> (n, out) float32.

        `batch_invariant` maps each row by itself, so that its bits do not depend on its place:
        OpenBLAS has kernels that sum the rows at the edge of a block in another order.
        """
        if batch_invariant and self.steps:
            return np.concatenate([self.apply(row) for row in np.split(vectors, len(vectors))])
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def _runnable(names: tuple[str, ...]) -> Step:
    """The step of a group of `fold`."""
    kinds = [split_step(name) for name in names]
    last, k = kinds[-1]
    if STEPS[last].apply is not None:
        return RowStep(last)
    if any(STEPS[name].fitted for name, _ in kinds):
        return Unfitted(names)
    return Truncate(k or 0)
