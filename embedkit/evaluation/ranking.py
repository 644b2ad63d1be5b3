"""What decides between recipes: the main metric of each dataset, averaged over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedkit.evaluation.kinds import MAIN
from embedkit.evaluation.sts import Result


def deciding(results: Iterable[Result], metrics: Sequence[str], aggregation: str) -> list[Result]:
    """Results of metrics in this aggregation, or in `all` where a dataset has no subsets."""
    results = list(results)
    with_subsets = {row.dataset for row in results if row.aggregation != "all"}
    return [
        row
        for row in results
        if row.metric in metrics
        and row.aggregation == (aggregation if row.dataset in with_subsets else "all")
    ]


def averages(
    results: Iterable[Result], recipes: Iterable[str], similarity: str, aggregation: str
) -> dict[str, float | None]:
    """What decides for each recipe: None where a dataset has no value."""
    values: dict[str, list[float | None]] = {recipe: [] for recipe in recipes}
    for result in deciding(results, MAIN, aggregation):
        if result.similarity == similarity:
            values[result.recipe].append(result.value)
    found: dict[str, float | None] = {}
    for recipe, of_recipe in values.items():
        defined = [value for value in of_recipe if value is not None]
        whole = 0 < len(defined) == len(of_recipe)
        found[recipe] = sum(defined) / len(defined) if whole else None
    return found


def ranked(averaged: dict[str, float | None], own: str | None) -> list[str]:
    """Recipes from best to worst; of those that agree to six digits the model's own first."""

    def key(recipe: str) -> tuple[bool, float, bool]:
        average = averaged[recipe]
        return average is None, -round(average or 0, 6), recipe != own

    return sorted(averaged, key=key)
