"""Folders of vectors at a URL: uploaded shard by shard, the manifest last."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from helpers import tiny

from embedkit import Corpus, Embedder, InputError, Vectors, encode_corpus, merge_vectors
from embedkit.vectors import encode_corpus as encode
from embedkit.vectors.remote import readable

TEXTS = [f"{tiny.TEXTS[n % 8]} {n}" for n in range(12)]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    return Embedder.from_pretrained(folder, device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is 2 documents, a Parquet file 4."""
    monkeypatch.setattr(encode, "_CHUNK", 2)
    monkeypatch.setattr(encode, "_SHARD_ROWS", 4)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "docs.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    return Corpus(tmp_path / "docs.txt")


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store: fsspec's memory, or moto's server of S3 where s3fs and moto are there.

    They are not among the packages of the tests: botocore wants an older python-dateutil. With
    `pip install --target DIR s3fs 'moto[server]==5.2.5'` and PYTHONPATH=DIR they are there.
    """
    if request.param == "memory":
        files = fsspec.filesystem("memory")
        files.store.clear()
        yield files
        files.store.clear()
        return
    if not all(map(importlib.util.find_spec, ("s3fs", "moto"))):
        pytest.skip("s3fs and moto cannot be installed beside the pinned python-dateutil")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    yield files
    files.rm("bucket", recursive=True)
    server.stop()


@pytest.fixture
def url(store: Any) -> str:
    return str(store.unstrip_protocol("bucket/vectors"))


@pytest.fixture
def uploads(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were uploaded."""
    names: list[str] = []
    put_file = store.put_file

    def noting(path: str, target: str, **options: Any) -> Any:
        names.append(target.rpartition("/")[2])
        return put_file(path, target, **options)

    monkeypatch.setattr(store, "put_file", noting)
    return names


def check_rows(url: str, embedder: Embedder, texts: list[str]) -> None:
    with readable(url) as folder:
        vectors = Vectors.open(folder)
        assert sorted(vectors.ids.to_pylist()) == list(range(len(texts)))
        want = embedder.encode(texts)
        assert np.abs(vectors.get(list(range(len(texts)))) - want).max() < 1e-6


def names_at(store: Any) -> set[str]:
    store.invalidate_cache()
    return {name.rpartition("/")[2] for name in store.find("bucket/vectors")}


def test_shards_are_uploaded_as_they_are_encoded_the_manifest_last(
    embedder: Embedder, corpus: Corpus, store: Any, url: str, uploads: list[str]
) -> None:
    encode_corpus(embedder, corpus, url)
    shards = [name for name in uploads if name.endswith(".parquet")]
    part = "manifest.partial.json"
    assert uploads == [part, *(x for name in shards for x in (name, part)), "manifest.json"]
    assert len(shards) == 3
    assert names_at(store) == {*shards, "manifest.json"}
    check_rows(url, embedder, TEXTS)


