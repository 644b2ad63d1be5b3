"""Folders with attention and mix: sentence-transformers gives the same embeddings, or fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, Pairs, Pooling, compare
from embedkit.files import read_json

WIDTH, LAYERS = 16, 3
TEXTS = [text for text in tiny.TEXTS if text]
QUERY = "pooling.query"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=LAYERS, width=WIDTH)


def trained(bert: Path, recipe: str, **options: Any) -> Embedder:
    """As if trained: random weights."""
    embedder = Embedder(bert, recipe, device="cpu", precision="float32", **options)
    bound = embedder.with_initial_weights().bound
    generator = np.random.default_rng(0)
    query = None if bound.query is None else generator.normal(size=WIDTH).astype(np.float32)
    mix = None if bound.layer_weights is None else generator.dirichlet(np.ones(LAYERS + 1))
    weights = None if mix is None else mix.astype(np.float32)
    return embedder.with_recipe(replace(bound, query=query, layer_weights=weights))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(read_json(path) | changes), encoding="utf-8")


def theirs(folder: Path, **options: Any) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu", **options)
    vectors: np.ndarray = model.encode(TEXTS)
    return vectors


@pytest.mark.parametrize(
    ("recipe", "kinds", "again"),
    [
        ("attention", "RecipePooling", ""),
        ("mean+attention@1,-1/normalize", "WeightedLayerPooling RecipePooling Normalize", ""),
        ("attention@2/truncate:5", "RecipePooling Dense", "attention/truncate:5"),
        ("mean@mix", "WeightedLayerPooling Pooling", ""),
        ("cls+max@mix/normalize", "WeightedLayerPooling Pooling Normalize", ""),
        ("attention@mix", "WeightedLayerPooling RecipePooling", ""),
    ],
)
def test_saved_folders(bert: Path, tmp_path: Path, recipe: str, kinds: str, again: str) -> None:
    embedder = trained(bert, recipe)
    embedder.save_pretrained(tmp_path / "saved")
    modules = json.loads((tmp_path / "saved" / "modules.json").read_text())
    assert [module["type"].split(".")[-1] for module in modules[1:]] == kinds.split()
    expected = embedder.encode(TEXTS)
    loaded = Embedder(tmp_path / "saved", device="cpu", precision="float32")
    assert str(loaded.recipe) == (again or recipe)
    assert np.array_equal(loaded.encode(TEXTS), expected)
    trust = "RecipePooling" in kinds
    vectors = theirs(tmp_path / "saved", trust_remote_code=trust)
    assert np.abs(vectors - expected).max() < 1e-5
    assert ("trust_remote_code=True" in (tmp_path / "saved" / "README.md").read_text()) == trust
    if trust:
        with pytest.raises(ValueError, match="trust_remote_code"):
            theirs(tmp_path / "saved")


def test_the_query_is_left_out_of_no_fingerprint(bert: Path) -> None:
    attention, mix = trained(bert, "attention"), trained(bert, "mean@mix")
    one, other = (replace(attention.bound, query=np.full(WIDTH, x, np.float32)) for x in (1, 2))
    assert attention.with_recipe(one).fingerprint != attention.with_recipe(other).fingerprint
    assert mix.fingerprint != mix.with_recipe("mean").fingerprint


@pytest.mark.parametrize("recipe", ["attention", "mean+attention@mix"])
def test_the_engine_pools_as_the_module(bert: Path, recipe: str) -> None:
    embedder = trained(bert, recipe)
    tokens = [embedder.tokenizer([text]).token_ids.tolist() for text in TEXTS]
    batch = tiny.pack(tokens)
    states = embedder.encoder(batch, range(LAYERS + 1)).layers
    split = [states[k].split(batch.lengths) for k in range(LAYERS + 1)]
    padded = [torch.nn.utils.rnn.pad_sequence(list(rows), True) for rows in split]
    mask = torch.arange(padded[0].shape[1]) < torch.tensor(batch.lengths).unsqueeze(1)
    got = Pooling.of(embedder)({"hidden_states": padded}, mask).detach().numpy()
    assert np.abs(got - embedder.encode(TEXTS)).max() < 1e-5


def test_the_prompt_is_left_out(bert: Path, tmp_path: Path) -> None:
    embedder = trained(bert, "attention", prompts={"query": "the cat: "})
    embedder.settings = replace(embedder.settings, include_prompt=False)
    embedder.save_pretrained(tmp_path / "saved")
    model = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    got = model.encode(TEXTS, prompt_name="query")
    assert np.abs(got - embedder.encode(TEXTS, prompt_name="query")).max() < 1e-5
    included = Embedder(tmp_path / "saved", device="cpu", precision="float32")
    included.settings = replace(included.settings, include_prompt=True)
    assert np.abs(got - included.encode(TEXTS, prompt_name="query")).max() > 1e-3


def test_a_loaded_folder_serves_other_recipes_on_the_same_layers(
    bert: Path, tmp_path: Path
) -> None:
    trained(bert, "attention").save_pretrained(tmp_path / "saved")
    loaded = Embedder(tmp_path / "saved", device="cpu", precision="float32")
    both = loaded.with_recipe("mean+attention").encode(TEXTS)
    assert np.allclose(both[:, WIDTH:], loaded.encode(TEXTS), atol=1e-6)
    fitted = loaded.with_recipe("attention/center").fit(TEXTS)
    assert np.abs(fitted.encode(TEXTS).mean(0)).max() < 1e-5
    with pytest.raises(InputError, match="attention is not trained yet"):
        loaded.with_recipe("attention@1").encode(TEXTS)


@pytest.mark.parametrize("recipe", ["attention", "attention@1/whiten:2", "mean@mix"])
def test_untrained_recipes_are_refused_with_the_command_that_trains(
    bert: Path, recipe: str
) -> None:
    embedder = Embedder(bert, recipe, device="cpu", precision="float32")
    part = "mix" if "mix" in recipe else "attention"
    problem = (
        rf"recipe '{recipe}': {part} is not trained yet; train it with embedkit train bi-encoder "
        rf"TRAIN --dev DEV --out DIR --recipe {recipe} and load DIR \(train_bi_encoder in Python\)$"
    )
    pairs = Pairs.from_columns("made", TEXTS[:4], TEXTS[1:5], [0, 1, 2, 3])
    for refused in (
        lambda: embedder.encode(TEXTS),
        lambda: compare(embedder, pairs, recipes=["mean", recipe], fit=TEXTS),
        lambda: Pooling.of(embedder),
        lambda: embedder.save_pretrained("never"),
    ):
        with pytest.raises(InputError, match=problem):
            refused()


def test_only_the_named_class_is_read_and_nothing_runs(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    trained(bert, "attention").save_pretrained(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "embedkit.py").write_text("raise SystemExit('ran')")
    (folder / "1_RecipePooling" / "recipe_pooling.py").write_text("raise SystemExit('ran')")
    Embedder(folder, device="cpu")
    for name in ("embedkit.embedder.recipe_pooling.Other", "recipe_pooling.RecipePooling"):
        modules[1]["type"] = name
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(InputError, match=f"'{name}' is not a module that embedkit can read"):
            Embedder(folder, device="cpu")


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ("attention/normalize", "recipe is 'attention/normalize'; expected one such as"),
        ("attention@1", "recipe is 'attention@1'; expected one such as attention@mix"),
        ("mean_content", "recipe is 'mean_content'; expected"),
        ("pooler", "recipe is 'pooler'; expected"),
        ("attention@mix", r"the weights have no tensor 'pooling\.mix'"),
        ("", "unknown pooling ''"),
        (7, "a recipe is a str"),
    ],
)
def test_damaged_configurations(bert: Path, tmp_path: Path, recipe: Any, problem: str) -> None:
    trained(bert, "attention").save_pretrained(tmp_path / "saved")
    edit(tmp_path / "saved" / "1_RecipePooling" / "config.json", recipe=recipe)
    with pytest.raises(InputError, match=problem):
        Embedder(tmp_path / "saved", device="cpu")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (torch.zeros(5), "the query of attention are 5 numbers; expected 16"),
        (torch.zeros(2, 8), r"query has shape \(2, 8\), or numbers that are not finite"),
        (torch.full((16,), torch.nan), "query has shape .* not finite"),
        (torch.full((16,), -torch.inf), "query has shape .* not finite"),
    ],
)
def test_damaged_weights(bert: Path, tmp_path: Path, query: torch.Tensor, problem: str) -> None:
    trained(bert, "attention").save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "1_RecipePooling" / "model.safetensors"
    assert set(load_file(path)) == {QUERY}
    save_file({QUERY: query}, path)
    with pytest.raises(InputError, match=problem):
        Embedder(tmp_path / "saved", device="cpu")
