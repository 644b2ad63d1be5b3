"""Select a recipe and a similarity on other sentence pairs than those that score them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from embedkit.data.pairs import Pairs
from embedkit.evaluation.pair_scores import Predictions, measured
from embedkit.evaluation.results import Result, averages, ranked


@dataclass(frozen=True)
class Selection:
    """What was selected, and on what."""

    datasets: tuple[str, ...]  # names of the pairs that it was selected on
    recipe: str | None  # the best one there; None if none has a value on all of them
    similarity: str  # the best one there, with that recipe
    value: float | None  # Spearman's correlation there, averaged over the data sets
    shared_pairs: int  # scored pairs that are also among these, in either order
    results: tuple[Result, ...]  # Spearman's correlation of every recipe and similarity there


def select_best(
    predictions: Sequence[Sequence[Predictions]],
    sets: Sequence[Pairs],
    scored: Sequence[Pairs],
    *,
    similarities: Sequence[str],
    aggregation: str,
    own: Collection[str],
) -> Selection:
    """The highest correlation; of equal ones the first similarity and the model's own recipe.

    `predictions` are those of every recipe for each of `sets`, on which to select; `scored` are
    the pairs that score what is selected.
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
        means = averages(results, recipes, name, aggregation)
        first = ranked(means, own)[0]
        best = means[first]
        if best is not None and (value is None or round(best, 6) > round(value, 6)):
            recipe, similarity, value = first, name, best
    seen = {frozenset(pair) for pairs in sets for pair in _sentences(pairs)}
    shared = sum(frozenset(pair) in seen for pairs in scored for pair in _sentences(pairs))
    names = tuple(pairs.name for pairs in sets)
    return Selection(names, recipe, similarity, value, shared, tuple(results))


def _sentences(pairs: Pairs) -> Iterator[tuple[str, str]]:
    return zip(pairs.sentence1, pairs.sentence2, strict=True)
