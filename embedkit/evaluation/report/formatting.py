"""How reports print numbers: metrics x 100, errors as they are, intervals in brackets."""

from __future__ import annotations

from embedkit.evaluation.results import MAIN_METRICS, OTHER_METRICS, Difference


def scale_of(metric: str) -> int:
    """Correlations and retrieval metrics print x 100, MSE and F1 as they are."""
    return 100 if metric in (*MAIN_METRICS, *OTHER_METRICS) else 1


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


def percent(share: float | None) -> str:
    """A share in percent; `-` for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _interval(ci95: tuple[float, float] | None, scale: int, digits: str) -> str:
    if ci95 is None:
        return ""
    low, high = (f"{scale * end:{digits}}" for end in ci95)
    return f"[{low}, {high}]"
