"""Choosing a recipe and a similarity on other pairs than those that score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedkit.data.pairs import Pairs
from embedkit.evaluation.pairs import Predictions, measured
from embedkit.evaluation.results import Result, averages, ranked


@dataclass(frozen=True)
class Selection:
    """What was selected, and on what.

    Attributes:
        datasets: names of the pairs that it was selected on.
        recipe: the best one there, or None where none has a value on all of them.
        similarity: the best one there, with that recipe.
        value: Spearman's correlation there, averaged over the datasets.
        shared_pairs: pairs that score the recipe and are among these too, in either order.
        results: Spearman's correlation of every recipe and similarity there.
    """

    datasets: tuple[str, ...]
    recipe: str | None
    similarity: str
    value: float | None
    shared_pairs: int
    results: tuple[Result, ...]

    @classmethod
    def of(
        cls,
        predictions: Sequence[Sequence[Predictions]],
        sets: Sequence[Pairs],
        scored: Sequence[Pairs],
        *,
        similarities: Sequence[str],
        aggregation: str,
        own: str | None,
    ) -> Selection:
        """The highest correlation; of equal ones the first similarity and the model's own recipe.

        Args:
            predictions: every recipe's for each of `sets`.
            sets: pairs to select on.
            scored: pairs that score what is selected.
            similarities: the choices.
            aggregation: for sets with subsets.
            own: the model's own recipe.
        """
        results = [
            result
            for pairs, of_set in zip(sets, predictions, strict=True)
            for predicted in of_set
            if predicted.similarity in similarities
            for result in measured(pairs, replace(predicted, metrics=("spearman",)))
        ]
        recipes = list(dict.fromkeys(result.recipe for result in results))
        recipe: str | None = None
        similarity, value = similarities[0], None
        for name in similarities:
            averaged = averages(results, recipes, name, aggregation)
            first = ranked(averaged, own)[0]
            found = averaged[first]
            if found is not None and (value is None or round(found, 6) > round(value, 6)):
                recipe, similarity, value = first, name, found
        seen = {frozenset(pair) for pairs in sets for pair in _sentences(pairs)}
        shared = sum(frozenset(pair) in seen for pairs in scored for pair in _sentences(pairs))
        names = tuple(pairs.name for pairs in sets)
        return cls(names, recipe, similarity, value, shared, tuple(results))


def _sentences(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.sentence1, pairs.sentence2, strict=True))
