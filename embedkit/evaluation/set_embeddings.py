"""The embeddings of every text of several data sets, for several recipes, from one pass each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.data.datasets import DataSet
from embedkit.embedder.cache import EmbeddingCache, EncodedTexts, encode_texts
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.one_pass import Distinct
from embedkit.evaluation.bootstrap import in_threads
from embedkit.evaluation.error_analysis import Geometry
from embedkit.evaluation.options import EvaluationSets
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.steps import Float32Array


@dataclass(frozen=True, eq=False)
class SetEmbeddings:
    """The embeddings of data sets; recipes and sets are named by their positions."""

    embedder: Embedder
    prompts: Mapping[str, str]  # by role (sentence, query, document)
    encoded: list[dict[str, EncodedTexts]]  # of each set, its distinct texts behind each prompt
    rows: list[dict[str, NDArray[np.int64]]]  # of each set and role, the rows in `encoded`
    seconds: float  # that the passes took

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        sets: Sequence[DataSet],
        bounds: Sequence[BoundRecipe],
        prompts: Mapping[str, str],
        *,
        cache: EmbeddingCache | None = None,
        show_progress: bool | None = None,
    ) -> SetEmbeddings:
        """Encode each distinct text of a set once, behind the prompt of its role.

        A pass is of one set, so that its embeddings are the same bits whatever the other sets are.
        """
        started = time.perf_counter()
        encoded, rows = [], []
        for data in sets:
            by_prompt: dict[str, list[str]] = {}
            spans = {}
            for role, texts in data.texts.items():
                gathered = by_prompt.setdefault(prompts[role], [])
                spans[role] = slice(len(gathered), len(gathered) + len(texts))
                gathered += texts
            distinct = {prompt: Distinct.of(texts) for prompt, texts in by_prompt.items()}
            rows.append({role: distinct[prompts[role]].inverse[spans[role]] for role in spans})
            encoded.append(
                {
                    prompt: encode_texts(
                        embedder, own.texts, bounds, prompt, cache, show_progress=show_progress
                    )
                    for prompt, own in distinct.items()
                }
            )
        return cls(embedder, prompts, encoded, rows, time.perf_counter() - started)

    def texts(self, recipe: int, dataset: int, role: str) -> Float32Array:
        """(texts, dim) float32."""
        vectors = self.encoded[dataset][self.prompts[role]].vectors[recipe]
        return vectors[self.rows[dataset][role]]

    def pairs(self, recipe: int, dataset: int) -> Float32Array:
        """(n, 2, dim) float32, of a set of sentence pairs."""
        vectors = self.encoded[dataset][self.prompts["sentence"]].vectors[recipe]
        both: Float32Array = vectors[self.rows[dataset]["sentence"].reshape(2, -1).T]
        return both

    def training_pairs(self, recipe: int, sets: EvaluationSets) -> Float32Array:
        """(n, 2, dim) float32, of all training pairs."""
        first = len(sets.all) - len(sets.training)
        return np.concatenate([self.pairs(recipe, i) for i in range(first, len(sets.all))])

    def geometries(self, dataset: int) -> list[Geometry]:
        """Of the distinct sentences of a set of sentence pairs, for each recipe."""
        vectors = self.encoded[dataset][self.prompts["sentence"]].vectors
        return in_threads(Geometry.of, vectors, memory=4 * 8 * max(x.size for x in vectors))

    def truncated(self, dataset: int) -> NDArray[np.bool_]:
        """Whether each distinct text of a set was truncated; behind two prompts one is two."""
        return np.concatenate([one.truncated for one in self.encoded[dataset].values()])

    @property
    def cached(self) -> int:
        """Distinct texts whose embeddings came from the cache."""
        return sum(one.cached for of_set in self.encoded for one in of_set.values())
