"""What a folder is: one answer, and one sentence where another kind was expected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import Run, refused
from helpers.paths import TESTS

from embedkit import CrossEncoder, Embedder, InputError, VectorIndex, Vectors, load_head, load_model
from embedkit.embedder.folder_kind import _ROWS, Kind, folder_kind, read_record
from embedkit.retrieval import storage
from embedkit.vectors import shards

SAVED = TESTS / "fixtures" / "0.1"
FOLDERS: dict[str, Kind] = {
    "bert": "model",
    "embedder-0": "model",
    "head": "head",
    "cross-encoder-mean": "cross-encoder",
    "cross-encoder-pooler": "cross-encoder",
    "index-0": "index",
    "vectors": "vectors",
    "vectors-partial": "vectors",
}
READERS: dict[Kind, Callable[[Path], object]] = {
    "model": Embedder.from_pretrained,
    "head": load_head,
    "cross-encoder": CrossEncoder.from_pretrained,
    "index": VectorIndex.open,
    "vectors": Vectors.open,
}


@pytest.mark.parametrize(("name", "kind"), FOLDERS.items())
def test_every_kind_is_named(name: str, kind: Kind) -> None:
    assert folder_kind(SAVED / name) == kind


def test_other_folders_are_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    assert folder_kind(tmp_path) is None
    assert folder_kind(tmp_path / "absent") is None


def test_the_table_names_the_files_that_are_written() -> None:
    assert _ROWS["index"].files == (storage.MANIFEST,)
    assert _ROWS["vectors"].files == (shards.MANIFEST, shards.PARTIAL)


@pytest.mark.parametrize(("name", "kind"), FOLDERS.items())
@pytest.mark.parametrize("expected", READERS)
def test_a_reader_of_another_kind_says_what_it_got(name: str, kind: Kind, expected: Kind) -> None:
    if kind == expected or (kind, expected) == ("head", "model"):
        return
    message = f"{name}: is {_ROWS[kind].what}; expected {_ROWS[expected].what}, a folder of "
    with pytest.raises(InputError, match=message):
        READERS[expected](SAVED / name)


@pytest.mark.parametrize(
    "command",
    [
        ("encode", TESTS / "fixtures" / "0.1" / "corpus.txt", "--out", "OUT", "-m"),
        ("compare", "first_look", "-m"),
        ("evaluate", "first_look", "-m"),
        ("train", "head", "first_look", "--out", "OUT", "-m"),
        ("info", "-m"),
    ],
)
def test_commands_refuse_an_index_as_a_model(
    command: tuple[object, ...], run: Run, tmp_path: Path
) -> None:
    arguments = [tmp_path / "out" if part == "OUT" else part for part in command]
    assert "index-0: is an index; expected a model" in refused(run(*arguments, SAVED / "index-0"))


def test_commands_refuse_a_model_as_an_index(run: Run) -> None:
    assert "bert: is a model; expected an index" in refused(run("search", SAVED / "bert", "x"))
    assert "head: is a regression head; expected stored vectors" in refused(
        run("index", "build", SAVED / "head", "--out", "index")
    )


@pytest.mark.parametrize("name", ["head", "cross-encoder-mean"])
def test_another_schema_is_refused_by_its_number(name: str, tmp_path: Path) -> None:
    shutil.copytree(SAVED / name, tmp_path / "copy")
    kind = FOLDERS[name]
    path = tmp_path / "copy" / _ROWS[kind].files[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    for schema in (1, 2):
        path.write_text(json.dumps({**record, "schema": schema}), encoding="utf-8")
        if schema == 1:
            assert read_record(tmp_path / "copy", kind)[1]["embedkit"] == "0.1.0"
        else:
            with pytest.raises(InputError, match="got schema 2, expected 1"):
                READERS[kind](tmp_path / "copy")


def test_another_schema_of_the_mark_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SAVED / "embedder-0", tmp_path / "copy")
    path = tmp_path / "copy" / "embedkit.json"
    mark = json.loads(path.read_text(encoding="utf-8"))
    assert "schema" not in mark  # 0.1.0
    path.write_text(json.dumps({**mark, "schema": 7}), encoding="utf-8")
    with pytest.raises(InputError, match=r"embedkit\.json: got schema 7, expected 1"):
        load_model(tmp_path / "copy")
    Embedder(SAVED / "embedder-0").save(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "embedkit.json").read_text())["schema"] == 1


@pytest.mark.parametrize(("name", "kind"), [*FOLDERS.items()][:5])
def test_load_model_loads_every_kind_of_model(name: str, kind: Kind) -> None:
    loaded = load_model(SAVED / name)
    assert loaded.kind == kind
    assert load_model(loaded) is loaded
    with pytest.raises(InputError, match="got options for a model that is loaded"):
        load_model(loaded, device="cpu")


def test_a_loaded_plain_model_is_named_and_in_float32() -> None:
    loaded = load_model(str(SAVED / "bert"))
    assert isinstance(loaded, Embedder)
    assert (loaded.name, loaded.precision) == (str(SAVED / "bert"), "float32")
    assert str(load_model(SAVED / "bert", "cls@1").recipe) == "cls@1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("index-0", {}, "is an index; expected a model"),
        ("vectors", {}, "is stored vectors; expected a model"),
        ("head", {"recipe": "cls"}, "got a recipe for a head"),
        ("head", {"max_length": 8}, "got a max_length for a head"),
        ("cross-encoder-mean", {"max_length": 8}, "got a max_length for a cross-encoder"),
        ("cross-encoder-mean", {"precision": "bfloat16"}, "got a precision for a cross-encoder"),
        ("cross-encoder-mean", {"engine": "openvino"}, "got an engine for a cross-encoder"),
        ("no", {}, "there is no such folder"),
    ],
)
def test_load_model_refuses(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(SAVED / name, **options)  # type: ignore[arg-type]
