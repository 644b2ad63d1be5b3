"""Select a recipe and a similarity on other data sets than those that score them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from embedkit.data.datasets import DataSet
from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.results import MAIN_METRICS, Result, mean_values, ranked


@dataclass(frozen=True)
class Selection:
    """What was selected, and on what."""

    datasets: tuple[str, ...]  # names of the data sets that it was selected on
    recipe: str | None  # the best one there; None if none has a value on all of them
    similarity: str  # the best one there, with that recipe
    value: float | None  # the main metric there, averaged over the data sets
    shared_pairs: int  # scored pairs that are also among these, in either order
    results: tuple[Result, ...]  # the main metric of every recipe and similarity there
    shared_queries: int = 0  # scored queries whose text is also a query there

    @property
    def is_independent(self) -> bool:
        """Whether selection and scored data share nothing; then one recipe alone is tested."""
        return not (self.shared_pairs or self.shared_queries)


def select_best(
    results: Iterable[Result],
    sets: Sequence[DataSet],
    scored: Sequence[DataSet],
    *,
    similarities: Sequence[str],
    aggregation: str,
    own: Collection[str],
) -> Selection:
    """The highest main metric; of equal ones the first similarity and the model's own recipe.

    `results` are those of every recipe on each of `sets`; `scored` score what is selected.
    """
    results = [x for x in results if x.metric in MAIN_METRICS and x.similarity in similarities]
    recipes = list(dict.fromkeys(result.recipe for result in results))
    recipe, similarity, value = None, similarities[0], None
    for name in similarities:
        means = mean_values(results, recipes, name, aggregation)
        first = ranked(means, own)[0]
        best = means[first]
        if best is not None and (value is None or round(best, 6) > round(value, 6)):
            recipe, similarity, value = first, name, best
    pairs, queries = shared_with(sets, scored)
    names = tuple(data.name for data in sets)
    return Selection(names, recipe, similarity, value, pairs, tuple(results), queries)


def shared_with(sets: Sequence[DataSet], scored: Sequence[DataSet]) -> tuple[int, int]:
    """How many of the scored pairs, and of the scored queries, are in these sets too."""
    seen = {item for data in sets for item in _items(data)}
    pairs, queries = (
        sum(item in seen for data in scored if isinstance(data, kind) for item in _items(data))
        for kind in (Pairs, RetrievalSet)
    )
    return pairs, queries


def _items(data: DataSet) -> Iterator[frozenset[str] | str]:
    """What shows that two sets are about the same: the pairs, in either order, or the queries."""
    if isinstance(data, Pairs):
        return map(frozenset, zip(data.sentence1, data.sentence2, strict=True))
    return iter(data.texts["query"])
