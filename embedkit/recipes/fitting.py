"""Fit recipes on texts that stream by, in memory that does not grow with the number of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_list, check_type
from embedkit.data.tables import chunks
from embedkit.data.texts import Texts, as_texts
from embedkit.errors import InputError
from embedkit.files import RowDigest
from embedkit.pooling.idf import idf_weights
from embedkit.progress import progress
from embedkit.recipes.bound_recipe import BoundRecipe, Fit, Unfitted
from embedkit.recipes.dense import IDENTITY, Dense
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import STEPS, Float32Array, Sample, fold, split_step
from embedkit.recipes.streaming_covariance import StreamingCovariance

Encode = Callable[[Sequence[str], Sequence[BoundRecipe]], list[Float32Array]]
CountTokens = Callable[[Sequence[str]], NDArray[np.int64]]

_CHUNK = 4096  # texts encoded at a time

# A variation below this share of the largest number is rounding error, and would be blown up.
_RESOLUTION = 4 * float(np.finfo(np.float32).eps)


def fit_recipes(
    bounds: Sequence[BoundRecipe],  # recipes; those that are fitted already stay as they are
    texts: Iterable[str],  # texts, or anything that yields them; read again for each pass
    encode: Encode,  # texts and recipes -> for each recipe float32 (texts, dim)
    count_tokens: CountTokens,  # without special ones
    *,
    source: str,
    show_progress: bool | None = None,
) -> list[BoundRecipe]:
    """The recipes, each with its steps and token weights fitted.

    One pass over the texts serves all recipes. A step behind one that is not affine, such as
    `normalize`, takes a pass of its own, because it must see vectors that are normalized:
    `center/normalize/pca:64` takes two. `idf_mean` takes one more pass, which only tokenizes.
    """
    check_type("source", source, str, "where the texts are from")
    check_list("texts", texts, "texts to fit on")
    counting = any(bound.unfitted in bound.recipe.poolings for bound in bounds)
    passes = counting + max(
        (sum(isinstance(step, Unfitted) for step in bound.steps) for bound in bounds), default=0
    )
    total = None
    if iter(texts) is not texts:
        total = sum(len(chunk) for chunk in _chunks(texts))  # finds a wrong text before long work
    elif passes > 1:
        raise InputError(
            f"fitting takes {passes} passes over the texts, and an iterator can be read once; "
            "expected a list, or another object that can be read again"
        )
    fitted = list(bounds)
    while waiting := [index for index, bound in enumerate(fitted) if bound.unfitted]:
        this_pass: _CountPass | _CovariancePass
        if counting:
            this_pass, counting = _CountPass(count_tokens), False
        else:
            this_pass = _CovariancePass(encode, [fitted[index] for index in waiting])
        read, digest = 0, RowDigest()
        with progress(total, "texts", show=show_progress) as advance:
            for chunk in _chunks(texts):
                this_pass.add(chunk)
                digest.add(chunk)
                read += len(chunk)
                advance(len(chunk))
        if read == 0:
            raise InputError("there are no texts to fit on; expected some")
        for index in waiting:
            try:
                fitted[index] = this_pass.fit(fitted[index], Fit(source, read, digest.sha256))
            except InputError as error:
                raise InputError(f"recipe {str(fitted[index].recipe)!r}: {error}") from error
    return fitted


def _chunks(texts: Iterable[str]) -> Iterator[Texts]:
    start = 0
    for chunk in chunks(texts, _CHUNK):
        yield as_texts(chunk, first=start)
        start += len(chunk)


class _CountPass:
    """A pass that counts tokens."""

    def __init__(self, count_tokens: CountTokens) -> None:
        self._count_tokens = count_tokens
        self._counts: NDArray[np.int64] = np.zeros(1, np.int64)

    def add(self, texts: Sequence[str]) -> None:
        self._counts = self._counts + self._count_tokens(texts)

    def fit(self, bound: BoundRecipe, fit: Fit) -> BoundRecipe:
        """The recipe with its token weights, if it takes some."""
        if bound.unfitted not in bound.recipe.poolings:
            return bound
        if not self._counts.any():
            raise InputError("the texts to fit on have special tokens only")
        return replace(bound, token_weights=idf_weights(self._counts), fit=fit)


class _CovariancePass:
    """A pass that takes mean and covariance in front of each recipe's first unfitted step."""

    def __init__(self, encode: Encode, bounds: Sequence[BoundRecipe]) -> None:
        self._encode = encode
        # Recipes that begin alike are one: mean/center and mean/whiten:8 share a covariance.
        self._prefixes = {prefix.recipe: prefix for prefix in map(_prefix, bounds)}
        self._covariances: dict[Recipe, StreamingCovariance] = {}

    def add(self, texts: Sequence[str]) -> None:
        vectors = self._encode(texts, list(self._prefixes.values()))
        for recipe, rows in zip(self._prefixes, vectors, strict=True):
            self._covariances.setdefault(recipe, StreamingCovariance(rows.shape[1])).add(rows)

    def fit(self, bound: BoundRecipe, fit: Fit) -> BoundRecipe:
        """The recipe with that step fitted."""
        index, step = _first_unfitted(bound)
        dense, notes = fit_affine(step.names, self._covariances[_prefix(bound).recipe])
        before = () if bound.fit is None else bound.fit.notes
        return replace(
            bound,
            steps=(*bound.steps[:index], dense, *bound.steps[index + 1 :]),
            fit=replace(fit, notes=(*before, *notes)),
        )


def _first_unfitted(bound: BoundRecipe) -> tuple[int, Unfitted]:
    return next((n, step) for n, step in enumerate(bound.steps) if isinstance(step, Unfitted))


def _prefix(bound: BoundRecipe) -> BoundRecipe:
    """The recipe up to its first step that is not fitted."""
    index, _ = _first_unfitted(bound)
    names = tuple(name for group in fold(bound.recipe.steps)[:index] for name in group)
    return replace(bound, recipe=replace(bound.recipe, steps=names), steps=bound.steps[:index])


def fit_affine(steps: Sequence[str], vectors: StreamingCovariance) -> tuple[Dense, tuple[str, ...]]:
    """Fit affine neighbours and fold them into one matrix; also notes on dropped directions.

    Each step is fitted on what the ones before it leave. An affine map takes mean and covariance
    along, so those in front of the first step, `vectors`, serve all of them.
    """
    mean, covariance = vectors.mean, vectors.covariance
    if not np.isfinite(covariance).all():
        raise InputError(f"step {steps[0]}: the vectors to fit it on are not finite")
    weight, bias = np.eye(len(mean)), np.zeros(len(mean))
    noise = _RESOLUTION**2 * float((mean**2 + covariance.diagonal()).max())
    notes = []
    for step in steps:
        name, k = split_step(step)
        spec, dim = STEPS[name], len(mean)
        if spec.fit is None:
            raise ValueError(f"step {step} is not affine")
        if k is not None and k > dim:
            raise InputError(f"step {step}: only {dim} directions are left before it")
        scale = float(np.linalg.norm(weight, 2) ** 2)
        sample = Sample(step, vectors.count, covariance, noise * scale)
        matrix, note = spec.fit(sample, dim if k is None else k)
        if note:
            notes.append(note)
        center = mean if spec.fitted else np.zeros(dim)
        covariance = matrix @ covariance @ matrix.T
        weight, bias = matrix @ weight, matrix @ (bias - center)
        mean = matrix @ (mean - center)
    return Dense(weight.astype(np.float32), bias.astype(np.float32), IDENTITY), tuple(notes)
