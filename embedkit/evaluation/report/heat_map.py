"""The heat map of report.html: scores by hidden state and pooling."""

from __future__ import annotations

from typing import NamedTuple

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import interval, number

_DARK = 60  # percent of the scale: cells above have light letters


class HeatCell(NamedTuple):
    """The score of a pooling of a hidden state."""

    text: str
    title: str  # the recipe, and its score with the interval or why there is none
    kind: str = "missing"  # classes: high or low, and best or baseline
    percent: int | None = None  # of the way from the lowest score to the highest; None if missing


class HeatMap(NamedTuple):
    """Rows of cells, the last hidden state first."""

    unit: str
    low: str
    high: str
    poolings: tuple[str, ...]
    rows: list[tuple[int, list[HeatCell]]]

    def has(self, kind: str) -> bool:
        """Whether a cell is of this kind."""
        return any(kind in cell.kind.split() for _, cells in self.rows for cell in cells)


def heat_map(report: ReportData, dataset: str, words: dict[str, str]) -> HeatMap | None:
    """The heat map of a data set, if a pooling of one model has scores at several hidden states."""
    if report.models:
        return None
    scores = report.scores(dataset)
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
        percent = round(100 * share)
        title = f"{name}: {number(row.value, metric)} {interval(row.ci95, metric)}".rstrip()
        named = {report.row_of(report.baseline or ""): "baseline", report.best_name: "best"}
        kind = f"{'high' if percent > _DARK else 'low'} {named.get(report.row_of(name), '')}"
        return HeatCell(f"{100 * row.value:.1f}", title, kind.rstrip(), percent)

    poolings = tuple(dict.fromkeys(pooling for pooling, _ in at))
    layers = sorted({layer for _, layer in at}, reverse=True)
    rows = [(layer, [cell(pooling, layer) for pooling in poolings]) for layer in layers]
    low, high = (f"{100 * value:.1f}" for value in (lowest, highest))
    return HeatMap(f"{words.get(metric, metric)} x 100", low, high, poolings, rows)


def _cells(report: ReportData) -> dict[str, tuple[str, int]]:
    """Pooling and hidden state of the recipes that have one of each, and no step."""
    top = int(report.model["layers"])
    return {
        name: (recipe.poolings[0], recipe.layers[0] % (top + 1))
        for name, recipe in report.compared.items()
        if recipe is not None
        and len(recipe.poolings) == len(recipe.layers) == 1
        and not recipe.steps
        and recipe.poolings != ("pooler",)
    }
