"""The embeddings of every text of several data sets, for several recipes, from one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.data.datasets import DataSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.one_pass import Encoded
from embedkit.evaluation.error_analysis import Geometry
from embedkit.evaluation.options import EvaluationSets
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.steps import Float32Array


@dataclass(frozen=True, eq=False)
class SetEmbeddings:
    """The embeddings of data sets; recipes and sets are named by their positions."""

    embedder: Embedder
    prompts: Mapping[str, str]  # by role (sentence, query, document)
    encoded: dict[str, Encoded]  # by prompt, the embeddings of its distinct texts
    rows: list[dict[str, NDArray[np.int64]]]  # of each set and role, the rows in `encoded`
    seconds: float  # that the pass took

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        sets: Sequence[DataSet],
        bounds: Sequence[BoundRecipe],
        prompts: Mapping[str, str],
        *,
        show_progress: bool | None = None,
    ) -> SetEmbeddings:
        """Encode each distinct text once, behind the prompt of its role."""
        by_prompt: dict[str, list[str]] = {}
        spans: list[dict[str, slice]] = [{} for _ in sets]
        for data, of_set in zip(sets, spans, strict=True):
            for role, texts in data.texts.items():
                gathered = by_prompt.setdefault(prompts[role], [])
                of_set[role] = slice(len(gathered), len(gathered) + len(texts))
                gathered += texts
        started = time.perf_counter()
        encoded = {
            prompt: embedder.encode_recipes(
                texts, bounds, prompt=prompt, show_progress=show_progress
            )
            for prompt, texts in by_prompt.items()
        }
        seconds = time.perf_counter() - started
        rows = [
            {role: encoded[prompts[role]].distinct.inverse[span] for role, span in of_set.items()}
            for of_set in spans
        ]
        return cls(embedder, prompts, encoded, rows, seconds)

    def texts(self, recipe: int, dataset: int, role: str) -> Float32Array:
        """(texts, dim) float32."""
        return self.encoded[self.prompts[role]].vectors[recipe][self.rows[dataset][role]]

    def pairs(self, recipe: int, dataset: int) -> Float32Array:
        """(n, 2, dim) float32, of a set of sentence pairs."""
        vectors = self.encoded[self.prompts["sentence"]].vectors[recipe]
        both: Float32Array = vectors[self.rows[dataset]["sentence"].reshape(2, -1).T]
        return both

    def training_pairs(self, recipe: int, sets: EvaluationSets) -> Float32Array:
        """(n, 2, dim) float32, of all training pairs."""
        first = len(sets.all) - len(sets.training)
        return np.concatenate([self.pairs(recipe, i) for i in range(first, len(sets.all))])

    def geometry(self, recipe: int, dataset: int) -> Geometry:
        """Of the distinct sentences of a set of sentence pairs."""
        vectors = self.encoded[self.prompts["sentence"]].vectors[recipe]
        return Geometry.of(vectors[np.unique(self.rows[dataset]["sentence"])])

    def truncated(self, dataset: int) -> NDArray[np.bool_]:
        """Whether each distinct text of a set was truncated; behind two prompts one is two."""
        by_prompt: dict[str, list[NDArray[np.int64]]] = {}
        for role, rows in self.rows[dataset].items():
            by_prompt.setdefault(self.prompts[role], []).append(rows)
        return np.concatenate(
            [
                self.encoded[prompt].tokens.truncated[np.unique(np.concatenate(rows))]
                for prompt, rows in by_prompt.items()
            ]
        )
