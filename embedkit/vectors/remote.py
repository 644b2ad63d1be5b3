"""Folders of vectors at a URL: downloaded, and uploaded shard by shard with the manifest last."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from embedkit.data.remote import RemotePath, as_source, remote_errors
from embedkit.errors import InputError
from embedkit.files import check_own, sole_writer
from embedkit.manifest import FileEntry, NoManifestError
from embedkit.vectors.shards import MANIFEST, PARTIAL, Store


class RemoteFolder:
    """A folder of vectors at a URL, which one process writes at a time."""

    def __init__(self, url: RemotePath) -> None:
        if url.is_web:
            raise InputError(
                f"{url}: is a web address, to which nothing can be written; expected "
                "a store such as s3://, or a path"
            )
        self._url = url
        self._names: set[str] = set()  # files there
        self._entries: set[FileEntry] = set()  # of them, those that a manifest there names
        with remote_errors(url), suppress(FileNotFoundError):
            self._file_system, path = url.file_system()
            self._path = path.rstrip("/")
            files = self._file_system.ls(path, detail=True)
            names = [x["name"].rpartition("/")[2] for x in files if x["type"] == "file"]
            self._names = {*names} - {""}

    def stores(self) -> list[Store]:
        """What the manifests there record."""
        with tempfile.TemporaryDirectory(prefix="embedkit-") as scratch:
            for name in self._names & {MANIFEST, PARTIAL}:
                self._get(name, Path(scratch))
            stores = []
            for partial in (False, True):
                with suppress(NoManifestError):
                    stores.append(Store.read(Path(scratch), partial=partial))
        self._entries = {entry for store in stores for entry in store.entries}
        return stores

    def download(self, folder: Path) -> None:
        """Fetch the files that manifests name, unless they are here, then the manifests."""
        for entry in sorted(self._entries):
            path = folder / entry.name
            if not path.exists() or path.stat().st_size != entry.bytes:
                self._get(entry.name, folder)
        for name in sorted(self._names & {MANIFEST, PARTIAL}, reverse=True):
            self._get(name, folder)

    def upload(self, store: Store) -> None:
        """Put what is not there, then the manifest; at the end remove what it does not name."""
        for entry in store.entries:
            if entry not in self._entries:
                self._put(entry.name, store.folder)
                self._entries.add(entry)
        self._put(MANIFEST if store.complete else PARTIAL, store.folder)
        if store.complete:
            live = {MANIFEST, *(entry.name for entry in store.entries)}
            gone = {name for name in self._names if f"-{store.identity}." in name} | {PARTIAL}
            with remote_errors(self._url, OSError):
                for name in (gone & self._names) - live:
                    self._file_system.rm_file(f"{self._path}/{name}")
            self._names &= live

    def _get(self, name: str, folder: Path) -> None:
        with remote_errors(f"{self._url}, {name}"):
            self._file_system.get_file(f"{self._path}/{name}", str(folder / name))

    def _put(self, name: str, folder: Path) -> None:
        with remote_errors(f"{self._url}, {name}", OSError):
            self._file_system.put_file(str(folder / name), f"{self._path}/{name}")
        self._names.add(name)

    def check_own(self) -> None:
        """Refuse to write among files of others."""
        foreign = min(self._names, default=None)
        if foreign is not None and not self._names & {MANIFEST, PARTIAL}:
            raise InputError(
                f"{self._url} has other files in it ({foreign}); expected a new or empty "
                "folder for vectors, or one that has them already"
            )


@contextmanager
def writable(
    folder: str | Path, work: str | Path | None = None
) -> Iterator[tuple[Path, Callable[[Store], None] | None]]:
    """The local folder to write in; and for a URL what uploads each commit.

    The local folder of a URL is `work`, or a temporary one. What is at the URL is downloaded to it
    where it has no vectors.
    """
    target = as_source("folder", folder)
    if isinstance(target, Path):
        if work is not None:
            raise InputError(
                f"got work {work} for the path {folder}; expected work only with a URL"
            )
        check_own(target.resolve(), MANIFEST, "vectors")
        yield target.resolve(), None
        return
    remote = RemoteFolder(target)
    remote.check_own()
    with ExitStack() as stack:
        local = _scratch(stack) if work is None else Path(work).expanduser().resolve()
        check_own(local, MANIFEST, "vectors")
        with sole_writer(local, MANIFEST):
            there = {store.identity for store in remote.stores()}
            if not any((local / name).exists() for name in (MANIFEST, PARTIAL)):
                remote.download(local)
            elif there - {Store.read(local, partial=True).identity}:
                raise InputError(
                    f"{target}: has other vectors than {local}, which are of another run; expected "
                    "the same run, or another work folder"
                )
        yield local, remote.upload


@contextmanager
def readable(folder: str | Path) -> Iterator[Path]:
    """The local folder; that of a URL is temporary."""
    source = as_source("folder", folder)
    with ExitStack() as stack:
        if isinstance(source, Path):
            yield source.resolve()
            return
        remote, local = RemoteFolder(source), _scratch(stack)
        if not remote.stores():
            raise InputError(f"{source}: has no {MANIFEST}; expected a folder of embedkit encode")
        remote.download(local)
        yield local


def _scratch(stack: ExitStack) -> Path:
    scratch = tempfile.TemporaryDirectory(prefix="embedkit-")
    return Path(stack.enter_context(scratch)).resolve()