@pytest.mark.parametrize("given", [False, True])
def test_a_stopped_run_is_resumed_and_uploads_nothing_twice(
    *,
    given: bool,
    embedder: Embedder,
    corpus: Corpus,
    store: Any,
    url: str,
    uploads: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped while the second shard is encoded, and while its manifest is uploaded."""
    work = tmp_path / "work" if given else None
    with monkeypatch.context() as patch:
        put_file, count = store.put_file, 0

        def killed(path: str, target: str, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == 5:
                raise KeyboardInterrupt
            return put_file(path, target, **options)

        patch.setattr(store, "put_file", killed)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(embedder, corpus, url, work=work)
    first, second = (name for name in uploads if name.endswith(".parquet"))
    assert names_at(store) == {first, second, "manifest.partial.json"}
    with readable(url) as folder, pytest.raises(InputError, match="not encoded to the end, 4 rows"):
        Vectors.open(folder)

    uploads.clear()
    done = encode_corpus(embedder, corpus, url, work=work)
    assert (done.kept, done.encoded) == ((8, 4) if given else (4, 8))
    assert first not in uploads  # the second may have other bytes, and no manifest named it
    check_rows(url, embedder, TEXTS)
    assert "manifest.partial.json" not in names_at(store)

    uploads.clear()
    encode_corpus(embedder, corpus, url, work=work)
    assert set(uploads) <= {"manifest.json", "manifest.partial.json"}


def test_a_changed_corpus_replaces_files_and_removes_old_ones(
    embedder: Embedder, corpus: Corpus, store: Any, url: str, tmp_path: Path
) -> None:
    encode_corpus(embedder, corpus, url)
    before = names_at(store)
    texts = [*TEXTS[:5], "changed", *TEXTS[6:]]
    (tmp_path / "docs.txt").write_text("".join(f"{text}\n" for text in texts))
    done = encode_corpus(embedder, corpus, url)
    assert (done.kept, done.encoded) == (11, 1)
    check_rows(url, embedder, texts)
    content = json.loads(store.cat_file("bucket/vectors/manifest.json"))
    assert names_at(store) == {"manifest.json", *(file[0] for file, _ in content["shards"])}
    assert len(names_at(store) & before) == 3  # two shards and the manifest


def test_a_corpus_of_the_store_is_encoded(embedder: Embedder, store: Any, tmp_path: Path) -> None:
    for number, part in enumerate((TEXTS[:5], TEXTS[5:])):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in part)
        store.pipe_file(f"bucket/docs/{number}.jsonl.gz", gzip.compress(rows.encode()))
    store.pipe_file("bucket/docs/_SUCCESS", b"")
    for name in ("bucket/docs", "bucket/docs/*.jsonl.gz"):
        corpus = Corpus(store.unstrip_protocol(name))
        encode_corpus(embedder, corpus, tmp_path / "out")
        check_rows(str(tmp_path / "out"), embedder, TEXTS)


def test_shards_at_urls_are_merged_to_a_url(
    embedder: Embedder, corpus: Corpus, store: Any, url: str, tmp_path: Path
) -> None:
    parts = [f"{url}-{part}" for part in (1, 2, 3)]
    for part, name in enumerate(parts, start=1):
        encode_corpus(embedder, corpus, name, shard=(part, 3))
    with pytest.raises(InputError, match="no shard 2/3 is among them"):
        merge_vectors([parts[0], parts[2]], url)
    with pytest.raises(InputError, match=rf"^{url}: has no manifest\.json; expected a folder of"):
        merge_vectors([*parts, url], tmp_path / "out")
    assert merge_vectors(parts, url) == merge_vectors(parts, url) == (12, 3)
    check_rows(url, embedder, TEXTS)


def test_what_is_not_ours_is_refused(
    embedder: Embedder, corpus: Corpus, store: Any, url: str, tmp_path: Path
) -> None:
    encode_corpus(embedder, corpus, tmp_path / "other")
    encode_corpus(embedder, corpus, url)
    with pytest.raises(
        InputError, match=r"has other vectors than .*other, which are of another run"
    ):
        encode_corpus(embedder, corpus, url, work=tmp_path / "other")
    with pytest.raises(
        InputError, match=r"got work .* for the path .*; expected work only with a URL"
    ):
        encode_corpus(embedder, corpus, tmp_path / "x", work=tmp_path / "y")
    store.pipe_file("bucket/mine/notes.txt", b"mine")
    mine = store.unstrip_protocol("bucket/mine")
    with pytest.raises(InputError, match=r"has other files in it \(notes\.txt\); expected"):
        encode_corpus(embedder, corpus, mine)
    with pytest.raises(
        InputError,
        match=r"https://host/x: is a web address, to which nothing can be",
    ):
        encode_corpus(embedder, corpus, "https://host/x")


def test_a_store_that_fails_is_an_error_that_says_where(
    embedder: Embedder, corpus: Corpus, store: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(store, "put_file", fail)
    message = f"{url}, manifest.partial.json: got 'PermissionError: Forbidden'"
    with pytest.raises(OSError, match=message):
        encode_corpus(embedder, corpus, url)
