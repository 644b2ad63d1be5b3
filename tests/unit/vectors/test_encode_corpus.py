"""A corpus on disk becomes vectors on disk, resumable and in step with its changes."""

from __future__ import annotations

import copy
import errno
import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from helpers.bytes_of import flip, truncate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertModel

from embedkit import Corpus, Embedder, InputError, Vectors, encode_corpus, manifest
from embedkit.encoders.packed import PackedEncoder
from embedkit.files import replacing, sole_writer
from embedkit.tokenization.token_batch import TokenBatch
from embedkit.tokenization.tokenizer import TextTokenizer
from embedkit.vectors import encode_corpus as encode
from embedkit.vectors import shards

ROWS = [{"id": f"d{n}", "title": f"title {n}", "text": text} for n, text in enumerate(tiny.TEXTS)]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    return Embedder.from_pretrained(folder, device="cpu")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is 3 documents, a shard 6."""
    monkeypatch.setattr(encode, "_CHUNK", 3)
    monkeypatch.setattr(encode, "_SHARD_ROWS", 6)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were tokenized, prompt included."""
    seen: list[str] = []
    tokenize = TextTokenizer.__call__

    def noting(self: TextTokenizer, texts: Any) -> Any:
        seen.extend(texts)
        return tokenize(self, texts)

    monkeypatch.setattr(TextTokenizer, "__call__", noting)
    return seen


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def documents(path: Path, *columns: str, ids: str | None = None) -> list[tuple[Any, str]]:
    return [(found.id, found.text) for found in Corpus(path, columns or ("text",), ids)]


# Reading


def test_a_text_a_line(tmp_path: Path) -> None:
    expected = list(enumerate(tiny.TEXTS))
    path = lines(tmp_path / "x.txt", list(tiny.TEXTS))
    assert documents(path) == expected
    zipped = tmp_path / "x.txt.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert documents(zipped) == expected


def test_columns_of_tables(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    for file in (path, tmp_path / "x.parquet"):
        assert documents(file, ids="id") == [(row["id"], row["text"]) for row in ROWS]
        joined = [f"title {n} {text}".strip() for n, text in enumerate(tiny.TEXTS)]
        assert [text for _, text in documents(file, "title", "text")] == joined


def test_data_null_among_several_text_columns_is_empty(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"title": None, "text": "a"},
        {"title": "b", "text": None},
        {"title": "c", "text": "d"},
    ]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for file in (path, tmp_path / "x.parquet"):
        assert documents(file, "title", "text") == [(0, "a"), (1, "b"), (2, "c d")]
        with pytest.raises(InputError, match=r"row 2.*column 'text': got None, expected a str$"):
            documents(file)
    write_jsonl(path, [{"title": None, "text": None}])
    with pytest.raises(InputError, match="column 'title': got None, expected a str"):
        documents(path, "title", "text")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.csv", 'text,id\n\na,1\r\n\r\n"",2\n\n', ["a", ""]),
        ("x.tsv", "text\tid\n\na\t1\n\r\n\t2\n\n", ["a", ""]),
        ("x.jsonl", '\n{"text": "a"}\n \n{"text": ""}\n\n', ["a", ""]),
        ("x.txt", "a\n\nb\r\n\n", ["a", "", "b", ""]),
    ],
)
def test_data_ids_count_rows_and_not_empty_lines(
    name: str, content: str, expected: list[str], tmp_path: Path
) -> None:
    """A line of .txt is a text, an empty one too, so that its number is its line's."""
    (tmp_path / name).write_bytes(content.encode())
    assert documents(tmp_path / name) == list(enumerate(expected))


