"""The sentence vectors of pairs: several sets, several recipes, one pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.embedder import Embedder, Encoded
from embedkit.evaluation.data import Pairs
from embedkit.evaluation.report import Report
from embedkit.evaluation.sts import Result
from embedkit.recipe import Recipe
from embedkit.steps import Bound, Vectors


@dataclass(frozen=True, eq=False)
class PairVectors:
    """What one pass over the sentences of pairs gives.

    Attributes:
        embedder: ran it.
        encoded: the vectors of the distinct sentences, for each recipe.
        places: for each set (n, 2), where its sentences are among the distinct ones.
        seconds: on the clock, when the pass began and when it ended.
    """

    embedder: Embedder
    encoded: Encoded
    places: list[NDArray[np.int64]]
    seconds: tuple[float, float]

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        sets: Sequence[Pairs],
        bounds: Sequence[Bound],
        **encoding: Any,
    ) -> PairVectors:
        """Run each distinct sentence of the sets once; `encoding` is for the embedder."""
        texts = [text for pairs in sets for text in (*pairs.sentence1, *pairs.sentence2)]
        begun = time.perf_counter()
        encoded = embedder.encode_recipes(texts, bounds, **encoding)
        ran = time.perf_counter()
        places = []
        start = 0
        for pairs in sets:
            end = start + 2 * len(pairs.scores)
            places.append(encoded.distinct.inverse[start:end].reshape(2, -1).T)
            start = end
        return cls(embedder, encoded, places, (begun, ran))

    def vectors(self, recipe: int, number: int) -> Vectors:
        """(n, 2, dim) float32, of a recipe and a set by their numbers."""
        return self.encoded.vectors[recipe][self.places[number]]

    def report(
        self,
        results: Sequence[Result],
        recipes: Sequence[Recipe],
        *,
        decided_by: str,
        aggregation: str,
    ) -> Report:
        """The report of results that were made from these vectors just now."""
        embedder, own = self.embedder, self.embedder.own
        begun, ran = self.seconds
        return Report(
            model={
                "name": embedder.name,
                "family": embedder.encoder.family,
                "layers": embedder.encoder.num_layers,
                "width": embedder.encoder.width,
                "pooler": embedder.encoder.pooler is not None,
                "recipe": str(own.recipe) if own else None,
                "max_length": embedder.tokenizer.max_length,
                "precision": embedder.precision,
            },
            results=tuple(results),
            compared={str(recipe): recipe for recipe in recipes},
            decided_by=decided_by,
            aggregation=aggregation,
            sentences=len(self.encoded.distinct.inverse),
            forward_passes=len(self.encoded.distinct.texts),
            truncated=int(self.encoded.tokens.truncated.sum()),
            seconds={
                "encode": ran - begun,
                "score": time.perf_counter() - ran,
            },
        )
