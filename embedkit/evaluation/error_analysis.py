"""Error analysis: correlation by length and overlap, worst pairs, geometry of the embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.data.pairs import Pairs
from embedkit.evaluation.bootstrap import SEED, Seed, bootstrap_spearman, interval
from embedkit.evaluation.correlation import average_ranks, measure
from embedkit.recipes.steps import Float32Array
from embedkit.similarity import unit

_Array = NDArray[np.float64]

WORST = 20  # pairs with the largest rank errors of a recipe
DISAGREEMENTS = 10  # pairs with the largest rank differences to the baseline
BINS = 4
BIN_RESAMPLES = 1_000  # of the pairs of a bin, for its interval
MAX_CHARACTERS = 300  # of a quoted sentence
_EDGE = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class Bin:
    """Spearman's correlation among the pairs, or nDCG@10 of the queries, from `low` to `high`."""

    low: float
    high: float
    n: int
    value: float | None
    reason: str | None = None
    ci95: tuple[float, float] | None = None  # None where some resamples have no value


@dataclass(frozen=True)
class Miss:
    """A pair that is ranked wrongly."""

    pair: int  # its position among the pairs, from 0
    prediction: float
    off: float  # rank of the prediction minus right rank, over all ranks: above 0 is too similar


@dataclass(frozen=True)
class RecipeErrors:
    """The errors of one recipe on one set of pairs."""

    recipe: str
    geometry: Geometry | None  # of the distinct sentences; None for a cross-encoder
    by_length: tuple[Bin, ...]  # bins of words a sentence, mean of the two
    by_overlap: tuple[Bin, ...]  # bins of shared words, see `word_overlaps`
    worst: tuple[Miss, ...]  # the largest rank errors
    disagreements: tuple[Miss, ...]  # the largest rank differences to the baseline


@dataclass(frozen=True)
class QuotedPair:
    """A pair as a report quotes it, sentences cut to 300 characters."""

    pair: int
    sentence1: str
    sentence2: str
    score: float


@dataclass(frozen=True, eq=False)
class PairPredictions:
    """A set of n pairs with every recipe's predictions (n,), by the similarity that decides."""

    pairs: Pairs
    values: dict[str, _Array]


@dataclass(frozen=True)
class ErrorAnalysis:
    """The errors of all recipes on one set of pairs."""

    dataset: str
    recipes: tuple[RecipeErrors, ...]  # those with a finite prediction for every pair
    quoted: tuple[QuotedPair, ...]  # the pairs that they name


def analyse_errors(
    predictions: PairPredictions,
    geometries: Mapping[str, Geometry],
    baseline: str,
    seed: Seed = SEED,
) -> ErrorAnalysis:
    """The errors of every recipe; disagreements are those with the baseline."""
    pairs, right = predictions.pairs, average_ranks(predictions.pairs.scores)
    finite = {recipe: x for recipe, x in predictions.values.items() if np.isfinite(x).all()}
    if not finite:
        return ErrorAnalysis(pairs.name, (), ())
    ranks = {recipe: average_ranks(x) for recipe, x in finite.items()}
    by_length, by_overlap = (
        dict(zip(finite, _bins(by(pairs), [*finite.values()], right, seed), strict=True))
        for by in (word_lengths, word_overlaps)
    )
    recipes = tuple(
        RecipeErrors(
            recipe,
            geometries.get(recipe),
            by_length[recipe],
            by_overlap[recipe],
            _largest(x, ranks[recipe] - right, WORST),
            _largest(x, ranks[recipe] - ranks.get(baseline, ranks[recipe]), DISAGREEMENTS),
        )
        for recipe, x in finite.items()
    )
    named = sorted({miss.pair for one in recipes for miss in (*one.worst, *one.disagreements)})
    one, two, scores = pairs.sentence1, pairs.sentence2, pairs.scores.tolist()
    quoted = tuple(QuotedPair(row, cut(one[row]), cut(two[row]), scores[row]) for row in named)
    return ErrorAnalysis(pairs.name, recipes, quoted)


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


_Quarter: TypeAlias = tuple[float, float, NDArray[np.int64]]  # lowest, highest, rows


def quarters(x: _Array) -> list[_Quarter]:
    """Quarters by quantiles; equal values stay together."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    quarter = np.searchsorted(edges, x, side="left")
    chosen = [np.flatnonzero(quarter == index) for index in np.unique(quarter)]
    return [(float(x[rows].min()), float(x[rows].max()), rows) for rows in chosen]


def _bins(
    by: _Array, predictions: list[_Array], right: _Array, seed: Seed
) -> list[tuple[Bin, ...]]:
    """The bins of each recipe, all on the same resamples of a bin's pairs."""
    columns = []
    for low, high, rows in quarters(by):
        x, y = np.stack(predictions)[:, rows], right[rows]
        drawn = bootstrap_spearman(x, y, BIN_RESAMPLES, seed)
        values = [measure("spearman", of_recipe, y) for of_recipe in x]
        intervals = map(interval, drawn)
        columns.append(
            [
                Bin(low, high, len(rows), *value, ci95=ci95)
                for value, ci95 in zip(values, intervals, strict=True)
            ]
        )
    return list(zip(*columns, strict=True))


def _largest(predictions: _Array, off: _Array, count: int) -> tuple[Miss, ...]:
    """The largest differences of rank, largest first."""
    order = np.argsort(-np.abs(off), kind="stable")[:count]
    return tuple(
        Miss(int(row), float(predictions[row]), float(off[row]) / (len(off) - 1))
        for row in order
        if off[row] != 0
    )


def cut(text: str) -> str:
    """A text as a report quotes it."""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Geometry:
    """The shape of n distinct sentence embeddings.

    `mean_cosine` is the mean over all pairs, the anisotropy of Ethayarajh 2019, equation 3;
    `top_share` the share of the variance along the first principal component. `effective_rank`
    (Roy and Vetterli 2007), from 1 to the number of dimensions, is that of the centred embeddings:
    exp of the entropy of their singular values as shares of their sum.
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
        twice = np.square(units.sum(0)).sum() - np.square(units).sum()
        mean_cosine = float(twice / (n * (n - 1)))
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
