"""The vectors of data sets: several sets, several recipes, one pass."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.data.datasets import DataSet
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.one_pass import Encoded
from embedkit.evaluation.error_analysis import Diagnosis, Evidence, Geometry
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Result
from embedkit.evaluation.run_metadata import DataUsed, Protocol, data_used
from embedkit.evaluation.selection import Selection
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array


@dataclass(frozen=True, eq=False)
class SetVectors:
    """What one pass over the texts of data sets gives.

    Attributes:
        embedder: ran it.
        sets: whose texts they are.
        prompts: what was put in front of the texts of each role.
        encoded: by prompt, the vectors of its distinct texts for each recipe.
        places: for each set and role, where its texts are among the distinct ones of its prompt.
        seconds: on the clock, when the pass began and when it ended.
    """

    embedder: Embedder
    sets: Sequence[DataSet]
    prompts: Mapping[str, str]
    encoded: dict[str, Encoded]
    places: list[dict[str, NDArray[np.int64]]]
    seconds: tuple[float, float]

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        sets: Sequence[DataSet],
        bounds: Sequence[BoundRecipe],
        prompts: Mapping[str, str],
        *,
        show_progress: bool | None = None,
    ) -> SetVectors:
        """Run each distinct text once, behind the prompt of its role; see `role_prompts`."""
        by_prompt: dict[str, list[str]] = {}
        spans: list[dict[str, slice]] = [{} for _ in sets]
        for data, roles in zip(sets, spans, strict=True):
            for role, texts in data.texts.items():
                gathered = by_prompt.setdefault(prompts[role], [])
                roles[role] = slice(len(gathered), len(gathered) + len(texts))
                gathered += texts
        begun = time.perf_counter()
        encoded = {
            prompt: embedder.encode_recipes(
                texts, bounds, prompt=prompt, show_progress=show_progress
            )
            for prompt, texts in by_prompt.items()
        }
        ran = time.perf_counter()
        places = [
            {role: encoded[prompts[role]].distinct.inverse[span] for role, span in roles.items()}
            for roles in spans
        ]
        return cls(embedder, sets, prompts, encoded, places, (begun, ran))

    def texts(self, recipe: int, number: int, role: str) -> Float32Array:
        """(texts, dim) float32, of a recipe and a set by their numbers."""
        return self.encoded[self.prompts[role]].vectors[recipe][self.places[number][role]]

    def pairs(self, recipe: int, number: int) -> Float32Array:
        """(n, 2, dim) float32, of a recipe and a set of pairs by their numbers."""
        vectors = self.encoded[self.prompts["sentence"]].vectors[recipe]
        both: Float32Array = vectors[self.places[number]["sentence"].reshape(2, -1).T]
        return both

    def geometry(self, recipe: int, number: int) -> Geometry:
        """The shape of a recipe's vectors of the distinct sentences of a set of pairs."""
        vectors = self.encoded[self.prompts["sentence"]].vectors[recipe]
        return Geometry.of(vectors[np.unique(self.places[number]["sentence"])])

    def used(self, roles: Sequence[str]) -> tuple[DataUsed, ...]:
        """What was read, for the protocol, and which part each set played."""
        return tuple(
            data_used(data, role, self._truncated(number))
            for number, (data, role) in enumerate(zip(self.sets, roles, strict=True))
        )

    def _truncated(self, number: int) -> NDArray[np.bool_]:
        """Whether each distinct text of a set was cut; behind two prompts one is two."""
        by_prompt: dict[str, list[NDArray[np.int64]]] = {}
        for role, places in self.places[number].items():
            by_prompt.setdefault(self.prompts[role], []).append(places)
        return np.concatenate(
            [
                self.encoded[prompt].tokens.truncated[np.unique(np.concatenate(places))]
                for prompt, places in by_prompt.items()
            ]
        )

    def report(
        self,
        results: Sequence[Result],
        recipes: Sequence[Recipe],
        protocol: Protocol,
        *,
        decided_by: str,
        evidence: Sequence[Evidence],
        diagnoses: Sequence[Diagnosis],
        fitted: Sequence[BoundRecipe] = (),
        baseline: str | None = None,
        selection: Selection | None = None,
    ) -> Report:
        """The report of results that were made from these vectors just now."""
        embedder, own = self.embedder, self.embedder.own
        begun, ran = self.seconds
        return Report(
            model={
                "name": embedder.name,
                "family": embedder.encoder.family,
                "layers": embedder.encoder.num_layers,
                "width": embedder.encoder.dim,
                "pooler": embedder.encoder.pooler is not None,
                "recipe": str(own.recipe) if own else None,
                "max_length": embedder.tokenizer.max_length,
                "precision": embedder.precision,
            },
            results=tuple(results),
            compared={str(recipe): recipe for recipe in recipes},
            fitted={str(bound.recipe): bound for bound in fitted},
            decided_by=decided_by,
            protocol=protocol,
            sentences=sum(len(each.distinct.inverse) for each in self.encoded.values()),
            forward_passes=sum(len(each.distinct.texts) for each in self.encoded.values()),
            truncated=sum(int(each.tokens.truncated.sum()) for each in self.encoded.values()),
            seconds={
                "encode": ran - begun,
                "score": time.perf_counter() - ran,
            },
            evidence=tuple(evidence),
            diagnoses=tuple(diagnoses),
            baseline=baseline,
            selection=selection,
        )