def test_ids_of_whole_numbers(tmp_path: Path) -> None:
    rows = [{"id": 2**63 - 1 - n, "text": "x"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    write_jsonl(tmp_path / "x.jsonl", rows)
    for name in ("x.parquet", "x.jsonl"):
        found = documents(tmp_path / name, ids="id")
        assert found == [(row["id"], "x") for row in rows]


@pytest.mark.parametrize(
    ("name", "content", "columns", "ids", "message"),
    [
        ("x.doc", "a", ("text",), None, "x.doc: got an unknown suffix, expected one of .txt, "),
        ("x.txt", "a", ("body",), None, "x.txt: a column was named, and a .txt file has none"),
        ("x.txt", "a", ("text",), "id", "x.txt: a column was named, and a .txt file has none"),
        ("x.csv", "a,b\n1,2\n", ("text",), None, "got columns 'a', 'b', expected 'text' among"),
        ("x.csv", "text\nx\n", ("text",), "id", "got columns 'text', expected 'id' among"),
        ("x.jsonl", '{"text": 1}\n', ("text",), None, "row 1 (line 1), column 'text': got 1"),
        ("x.jsonl", '{"text": "x", "id": 1.5}\n', ("text",), "id", "column 'id': got 1.5"),
        ("x.jsonl", '{"text": "x", "id": true}\n', ("text",), "id", "column 'id': got True"),
        ("x.csv", "text,id\nx,\n", ("text",), "id", "row 1 (line 2), column 'id': got ''"),
        ("x.jsonl", f'{{"text": "x", "id": {2**63}}}\n', ("text",), "id", "of 64 bits"),
        (
            "x.jsonl",
            '{"text": "x", "id": 1}\n{"text": "y", "id": "1"}\n',
            ("text",),
            "id",
            "row 2 (line 2), column 'id': got '1', expected a int as in the rows before",
        ),
    ],
)
def test_wrong_input_is_placed(
    name: str, content: str, columns: tuple[str, ...], ids: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        list(Corpus(tmp_path / name, columns, ids))
    assert message in str(caught.value)


def test_ids_that_are_there_twice_name_both_rows(embedder: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text\na,one\nb,two\na,three\n")
    with pytest.raises(InputError) as caught:
        encode_corpus(embedder, Corpus(path, id_column="id"), tmp_path / "out")
    assert str(caught.value) == (
        f"{path}, row 3 (line 4): has the id 'a' of {path}, row 1 (line 2); expected each id once"
    )
    with pytest.raises(InputError, match="expected a folder of embedkit encode"):
        Vectors.open(tmp_path / "out")


def test_a_wrong_row_is_found_before_anything_is_encoded(
    embedder: Embedder, tmp_path: Path, encoded: list[str]
) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [*ROWS, {"id": "z", "text": None}])
    with pytest.raises(InputError, match=r"row 9 \(line 9\), column 'text': got None"):
        encode_corpus(embedder, Corpus(path, id_column="id"), tmp_path / "out")
    assert encoded == []


# Encoding


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.usefixtures("small_shards")
def test_vectors_are_those_of_the_embedder(dtype: str, embedder: Embedder, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", ROWS)
    done = encode_corpus(
        embedder, Corpus(path, id_column="id"), tmp_path / "out", dtype=dtype, texts=True
    )
    assert (done.rows, done.encoded, done.kept, done.dropped, done.truncated) == (8, 8, 0, 0, 0)
    found = Vectors.open(tmp_path / "out")
    want = embedder.encode(tiny.TEXTS).astype(dtype).astype(np.float32)
    assert np.abs(found.to_numpy() - want).max() < 1e-6
    assert found.ids.to_pylist() == [row["id"] for row in ROWS]
    assert np.array_equal(found["d3"], found.to_numpy()[3])
    assert np.array_equal(found.get(["d7", "d0", "d7"]), found.to_numpy()[[7, 0, 7]])
    table = found.to_arrow()
    assert table.schema.field("embedding").type == pa.list_(
        {"float32": pa.float32(), "float16": pa.float16()}[dtype], 16
    )
    assert table.column("text").to_pylist() == list(tiny.TEXTS)
    assert [text for batch in found for text in batch.texts.to_pylist()] == list(tiny.TEXTS)
    # Any reader of Parquet reads the shards: here pyarrow by itself.
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(files) == 2
    assert pa.concat_tables(map(pq.read_table, files)) == table


def test_unknown_ids_are_refused(embedder: Embedder, tmp_path: Path) -> None:
    encode_corpus(embedder, Corpus(lines(tmp_path / "x.txt", ["a", "b"])), tmp_path / "out")
    found = Vectors.open(tmp_path / "out")
    with pytest.raises(InputError, match=r"has no id 2$"):
        found[2]
    with pytest.raises(InputError, match="expected ids of type int64"):
        found["x"]


def test_what_is_cut_is_counted(tmp_path: Path) -> None:
    model = tiny.make_bert(tmp_path / "model", layers=1, width=16)
    short = Embedder.from_pretrained(model, device="cpu", max_length=6)
    path = lines(tmp_path / "x.txt", ["a cat", "a cat reads the news in the park", "a"])
    assert encode_corpus(short, Corpus(path), tmp_path / "out").truncated == 1


@pytest.mark.usefixtures("small_shards")
def test_a_run_that_was_stopped_goes_on(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    texts = [f"{n} cats" for n in range(20)]
    corpus = Corpus(lines(tmp_path / "x.txt", texts))
    encode_recipes = Embedder.encode_recipes

    def interrupted(self: Embedder, texts: Any, *args: Any, **options: Any) -> Any:
        if "9 cats" in texts:
            raise KeyboardInterrupt
        return encode_recipes(self, texts, *args, **options)

    monkeypatch.setattr(Embedder, "encode_recipes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(embedder, corpus, tmp_path / "out")
    assert encoded == texts[:9]
    with pytest.raises(InputError, match="not encoded to the end, 9 rows are there; run the same"):
        Vectors.open(tmp_path / "out")
    partial = Vectors.open(tmp_path / "out", partial=True)
    assert partial.ids.to_pylist() == list(range(9))
    assert not partial.complete

    monkeypatch.setattr(Embedder, "encode_recipes", encode_recipes)
    encoded.clear()
    done = encode_corpus(embedder, corpus, tmp_path / "out")
    assert encoded == texts[9:]
    assert (done.encoded, done.kept) == (11, 9)
    assert np.abs(Vectors.open(tmp_path / "out").to_numpy() - embedder.encode(texts)).max() < 1e-6


@pytest.mark.usefixtures("small_shards")
def test_only_what_changed_is_encoded(
    embedder: Embedder, tmp_path: Path, encoded: list[str]
) -> None:
    path, out = tmp_path / "x.jsonl", tmp_path / "out"
    rows = [{"id": f"d{n}", "text": f"{n} cats"} for n in range(15)]
    corpus = Corpus(write_jsonl(path, rows), id_column="id")
    encode_corpus(embedder, corpus, out)
    encoded.clear()
    rows[3]["text"] = "changed"
    rows[7]["id"] = "renamed"
    del rows[12]
    rows.insert(0, {"id": "new", "text": "new"})
    write_jsonl(path, rows)
    done = encode_corpus(embedder, corpus, out)
    assert sorted(encoded) == ["changed", "new"]
    assert (done.rows, done.encoded, done.kept, done.dropped) == (15, 2, 13, 2)
    found = Vectors.open(out)
    assert sorted(found.ids.to_pylist()) == sorted(row["id"] for row in rows)
    want = embedder.encode([row["text"] for row in rows])
    assert np.abs(found.get([row["id"] for row in rows]) - want).max() < 1e-6

    encoded.clear()
    again = encode_corpus(embedder, corpus, out)
    assert (encoded, again.encoded, again.kept, again.dropped) == ([], 0, 15, 0)


@pytest.mark.usefixtures("small_shards")
def test_a_line_at_the_top_is_one_new_row(
    embedder: Embedder, tmp_path: Path, encoded: list[str]
) -> None:
    path, texts = tmp_path / "x.txt", [f"{n} cats" for n in range(14)]
    encode_corpus(embedder, Corpus(lines(path, texts)), tmp_path / "out")
    encoded.clear()
    encode_corpus(embedder, Corpus(lines(path, ["new", *texts])), tmp_path / "out")
    assert encoded == ["new"]
    found = Vectors.open(tmp_path / "out")
    want = embedder.encode(["new", *texts])
    assert np.abs(found.get(list(range(15))) - want).max() < 1e-6


CORPORA = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sampled_from(["x", "y", "z", "한국어", ""]), min_size=1
)


@pytest.mark.thorough
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(states=st.lists(CORPORA, min_size=1, max_size=4))
@pytest.mark.usefixtures("small_shards")
def test_the_folder_follows_the_corpus(
    states: list[dict[str, str]], embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("states")
    for state in states:
        path = write_jsonl(
            folder / "x.jsonl", [{"id": name, "text": text} for name, text in state.items()]
        )
        done = encode_corpus(embedder, Corpus(path, id_column="id"), folder / "out")
        assert done.rows == len(state) == done.kept + done.encoded
        found = Vectors.open(folder / "out")
        assert sorted(found.ids.to_pylist()) == sorted(state)
        want = embedder.encode(list(state.values()))
        assert np.abs(found.get(list(state)) - want).max() < 1e-5
        left = {path.name for path in (folder / "out").glob("*.parquet")}
        assert len(left) == len({shard.file.name for shard in found._store.shards})
        del found  # an open reader keeps its files


def test_other_vectors_are_refused_with_the_choices(
    embedder: Embedder, tmp_path: Path, encoded: list[str]
) -> None:
    corpus = Corpus(lines(tmp_path / "x.txt", ["a", "b"]))
    out = tmp_path / "out"
    encode_corpus(embedder, corpus, out)
    encoded.clear()
    half = Embedder.from_pretrained(embedder.name, device="cpu", precision="bfloat16")
    short = Embedder.from_pretrained(embedder.name, device="cpu", max_length=7)
    for other, options, what in (
        (embedder.with_recipe("cls"), {}, "have another recipe;"),
        (short, {}, "have another maximum length;"),
        (half, {}, "have precision 'bfloat16' instead of 'float32';"),
        (embedder, {"prompt": "query: "}, "have prompt 'query: ' instead of '';"),
        (embedder, {"dtype": "float16"}, "have dtype float16 instead of float32;"),
        (embedder, {"texts": True}, "have texts stored;"),
    ):
        with pytest.raises(InputError) as caught:
            encode_corpus(other, corpus, out, **options)
        assert what in str(caught.value)
        assert "into another folder, or remove this one" in str(caught.value)
    assert encoded == []


def test_a_prompt_is_put_in_front_and_said(embedder: Embedder, tmp_path: Path) -> None:
    corpus = Corpus(lines(tmp_path / "x.txt", ["a", "b"]))
    encode_corpus(embedder, corpus, tmp_path / "out", prompt="the ")
    found = Vectors.open(tmp_path / "out")
    assert found.origin.prompt == "the "
    want = embedder.encode(["the a", "the b"])
    assert np.abs(found.to_numpy() - want).max() < 1e-6


def test_an_unknown_dtype_is_refused(embedder: Embedder, tmp_path: Path) -> None:
    corpus = Corpus(lines(tmp_path / "x.txt", ["a"]))
    with pytest.raises(InputError, match="dtype is 'int8'; expected one of float32, float16"):
        encode_corpus(embedder, corpus, tmp_path / "out", dtype="int8")


def test_numbers_that_float16_cannot_hold_are_refused(embedder: Embedder, tmp_path: Path) -> None:
    model = BertModel.from_pretrained(embedder.name)
    model.encoder.layer[-1].output.LayerNorm.bias.data.fill_(1e5)
    shutil.copytree(embedder.name, tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    large = Embedder(tmp_path / "model", "mean", precision="float32", device="cpu")
    corpus = Corpus(lines(tmp_path / "x.txt", ["a"]))
    with pytest.raises(InputError, match=r"of size 1000\d\d, expected at most 65504 \(float16\)"):
        encode_corpus(large, corpus, tmp_path / "half", dtype="float16")
    assert encode_corpus(large, corpus, tmp_path / "whole").encoded == 1
    low = Embedder(tmp_path / "model", "mean", precision="float16", device="cpu")
    for work in (lambda: encode_corpus(low, corpus, tmp_path / "low"), lambda: low.encode("a")):
        with pytest.raises(InputError, match=r"'a' in float16 .* not finite; .* precision float32"):
            work()


def test_a_corpus_that_changes_underway_is_noticed(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lines(tmp_path / "x.txt", ["a", "b"])
    planned = encode.Plan

    def plan(*args: Any) -> Any:
        made = planned(*args)
        lines(path, ["a", "c"])
        return made

    monkeypatch.setattr(encode, "Plan", plan)
    with pytest.raises(InputError, match="line 2: was changed while the corpus was encoded"):
        encode_corpus(embedder, Corpus(path), tmp_path / "out")


# The folder


def test_folders_of_others_are_left_alone(embedder: Embedder, tmp_path: Path) -> None:
    corpus = Corpus(lines(tmp_path / "x.txt", ["a"]))
    other = tmp_path / "other"
    other.mkdir()
    (other / "000001.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"has other files in it \(000001.parquet\)"):
        encode_corpus(embedder, corpus, other)
    with pytest.raises(InputError, match=r"x.txt is a file; expected a folder for vectors"):
        encode_corpus(embedder, corpus, tmp_path / "x.txt")
    assert (other / "000001.parquet").read_bytes() == b"mine"

    encode_corpus(embedder, corpus, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    encode_corpus(embedder, corpus, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_second_writer_is_refused_at_once(embedder: Embedder, tmp_path: Path) -> None:
    corpus = Corpus(lines(tmp_path / "x.txt", ["a"]))
    with (
        sole_writer(tmp_path / "out", "manifest.json"),
        pytest.raises(InputError, match="another process is writing there; expected one writer"),
    ):
        encode_corpus(embedder, corpus, tmp_path / "out")


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["000001-*.parquet", "manifest.json"])
def test_damage_is_found_and_named(
    name: str, damage: Callable[[Path], None], embedder: Embedder, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode_corpus(embedder, Corpus(lines(tmp_path / "x.txt", list(tiny.TEXTS))), out)
    (path,) = out.glob(name)
    damage(path)
    with pytest.raises(InputError, match=path.name):
        Vectors.open(out).to_numpy()


@pytest.mark.usefixtures("small_shards")
def test_readers_see_the_last_complete_state_until_an_update_is_whole(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is open reads its own state through any number of updates."""
    out, path = tmp_path / "out", tmp_path / "x.txt"
    texts = [f"{n} cats" for n in range(12)]
    encode_corpus(embedder, Corpus(lines(path, texts)), out)
    opened = [Vectors.open(out)]
    wanted = opened[0].to_numpy()
    encode_recipes, seen = Embedder.encode_recipes, []

    def reading(self: Embedder, texts: Any, *args: Any, **options: Any) -> Any:
        now = Vectors.open(out)
        seen.append(sorted(now.ids.to_pylist()))
        assert now.complete
        assert len(Vectors.open(out, partial=True)) <= len(seen[-1])
        return encode_recipes(self, texts, *args, **options)

    monkeypatch.setattr(Embedder, "encode_recipes", reading)
    for turn in range(3):
        seen.clear()
        encode_corpus(embedder, Corpus(lines(path, [f"{turn} dogs", *texts[1:]])), out)
        assert seen == [list(range(12))]
        opened.append(Vectors.open(out))
    assert np.array_equal(opened[0].to_numpy(), wanted)
    for turn, reader in enumerate(opened[1:]):
        want = encode_recipes(embedder, [f"{turn} dogs"], [embedder.bound]).vectors[0]
        assert np.abs(reader[0] - want[0]).max() < 1e-6
        assert np.array_equal(reader.get(list(range(1, 12))), wanted[1:])
    opened.clear()
    del reader
    encode_corpus(embedder, Corpus(path), out)
    named = {shard.file.name for shard in Vectors.open(out)._store.shards}
    kept = {file.name for file in out.iterdir()}
    assert kept == {*named, "manifest.json", ".manifest.json.lock"}


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.usefixtures("small_shards")
def test_a_folder_of_an_older_version_opens_and_goes_on(
    complete: bool, embedder: Embedder, tmp_path: Path
) -> None:
    """They had one manifest, complete or not, and no identity."""
    out, path = tmp_path / "out", lines(tmp_path / "x.txt", [f"{n} cats" for n in range(12)])
    encode_corpus(embedder, Corpus(path), out)
    content = json.loads((out / "manifest.json").read_text())
    for number, (file, _) in enumerate(content["shards"], 1):
        (out / file[0]).rename(out / f"{number:06d}.parquet")
        file[0] = f"{number:06d}.parquet"
    if not complete:
        content["shards"].pop()
        content["rows"] = 6
    del content["identity"], content["crc32"]
    content["complete"] = complete
    text = json.dumps({**content, "crc32": manifest._content_crc32(content)})
    (out / "manifest.json").write_text(text)
    (out / "20240101.parquet").write_text("mine")
    assert len(Vectors.open(out, partial=True)) == (12 if complete else 6)
    if not complete:
        with pytest.raises(InputError, match="not encoded to the end, 6 rows are there"):
            Vectors.open(out)
    done = encode_corpus(embedder, Corpus(path), out)
    assert done.encoded == (0 if complete else 6)
    want = embedder.encode([f"{n} cats" for n in range(12)])
    assert np.abs(Vectors.open(out).get(list(range(12))) - want).max() < 1e-6
    assert (out / "20240101.parquet").read_text() == "mine"


def test_the_input_inside_the_folder_stays(embedder: Embedder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encode_corpus(embedder, Corpus(lines(tmp_path / "x.txt", ["a"])), out)
    pq.write_table(pa.table({"text": ["a", "b"]}), out / "20240601.parquet")
    for _ in range(2):
        assert encode_corpus(embedder, Corpus(out / "20240601.parquet"), out).rows == 2


def test_counts_widths_and_schemas_that_disagree_are_refused(
    embedder: Embedder, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    encode_corpus(embedder, Corpus(lines(tmp_path / "x.txt", ["a", "b"])), out)
    whole = json.loads((out / "manifest.json").read_text())
    (file, _) = whole["shards"][0]
    for changes, message in (
        ({"rows": 3, "shards": [[file, 3]]}, "got 2 rows of id .*, expected 3 of id"),
        ({"rows": 3}, "rows is 3"),
        ({"dimension": 8}, r"embedding \(fixed_size_list.*16.*, expected 2 of"),
        ({"dtype": "float16"}, r"expected 2 of .*halffloat"),
        ({"integer_ids": False}, r"expected 2 of id \(string\)"),
        ({"texts": True}, r"expected 2 of .*text \(string\)"),
        ({"texts": 1}, "texts is 1"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dimension": 1 << 40}, "dimension is"),
        ({"schema": 2}, "got schema 2, expected 1"),
        ({"shards": [[["../x.parquet", *file[1:]], 2]]}, "is not the name of a data file"),
    ):
        content = {name: value for name, value in {**whole, **changes}.items() if name != "crc32"}
        text = json.dumps({**content, "crc32": manifest._content_crc32(content)})
        (out / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=message):
            Vectors.open(out)


def test_getitem_builds_its_lookup_once(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_corpus(embedder, Corpus(lines(tmp_path / "x.txt", ["a", "b"])), tmp_path / "out")
    vectors = Vectors.open(tmp_path / "out")
    first = vectors[1]
    monkeypatch.setattr(Vectors, "ids", None)  # nothing reads the ids again
    assert np.array_equal(vectors[np.int64(1)], first)
    assert np.abs(first - embedder.encode(["b"])).max() < 1e-6


def test_a_full_temporary_folder_is_a_sentence(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = lines(tmp_path / "x.txt", ["a", "b"]), tmp_path / "out"
    encode_corpus(embedder, Corpus(path), out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        made = sqlite3_connect(*args, **options)
        made.execute("PRAGMA max_page_count = 20")  # SQLite says of it what it says of a full disk
        return made

    sqlite3_connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    lines(path, [f"{n} cats" for n in range(5000)])
    with pytest.raises(OSError, match=r"the temporary folder cannot be written \(database or disk"):
        encode_corpus(embedder, Corpus(path), out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_full_folder_is_a_sentence_and_the_old_state_is_whole(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = lines(tmp_path / "x.txt", ["a", "b"]), tmp_path / "out"
    encode_corpus(embedder, Corpus(path), out)
    wanted = Vectors.open(out).to_numpy()

    def full(self: Any, batch: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards.ShardWriter, "write", full)
    lines(path, ["a", "b", "c"])
    with pytest.raises(OSError, match=r"parquet: cannot be written \(No space left on device\)$"):
        encode_corpus(embedder, Corpus(path), out)
    assert np.array_equal(Vectors.open(out).to_numpy(), wanted)
    assert len(list(out.glob("*.parquet"))) == 1


def test_paths_that_are_not_utf8_are_refused_before_the_work(
    embedder: Embedder, tmp_path: Path
) -> None:
    name = os.fsdecode(b"o\xff")
    path = lines(tmp_path / "a.txt", ["a", "b"])
    with pytest.raises(InputError, match=r"o\\udcff: got a path that is not UTF-8"):
        encode_corpus(embedder, Corpus(path), tmp_path / name)
    assert not (tmp_path / name).exists()
    with pytest.raises(InputError, match=r"o\\udcff.txt: got a path that is not UTF-8"):
        Corpus(tmp_path / f"{name}.txt")
    manifest.write_manifest(tmp_path / "m.json", {"path": name})
    assert manifest.read_manifest(tmp_path, "m.json", "x", dict) == {"path": name}


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def write() -> Iterator[None]:
        with replacing(path) as temporary:
            temporary.write_text("new")
            yield
            raise OSError("the disk is full")

    steps = write()
    next(steps)
    assert path.read_text() == "old"
    with pytest.raises(OSError, match="full"):
        next(steps)
    assert [found.name for found in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("jump", [0.0, 11.0, 31.0])
def test_rows_do_not_depend_on_how_long_they_took(
    embedder: Embedder,
    tmp_path: Path,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    """A shard ends by time too; a stopped process may find its time over before it began."""
    corpus = Corpus(
        lines(tmp_path / "x.txt", [f"{text} {n}" for n in range(3) for text in "abcde"])
    )
    encode_corpus(embedder, corpus, tmp_path / "want")
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += jump
        return now

    monkeypatch.setattr(encode.time, "monotonic", monotonic)
    done = encode_corpus(embedder, corpus, tmp_path / "out")
    assert (done.rows, done.encoded) == (15, 15)
    found, want = (Vectors.open(tmp_path / name) for name in ("out", "want"))
    assert found.to_arrow().equals(want.to_arrow())
    shards = {0.0: 3, 11.0: 3, 31.0: 5}[jump]  # of 6 rows, or of 3
    assert len(list((tmp_path / "out").glob("*.parquet"))) == shards


# How many tokens run together


def sizes_of_batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Tokens and texts of each batch that the encoder runs from now on."""
    sizes: list[tuple[int, int]] = []
    call = PackedEncoder.__call__

    def noting(self: PackedEncoder, batch: TokenBatch, *args: Any, **options: Any) -> Any:
        sizes.append((len(batch.token_ids), len(batch.offsets) - 1))
        return call(self, batch, *args, **options)

    monkeypatch.setattr(PackedEncoder, "__call__", noting)
    return sizes


def test_batch_tokens_limit_what_runs_together(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors are the same, and another run over the folder may take another limit."""
    sizes = sizes_of_batches(monkeypatch)
    path = lines(tmp_path / "x.txt", ["a cat " * n for n in range(1, 7)])
    encode_corpus(embedder, Corpus(path), tmp_path / "want")
    encode_corpus(embedder, Corpus(path), tmp_path / "out", batch_tokens=12)
    # 14, 12, 10, 8, 6 and 4 tokens, longest first
    assert sizes == [(54, 6), (14, 1), (12, 1), (10, 1), (8, 1), (10, 2)]
    got, want = (Vectors.open(tmp_path / name).to_numpy() for name in ("out", "want"))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    lines(path, ["a cat " * n for n in range(1, 9)])
    again = encode_corpus(embedder, Corpus(path), tmp_path / "out", batch_tokens=5)
    assert (again.kept, again.encoded) == (6, 2)
    assert sizes[6:] == [(18, 1), (16, 1)]


@pytest.mark.parametrize(
    ("batch_tokens", "problem"),
    [
        (0, "batch_tokens is 0; expected a whole number from 1"),
        (1.5, "batch_tokens is 1.5; expected a whole number from 1"),
        (True, "batch_tokens is True; expected a whole number from 1"),
        (
            8,
            "got batch_tokens and reproducible; expected one of them: reproducible batches have "
            "fixed shapes",
        ),
    ],
)
def test_batch_tokens_that_are_wrong_are_refused_before_the_corpus_is_read(
    embedder: Embedder, tmp_path: Path, batch_tokens: Any, problem: str
) -> None:
    embedder = copy.copy(embedder)
    embedder.reproducible = batch_tokens == 8
    with pytest.raises(InputError) as refused:
        encode_corpus(
            embedder, Corpus(tmp_path / "no.txt"), tmp_path / "out", batch_tokens=batch_tokens
        )
    assert str(refused.value) == problem
    assert list(tmp_path.iterdir()) == []
