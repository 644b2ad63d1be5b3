"""The heat map of report.html: scores by hidden state and pooling."""

from __future__ import annotations

from dataclasses import dataclass

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import interval, number
from embedkit.evaluation.results import MAIN_METRICS

_DARK = 60  # percent of the scale: cells above have light letters


@dataclass(frozen=True)
class HeatCell:
    """The score of a pooling of a hidden state."""

    text: str
    title: str  # the recipe, and its score with the interval or why there is none
    percent: int | None = None  # of the way from the lowest score to the highest; None if missing
    standing: str = ""  # best, baseline or neither

    @property
    def kind(self) -> str:
        """The classes of the cell."""
        shade = "missing" if self.percent is None else "high" if self.percent > _DARK else "low"
        return f"{shade} {self.standing}".strip()


@dataclass(frozen=True)
class HeatMap:
    """Rows of cells, the last hidden state first."""

    unit: str
    low: str
    high: str
    poolings: tuple[str, ...]
    rows: tuple[tuple[int, tuple[HeatCell, ...]], ...]

    def has(self, kind: str) -> bool:
        """Whether a cell is of this kind."""
        return any(kind in cell.kind.split() for _, cells in self.rows for cell in cells)


def heat_map(report: ReportData, dataset: str, words: dict[str, str]) -> HeatMap | None:
    """The heat map of a data set, if a pooling of one model has scores at several hidden states."""
    if report.models:
        return None
    scores = {
        row.candidate: row
        for row in report.deciding(*MAIN_METRICS)
        if row.dataset == dataset and row.similarity == report.decided_by
    }
    at = {cell: name for name, cell in _cells(report).items()}
    values = {
        cell: row.value
        for cell, name in at.items()
        if (row := scores.get(name)) and row.value is not None
    }
    if len(values) == len({pooling for pooling, _ in values}):
        return None
    metric = scores[next(iter(scores))].metric
    lowest, highest = min(values.values()), max(values.values())

    def cell(pooling: str, layer: int) -> HeatCell:
        name = at.get((pooling, layer))
        row = scores.get(name or "")
        if name is None or row is None or row.value is None:
            reason = words["not_compared" if name is None else "no_value"]
            return HeatCell("–", f"{name or f'{pooling}@{layer}'}: {reason}")
        share = (row.value - lowest) / (highest - lowest) if highest > lowest else 0.5
        title = f"{name}: {number(row.value, metric)} {interval(row.ci95, metric)}".rstrip()
        own = report.row_of(name)
        named = {report.row_of(report.baseline or ""): "baseline", report.best_name: "best"}
        text = f"{100 * row.value:.1f}"
        return HeatCell(text, title, round(100 * share), named.get(own, ""))

    poolings = tuple(dict.fromkeys(pooling for pooling, _ in at))
    layers = sorted({layer for _, layer in at}, reverse=True)
    return HeatMap(
        f"{words.get(metric, metric)} x 100",
        f"{100 * lowest:.1f}",
        f"{100 * highest:.1f}",
        poolings,
        tuple((layer, tuple(cell(pooling, layer) for pooling in poolings)) for layer in layers),
    )


def _cells(report: ReportData) -> dict[str, tuple[str, int]]:
    """Pooling and hidden state of the recipes that have one of each, and no step."""
    top = int(report.model["layers"])
    return {
        name: (recipe.poolings[0], recipe.layers[0] % (top + 1))
        for name, recipe in report.compared.items()
        if len(recipe.poolings) == len(recipe.layers) == 1
        and not recipe.steps
        and recipe.poolings != ("pooler",)
    }
