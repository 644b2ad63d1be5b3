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

    That is the first of those preferred, or else the shortest of them. Labels play no part. The
    predictions of a recipe are those on every data set, by every similarity.

    Example:
        >>> scores = {"mean": [0.1, 0.9], "cls": [0.2, 0.3], "mean/normalize": [0.1, 0.9]}
        >>> equal_recipes({name: [np.array(x)] for name, x in scores.items()})
        {'mean/normalize': 'mean'}
    """
    groups: list[list[str]] = []
    for recipe, values in predictions.items():
        equals = next((x for x in groups if _agree(values, predictions[x[0]])), None)
        if equals is None:
            groups.append([recipe])
        else:
            equals.append(recipe)
    shown = [next((x for x in preferred if x in group), min(group, key=len)) for group in groups]
    return {
        recipe: name
        for group, name in zip(groups, shown, strict=True)
        for recipe in group
        if recipe != name
    }


def _agree(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> bool:
    with np.errstate(invalid="ignore"):
        return all(
            bool((np.abs(a - b) <= SAME_PREDICTION).all()) for a, b in zip(one, other, strict=True)
        )
