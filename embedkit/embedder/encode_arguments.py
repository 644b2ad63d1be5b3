"""Arguments of sentence-transformers' `encode` that embedkit replaces: what to use instead."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from embedkit.errors import InputError

# Those that change the result: the value that is taken, and what to do instead of another.
_REFUSED = {
    "output_value": ("sentence_embedding", "encode returns sentence embeddings only"),
    "precision": ("float32", "embeddings are float32; the encoder's precision is that of Embedder"),
}
_WITHOUT_EFFECT = {
    "batch_size": "batches are formed by a budget of tokens, and embeddings do not depend on them",
    "convert_to_numpy": "encode returns a numpy array, or with convert_to_tensor=True a tensor",
    **dict.fromkeys(("pool", "chunk_size"), "Embedder.workers encodes in several processes"),
}


def check_encode_arguments(given: Mapping[str, Any], show_progress: bool | None) -> bool | None:
    """Refuse arguments that would change the result, and warn once of those without a meaning.

    Returns `show_progress`, or where it is None sentence-transformers' `show_progress_bar`.
    """
    for name, value in given.items():
        if name == "show_progress_bar":
            show_progress = value if show_progress is None else show_progress
        elif name in _REFUSED:
            taken, instead = _REFUSED[name]
            if value not in (None, taken):
                raise InputError(f"{name} is {value!r}; {instead}")
        elif name not in _WITHOUT_EFFECT:
            raise TypeError(f"encode() got an unexpected keyword argument {name!r}")
        elif value is not None and (name, value) != ("convert_to_numpy", True):
            _warn_once(name)
    return show_progress


@cache
def _warn_once(name: str) -> None:
    warnings.warn(f"{name} has no effect here: {_WITHOUT_EFFECT[name]}", stacklevel=4)
