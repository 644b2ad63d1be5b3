"""Arguments of sentence-transformers' `encode` that embedkit replaces: what to use instead."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from embedkit.errors import InputError


class _Row(NamedTuple):
    default: object  # means here what it means there
    instead: str
    changes_result: bool


_ROWS = {
    "batch_size": _Row(
        None,
        "batches are formed by a budget of tokens, and embeddings do not depend on them",
        changes_result=False,
    ),
    "convert_to_numpy": _Row(
        True, "encode returns a numpy array, or with convert_to_tensor=True a tensor", False
    ),
    "pool": _Row(None, "one process encodes all texts", changes_result=False),
    "chunk_size": _Row(None, "one process encodes all texts", changes_result=False),
    "output_value": _Row(
        "sentence_embedding", "encode returns sentence embeddings only", changes_result=True
    ),
    "precision": _Row(
        "float32", "embeddings are float32; the encoder's precision is that of Embedder", True
    ),
}


def check_encode_arguments(given: Mapping[str, Any], show_progress: bool | None) -> bool | None:
    """Refuse arguments that would change the result, and warn once of those without a meaning.

    Returns `show_progress`, or where it is None sentence-transformers' `show_progress_bar`.
    """
    for name, value in given.items():
        if name == "show_progress_bar":
            show_progress = value if show_progress is None else show_progress
            continue
        if name not in _ROWS:
            raise TypeError(f"encode() got an unexpected keyword argument {name!r}")
        row = _ROWS[name]
        if value is None or value == row.default:
            continue
        if row.changes_result:
            raise InputError(f"{name} is {value!r}; {row.instead}")
        _warn_once(name)
    return show_progress


@cache
def _warn_once(name: str) -> None:
    warnings.warn(f"{name} has no effect here: {_ROWS[name].instead}", stacklevel=4)
