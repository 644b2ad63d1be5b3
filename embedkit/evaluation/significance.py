"""Whether recipes differ: paired differences, p-values, their correction, how often each is best.

All are of values from the same resamples, so that what the pairs have in common cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.bootstrap import NO_INTERVAL, interval
from embedkit.evaluation.results import Difference, Result, Scored

_Array = NDArray[np.float64]

# Values that agree to this are one: mean and mean_sqrt_len have the same cosine but for rounding.
SAME = 1e-6
_LOWER_IS_BETTER = ("mse",)


def p_value(differences: _Array) -> float:
    """Two-sided, by inverting the percentile interval: twice the smaller share beyond zero.

    The interval of level 1 - p is the widest that leaves out zero (Efron and Tibshirani 1993,
    chapter 13); one is added to the counts, so that no p is 0 (Davison and Hinkley 1997,
    equation 4.11). A resample without a difference counts on both sides.

    Args:
        differences: (resamples,).
    """
    beyond = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, float(2 * (beyond + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the chance of one false claim among all stays below p."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p) for p in corrected]


def best_shares(values: _Array, same: float = SAME) -> _Array:
    """(k,) share of resamples in which each row of (k, resamples) is the highest.

    Rows that agree to `same` tie, and share the resample.
    """
    best = values >= values.max(0) - same
    shares: _Array = (best / best.sum(0)).mean(1)
    return shares


def difference(one: Scored, other: Scored, to: str) -> Difference:
    """`one` less `other`, with what is missing said."""
    if one.result.value is None or other.result.value is None:
        lacking = one.result if one.result.value is None else other.result
        return Difference(to, None, reason=f"{lacking.recipe} has no value")
    same = _same([one, other])
    value = float(_less(one.result.value, other.result.value, same))
    if one.resampled is None or other.resampled is None:
        return Difference(to, value, reason="the values were not resampled")
    resampled = _less(one.resampled, other.resampled, same)
    ci95 = interval(resampled)
    if ci95 is None:
        return Difference(to, value, reason=NO_INTERVAL)
    return Difference(to, value, ci95, p_value(resampled))


def judge(scored: Sequence[Scored], baseline: str) -> list[Result]:
    """The results, each held against the baseline's and, in its best share, against all.

    Results of one dataset, similarity, metric and aggregation are a family, over which p-values
    are corrected; what has no value or no interval stays outside.
    """
    families: dict[tuple[str, ...], list[int]] = {}
    for number, (result, _) in enumerate(scored):
        key = (result.dataset, result.similarity, result.metric, result.aggregation)
        families.setdefault(key, []).append(number)
    judged = [result for result, _ in scored]
    for numbers in families.values():
        (own,) = (number for number in numbers if judged[number].recipe == baseline)
        differences = {
            number: difference(scored[number], scored[own], baseline)
            for number in numbers
            if number != own
        }
        tested = {number: found.p for number, found in differences.items() if found.p is not None}
        corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
        for number, found in differences.items():
            held = replace(found, p_holm=corrected.get(number))
            judged[number] = replace(judged[number], baseline=held)
        whole = {
            number: values
            for number in numbers
            if judged[number].ci95 is not None and (values := scored[number].resampled) is not None
        }
        if whole:
            sign = -1 if judged[own].metric in _LOWER_IS_BETTER else 1
            same = _same([scored[number] for number in whole])
            shares = best_shares(sign * np.stack(list(whole.values())), same)
            for number, share in zip(whole, shares.tolist(), strict=True):
                judged[number] = replace(judged[number], best_share=share)
    return judged


def _same(scored: Sequence[Scored]) -> float:
    """What values of one metric must differ by: errors have a scale, that of the labels."""
    if scored[0].result.metric not in _LOWER_IS_BETTER:
        return SAME
    return SAME * max(one.result.value or 0.0 for one in scored)


def _less(one: _Array | float, other: _Array | float, same: float) -> _Array:
    less = np.subtract(one, other)
    return np.where(np.abs(less) < same, 0.0, less)
