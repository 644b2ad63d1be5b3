"""A saved folder appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit.errors import InputError, check_utf8
from embedkit.interop.model_card import MARK


def check_writable(folder: Path) -> None:
    """Refuse a place in which no folder can be made, by making one and taking it away.

    Raises:
        InputError: the system's reason.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        tempfile.TemporaryDirectory(prefix=".embedkit-", dir=nearest).cleanup()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error


def check_target(folder: Path) -> None:
    """Refuse to save over anything that embedkit did not write.

    Raises:
        InputError: a file, a folder with something else in it, or a path that is not UTF-8.
    """
    check_utf8(folder)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; expected a folder to save the model in")
    check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise InputError(
            f"{folder} has files in it that embedkit did not write; expected a new or empty folder"
        )


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that takes its place when the block ends well.

    Raises:
        InputError: see `check_target`, or the folder cannot be made.
    """
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    with scratch as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
