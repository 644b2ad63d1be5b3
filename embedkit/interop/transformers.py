"""Models of transformers, read from a folder; what it lacks is never drawn in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedkit.errors import InputError, first_line


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bars that transformers shows for work of a moment."""
    from transformers.utils import logging

    bars: Any = logging  # these functions have no types
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def read_pretrained(kind: Any, folder: Path, **options: Any) -> tuple[Any, set[str]]:
    """A float32 model, and the names of its weights that were drawn because the folder lacks them.

    Args:
        kind: an auto class of transformers.
        folder: with config.json and weights; no code in it is run.
        options: for its configuration.

    Raises:
        InputError: transformers cannot read it, it has a decoder beside its encoder, or the
            encoder's own weights are not all there.
    """
    import torch
    from safetensors import SafetensorError

    try:
        with without_bars():
            model, found = kind.from_pretrained(
                folder,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a classifier of several labels is drawn anew
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: transformers cannot read it ({first_line(error)})") from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError(
            f"{folder}: {type(model).__name__} has a decoder beside its encoder; expected an "
            "encoder alone"
        )
    missing = set(found["missing_keys"]) | {name for name, *_ in found["mismatched_keys"]}
    prefix = f"{model.base_model_prefix}."
    is_encoder = model.base_model is model
    of_encoder = sorted(
        name
        for name in missing
        if (is_encoder or name.startswith(prefix)) and "pooler" not in name.split(".")
    )
    if of_encoder:
        raise InputError(
            f"{folder}: the weights lack {', '.join(of_encoder[:3])}, or have them in another shape"
        )
    return model, missing
