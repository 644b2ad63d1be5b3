"""Sources of rows: a local path, or a URL that fsspec reads, and the files that either names."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from embedkit.arguments import as_path
from embedkit.errors import InputError, first_line

_WEB = ("http", "https")


@dataclass(frozen=True)
class RemotePath:
    """A URL, with what the readers of files ask of a path."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        parts = urlsplit(self.url)  # a query is a part of the path, except on the web
        path = parts.path if parts.scheme in _WEB else self.url
        return path.rstrip("/").rpartition("/")[2]

    @property
    def is_web(self) -> bool:
        return urlsplit(self.url).scheme in _WEB

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file as a buffered stream; it is read as the reader goes, not downloaded first."""
        file_system, path = self.file_system()
        with remote_errors(self):
            return io.BufferedReader(_RemoteStream(self, file_system.open(path, mode)))

    def file_system(self) -> tuple[Any, str]:
        """The file system of fsspec, which lists anew, and the path there."""
        import fsspec

        with remote_errors(self):
            file_system, path = fsspec.core.url_to_fs(self.url)
            file_system.invalidate_cache()
        return file_system, path

    def files(self) -> list[RemotePath]:
        if self.is_web:  # which has no listings, and `?` in its URLs
            return [self]
        file_system, path = self.file_system()
        with remote_errors(self):
            if glob.has_magic(path):
                names = file_system.glob(path)
            elif file_system.isdir(path):
                names = file_system.find(path, maxdepth=1)
            else:
                return [self]
            return [RemotePath(file_system.unstrip_protocol(name)) for name in names]


Source: TypeAlias = Path | RemotePath


class _RemoteStream(io.RawIOBase):
    """A file of fsspec whose errors name its URL."""

    def __init__(self, path: RemotePath, file: Any) -> None:
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with remote_errors(self._path):
            chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def remote_errors(where: object, kind: type[Exception] = InputError) -> Iterator[None]:
    """Make what a store's client raises a sentence that says where; each client has its own."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise kind(f"{where}: there is no such file or folder") from None
    except ImportError as error:
        extra = "; run pip install 'embedkit[s3]'" if "s3" in str(error) else ""
        raise InputError(f"{where}: a package is not installed ({error}){extra}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise kind(f"{where}: got '{reason}', expected a URL that can be used") from error


def is_url(value: object) -> bool:
    """Whether a path is a URL, other than one of a local file."""
    return "://" in str(value) and not str(value).startswith("file://")


def as_source(name: str, value: Any) -> Source:
    """The path or URL."""
    if isinstance(value, RemotePath) or is_url(value):
        return RemotePath(str(value))
    if isinstance(value, str) and value.startswith("file://"):
        value = unquote(urlsplit(value).path)
    return as_path(name, value)


def files_of(source: Source) -> list[Source]:
    """The files, sorted by name, of a folder or of a glob such as `docs/*.jsonl`; else the one.

    Names that begin with `.` or `_`, as a folder of Spark has, are no files of a folder.
    """
    files: list[Source]
    if isinstance(source, RemotePath):
        files = list(source.files())
    elif source.is_dir():
        files = [path for path in source.iterdir() if path.is_file()]
    elif glob.has_magic(str(source)) and not source.exists():
        files = [Path(name) for name in glob.glob(str(source), recursive=True)]
        files = [path for path in files if isinstance(path, Path) and path.is_file()]
    else:
        return [source]
    if files != [source]:
        files = [path for path in files if not path.name.startswith((".", "_"))]
    if not files:
        raise InputError(f"{source}: got no files; expected a file, or a folder or glob of some")
    return sorted(files, key=str)
