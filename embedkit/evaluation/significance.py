"""Whether recipes differ: paired differences, p-values, Holm's correction, how often each is best.

All values come from the same resamples, so that what the pairs have in common cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.bootstrap import NO_INTERVAL, interval
from embedkit.evaluation.results import Difference, Result, Scored

_Array = NDArray[np.float64]

# Values that agree to this are equal: mean and mean_sqrt_len have the same cosine up to rounding.
SAME = 1e-6
LEVEL = 0.05  # of significance
_LOWER_IS_BETTER = ("mse",)


def p_value(differences: _Array) -> float:
    """The two-sided p-value of resampled differences: twice the smaller share beyond zero.

    It inverts the percentile interval: that of level 1 - p is the widest without zero (Efron and
    Tibshirani 1993, chapter 13). One is added to the counts, so that no p is 0 (Davison and
    Hinkley 1997, equation 4.11). A resample without a difference counts on both sides.

    Example:
        >>> p_value(np.array([0.1] * 98 + [-0.1]))
        0.04
    """
    beyond = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, float(2 * (beyond + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): controls the chance of one false claim among all.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p) for p in corrected]


def holm_of(deltas: Mapping[str, Difference]) -> dict[str, float]:
    """The corrected p-value of each difference that has one."""
    tested = {name: delta.p for name, delta in deltas.items() if delta.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def best_shares(values: _Array, same: float = SAME) -> _Array:
    """(k,) share of resamples in which each row of (k, resamples) is the highest.

    Rows that agree to `same` tie, and share the resample.
    """
    best = values >= values.max(0) - same
    shares: _Array = (best / best.sum(0)).mean(1)
    return shares


def difference(one: Scored, other: Scored, to: str) -> Difference:
    """`one` minus `other`, paired by resample; with the reason if there is no value."""
    if one.result.value is None or other.result.value is None:
        lacking = one.result if one.result.value is None else other.result
        return Difference(to, None, reason=f"{lacking.recipe} has no value")
    same = _same([one, other])
    value = float(_less(one.result.value, other.result.value, same))
    reason = one.result.reason or other.result.reason or NO_INTERVAL
    if one.resampled is None or other.resampled is None:
        return Difference(to, value, reason=reason)
    resampled = _less(one.resampled, other.resampled, same)
    ci95 = interval(resampled)
    if ci95 is None:
        return Difference(to, value, reason=reason)
    return Difference(to, value, ci95, p_value(resampled))


def significant(delta: Difference | None) -> bool:
    """Whether the corrected p of a difference is below the 5 % level."""
    return delta is not None and delta.p_holm is not None and delta.p_holm < LEVEL


def at_floor(delta: Difference, resamples: int) -> bool:
    """Whether no resample contradicts a difference: its p is the smallest that there can be."""
    return delta.p is not None and delta.p <= 2.5 / (resamples + 1)


def against_baseline(
    scored: Sequence[Scored], baseline: str, equal: Mapping[str, str] | None = None
) -> list[Result]:
    """The results, each with its difference to the baseline's and its best share.

    Results of one data set, similarity, metric and aggregation are a family: their p-values are
    corrected together. Results without a value or an interval stay outside, and recipes that are
    `equal` to another one count once.
    """
    equal = equal or {}

    def row(recipe: str) -> str:
        return equal.get(recipe, recipe)

    families: dict[tuple[str, ...], dict[str, int]] = {}  # rows of `scored` by recipe
    for index, (result, _) in enumerate(scored):
        key = (result.dataset, result.similarity, result.metric, result.aggregation)
        families.setdefault(key, {})[result.recipe] = index
    results = [replace(result, equal_to=equal.get(result.recipe)) for result, _ in scored]
    for rows in families.values():
        family = {recipe: scored[index] for recipe, index in rows.items()}
        own = family[baseline]
        deltas = {
            recipe: difference(one, own, baseline)
            for recipe, one in family.items()
            if recipe != baseline
        }
        corrected = holm_of(
            {name: x for name, x in deltas.items() if name not in equal and name != row(baseline)}
        )
        resampled = {
            recipe: one.resampled
            for recipe, one in family.items()
            if one.result.ci95 and recipe not in equal and one.resampled is not None
        }
        shares: dict[str, float] = {}
        if resampled:
            sign = -1 if own.result.metric in _LOWER_IS_BETTER else 1
            same = _same([one for one in family.values() if one.resampled is not None])
            values = best_shares(sign * np.stack(list(resampled.values())), same)
            shares = dict(zip(resampled, values.tolist(), strict=True))
        for recipe, index in rows.items():
            delta = deltas.get(recipe)
            if delta is not None:
                equals_baseline = row(recipe) == row(baseline)
                p_holm = delta.p if equals_baseline else corrected.get(row(recipe))
                delta = replace(delta, p_holm=p_holm)
            share = shares.get(row(recipe))
            results[index] = replace(results[index], baseline=delta, best_share=share)
    return results


def _same(scored: Sequence[Scored]) -> float:
    """What values of one metric must differ by: errors have a scale, that of the labels."""
    if scored[0].result.metric not in _LOWER_IS_BETTER:
        return SAME
    return SAME * max(one.result.value or 0.0 for one in scored)


def _less(one: _Array | float, other: _Array | float, same: float) -> _Array:
    less = np.subtract(one, other)
    return np.where(np.abs(less) < same, 0.0, less)
