"""Sources of rows: a local path, or a URL that fsspec reads, and the files that either names."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from embedkit.arguments import as_path
from embedkit.errors import InputError, first_line


@dataclass(frozen=True)
class RemotePath:
    """A URL, with what the readers of files ask of a path."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def is_web(self) -> bool:
        return self.url.startswith(("http://", "https://"))

    @property
    def name(self) -> str:
        path = urlsplit(self.url).path if self.is_web else self.url  # elsewhere `?` is of a name
        return path.rstrip("/").rpartition("/")[2]

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file as a stream, which is not downloaded first."""
        file_system, path = self.file_system()
        return io.BufferedReader(file_system.open(path, mode), 1 << 16)

    def file_system(self) -> tuple[Any, str]:
        """The file system of fsspec, which lists anew, and the path there."""
        import fsspec

        file_system, path = fsspec.core.url_to_fs(self.url)
        file_system.invalidate_cache()
        return file_system, path

    def files(self) -> list[RemotePath]:
        """As `files_of`; the web has no listings, and `?` in its URLs."""
        with remote_errors(self):
            file_system, path = self.file_system()
            if self.is_web:
                return [self]
            if file_system.isdir(path):
                names = filter(_is_shown, file_system.find(path, maxdepth=1))
            elif glob.has_magic(path) and not file_system.exists(path):
                names = file_system.glob(path)
            else:
                return [self]
            return [RemotePath(file_system.unstrip_protocol(name)) for name in names]


Source: TypeAlias = Path | RemotePath


@contextmanager
def remote_errors(where: object, kind: type[Exception] = InputError) -> Iterator[None]:
    """Make what a store's client raises a sentence that says where; each client has its own."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"{where}: needs a package that is not installed ({error}); for https:// and s3:// run "
            "pip install 'embedkit[remote]'"
        ) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise kind(
            f"{where}: got '{reason}', expected a file or folder that can be used"
        ) from error


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

    Files of a folder that begin with `.` or `_`, such as Spark's `_SUCCESS`, are left out.
    """
    if isinstance(source, RemotePath):
        files: list[Source] = list(source.files())
    elif source.is_dir():
        files = [path for path in source.iterdir() if path.is_file() and _is_shown(path.name)]
    elif glob.has_magic(str(source)) and not source.exists():
        paths = map(Path, glob.glob(str(source), recursive=True))
        files = [path for path in paths if path.is_file()]
    else:
        return [source]
    if not files:
        raise InputError(f"{source}: got no files; expected a file, or a folder or glob of some")
    return sorted(files, key=str)


def _is_shown(name: str) -> bool:
    return not name.rpartition("/")[2].startswith((".", "_"))
