"""One pass over the texts, any number of recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.batching import batches
from embedkit.encoder import Encoder
from embedkit.pooling import POOLINGS
from embedkit.states import TokenStates
from embedkit.steps import Bound, Vectors
from embedkit.tokens import Tokenized


@dataclass(frozen=True)
class Distinct:
    """Texts without repetition.

    Attributes:
        texts: each distinct text once, in order of first appearance.
        inverse: (n,) int64; text i of the original is `texts[inverse[i]]`.
    """

    texts: list[str]
    inverse: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Distinct:
        places: dict[str, int] = {}
        inverse = [places.setdefault(text, len(places)) for text in texts]
        return cls(list(places), np.array(inverse, dtype=np.int64))


def run(
    encoder: Encoder,
    tokens: Tokenized,
    recipes: Sequence[Bound],
    *,
    prompt_tokens: int = 0,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[Vectors]:
    """Sentence vectors of every recipe, each text run through the encoder once.

    Args:
        encoder: asked for the union of the recipes' layers; states live for one batch only.
        tokens: n texts.
        recipes: resolved against `encoder`.
        prompt_tokens: first tokens of each text that are left out of the pooling.
        advance: told the number of tokens after each batch.

    Returns:
        For each recipe float32 (n, dim).
    """
    needed = {recipe: recipe.states(encoder.num_layers) for recipe in (b.recipe for b in recipes)}
    layers = sorted({layer for states in needed.values() for layer in states})
    pooler = any(not states for states in needed.values())
    results: list[Vectors | None] = [None] * len(recipes)
    for texts in batches(tokens.lengths):
        states = encoder(tokens.batch(texts), layers, pooler=pooler)
        pooled = _Pooled(states.without_prompt(prompt_tokens))
        for place, bound in enumerate(recipes):
            vectors = torch.cat(
                [pooled(name, needed[bound.recipe], bound) for name in bound.recipe.poolings], 1
            )
            rows = bound.apply(vectors.cpu().numpy())
            result = results[place]
            if result is None:
                shape = (len(tokens.lengths), rows.shape[1])
                results[place] = result = np.empty(shape, dtype=np.float32)
            result[texts] = rows
        advance(int(tokens.lengths[texts].sum()))
    return [result for result in results if result is not None]


class _Pooled:
    """Poolings of one batch, each computed once whatever the number of recipes."""

    def __init__(self, states: TokenStates) -> None:
        self._states = states
        self._averages: dict[tuple[int, ...], TokenStates] = {}
        self._vectors: dict[tuple[str, tuple[int, ...], int], Tensor] = {}

    def __call__(self, name: str, layers: tuple[int, ...], bound: Bound) -> Tensor:
        """(texts, width) float32."""
        weights = bound.token_weights if POOLINGS[name].fitted else None
        key = (name, layers, id(weights))
        if key not in self._vectors:
            states = self._states
            if layers:
                if layers not in self._averages:
                    self._averages[layers] = states.average(layers)
                states = self._averages[layers]
            if weights is not None:
                device = states.batch.offsets.device
                states = replace(states, token_weights=torch.from_numpy(weights).to(device))
            self._vectors[key] = POOLINGS[name].reduce(states).float()
        return self._vectors[key]
