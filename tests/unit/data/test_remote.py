"""Corpora of several files, and of URLs."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit import Corpus, InputError

ROWS = {"b.jsonl": ["그는 책을 읽는다.", "It rains."], "a.jsonl": ["Snow."], "c.jsonl.gz": ["Fog."]}
TEXTS = ["Snow.", "그는 책을 읽는다.", "It rains.", "Fog."]


def content(name: str, texts: list[str]) -> bytes:
    rows = "".join(f'{{"id": "{name[0]}{n}", "text": "{text}"}}\n' for n, text in enumerate(texts))
    return gzip.compress(rows.encode()) if name.endswith(".gz") else rows.encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of rows, and two that are left out."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, texts in ROWS.items():
        (folder / name).write_bytes(content(name, texts))
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.csv").touch()
    return folder


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    """The same files in fsspec's memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    for path in folder.iterdir():
        store.pipe_file(f"/docs/{path.name}", path.read_bytes())
    yield "memory://docs"
    store.store.clear()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    """The same files of a local web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def texts_of(path: object, ids: str | None = "id") -> list[str]:
    return [document.text for document in Corpus(path, id_column=ids)]  # type: ignore[arg-type]


def test_a_folder_and_a_glob_are_read_in_the_order_of_names(folder: Path) -> None:
    for path in (folder, folder / "*.jsonl*", str(folder), f"file://{folder}", f"{folder}/[abc].*"):
        assert texts_of(path) == TEXTS
    assert texts_of(folder / "*.jsonl") == TEXTS[:3]
    assert [document.id for document in Corpus(folder)] == [0, 1, 2, 3]
    assert [document.id for document in Corpus(folder, id_column="id")] == ["a0", "b0", "b1", "c0"]


def test_a_file_with_the_name_of_a_glob_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one\n")
    (tmp_path / "a1.txt").write_text("another\n")
    assert texts_of(tmp_path / "a[1].txt", None) == ["one"]


def test_urls_are_read(memory: str, web: str) -> None:
    assert texts_of(memory) == texts_of(f"{memory}/*.jsonl*") == TEXTS
    assert texts_of(f"{memory}/b.jsonl") == texts_of(f"{web}/b.jsonl?token=1/2.csv") == TEXTS[1:3]
    assert texts_of(f"{memory}/c.jsonl.gz") == texts_of(f"{web}/c.jsonl.gz") == TEXTS[3:]


def test_parquet_of_a_url_is_read(memory: str) -> None:
    table = pa.table({"id": [5, 6], "text": ["a", "b"]})
    with fsspec.open(f"{memory}/x.parquet", "wb") as file:
        pq.write_table(table, file)
    rows = [(row.id, row.text) for row in Corpus(f"{memory}/x.parquet", id_column="id")]
    assert rows == [(5, "a"), (6, "b")]


def test_files_of_two_formats_are_refused(folder: Path) -> None:
    (folder / "d.csv").write_text("id,text\nd0,x\n")
    with pytest.raises(
        InputError, match=r"d\.csv: got another format than in .*a\.jsonl, expected"
    ):
        Corpus(folder)
    (folder / "d.csv").rename(folder / "README.md")
    with pytest.raises(InputError, match=r"README\.md: got an unknown suffix, expected one of"):
        Corpus(folder)


@pytest.mark.parametrize("name", ["nothing*.txt", "empty"])
def test_no_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="got no files; expected a file, or a folder or glob of"):
        Corpus(tmp_path / name)


def test_errors_of_urls_say_where(memory: str, web: str) -> None:
    for url in (f"{memory}/x.jsonl", f"{web}/x.jsonl"):
        with pytest.raises(InputError, match=rf"{url}: got 'FileNotFoundError.*, expected a file"):
            texts_of(url)
    with pytest.raises(InputError, match=r"nosuch://x\.csv: got 'ValueError: Protocol not known"):
        texts_of("nosuch://x.csv")
    fsspec.filesystem("memory").pipe_file("/docs/x.jsonl", b'{"id": "x", "text": 1}\n')
    with pytest.raises(
        InputError, match=r"memory:///docs/x.jsonl, row 1 \(line 1\), column 'text'"
    ):
        texts_of(memory)


def test_a_store_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(InputError, match=r"run pip install 'embedkit\[remote\]'"):
        Corpus("s3://bucket/*.jsonl")
