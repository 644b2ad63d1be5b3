"""Pairs of texts to numbers, by a head, a cross-encoder or a plain model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.embedder import Embedder
from embedkit.errors import InputError
from embedkit.evaluation.cross_encoders import find_cross_encoder
from embedkit.evaluation.heads import find_head
from embedkit.similarity import find_similarity

if TYPE_CHECKING:
    from embedkit.heads.regressor import PairRegressor

Scorer: TypeAlias = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]


def load_scorer(model: str, *, prompt: str | None = None, **options: Any) -> Scorer:
    """What scores pairs of texts.

    Args:
        model: the folder of a head or of a cross-encoder, or a model, whose cosine is the score.
        prompt: put in front of each text, for a plain model.
        options: for `Embedder.from_pretrained`; it scores in float32 unless they say otherwise.

    Raises:
        InputError: there is no such model, or a prompt was given for a head or a cross-encoder.
    """
    cross_encoder = find_cross_encoder(model, **options)
    if cross_encoder is not None:
        if prompt is not None:
            raise InputError("got a prompt for a cross-encoder; it has none")
        return partial(cross_encoder.predict, show_progress=False)
    head: PairRegressor | None = find_head(model, **options)
    if head is not None:
        if prompt is not None:
            raise InputError("got a prompt for a head; it uses the one that it was trained with")
        return head.predict
    embedder = Embedder.from_pretrained(model, **{"precision": "float32", **options})

    def cosine(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        vectors = embedder.encode(
            [pair[0] for pair in pairs] + [pair[1] for pair in pairs],
            prompt=prompt,
            show_progress=False,
        ).astype(np.float64)
        return find_similarity("cosine").pairwise(vectors[: len(pairs)], vectors[len(pairs) :])

    return cosine
