"""Pairs of texts to numbers, by a head, a cross-encoder or a plain model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.embedder.embedder import Embedder
from embedkit.encoders.hub import CROSS_ENCODER_FILE
from embedkit.errors import InputError
from embedkit.files import holds
from embedkit.scoring.regressor_folder import HEAD
from embedkit.similarity import find_similarity

if TYPE_CHECKING:
    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.pair_regressor import PairRegressor


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


def find_cross_encoder(
    model: object, *, device: str | None = None, **options: Any
) -> CrossEncoder | None:
    """The cross-encoder that `model` is, or that its folder holds.

    Args:
        model: a cross-encoder, a folder, or anything else, which is none.
        device: see `CrossEncoder.from_pretrained`.
        options: for embedders; a cross-encoder takes none but the precision float32, or auto.

    Raises:
        InputError: an option was given for a cross-encoder.
    """
    if isinstance(model, str | Path):
        if not holds(model, CROSS_ENCODER_FILE):  # before transformers is loaded
            return None
        for name, value in options.items():
            if value is not None and not (name == "precision" and value in ("float32", "auto")):
                raise InputError(f"got a {name} for a cross-encoder; it has its own")
        from embedkit.scoring.cross_encoder import CrossEncoder

        return CrossEncoder.from_pretrained(model, device=device)
    if "embedkit.scoring.cross_encoder" not in sys.modules:
        return None  # whoever has one has loaded it
    from embedkit.scoring.cross_encoder import CrossEncoder

    return model if isinstance(model, CrossEncoder) else None


def find_head(model: object, **options: Any) -> PairRegressor | None:
    """The head that `model` is, or that its folder holds.

    Args:
        model: a head, a folder, or anything else, which is no head.
        options: for `Embedder.from_pretrained`.
    """
    if isinstance(model, str | Path):
        if not holds(model, HEAD):  # before scikit-learn is loaded
            return None
        if options.get("max_length") is not None:
            raise InputError("got a max_length for a head; it was trained with its embedder's")
        from embedkit.scoring.regressor_folder import load_head

        return load_head(model, **options)
    if "embedkit.scoring.pair_regressor" not in sys.modules:
        return None  # whoever has a head has loaded it
    from embedkit.scoring.pair_regressor import PairRegressor

    return model if isinstance(model, PairRegressor) else None
