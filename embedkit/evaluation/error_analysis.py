"""Where a recipe goes wrong: by length, by overlap, pair by pair."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.evaluation.correlation import average_ranks, measure
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import unit

_Array = NDArray[np.float64]


WORST = 20  # pairs that a recipe gets most wrong


DISAGREEMENTS = 10  # pairs on which it is farthest from the baseline


BINS = 4


MAX_CHARACTERS = 300  # of a sentence that is quoted


_EDGE = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class Bin:
    """Spearman's correlation among the pairs from `low` to `high`."""

    low: float
    high: float
    n: int
    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Miss:
    """A pair that is ranked wrongly.

    Attributes:
        pair: its place among the pairs, from 0.
        prediction: of the recipe.
        off: rank of the prediction less the right one, as a share of all ranks: in [-1, 1], and
            above 0 where the recipe finds the sentences too similar.
    """

    pair: int
    prediction: float
    off: float


@dataclass(frozen=True)
class RecipeDiagnosis:
    """One recipe on one set of pairs.

    Attributes:
        recipe: as results name it.
        geometry: of its vectors of the distinct sentences; None for a cross-encoder.
        by_length: bins of words a sentence, mean of the two.
        by_overlap: bins of shared words, see `word_overlaps`.
        worst: pairs whose rank is farthest from that of their scores.
        disagreements: pairs whose rank is farthest from the baseline's.
    """

    recipe: str
    geometry: Geometry | None
    by_length: tuple[Bin, ...]
    by_overlap: tuple[Bin, ...]
    worst: tuple[Miss, ...]
    disagreements: tuple[Miss, ...]


@dataclass(frozen=True)
class Quoted:
    """A pair as a report quotes it, sentences cut to 300 characters."""

    pair: int
    sentence1: str
    sentence2: str
    score: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a report keeps to show, beside its results.

    Attributes:
        pairs: n of them.
        predictions: (n,) of each recipe, by what decides.
    """

    pairs: Pairs
    predictions: dict[str, _Array]


@dataclass(frozen=True)
class Diagnosis:
    """All recipes on one set of pairs.

    Attributes:
        dataset: name of the pairs.
        recipes: those that have a finite prediction for every pair.
        quoted: the pairs that they name.
    """

    dataset: str
    recipes: tuple[RecipeDiagnosis, ...]
    quoted: tuple[Quoted, ...]


def diagnose(
    pairs: Pairs,
    predictions: dict[str, _Array],
    geometries: Mapping[str, Geometry],
    baseline: str,
) -> Diagnosis:
    """Diagnose recipes.

    Args:
        pairs: n of them.
        predictions: (n,) of each recipe.
        geometries: by recipe, of those that have vectors.
        baseline: the recipe that disagreements are with.
    """
    finite = {recipe: x for recipe, x in predictions.items() if np.isfinite(x).all()}
    lengths = np.array([word_lengths(pairs), word_overlaps(pairs)])
    bins = [_bin(x) for x in lengths]
    right = average_ranks(pairs.scores)
    ranks = {recipe: average_ranks(x) for recipe, x in finite.items()}
    found = []
    for recipe, x in finite.items():
        own = ranks[recipe]
        by_length, by_overlap = (
            tuple(
                Bin(low, high, len(chosen), *measure("spearman", x[chosen], right[chosen]))
                for low, high, chosen in of_kind
            )
            for of_kind in bins
        )
        other = ranks.get(baseline, own)
        found.append(
            RecipeDiagnosis(
                recipe,
                geometries.get(recipe),
                by_length,
                by_overlap,
                _farthest(x, own - right, WORST),
                _farthest(x, own - other, DISAGREEMENTS),
            )
        )
    named = sorted({miss.pair for one in found for miss in (*one.worst, *one.disagreements)})
    quoted = tuple(
        Quoted(
            place,
            _cut(pairs.sentence1[place]),
            _cut(pairs.sentence2[place]),
            float(pairs.scores[place]),
        )
        for place in named
    )
    return Diagnosis(pairs.name, tuple(found), quoted)


def words(text: str) -> set[str]:
    """Words split at white space, in lower case, without punctuation around them.

    In Korean these are eojeol: a noun with its particle is one word, so two sentences with the
    same nouns may share none.
    """
    return {word for part in text.lower().split() if (word := _EDGE.sub("", part))}


def word_lengths(pairs: Pairs) -> _Array:
    """(n,) words a sentence, split at white space: the mean of the two."""
    both = zip(pairs.sentence1, pairs.sentence2, strict=True)
    return np.array([(len(a.split()) + len(b.split())) / 2 for a, b in both])


def word_overlaps(pairs: Pairs) -> _Array:
    """(n,) words in both sentences as a share of those in either (Jaccard); 1 for two of none."""
    overlaps = []
    for left, right in zip(pairs.sentence1, pairs.sentence2, strict=True):
        a, b = words(left), words(right)
        overlaps.append(len(a & b) / len(a | b) if a | b else 1.0)
    return np.array(overlaps)


def _bin(x: _Array) -> list[tuple[float, float, NDArray[np.int64]]]:
    """Quarters by quantiles: the ends, and the places; equal values stay together."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    numbers = np.searchsorted(edges, x, side="left")
    chosen = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return [(float(x[places].min()), float(x[places].max()), places) for places in chosen]


def _farthest(predictions: _Array, off: _Array, count: int) -> tuple[Miss, ...]:
    """The largest differences of rank, largest first."""
    order = np.argsort(-np.abs(off), kind="stable")[:count]
    return tuple(
        Miss(int(place), float(predictions[place]), float(off[place]) / (len(off) - 1))
        for place in order
        if off[place] != 0
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Geometry:
    """The shape of n distinct sentence vectors.

    Attributes:
        mean_cosine: expected cosine of two random sentences, that is, the mean over all pairs:
            the anisotropy of Ethayarajh 2019, equation 3.
        top_share: share of the variance along the first principal component.
        effective_rank: of the centred vectors (Roy and Vetterli 2007): exp of the entropy of their
            singular values as shares of their sum. From 1 to the number of dimensions.
    """

    mean_cosine: float | None
    top_share: float | None
    effective_rank: float | None

    @classmethod
    def of(cls, vectors: Float32Array) -> Geometry:
        """Of vectors (n, dim); None for what one vector, or equal ones, do not have."""
        x = vectors.astype(np.float64)
        n = len(x)
        if n == 1:
            return cls(None, None, None)
        units = unit(x)
        # |sum of u|^2 holds each pair twice, and each vector with itself.
        mean_cosine = float(
            (np.square(units.sum(0)).sum() - np.square(units).sum()) / (n * (n - 1))
        )
        centred = x - x.mean(0)
        gram = centred @ centred.T if n < x.shape[1] else centred.T @ centred
        variances = np.linalg.eigvalsh(gram).clip(min=0)
        total = variances.sum()
        if total <= 1e-12 * np.square(x).sum():
            return cls(mean_cosine, None, None)
        shares = np.sqrt(variances / total)
        shares = shares[shares > 0] / shares.sum()
        entropy = -(shares * np.log(shares)).sum()
        return cls(mean_cosine, float(variances[-1] / total), float(np.exp(entropy)))
