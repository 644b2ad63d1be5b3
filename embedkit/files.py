"""Files that appear whole or not at all, outlast a power cut, and have one writer at a time."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import as_path, is_built_in
from embedkit.errors import InputError

if TYPE_CHECKING:
    pass


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
    as_path("folder", folder)
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


class RowDigest:
    """Takes in rows as they come: a line of JSON each, in UTF-8."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, rows: Iterable[object]) -> None:
        """Rows that follow those before."""
        for row in rows:
            self._digest.update((json.dumps(row, ensure_ascii=False) + "\n").encode())

    @property
    def sha256(self) -> str:
        """Of all rows so far, as 64 hexadecimal digits."""
        return self._digest.hexdigest()


def rows_sha256(rows: Iterable[object]) -> str:
    """That of rows which are all there."""
    digest = RowDigest()
    digest.add(rows)
    return digest.sha256


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
    as_path("folder", folder)
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


DEFAULT_MODEL = "minilm"


_MOST_JSON = 1 << 27  # bytes; the largest tokenizer.json in use have about a quarter of that


def holds(folder: str | Path, name: str) -> bool:
    """Whether a model's folder has a file of this name; what can be no path has none."""
    if is_built_in(folder, (DEFAULT_MODEL,)):
        return False
    try:
        return (Path(folder).expanduser() / name).is_file()
    except (OSError, RuntimeError, ValueError):  # too long a name, the home of nobody, a NUL
        return False


def load_json(path: Path) -> Any:
    """What a JSON file of a model folder holds.

    Raises:
        InputError: the file is absent, too large or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_JSON:
            raise InputError(f"{path}: has {size:,} bytes; expected at most {_MOST_JSON:,}")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder.

    Raises:
        InputError: see `load_json`, or it is no object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content


MARK = "embedkit.json"
