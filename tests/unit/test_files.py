"""Model folders that embedkit writes: only their own files are replaced."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.paths import TESTS

from embedkit import (
    CrossEncoder,
    Embedder,
    InputError,
    PairRegressor,
    Pairs,
    load_head,
    save_head,
    train_bi_encoder,
    train_cross_encoder,
    train_masked_lm,
)
from embedkit.files import parse_json

TEXTS = [f"{start} {text}" for start in ("a", "the") for text in tiny.TEXTS if text]
MANY = [f"{text} {number}" for text in TEXTS for number in range(4)]
PAIRS = Pairs.from_columns("d", TEXTS, TEXTS[::-1], [number % 3 for number in range(len(TEXTS))])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)


def save_embedder(bert: Path, out: Path) -> None:
    model = Embedder.from_pretrained(bert, "mean", precision="float32", device="cpu")
    model.save_pretrained(out)


def save_regressor(bert: Path, out: Path) -> None:
    embedder = Embedder.from_pretrained(bert, "mean", precision="float32", device="cpu")
    pairs = list(zip(PAIRS.sentence1, PAIRS.sentence2, strict=True))
    save_head(PairRegressor(embedder).fit(pairs, PAIRS.scores), out)


def save_cross_encoder(bert: Path, out: Path) -> None:
    CrossEncoder.untrained(bert, "mean", (0, 5)).save_pretrained(out)


SAVERS: dict[str, Callable[[Path, Path], object]] = {
    "embedder": save_embedder,
    "head": save_regressor,
    "cross-encoder": save_cross_encoder,
}
TRAININGS: dict[str, Callable[[Path, Path], object]] = {
    "bi-encoder": lambda bert, out: train_bi_encoder([PAIRS], PAIRS, out, model=bert),
    "train cross-encoder": lambda bert, out: train_cross_encoder([PAIRS], PAIRS, out, model=bert),
    "masked-lm": lambda bert, out: train_masked_lm(MANY, out, model=bert, new_head=True),
}
LOADERS: dict[str, Callable[[Path], object]] = {
    "embedder": lambda folder: Embedder.from_pretrained(folder, device="cpu"),
    "head": lambda folder: load_head(folder, device="cpu"),
    "cross-encoder": lambda folder: CrossEncoder.from_pretrained(folder, device="cpu"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", SAVERS)
def test_a_model_folder_lists_its_files_and_is_replaced(
    bert: Path, kind: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    SAVERS[kind](bert, out)
    before = contents(out)
    mark = json.loads(before["embedkit.json"])
    assert mark["schema"] == 1
    assert mark["files"] == sorted(before)
    SAVERS[kind](bert, out)
    assert set(contents(out)) == set(before)
    SAVERS["embedder"](bert, out)  # another kind leaves none of the files of the first
    assert json.loads((out / "embedkit.json").read_text())["files"] == sorted(contents(out))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("name", ["notes.txt", "onnx/model.onnx", "1_Pooling/mine.json"])
@pytest.mark.parametrize("kind", [*SAVERS, *TRAININGS])
def test_files_of_users_in_a_model_folder_are_never_lost(
    bert: Path, kind: str, name: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    save_embedder(bert, out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(InputError, match=f"embedkit did not write .{name}.; expected a new or"):
        {**SAVERS, **TRAININGS}[kind](bert, out)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["a file", "a folder", "nothing"])
def test_symlinks_of_users_in_a_model_folder_are_never_lost(
    bert: Path, target: str, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    save_embedder(bert, out)
    if target == "a folder":
        other.mkdir()
    elif target == "a file":
        other.write_text("mine")
    (out / "link").symlink_to(other)
    with pytest.raises(InputError, match=r"did not write \(link\)"):
        save_embedder(bert, out)
    assert (out / "link").is_symlink()


def test_files_that_come_while_a_model_is_saved_are_never_lost(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    save_embedder(bert, out)
    write = Embedder.write

    def late(self: Embedder, folder: Path) -> None:
        (out / "notes.txt").write_text("mine")
        write(self, folder)

    monkeypatch.setattr(Embedder, "write", late)
    before = contents(out)
    with pytest.raises(InputError, match=r"did not write \(notes.txt\)"):
        save_embedder(bert, out)
    assert contents(out) == {**before, "notes.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["embedder-2", "head", "cross-encoder-mean"])
def test_folders_without_a_list_are_replaced_where_all_names_are_ours(
    bert: Path, name: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(TESTS / "fixtures" / "0.1" / name, out)
    (out / "tokens.txt").write_text("mine")
    before = contents(out)
    assert "files" not in json.loads(before["embedkit.json"])
    with pytest.raises(InputError, match=r"did not write \(tokens.txt\)"):
        save_embedder(bert, out)
    assert contents(out) == before
    (out / "tokens.txt").unlink()
    save_embedder(bert, out)
    assert "files" in json.loads((out / "embedkit.json").read_text())


@pytest.mark.parametrize("schema", [0, 2, "1", None, True])
@pytest.mark.parametrize("kind", SAVERS)
def test_folders_of_another_schema_are_refused_by_its_number(
    bert: Path, kind: str, schema: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    SAVERS[kind](bert, out)
    LOADERS[kind](out)
    mark = json.loads((out / "embedkit.json").read_text())
    (out / "embedkit.json").write_text(json.dumps({**mark, "schema": schema}))
    message = f"embedkit.json: got schema {schema!r}, expected 1: another version of embedkit"
    with pytest.raises(InputError, match=message):
        LOADERS[kind](out)
    with pytest.raises(InputError, match=message):
        SAVERS[kind](bert, out)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100 + "]" * 100,
        "[" + ", ".join(["[[]]"] * 200) + "]",
        json.dumps({"text": "[{" * 300, "quoted": '"' + "[" * 300, "path": "\\"}),
        json.dumps(["\ud800 가", "[" * 101]),
    ],
    ids=["as deep as allowed", "wide", "brackets in texts", "half a surrogate pair"],
)
def test_json_is_read_as_the_standard_library_reads_it(text: str) -> None:
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "[" * 101 + "]" * 101, '["' + '\\"[' * 50 + '", ' + '{"a": ' * 100, '"[' * 500],
    ids=["unclosed", "closed", "after a text", "with unclosed texts"],
)
def test_deep_or_broken_json_raises_no_recursion_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested deeper than 100 levels|Expecting|Unterminated"):
        parse_json(text)


def test_weights_that_do_not_fit_on_the_disk(bert: Path, tmp_path: Path) -> None:
    """safetensors raises an error of its own; the limit stands for a full disk."""
    embedder = Embedder(bert, precision="float32", device="cpu")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model: cannot be written \(.*File too large"):
            embedder.save_pretrained(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
