"""Where networks run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from embedkit.errors import InputError


@contextmanager
def on_device(device: str | torch.device | None) -> Iterator[torch.device]:
    """The device, for moving a network there; None is a GPU where there is one.

    Raises:
        InputError: torch cannot use it, which it may tell only in the block.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        yield torch.device(place)
    except (RuntimeError, AssertionError) as error:
        raise unusable(place) from error


def unusable(device: str | torch.device) -> InputError:
    """What is said of a device that torch cannot use."""
    return InputError(
        f"device is {str(device)!r}, which torch cannot use here; expected cpu, or cuda "
        "where there is a GPU that this torch was built for"
    )
