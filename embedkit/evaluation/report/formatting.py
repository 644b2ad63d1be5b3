"""How reports print numbers: metrics x 100, errors as they are, intervals in brackets."""

from __future__ import annotations

from embedkit.evaluation.results import Difference
from embedkit.evaluation.significance import at_floor


def scale_of(metric: str) -> int:
    """Correlations, retrieval metrics and entity scores print x 100, MSE and F1 as they are."""
    return 1 if metric in ("mse", "f1") else 100


def number(value: float | None, metric: str) -> str:
    """A value of a metric; `-` for None.

    Example:
        >>> number(0.82033, "spearman"), number(0.7053, "mse"), number(None, "mse")
        ('82.03', '0.705', '-')
    """
    if value is None:
        return "-"
    scale = scale_of(metric)
    return f"{scale * value:.{2 if scale == 100 else 3}f}"


def interval(ci95: tuple[float, float] | None, metric: str) -> str:
    """The interval of a value; empty for None."""
    return _interval(ci95, scale_of(metric), ".1f" if scale_of(metric) == 100 else ".3f")


def delta(difference: Difference | None, metric: str, missing: str = "-") -> str:
    """A difference with its interval.

    Example:
        >>> delta(Difference("mean", 0.031, (0.019, 0.044)), "spearman")
        '+3.10 [+1.90, +4.40]'
    """
    if difference is None or difference.value is None:
        return missing
    scale = scale_of(metric)
    digits = "+.2f" if scale == 100 else "+.3f"
    shown = f"{scale * difference.value:{digits}}"
    return f"{shown} {_interval(difference.ci95, scale, digits)}".rstrip()


def p_value(delta: Difference | None, resamples: int) -> str:
    """The corrected p-value of a difference; at most that much if no resample contradicts it.

    Example:
        >>> p_value(Difference("mean", 0.1, (0.05, 0.15), p=2 / 10_001, p_holm=0.0084), 10_000)
        '<= 0.0084'
    """
    if delta is None or delta.p_holm is None:
        return "-"
    return f"{'<= ' if at_floor(delta, resamples) else ''}{delta.p_holm:.4f}"


def percent(share: float | None) -> str:
    """A share in percent; `-` for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _interval(ci95: tuple[float, float] | None, scale: int, digits: str) -> str:
    if ci95 is None:
        return ""
    low, high = (f"{scale * end:{digits}}" for end in ci95)
    return f"[{low}, {high}]"
