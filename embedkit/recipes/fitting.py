"""Fitting recipes on texts that stream by, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_list, check_type
from embedkit.data.tables import chunks
from embedkit.data.texts import Texts, as_texts
from embedkit.errors import InputError
from embedkit.files import RowDigest
from embedkit.pooling.idf import idf_weights
from embedkit.progress import progress
from embedkit.recipes.affine_steps import fit_affine
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Bound, Fit, Unfitted, Vectors, fold
from embedkit.recipes.streaming_covariance import Moments

_CHUNK = 4096  # texts encoded at a time


@dataclass(frozen=True)
class Reading:
    """How to read texts.

    Attributes:
        encode: texts and recipes -> for each recipe float32 (texts, dim).
        count: texts -> int64 (vocabulary,), how often each token occurs, special ones left out.
    """

    encode: Callable[[Sequence[str], Sequence[Bound]], list[Vectors]]
    count: Callable[[Sequence[str]], NDArray[np.int64]]


def fit_recipes(
    bounds: Sequence[Bound],
    texts: Iterable[str],
    reading: Reading,
    *,
    source: str,
    show_progress: bool | None = None,
) -> list[Bound]:
    """The recipes, with what they learn learnt.

    One pass over the texts serves all recipes. What stands behind a `normalize`, which is not
    affine, sees vectors that are normalized as they will be: `center/normalize/pca:64` takes a
    second pass, and `idf_mean` takes a pass of its own that only tokenizes.

    Args:
        bounds: recipes; those that are fitted already stay as they are.
        texts: texts, or anything that yields them; read again for each pass.
        reading: how to encode and count them.
        source: where they are from, for people.
        show_progress: a bar on stderr for each pass; None shows it where stderr is a terminal.

    Raises:
        InputError: a text that is none, too few texts, or texts that can be read only once where
            more passes are needed.
    """
    check_type("source", source, str, "where the texts are from")
    check_list("texts", texts, "texts to fit on")
    counting = any(bound.unfitted in bound.recipe.poolings for bound in bounds)
    passes = counting + max(
        (sum(isinstance(step, Unfitted) for step in bound.steps) for bound in bounds), default=0
    )
    total = None
    if iter(texts) is not texts:
        total = sum(len(chunk) for chunk in _chunks(texts))  # a wrong one is found before long work
    elif passes > 1:
        raise InputError(
            f"fitting takes {passes} passes over the texts, and an iterator can be read once; "
            "expected a list, or another object that can be read again"
        )
    fitted = list(bounds)
    while waiting := [place for place, bound in enumerate(fitted) if bound.unfitted]:
        turn = _Counts() if counting else _Segments([fitted[place] for place in waiting])
        counting, read, digest = False, 0, RowDigest()
        with progress(total, "texts", show=show_progress) as advance:
            for chunk in _chunks(texts):
                turn.add(chunk, reading)
                digest.add(chunk)
                read += len(chunk)
                advance(len(chunk))
        if read == 0:
            raise InputError("there are no texts to fit on; expected some")
        for place in waiting:
            fitted[place] = turn.fit(fitted[place], Fit(source, read, digest.sha256))
    return fitted


def _chunks(texts: Iterable[str]) -> Iterator[Texts]:
    start = 0
    for chunk in chunks(texts, _CHUNK):
        yield as_texts(chunk, first=start)
        start += len(chunk)


class _Counts:
    """A pass that counts tokens."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] | None = None

    def add(self, texts: Sequence[str], reading: Reading) -> None:
        counts = reading.count(texts)
        self._counts = counts if self._counts is None else self._counts + counts

    def fit(self, bound: Bound, fit: Fit) -> Bound:
        """The recipe with its token weights, if it takes some."""
        if bound.unfitted not in bound.recipe.poolings or self._counts is None:
            return bound
        if not self._counts.any():
            raise InputError(
                f"recipe {str(bound.recipe)!r}: the texts to fit on have special tokens only"
            )
        return replace(bound, token_weights=idf_weights(self._counts), fit=fit)


class _Segments:
    """A pass that takes the moments in front of each recipe's first step that is not fitted."""

    def __init__(self, bounds: Sequence[Bound]) -> None:
        # Recipes that begin alike are one: mean/center and mean/whiten:8 share their moments.
        self._prefixes = {prefix.recipe: prefix for prefix in map(_prefix, bounds)}
        self._moments: dict[Recipe, Moments] = {}

    def add(self, texts: Sequence[str], reading: Reading) -> None:
        vectors = reading.encode(texts, list(self._prefixes.values()))
        for recipe, rows in zip(self._prefixes, vectors, strict=True):
            self._moments.setdefault(recipe, Moments(rows.shape[1])).add(rows)

    def fit(self, bound: Bound, fit: Fit) -> Bound:
        """The recipe with that step fitted."""
        place, step = _first_unfitted(bound)
        try:
            dense, notes = fit_affine(step.names, self._moments[_prefix(bound).recipe])
        except InputError as error:
            raise InputError(f"recipe {str(bound.recipe)!r}: {error}") from error
        before = () if bound.fit is None else bound.fit.notes
        return replace(
            bound,
            steps=(*bound.steps[:place], dense, *bound.steps[place + 1 :]),
            fit=replace(fit, notes=(*before, *notes)),
        )


def _first_unfitted(bound: Bound) -> tuple[int, Unfitted]:
    return next((n, step) for n, step in enumerate(bound.steps) if isinstance(step, Unfitted))


def _prefix(bound: Bound) -> Bound:
    """The recipe up to its first step that is not fitted."""
    place, _ = _first_unfitted(bound)
    names = tuple(name for group in fold(bound.recipe.steps)[:place] for name in group)
    recipe = Recipe(bound.recipe.poolings, bound.recipe.layers, names)
    return replace(bound, recipe=recipe, steps=bound.steps[:place])
