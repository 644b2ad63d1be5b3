"""Files that appear whole or not at all, outlast a power cut, and have one writer at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from embedkit.errors import InputError, check_utf8


@contextmanager
def new_file(path: Path) -> Iterator[BufferedWriter]:
    """A file that is synced when the block ends; when the block fails, nothing is left of it."""
    try:
        with disk_errors(path):
            with path.open("wb") as file:
                yield file
            _sync(path)
            _sync(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; what is not, as in a path of other bytes, is escaped as JSON does."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def disk_errors(where: object) -> Iterator[None]:
    """Make an error of the system, such as a full disk, a sentence that says where."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it is a sentence already
            raise
        raise OSError(f"{where}: cannot be written ({error.strerror})") from error


@contextmanager
def replacing(path: Path, name: str | None = None) -> Iterator[Path]:
    """A path beside `path`: the file written there takes the place of `path` at the end.

    It is synced first, and the folder after, so a power cut leaves the old file or the new one.
    When the block fails, nothing is left of it. A killed process leaves the file; with a `name`,
    which only a sole writer may give, the next one writes over it.
    """
    temporary = path.with_name(name or f".embedkit-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_of(manifest: str) -> str:
    """The file that a writer locks; it stays, and tells whose folder it is."""
    return f".{manifest}.lock"


@contextmanager
def sole_writer(folder: Path, manifest: str) -> Iterator[None]:
    """Be the one that writes what a manifest names into a folder, which is made if need be.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
        InputError: another process writes there, or the folder cannot be made.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / lock_of(manifest), timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: another process is writing there; expected one writer at a time, so wait "
            "for it to end"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def check_own(folder: Path, manifest: str, what: str) -> None:
    """Refuse to write among files of others.

    Raises:
        InputError: a file in the way, a folder with files where we never wrote, or a path that is
            not UTF-8.
    """
    check_utf8(folder)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; expected a folder for {what}")
    if not folder.is_dir() or any(
        (folder / name).exists() for name in (manifest, lock_of(manifest))
    ):
        return
    others = sorted(path.name for path in folder.iterdir())
    if others:
        raise InputError(
            f"{folder} has files of others in it ({others[0]}); expected a new or empty folder "
            f"for {what}, or one that has them already"
        )
