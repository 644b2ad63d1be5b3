"""The fingerprint: equal for embedders of the same vectors, another for any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file

from embedkit import Embedder

RECIPES = (
    *("mean", "cls", "max", "mean_sqrt_len", "weighted_mean", "last", "pooler"),
    *("mean@1", "cls@-2", "mean@0", "mean@1,-1", "mean@0,1", "cls+mean@1"),
    *("mean/normalize", "pooler/normalize", "cls+mean@0,2/normalize"),
)
FAMILIES = ("roberta", "xlm-roberta", "distilbert", "mpnet", "electra")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), width=16, seed=6)


@pytest.fixture
def folder(bert: Path, tmp_path: Path) -> Path:
    """A sentence-transformers folder of `mean`, to be changed."""
    load(bert, prompts={"query": "query: ", "passage": "passage: "}).save_pretrained(
        tmp_path / "saved"
    )
    return tmp_path / "saved"


def load(model: Path, recipe: str | None = None, **options: Any) -> Embedder:
    return Embedder.from_pretrained(model, recipe, device="cpu", **options)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weight(folder: Path, name: str) -> None:
    """Add 2**-10 to one number of a tensor."""
    weights = load_file(folder / "model.safetensors")
    (found,) = (key for key in weights if key.endswith(name))
    flat = weights[found].flatten().clone()
    flat[-1] += 2**-10
    weights[found] = flat.reshape(weights[found].shape)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_it_is_a_sha_256_of_each_loading(bert: Path) -> None:
    first = load(bert).fingerprint
    assert len(first) == 64
    assert int(first, 16) > 0
    assert load(bert).fingerprint == first


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_model_keeps_it(recipe: str, bert: Path, tmp_path: Path) -> None:
    embedder = load(bert, recipe)
    embedder.save_pretrained(tmp_path / "once")
    again = load(tmp_path / "once")
    assert again.fingerprint == embedder.fingerprint
    again.save_pretrained(tmp_path / "twice")
    assert load(tmp_path / "twice").fingerprint == embedder.fingerprint


def test_families_differ(tmp_path: Path) -> None:
    found = [
        load(tiny.make_model(tmp_path / family, family, layers=2, width=16)).fingerprint
        for family in FAMILIES
    ]
    assert len(set(found)) == len(found)


def test_trained_dense_layers_are_kept_and_count(bert: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    load(bert, "pooler").save_pretrained(saved)  # cls, then Dense
    dense = next(path for path in saved.iterdir() if path.name.endswith("Dense"))
    before = load(saved).fingerprint
    weights = load_file(dense / "model.safetensors")
    weights["linear.bias"] = weights["linear.bias"] + torch.eye(16)[3] * 2**-10
    save_file(weights, dense / "model.safetensors", {"format": "pt"})
    changed = load(saved)
    assert str(changed.recipe) == "cls/dense"
    assert changed.fingerprint != before
    changed.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").fingerprint == changed.fingerprint
    change(dense / "config.json", activation_function="torch.nn.modules.linear.Identity")
    assert load(saved).fingerprint != changed.fingerprint


def test_recipes_differ(bert: Path) -> None:
    embedder = load(bert)
    found = {recipe: embedder.with_recipe(recipe).fingerprint for recipe in RECIPES}
    assert len(set(found.values())) == len(RECIPES)


def test_two_spellings_of_a_recipe_do_not(bert: Path) -> None:
    assert load(bert, "mean@3").fingerprint == load(bert, "mean@-1").fingerprint
    assert load(bert, "mean@1,3").fingerprint == load(bert, "mean@first-last").fingerprint
    assert load(bert, "mean+cls").fingerprint == load(bert, "cls+mean").fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.1.output.dense.bias",
    ],
)
def test_a_weight_changes_it(name: str, bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    change_weight(tmp_path / "copy", name)
    assert load(tmp_path / "copy", "mean@2").fingerprint != load(bert, "mean@2").fingerprint


def test_weights_that_a_recipe_does_not_read_do_not(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    change_weight(tmp_path / "copy", "encoder.layer.2.output.dense.bias")
    change_weight(tmp_path / "copy", "pooler.dense.bias")
    copy, whole = load(tmp_path / "copy"), load(bert)
    for recipe, same in (("mean@2", True), ("mean@0,1", True), ("mean", False), ("pooler", False)):
        found = copy.with_recipe(recipe).fingerprint == whole.with_recipe(recipe).fingerprint
        assert found == same, recipe


def test_the_poolers_weights_count_for_the_pooler_alone(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    change_weight(tmp_path / "copy", "pooler.dense.bias")
    assert load(tmp_path / "copy").fingerprint == load(bert).fingerprint
    assert load(tmp_path / "copy", "pooler").fingerprint != load(bert, "pooler").fingerprint


def test_what_the_config_computes_changes_it(bert: Path, tmp_path: Path) -> None:
    for name, value in (
        ("layer_norm_eps", 1e-3),
        ("hidden_act", "relu"),
        ("num_attention_heads", 2),
    ):
        shutil.copytree(bert, tmp_path / name)
        change(tmp_path / name / "config.json", **{name: value})
        assert load(tmp_path / name).fingerprint != load(bert).fingerprint, name


def test_the_number_of_robertas_pad_changes_it(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path, "roberta", layers=1, width=16)
    before = load(folder, max_length=9).fingerprint
    change(folder / "config.json", pad_token_id=0)
    assert load(folder, max_length=9).fingerprint != before


def test_the_maximum_length_changes_it(bert: Path) -> None:
    assert load(bert, max_length=12).fingerprint != load(bert).fingerprint
    assert load(bert, max_length=512).fingerprint == load(bert).fingerprint


def test_the_tokenizer_changes_it(bert: Path, tmp_path: Path) -> None:
    for name, options in (
        ("cased", {"lowercase": False}),
        ("swapped", {"vocab": (*tiny.VOCAB[:-2], tiny.VOCAB[-1], tiny.VOCAB[-2])}),
    ):
        shutil.copytree(bert, tmp_path / name)
        tiny.make_tokenizer_files(tmp_path / name, **options)
        assert load(tmp_path / name).fingerprint != load(bert).fingerprint, name


def test_lower_casing_first_changes_it_and_is_kept(folder: Path, tmp_path: Path) -> None:
    before = load(folder).fingerprint
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    changed = load(folder)
    assert changed.fingerprint != before
    changed.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").fingerprint == changed.fingerprint


def test_the_default_prompt_changes_it(folder: Path) -> None:
    config = folder / "config_sentence_transformers.json"
    found = []
    for name in (None, "query", "passage"):
        change(config, default_prompt_name=name)
        found.append(load(folder).fingerprint)
    assert len(set(found)) == 3
    assert load(folder, prompts={"passage": "text: "}).fingerprint not in found
    assert load(folder, prompts={"other": "text: "}).fingerprint == found[-1]


def test_leaving_the_prompt_out_of_the_pooling_changes_it(folder: Path) -> None:
    before = load(folder).fingerprint
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    assert load(folder).fingerprint != before


def test_the_precision_does_not(bert: Path) -> None:
    half = load(bert, precision="bfloat16")
    for recipe in ("mean", "mean@1", "pooler"):
        assert half.with_recipe(recipe).fingerprint == load(bert, recipe).fingerprint


def test_the_part_that_differs_is_named(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    change_weight(tmp_path / "copy", "encoder.layer.0.output.dense.bias")
    whole = load(bert).identity
    for other, part in (
        (load(tmp_path / "copy"), "weights"),
        (load(bert, "cls"), "recipe"),
        (load(bert, max_length=12), "max_length"),
    ):
        assert [name for name in whole if whole[name] != other.identity[name]] == [part]


def test_names_and_places_do_not(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("another card")
    change(tmp_path / "elsewhere" / "config_sentence_transformers.json", similarity_fn_name="dot")
    assert load(tmp_path / "elsewhere").fingerprint == load(folder).fingerprint


def test_weights_are_hashed_once_for_all_recipes(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, cls = load(bert), load(bert, "cls").fingerprint
    assert embedder.fingerprint != cls
    monkeypatch.setattr("embedkit.embedder.fingerprint._tensor", None)
    assert embedder.with_recipe("cls").fingerprint == cls
