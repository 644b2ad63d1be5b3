"""A JSON file that names the files of a folder, with checksums: what it names is committed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from embedkit.durable import replacing
from embedkit.errors import InputError

T = TypeVar("T")

SCHEMA = 1  # of the manifests of vectors and of indexes
_CHUNK = 1 << 20  # bytes


class FileEntry(NamedTuple):
    """A file as it was written.

    Attributes:
        name: in the manifest's folder.
        bytes: its size.
        crc32: of its bytes, as 8 hexadecimal digits: against damage, not against malice, and
            three times as fast as SHA-256.
    """

    name: str
    bytes: int
    crc32: str

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> FileEntry:
        """Read a file; `name` is the one that it is going to have."""
        return cls(name or path.name, path.stat().st_size, _crc32(path))

    def check_size(self, folder: Path) -> Path:
        """Its path.

        Raises:
            InputError: it is absent, or of another size.
        """
        path = folder / self.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if size != self.bytes:
            raise InputError(f"{path}: is damaged, got {size:,} bytes, expected {self.bytes:,}")
        return path

    def check(self, folder: Path) -> Path:
        """Its path.

        Raises:
            InputError: it is absent or damaged.
        """
        path = self.check_size(folder)
        found = _crc32(path)
        if found != self.crc32:
            raise InputError(f"{path}: is damaged, its CRC-32 is {found}, expected {self.crc32}")
        return path


def _crc32(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Commit: the file is replaced in one step, and holds a checksum of its own content."""
    content = {"schema": SCHEMA, **content}
    said = {**content, "crc32": _own(content)}
    with replacing(path) as new:
        new.write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")


def read_manifest(
    folder: Path, name: str, expected: str, parse: Callable[[dict[str, Any]], T]
) -> T:
    """What `write_manifest` was given, parsed.

    Args:
        folder: where the manifest is.
        name: its name.
        expected: what a folder with it is, for errors.
        parse: makes a record of its content; what it raises means that the content is wrong.

    Raises:
        InputError: the file is absent, cannot be read, is damaged, or of another schema.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(f"{folder}: has no {name}; expected {expected}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        wanted = content.pop("crc32")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is damaged, it is no manifest ({error})") from error
    if _own(content) != wanted:
        raise InputError(
            f"{path}: is damaged, its CRC-32 is {_own(content)}, expected {str(wanted)[:8]}"
        )
    if content.pop("schema", None) != SCHEMA:
        raise InputError(
            f"{path}: was written by another embedkit, expected schema {SCHEMA}; make it anew"
        )
    try:
        return parse(content)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from error


def _own(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
