"""An index that follows a file, or a folder of vectors, against one that is built anew."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny

from embedkit import (
    Corpus,
    Embedder,
    InputError,
    VectorIndex,
    Vectors,
    build_index,
    encode_corpus,
    sync_index,
)
from embedkit.retrieval import sync
from embedkit.retrieval.storage import ENCODING
from embedkit.retrieval.sync import Changes

WORDS = ["a", "the", "dog", "cat", "runs", "sleeps", "one", "two", "men", "고양이", "개"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    model = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    return Embedder.from_pretrained(model, device="cpu", precision="float32")


def write(path: Path, rows: dict[str, tuple[Any, ...]]) -> Corpus:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "year", "kind"])
        writer.writerows([name, *row] for name, row in rows.items())
    return Corpus(path, id_column="id")


ROWS = {"a": ("a dog", 2020, "x"), "b": ("the cat", 2021, "y"), "c": ("two men", 2022, "")}


def content(index: VectorIndex) -> dict[Any, Any]:
    rows = index.get(index.ids.to_pylist(), vectors=True)
    return {row.id: (row.text, row.metadata, row.vector) for row in rows}


def check_same(index: VectorIndex, embedder: Embedder, rows: dict[str, tuple[Any, ...]]) -> None:
    """The rows, with vectors as the embedder encodes their texts."""
    stored = content(index)
    assert stored.keys() == rows.keys()
    if rows:
        vectors = embedder.encode([row[0] for row in rows.values()])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for vector, (name, (text, year, kind)) in zip(vectors, rows.items(), strict=True):
            assert stored[name][:2] == (text, {"year": year, "kind": kind or None})
            np.testing.assert_allclose(stored[name][2], vector, atol=1e-5)


def test_an_index_follows_its_file(embedder: Embedder, tmp_path: Path) -> None:
    corpus = write(tmp_path / "x.csv", ROWS)
    index = build_index(embedder, corpus, tmp_path / "index", metadata="all")
    assert not (tmp_path / "index" / ENCODING).exists()
    check_same(index, embedder, ROWS)
    assert sync_index(index, corpus) == Changes(0, 0, 0, 3, 0)
    generation = index._state.generation
    for rows, changes in (
        ({**ROWS, "d": ("a cat", 1, "z")}, Changes(1, 0, 0, 3, 1)),
        ({**ROWS, "d": ("a cat", 2, "z")}, Changes(0, 1, 0, 3, 0)),
        ({**ROWS, "a": ("a man", 2020, "x")}, Changes(0, 1, 1, 2, 1)),
        ({"b": ("it", 3, ""), "e": ("two men", 2022, "n"), "c": ROWS["c"]}, Changes(1, 1, 1, 1, 2)),
    ):
        write(tmp_path / "x.csv", rows)
        assert sync_index(index, corpus, dry_run=True) == changes
        assert index._state.generation == generation
        assert sync_index(index, corpus) == changes
        generation += 1
        assert index._state.generation == generation  # one commit
        for opened in (index, VectorIndex.open(tmp_path / "index")):
            check_same(opened, embedder, rows)
    assert not (tmp_path / "index" / ENCODING).exists()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["hnsw", "IVF2,Flat"])
def test_any_edits(kind: str, embedder: Embedder, tmp_path: Path) -> None:
    random_ = random.Random(3)  # noqa: S311

    def text() -> str:
        return " ".join(random_.choices(WORDS, k=3))

    rows: dict[str, tuple[Any, ...]] = {f"r{n}": (text(), n, "k") for n in range(40)}
    corpus = write(tmp_path / "x.csv", rows)
    index = build_index(embedder, corpus, tmp_path / "index", metadata="all", kind=kind)
    for step in range(6):
        before = dict(rows)
        for name in random_.sample([*rows], 8):
            edit = random_.choice(["drop", "text", "year"])
            if edit == "drop":
                del rows[name]
            else:
                old = rows[name]
                rows[name] = (text(), *old[1:]) if edit == "text" else (old[0], -step, old[2])
        rows |= {f"s{step}{n}": (text(), n, "") for n in range(4)}
        changes = sync_index(index, write(tmp_path / "x.csv", rows))
        both = rows.keys() & before.keys()
        updated = sum(rows[name] != before[name] for name in both)
        assert changes[:4] == (4, updated, len(before) - len(both), len(both) - updated)
        assert changes.encoded == 4 + sum(rows[name][0] != before[name][0] for name in both)
        check_same(VectorIndex.open(tmp_path / "index"), embedder, rows)


def test_columns_of_the_metadata_may_come_later(embedder: Embedder, tmp_path: Path) -> None:
    corpus = write(tmp_path / "x.csv", ROWS)
    index = build_index(embedder, corpus, tmp_path / "index", metadata=["year"])
    assert sync_index(index, corpus) == Changes(0, 0, 0, 3, 0)
    assert sync_index(index, corpus, metadata=["year", "kind"]) == Changes(0, 2, 0, 1, 0)
    check_same(index, embedder, ROWS)
    # A source without a column leaves its values to the rows that stay, even where texts change.
    (tmp_path / "x.csv").write_text("id,text,kind\na,a dog,w\nb,one man,\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected 'year' among them"):
        sync_index(index, corpus)
    assert sync_index(index, corpus, metadata="kind") == Changes(0, 2, 1, 0, 1)
    check_same(index, embedder, {"a": ("a dog", 2020, "w"), "b": ("one man", 2021, "")})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_field_of_an_object_is_a_column(suffix: str, embedder: Embedder, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"

    def written(year: int) -> Corpus:
        rows = [
            {"id": "a", "text": "a cat", "of": {"year": year, "tags": ["x", "y"]}},
            {"id": "b", "text": "a dog", "of": {"year": None, "tags": None}},
        ]
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return Corpus(path, id_column="id")

    names = ["of.year", "of.tags"]
    index = build_index(embedder, written(2024), tmp_path / "index", metadata=names)
    assert index.metadata_columns == {"of.year": "integers", "of.tags": "lists of texts"}
    assert sync_index(index, written(2025)) == Changes(0, 1, 0, 1, 0)
    (hits,) = index.search(["a cat"], where="of.year > 2024 AND 'y' IN of.tags")
    assert [(x.id, x.metadata) for x in hits] == [("a", {"of.year": 2025, "of.tags": ["x", "y"]})]
    with pytest.raises(InputError, match=r"expected 'of\.no' among them"):
        sync_index(index, written(2025), metadata=["of.no"])
    with pytest.raises(InputError, match=r"column 'of': got objects, .* such as 'of\.year'"):
        sync_index(index, written(2025), metadata="all")


@pytest.mark.parametrize("texts", [True, False])
def test_an_index_follows_a_folder_of_vectors(
    texts: bool, embedder: Embedder, tmp_path: Path
) -> None:
    corpus, folder = write(tmp_path / "x.csv", ROWS), tmp_path / "vectors"
    encode_corpus(embedder, corpus, folder, texts=texts)
    metadata = {"n": [1, 2, 3]}
    index = VectorIndex.build(Vectors.open(folder), metadata=metadata)
    index.save(tmp_path / "index")
    assert sync_index(index, Vectors.open(folder)) == Changes(0, 0, 0, 3, 0)
    with pytest.raises(InputError, match="got device with stored vectors; expected a file of"):
        sync_index(index, Vectors.open(folder), device="cpu")
    rows = {"d": ("it rains", 0, ""), "c": ("one man", 0, ""), "a": ROWS["a"]}
    encode_corpus(embedder, write(tmp_path / "x.csv", rows), folder, texts=texts)
    assert sync_index(index, Vectors.open(folder)) == Changes(1, 1, 1, 1, 0)
    stored = content(VectorIndex.open(tmp_path / "index"))
    numbers = {name: row[1]["n"] for name, row in stored.items()}
    assert numbers == {"a": 1, "c": 3, "d": None}
    for name, row in rows.items():
        vector = embedder.encode(row[0])
        np.testing.assert_allclose(stored[name][2], vector / np.linalg.norm(vector), atol=1e-5)
        assert stored[name][0] == (row[0] if texts else None)


def test_the_encoding_is_resumed(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write(tmp_path / "x.csv", ROWS)
    encode = sync.encode_corpus
    seen = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        summary = encode(*arguments, **options)
        seen.append((summary.encoded, summary.kept))
        if len(seen) % 2:
            raise KeyboardInterrupt
        return summary

    monkeypatch.setattr(sync, "encode_corpus", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(embedder, corpus, tmp_path / "index")
    with pytest.raises(InputError, match="has no index yet, as its build was stopped; run"):
        VectorIndex.open(tmp_path / "index")
    index = build_index(embedder, corpus, tmp_path / "index", metadata="all")
    write(tmp_path / "x.csv", {**ROWS, "d": ("a cat", 1, "")})
    with pytest.raises(KeyboardInterrupt):
        sync_index(index, corpus)
    assert len(VectorIndex.open(tmp_path / "index")) == 3
    assert sync_index(index, corpus).added == 1
    assert seen == [(3, 0), (0, 3), (1, 0), (0, 1)]


def test_what_sync_refuses(embedder: Embedder, tmp_path: Path) -> None:
    corpus = write(tmp_path / "x.csv", ROWS)
    index = build_index(embedder, corpus, tmp_path / "index", metadata="all")
    empty = write(tmp_path / "empty.csv", {})
    twice = tmp_path / "twice.csv"
    twice.write_text("id,text,year,kind\na,x,1,\nb,x,1,\na,x,1,\n")
    typed = write(tmp_path / "typed.csv", {**ROWS, "a": ("a dog", "soon", "x")})
    plain = VectorIndex.build(np.eye(16), ids=list("abcdefghijklmnop"))
    unknown = VectorIndex.build(np.eye(16)[:1], ids=["a"], texts=["other"])
    numbered = Corpus(tmp_path / "x.csv")
    for opened, source, message in (
        (index, empty, r"empty\.csv: has no rows, which would remove all 3 of the index"),
        (index, Corpus(twice, id_column="id"), r"row 1 .*: has the id 'a' of a later row"),
        (index, typed, r"row 1 \(line 2\), column 'year': got 'soon', expected integers as in"),
        (index, numbered, "ids: got type int64, expected string as in the index"),
        (plain, corpus, "has neither texts nor digests of them"),
        (unknown, corpus, "does not record the model of its vectors"),
    ):
        with pytest.raises(InputError, match=message):
            sync_index(opened, source)
    check_same(VectorIndex.open(tmp_path / "index"), embedder, ROWS)
    other = VectorIndex.open(tmp_path / "index")
    assert sync_index(other, empty, allow_empty=True, dry_run=True) == Changes(0, 0, 3, 0, 0)
    lines = Corpus(tmp_path / "empty.jsonl", id_column="id")
    lines.path.write_text("\n")
    with pytest.raises(InputError, match=r"empty\.jsonl: got an empty file, expected rows"):
        sync_index(other, lines)
    assert sync_index(other, lines, allow_empty=True) == Changes(0, 0, 3, 0, 0)
    with pytest.raises(InputError, match="was changed by another since it was opened"):
        sync_index(index, corpus)
    assert sync_index(other, corpus) == Changes(3, 0, 0, 0, 3)
    check_same(VectorIndex.open(tmp_path / "index"), embedder, ROWS)


def test_wrong_settings_are_refused_before_anything_is_encoded(
    embedder: Embedder, tmp_path: Path
) -> None:
    corpus = write(tmp_path / "x.csv", ROWS)
    for options, message in (
        ({"kind": "no"}, "kind is 'no'"),
        ({"kind": "IVF4,Flat"}, "cannot be trained on 3 vectors, as it has 4 clusters"),
        ({"kind": "IVF2,PQ4"}, "cannot be trained on 3 vectors, as it has 256 clusters"),
        ({"nprobe": 3}, "got nprobe, which kind 'flat' does not have"),
        ({"metadata": ["no"]}, "expected 'no' among them"),
        ({"similarity": "manhattan"}, "similarity is 'manhattan'"),
        ({"dtype": "float16"}, "got dtype 'float16' for kind 'flat'"),
        ({"recall": 0.9, "ef_search": 9, "kind": "hnsw"}, "got nprobe or ef_search, and a recall"),
    ):
        with pytest.raises(InputError, match=message):
            build_index(embedder, corpus, tmp_path / "index", **options)
    assert not (tmp_path / "index").exists()
