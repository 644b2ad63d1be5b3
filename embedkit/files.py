"""Files that are written whole or not at all, one writer at a time; JSON files; model folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from itertools import accumulate
from pathlib import Path
from typing import Any

from embedkit.arguments import as_path
from embedkit.errors import InputError, first_line

DEFAULT_MODEL = "minilm"
MARK = "embedkit.json"  # in a model folder that embedkit wrote: its model and the list of its files
_SCHEMA = 1  # of such a folder; earlier ones, without a number, are read as this one
_DEEPEST_JSON = 100  # levels; what people write has about ten
_JSON_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MOST_JSON = 1 << 27  # bytes; the largest tokenizer.json in use have about a quarter of that

# What embedkit wrote into model folders before it listed the files.
_UNLISTED = re.compile(
    r"README\.md|(config|config_sentence_transformers|cross_encoder|embedkit|generation_config|head"
    r"|modules|sentence_bert_config|special_tokens_map|tokenizer|tokenizer_config)\.json"
    r"|(classifier|model)\.safetensors|head\.skops"
    r"|\d+_[A-Za-z]+/(config\.json|model\.safetensors)"
)


@contextmanager
def new_file(path: Path) -> Iterator[BufferedWriter]:
    """A file that is synced when the block ends; when the block fails, nothing is left of it."""
    try:
        with disk_errors(path):
            path.unlink(missing_ok=True)  # it may be a hard link to a file that is in use
            with path.open("xb") as file:
                yield file
            _sync(path)
            _sync(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; what is not, as in a path of other bytes, is escaped as JSON does."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: object) -> None:
    """Write JSON, texts as they are; what JSON has no value for becomes a text."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def disk_errors(where: object, kind: type[Exception] = OSError) -> Iterator[None]:
    """Make an error of the system, such as a full disk, a sentence that says where."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it is a sentence already
            raise
        raise kind(f"{where}: cannot be written ({error.strerror})") from error


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
    """The file that a writer locks; it stays, and shows that the folder is embedkit's."""
    return f".{manifest}.lock"


@contextmanager
def sole_writer(folder: Path, manifest: str) -> Iterator[None]:
    """Be the only process that writes what a manifest names; the folder is made if need be.

    The system releases the lock when the process ends, however it ends.
    """
    from filelock import FileLock, Timeout

    try:
        with disk_errors(folder, InputError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / lock_of(manifest), timeout=0)
            lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder}: another process is writing there; expected one writer at a time, so wait "
            "for it to end"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_own(folder: Path, manifest: str, content: str) -> None:
    """Refuse to write among files of others."""
    check_folder(folder, f"for {content}")
    if not folder.is_dir() or any(
        (folder / name).exists() for name in (manifest, lock_of(manifest))
    ):
        return
    foreign = min((path.name for path in folder.iterdir()), default=None)
    if foreign is not None:
        raise InputError(
            f"{folder} has other files in it ({foreign}); expected a new or empty folder "
            f"for {content}, or one that has them already"
        )


def check_folder(folder: Path, purpose: str) -> None:
    """Refuse a file where a folder is expected, or a path below one."""
    as_path("folder", folder)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; expected a folder {purpose}")


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
    """Refuse a place in which no folder can be made, by making one and taking it away."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with disk_errors(folder, InputError):
        tempfile.TemporaryDirectory(prefix=".embedkit-", dir=nearest).cleanup()


def read_mark(folder: Path) -> dict[str, Any]:
    """What `embedkit.json` says of a model folder; nothing where embedkit did not write it."""
    path = folder / MARK
    if not path.is_file():
        return {}
    mark = read_json(path)
    check_schema(path, mark.get("schema", _SCHEMA), _SCHEMA)
    return mark


def check_schema(path: Path, schema: object, expected: int) -> None:
    """Refuse a file that has the schema number of another version."""
    if type(schema) is not int or schema != expected:
        raise InputError(
            f"{path}: got schema {schema!r}, expected {expected}: another version of embedkit "
            "wrote it, so use that, or make it anew"
        )


def check_target(folder: Path) -> None:
    """Refuse to save a model over anything that embedkit did not write.

    A folder without a list of files, of an earlier version, may be replaced where all its files
    have names that embedkit gave.
    """
    check_folder(folder, "to save the model in")
    check_writable(folder)
    foreign = min(_foreign_files(folder), default=None) if folder.is_dir() else None
    if foreign is not None:
        raise InputError(
            f"{folder} has files in it that embedkit did not write ({foreign}); expected a new or "
            "empty folder, or a model folder of embedkit without other files"
        )


def _foreign_files(folder: Path) -> Iterator[str]:
    mark = read_mark(folder)
    if not mark:
        yield from (path.name for path in folder.iterdir())
        return
    written = mark.get("files")
    for name in _names(folder):
        if not (_UNLISTED.fullmatch(name) if written is None else name in written):
            yield name


def _names(folder: Path) -> list[str]:
    """The files below a folder, sorted; a symlink is one, wherever it leads."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder for a model, which takes the place of `target` when the block ends well.

    The block writes `embedkit.json` among its files; the list of all files is added to it.
    """
    from safetensors import SafetensorError

    check_target(target)
    with disk_errors(target, InputError):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent)
    with scratch as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        try:
            yield new
        except SafetensorError as error:  # of a full disk, for one
            raise OSError(f"{target}: cannot be written ({first_line(error)})") from error
        mark = {"schema": _SCHEMA, **read_json(new / MARK), "files": _names(new)}
        write_json(new / MARK, mark)
        check_target(target)  # files may have come since
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)


def parse_json(text: str, **options: Any) -> Any:
    """`json.loads` for hostile text: a ValueError where it is nested deeper than 100 levels.

    `json` recurses, and a destructor that the garbage collector runs at the limit fails as well.
    """
    if text.count("[") + text.count("{") > _DEEPEST_JSON:
        brackets = (
            _JSON_STRINGS.sub("", text).encode(errors="replace").translate(None, _NO_BRACKETS)
        )
        depths = accumulate(1 if bracket in b"[{" else -1 for bracket in brackets)
        if max(depths, default=0) > _DEEPEST_JSON:
            raise ValueError(f"nested deeper than {_DEEPEST_JSON} levels")
    return json.loads(text, **options)


def load_json(path: Path) -> Any:
    """What a JSON file of a model folder holds."""
    try:
        size = path.stat().st_size
        if size > _MOST_JSON:
            raise InputError(f"{path}: has {size:,} bytes; expected at most {_MOST_JSON:,}")
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder."""
    content = load_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content
