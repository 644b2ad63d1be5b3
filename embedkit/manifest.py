"""Manifests: JSON files that name the committed files of a folder, with checksums.

A reader locks the manifest that it has open. A writer replaces the manifest, and keeps the old one
under another name, with the files that it names, until no reader has it locked.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from embedkit.arguments import as_path
from embedkit.errors import InputError
from embedkit.files import check_schema, disk_errors, parse_json, replacing, write_text

T = TypeVar("T")

SCHEMA = 1
_CHUNK = 1 << 20  # bytes
# A number and an identity; older versions of embedkit gave no identity.
_DATA_FILE = re.compile(
    r"\d{6,}(-\d+)?(-(?P<identity>[0-9a-f]{16}))?(\.(removed|terms))?\.(parquet|faiss|arrow|npy)"
)


class DataManifest(Protocol):
    """What `collect` asks of a manifest of data files."""

    @property
    def identity(self) -> str | None: ...

    @property
    def entries(self) -> list[FileEntry]: ...


def new_identity() -> str:
    """A part of the names of a folder's files, so that no file of anyone else has such a name."""
    return secrets.token_hex(8)


class FileEntry(NamedTuple):
    """A file as it was written."""

    name: str
    bytes: int
    crc32: str  # 8 hexadecimal digits; against damage, three times as fast as SHA-256

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> FileEntry:
        """Describe a file, under its own name or another."""
        return cls(name or path.name, path.stat().st_size, _file_crc32(path))

    @classmethod
    def parse(cls, name: Any, size: Any, crc32: Any) -> FileEntry:
        """Read the entry of a data file; ValueError where it is none, such as a path."""
        values = {"name": name, "bytes": size, "crc32": crc32}
        entry = cls(**typed(values, name=str, bytes=int, crc32=str))
        if not _DATA_FILE.fullmatch(entry.name):
            raise ValueError(f"{entry.name!r} is not the name of a data file")
        return entry

    def check(self, folder: Path, *, content: bool = True) -> Path:
        """The path of the file; InputError where its size, or with `content` a byte, is another."""
        path = folder / self.name
        try:
            size = check_plain(path).st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if size != self.bytes:
            raise InputError(f"{path}: is damaged, got {size:,} bytes, expected {self.bytes:,}")
        crc32 = _file_crc32(path) if content else self.crc32
        if crc32 != self.crc32:
            raise InputError(f"{path}: is damaged, its CRC-32 is {crc32}, expected {self.crc32}")
        return path


def check_plain(path: Path) -> os.stat_result:
    """Refuse symlinks, pipes and directories, which lead elsewhere or never end."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: got a symlink, directory or device, expected a plain file")
    return status


def typed(content: Mapping[str, Any], **types: type) -> dict[str, Any]:
    """The values of some names, each of its type, else ValueError; integers are 0 to 2**63 - 1."""
    for name, kind in types.items():
        value = content[name]
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 1 << 63):
            raise ValueError(f"{name} is {value!r}")
    return {name: content[name] for name in types}


def _file_crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def _content_crc32(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def write_manifest(path: Path, content: Mapping[str, Any], *, sole: bool = True) -> None:
    """Replace the file in one step; it holds a checksum of its own content."""
    content = {"schema": SCHEMA, **content}
    text = json.dumps({**content, "crc32": _content_crc32(content)}, indent=1, ensure_ascii=False)
    with disk_errors(path), replacing(path, f".{path.name}.tmp" if sole else None) as new:
        write_text(new, text)


def replace_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """The same; the old manifest stays under another name until `collect` removes it."""
    if path.exists():
        with suppress(OSError):  # no hard links there: readers lose the old files
            os.link(path, old_manifest(path))
    write_manifest(path, content)


def old_manifest(path: Path) -> Path:
    """A new name for a manifest that is replaced; see `collect`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")


def collect(folder: Path, manifests: Collection[str], read: Callable[[str], DataManifest]) -> None:
    """Remove old manifests that no reader has open, and the files that only they name.

    Files that no manifest names, left by killed writers, are removed where the identity in their
    names is that of a manifest. Only the sole writer may call it.
    """
    old_name = re.compile(rf"\.({'|'.join(map(re.escape, manifests))})\.\w+\.old")
    # All are read before any is locked: a kill may leave two names of one file.
    records = [
        (path, path.stat().st_ino, read(path.name))
        for path in folder.iterdir()
        if path.name in manifests or old_name.fullmatch(path.name)
    ]
    live: set[str] = set()
    gone: set[str] = set()
    locked = set()
    with ExitStack() as locks:
        for path, inode, manifest in records:
            names = live
            if path.name not in manifests:
                if inode not in locked:
                    descriptor = os.open(path, os.O_RDONLY)
                    locks.callback(os.close, descriptor)
                    with suppress(OSError):  # a reader has it locked
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        locked.add(inode)
                if inode in locked:
                    names = gone
                    gone.add(path.name)
            names |= {entry.name for entry in manifest.entries}
        identities = {manifest.identity for _, _, manifest in records} - {None}
        for path in folder.iterdir():
            match = _DATA_FILE.fullmatch(path.name)
            if match and match["identity"] in identities:
                gone.add(path.name)
        for name in sorted(gone - live, reverse=True):  # manifests last
            (folder / name).unlink(missing_ok=True)


class NoManifestError(InputError):
    """A folder has no manifest of a name."""


def read_manifest(
    folder: Path,
    name: str,
    expected: str,  # what a folder with it is, for errors
    parse: Callable[[dict[str, Any]], T],  # a KeyError, TypeError or ValueError means damage
    hold: Callable[[int], object] = os.close,  # is given the open descriptor, which keeps the files
    latest: int = SCHEMA,  # another schema that the caller reads
) -> T:
    """Read and parse what `write_manifest` was given."""
    as_path("folder", folder)
    path = folder / name
    try:
        check_plain(path)
        descriptor = _open_locked(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoManifestError(f"{folder}: has no {name}; expected {expected}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        parsed = parse(_read_content(path, descriptor, latest))
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, KeyError | TypeError | ValueError) and type(error) is not InputError:
            raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
        raise
    hold(descriptor)
    return parsed


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # no locks on this file system, and so no writer
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # `collect` was faster


def _read_content(path: Path, descriptor: int, latest: int) -> dict[str, Any]:
    try:
        with open(descriptor, encoding="utf-8", closefd=False) as file:
            content: dict[str, Any] = parse_json(file.read())
        expected, schema = content.pop("crc32"), content["schema"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is damaged, it is no manifest ({error})") from error
    if schema != latest:
        check_schema(path, schema, SCHEMA)
    crc32 = _content_crc32(content)
    if crc32 != expected:
        raise InputError(f"{path}: is damaged, its CRC-32 is {crc32}, expected {str(expected)[:8]}")
    del content["schema"]
    return content
