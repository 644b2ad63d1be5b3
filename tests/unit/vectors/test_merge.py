"""Shards of a corpus, encoded one by one and merged, are the corpus encoded at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from helpers.bytes_of import flip
from helpers.command import Run, refused

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus
from embedkit import merge_vectors as merge
from embedkit.vectors import encode_corpus as encode
from embedkit.vectors import merge as merging
from embedkit.vectors.shards import Store

N = 4
IDS = [f"문서{n}" for n in range(40)]
TEXTS = [f"{tiny.TEXTS[n % 8]} {n}" for n in range(40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)


@pytest.fixture(scope="module")
def embedder(model: Path) -> Embedder:
    return Embedder.from_pretrained(model, device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is 2 documents, a Parquet file 4."""
    monkeypatch.setattr(encode, "_CHUNK", 2)
    monkeypatch.setattr(encode, "_SHARD_ROWS", 4)


def write(path: Path, texts: list[str] = TEXTS) -> Corpus:
    rows = ({"id": name, "text": text} for name, text in zip(IDS, texts, strict=True))
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Corpus(path, id_column="id")


@pytest.fixture(scope="module")
def encoded(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    """The folders 1 to 4 of the shards, and `whole` of all."""
    folder = tmp_path_factory.mktemp("shards")
    corpus = write(folder / "docs.jsonl")
    encode_corpus(embedder, corpus, folder / "whole", texts=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_CHUNK", 2)
        patch.setattr(encode, "_SHARD_ROWS", 4)
        for part in range(1, N + 1):
            encode_corpus(embedder, corpus, folder / str(part), texts=True, shard=(part, N))
    return folder, corpus


@pytest.fixture
def parts(encoded: tuple[Path, Corpus], tmp_path: Path) -> list[Path]:
    """Copies of the shards."""
    return [shutil.copytree(encoded[0] / str(n), tmp_path / f"s{n}") for n in range(1, N + 1)]


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def check_whole(folder: Path, whole: Path) -> None:
    """By id, whatever the order of the rows."""
    merged, expected = Vectors.open(folder), Vectors.open(whole)
    assert sorted(merged.ids.to_pylist()) == sorted(IDS)
    a, b = merged.get(IDS), expected.get(IDS)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.999999
    rows = {row["id"]: (row["text"], row["content"]) for row in merged.to_arrow().to_pylist()}
    assert rows == {
        row["id"]: (row["text"], row["content"]) for row in expected.to_arrow().to_pylist()
    }


def test_a_document_is_of_the_shard_that_its_id_hashes_to(encoded: tuple[Path, Corpus]) -> None:
    """BLAKE2b of the id in UTF-8, 8 bytes, modulo N: it is the same on all machines."""
    rows = "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for row in zip(IDS, TEXTS, strict=True)
    )
    for part in range(1, N + 1):
        hashed = [hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in IDS]
        expected = [
            name for name, hex_ in zip(IDS, hashed, strict=True) if int(hex_, 16) % N == part - 1
        ]
        folder = encoded[0] / str(part)
        assert Vectors.open(folder).ids.to_pylist() == expected
        assert 4 < len(expected) < 16
        assert manifest(folder)["shard"] == [part, N]
        assert manifest(folder)["input"] == {
            "rows": 40,
            "sha256": hashlib.sha256(rows.encode()).hexdigest(),
        }
    assert not {"shard", "input"} & manifest(encoded[0] / "whole").keys()


def test_merged_shards_are_the_corpus(
    encoded: tuple[Path, Corpus], parts: list[Path], tmp_path: Path, embedder: Embedder
) -> None:
    out = tmp_path / "out"
    assert merge(parts[::-1], out) == (40, N)
    check_whole(out, encoded[0] / "whole")
    order = [name for part in parts for name in Vectors.open(part).ids.to_pylist()]
    assert Vectors.open(out).ids.to_pylist() == order
    assert "shard" not in manifest(out)

    # The folder is an ordinary one: nothing is encoded again, an index is built from it.
    for part in parts:
        shutil.rmtree(part)
    again = encode_corpus(embedder, encoded[1], out, texts=True)
    assert (again.rows, again.kept, again.encoded) == (40, 40, 0)
    assert "input" not in manifest(out)
    index = VectorIndex.build(Vectors.open(out))
    assert index.search(Vectors.open(out).get(["문서7"]), k=1).ids == [["문서7"]]


def test_files_are_copied_where_links_are_not_possible(
    encoded: tuple[Path, Corpus], parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(parts, tmp_path / "linked")
    assert {path.stat().st_nlink for path in (tmp_path / "linked").glob("*.parquet")} == {2}

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    merge(parts, tmp_path / "copied")
    assert {path.stat().st_nlink for path in (tmp_path / "copied").glob("*.parquet")} == {1}
    check_whole(tmp_path / "copied", encoded[0] / "whole")


def test_a_shard_may_be_empty(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one\ntwo\n")
    for part in range(1, 9):
        encode_corpus(embedder, Corpus(tmp_path / "x.txt"), tmp_path / str(part), shard=(part, 8))
    parts = [tmp_path / str(part) for part in range(1, 9)]
    assert sorted(len(Vectors.open(part)) for part in parts)[:6] == [0] * 6
    assert merge(parts, tmp_path / "out").rows == 2
    want = embedder.encode(["one", "two"])
    assert np.abs(Vectors.open(tmp_path / "out").get([0, 1]) - want).max() < 1e-6


def test_a_stopped_shard_is_resumed(
    embedder: Embedder,
    encoded: tuple[Path, Corpus],
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode_recipes, calls = Embedder.encode_recipes, []

    def interrupted(self: Embedder, texts: Any, *args: Any, **options: Any) -> Any:
        calls.append(texts)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode_recipes(self, texts, *args, **options)

    monkeypatch.setattr(Embedder, "encode_recipes", interrupted)
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(embedder, encoded[1], again, texts=True, shard="2/4")
    with pytest.raises(InputError, match=r"again: shard 2/4 was not encoded to its end; run the"):
        merge([parts[0], again, *parts[2:]], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    resumed = encode_corpus(embedder, encoded[1], again, texts=True, shard="2/4")
    assert resumed.kept == 6
    merge([parts[0], again, *parts[2:]], tmp_path / "out")
    check_whole(tmp_path / "out", encoded[0] / "whole")


# Refusals


@pytest.mark.parametrize("shard", ["0/4", "5/4", "2", "2/0", (1, 2, 3), (1.0, 2), True, "1/2/3"])
def test_what_is_no_shard_is_refused(shard: Any, embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^shard is .*; expected I/N such as 2/16, with I from"):
        encode_corpus(embedder, write(tmp_path / "x.jsonl"), tmp_path / "out", shard=shard)
    assert not (tmp_path / "out").exists()


def test_auto_precision_is_refused(model: Path, tmp_path: Path) -> None:
    auto = Embedder.from_pretrained(model, device="cpu")
    with pytest.raises(InputError, match=r"precision is 'auto', .*such as float32 or bfloat16"):
        encode_corpus(auto, write(tmp_path / "x.jsonl"), tmp_path / "out", shard=(1, 2))


@pytest.mark.parametrize(
    ("shard", "name"), [("2/4", "shard 2/4"), ("1/8", "shard 1/8"), (None, "a whole corpus")]
)
def test_the_folder_of_another_shard_is_refused(
    shard: str | None,
    name: str,
    embedder: Embedder,
    encoded: tuple[Path, Corpus],
    parts: list[Path],
    tmp_path: Path,
) -> None:
    expected = f"s1: has vectors of shard 1/4, got {name} to encode; expected the same, or another"
    with pytest.raises(InputError, match=expected):
        encode_corpus(embedder, encoded[1], parts[0], texts=True, shard=shard)
    whole = shutil.copytree(encoded[0] / "whole", tmp_path / "copy")
    with pytest.raises(InputError, match="has vectors of a whole corpus, got shard 1/4 to encode"):
        encode_corpus(embedder, encoded[1], whole, texts=True, shard="1/4")


def test_a_changed_input_is_refused_until_its_shards_are_encoded_again(
    embedder: Embedder, encoded: tuple[Path, Corpus], parts: list[Path], tmp_path: Path
) -> None:
    changed = write(tmp_path / "docs.jsonl", [*TEXTS[:-1], "changed"])
    for part in (1, 2):
        encode_corpus(embedder, changed, parts[part - 1], texts=True, shard=(part, N))
    with pytest.raises(InputError, match=r"s3: is of an input of 40 rows \(SHA-256 .*one state of"):
        merge(parts, tmp_path / "out")
    for part in (3, 4):
        encode_corpus(embedder, changed, parts[part - 1], texts=True, shard=(part, N))
    merge(parts, tmp_path / "out")
    want = embedder.encode("changed")
    assert np.abs(Vectors.open(tmp_path / "out")[IDS[-1]] - want).max() < 1e-6


@pytest.mark.thorough
def test_shards_that_do_not_fit_are_refused(
    model: Path, embedder: Embedder, encoded: tuple[Path, Corpus], parts: list[Path], tmp_path: Path
) -> None:
    whole, corpus = encoded[0] / "whole", encoded[1]
    other = tiny.make_bert(tmp_path / "bert", layers=1, width=16, seed=1)
    loaded = Embedder.from_pretrained(other, device="cpu", precision="float32")
    low = Embedder.from_pretrained(model, device="cpu", precision="bfloat16")
    encode_corpus(loaded, corpus, tmp_path / "weights", texts=True, shard=(4, N))
    encode_corpus(low, corpus, tmp_path / "low", texts=True, shard=(4, N))
    encode_corpus(embedder, corpus, tmp_path / "half", dtype="float16", shard=(4, N))
    encode_corpus(embedder, corpus, tmp_path / "5", texts=True, shard=(5, 5))
    same = r"; expected the same embedder and options for all shards$"
    for folders, message in (
        (parts[:3], r"^folders: no shard 4/4 is among them; expected all 4$"),
        (parts[1:2], r"^folders: no shard 1/4, 3/4, 4/4 is among them; expected all 4$"),
        ([*parts, parts[0]], "s1: has shard 1/4, which .*s1 has too; expected each shard once"),
        (
            [*parts, whole],
            "whole: has vectors of a whole corpus; expected those of embedkit encode",
        ),
        ([*parts[:3], tmp_path / "weights"], f"does not match .*s1, it has other weights{same}"),
        (
            [*parts[:3], tmp_path / "low"],
            f"it has precision 'bfloat16' instead of 'float32'{same}",
        ),
        (
            [*parts[:3], tmp_path / "half"],
            f"it has dtype float16 instead of float32, no texts stored{same}",
        ),
        ([*parts[:3], tmp_path / "5"], "has shard 5/5, and .*s1 has shard 1/4; expected shards of"),
        ([*parts[:3], tmp_path / "none"], "none: has no manifest.json; expected a folder of"),
        ([], "folders is empty; expected the folders of all shards"),
        (str(parts[0]), "folders is one str; expected a list of folders"),
    ):
        with pytest.raises(InputError, match=message):
            merge(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_are_damaged_stray_twice_or_missing_are_refused(
    parts: list[Path], tmp_path: Path
) -> None:
    """As no run of encode writes them, but a hand may."""
    stores = [Store.read(part, partial=False) for part in parts]
    first, second = stores[0], stores[1]
    flip(parts[2] / stores[2].shards[0].file.name)
    with pytest.raises(InputError, match="is damaged, its CRC-32 is"):
        merge(parts, tmp_path / "out")
    flip(parts[2] / stores[2].shards[0].file.name)

    twice = replace(first, shards=(first.shards[0], first.shards[0], *first.shards[2:]))
    twice.commit()
    with pytest.raises(InputError, match=r"s1: has the id '문서\d+' twice; expected each id once$"):
        merge(parts, tmp_path / "out")
    replace(first, shards=first.shards[1:]).commit()
    with pytest.raises(InputError, match=r"have 36 rows, and their input 40; expected as many"):
        merge(parts, tmp_path / "out")
    shard = second.shards[0]
    shutil.copy(parts[1] / shard.file.name, parts[0])
    replace(first, shards=(shard, *first.shards[1:])).commit()
    with pytest.raises(
        InputError, match=r"s1: has the id '문서\d+', which does not belong to shard 1/4$"
    ):
        merge(parts, tmp_path / "out")
    with pytest.raises(InputError, match="not encoded to the end, 0 rows are there; run the same"):
        Vectors.open(tmp_path / "out")


def test_a_folder_with_other_vectors_is_not_written_to(
    encoded: tuple[Path, Corpus], parts: list[Path], tmp_path: Path
) -> None:
    whole = shutil.copytree(encoded[0] / "whole", tmp_path / "whole")
    before = {path.name for path in whole.iterdir()}
    with pytest.raises(InputError, match="whole: has other vectors already; expected a new or"):
        merge(parts, whole)
    assert {path.name for path in whole.iterdir()} == before
    with pytest.raises(InputError, match="s2: has other vectors already"):
        merge(parts, parts[1])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    with pytest.raises(InputError, match=r"has other files in it \(mine\.txt\)"):
        merge(parts, tmp_path / "x")


# Kills


@pytest.mark.thorough
@pytest.mark.parametrize("linked", [True, False])
def test_a_merge_that_is_stopped_leaves_nothing_or_all(
    *,
    linked: bool,
    encoded: tuple[Path, Corpus],
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kill is an exception before each step, behind which no cleaning up is done."""
    steps, left = 0, 0

    class Killed(BaseException):
        pass

    def step(function: Any) -> Any:
        def before(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **options)

        return before

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    link = os.link if linked else refuse
    states = []
    while states[-1:] != ["done"]:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        left = steps
        with monkeypatch.context() as patch:
            patch.setattr(merging.os, "link", step(link))
            patch.setattr(Store, "commit", step(Store.commit))
            patch.setattr(Path, "unlink", step(Path.unlink))
            patch.setattr(Path, "replace", step(Path.replace))
            patch.setattr(Store, "collect", step(Store.collect))
            try:
                merge(parts, out)
                states.append("done")
            except Killed:
                if (out / "manifest.json").exists():
                    assert len(Vectors.open(out)) == 40
                    states.append("all")
                else:
                    with pytest.raises(InputError):
                        Vectors.open(out)
                    states.append("nothing")
        assert merge(parts, out) == (40, N)
        check_whole(out, encoded[0] / "whole")
        store = Store.read(out, partial=False)
        names = {entry.name for entry in store.entries}
        assert {path.name for path in out.iterdir()} == {
            *names,
            "manifest.json",
            ".manifest.json.lock",
        }
        steps += 1
    assert states == sorted(states, key=["nothing", "all", "done"].index)
    assert states.count("nothing") > 10
    assert states.count("all") > 1


@pytest.mark.thorough
def test_an_encode_into_the_folder_of_a_stopped_merge_leaves_the_shards_whole(
    embedder: Embedder,
    encoded: tuple[Path, Corpus],
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Links of the shards' files are there, under names that encode gives to new files."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        commit, collect = Store.commit, Store.collect
        patch.setattr(
            Store, "commit", lambda self, **to: 1 / 0 if to.get("complete") else commit(self, **to)
        )
        patch.setattr(
            Store, "collect", lambda self: None if any(out.glob("*.parquet")) else collect(self)
        )
        with pytest.raises(ZeroDivisionError):
            merge(parts, out)
    assert {path.stat().st_nlink for path in out.glob("000001-*.parquet")} == {2}
    encode_corpus(embedder, encoded[1], out, texts=True)
    check_whole(out, encoded[0] / "whole")
    merge(parts, tmp_path / "again")
    check_whole(tmp_path / "again", encoded[0] / "whole")


# The command line


def test_the_commands(run: Run, model: Path, encoded: tuple[Path, Corpus], tmp_path: Path) -> None:
    folder = encoded[0]
    command = ("encode", folder / "docs.jsonl", "--id-column", "id", "--model", model, "--texts")
    unsharded = refused(run(*command, "--out", tmp_path / "x", "--shard", "1/4"))
    assert unsharded.startswith("precision is 'auto', which each machine would choose")
    wrong = refused(run(*command, "--out", tmp_path / "x", "--shard", "9/4"))
    assert wrong == "shard is '9/4'; expected I/N such as 2/16, with I from 1 to N"
    assert not (tmp_path / "x").exists()
    last = ("--out", tmp_path / "4", "--shard", "4/4", "--precision", "float32", "--device", "cpu")
    assert run(*command, *last).code == 0
    parts = [folder / "1", folder / "2", folder / "3"]
    missing = refused(run("vectors", "merge", *parts, "--out", tmp_path / "out"))
    assert missing == "folders: no shard 4/4 is among them; expected all 4"
    done = run("vectors", "merge", *parts, tmp_path / "4", "--out", tmp_path / "out", "--json")
    assert done.json == {"schema": 1, "folder": str(tmp_path / "out"), "rows": 40, "shards": 4}
    check_whole(tmp_path / "out", folder / "whole")
