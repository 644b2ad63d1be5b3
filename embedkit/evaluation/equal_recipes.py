"""Find recipes that predict the same, such as `mean` and `mean/normalize` under the cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SAME_PREDICTION = 1e-6


def equal_recipes(
    predictions: Mapping[str, Sequence[NDArray[np.float64]]], preferred: Sequence[str] = ()
) -> dict[str, str]:
    """Recipes that predict the same as another one, each with the name of the row they share.

    That is the first of those preferred, or else the shortest of them. Labels play no part.

    Args:
        predictions: of each recipe, on every data set and by every similarity.
        preferred: the models' own recipes, and the baseline.

    Example:
        >>> scores = {"mean": [0.1, 0.9], "cls": [0.2, 0.3], "mean/normalize": [0.1, 0.9]}
        >>> equal_recipes({name: [np.array(x)] for name, x in scores.items()})
        {'mean/normalize': 'mean'}
    """
    groups: list[list[str]] = []
    for recipe, values in predictions.items():
        for group in groups:
            if _agree(values, predictions[group[0]]):
                group.append(recipe)
                break
        else:
            groups.append([recipe])
    names = {
        recipe: next((name for name in preferred if name in group), min(group, key=len))
        for group in groups
        for recipe in group
    }
    return {recipe: name for recipe, name in names.items() if name != recipe}


def _agree(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> bool:
    with np.errstate(invalid="ignore"):
        return all(
            bool((np.abs(a - b) <= SAME_PREDICTION).all()) for a, b in zip(one, other, strict=True)
        )
