"""The embedder: what it loads, encodes, refuses and saves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, BertModel

from embedkit import Embedder, InputError, RecipeError
from embedkit.encoders.hub import find_folder
from embedkit.recipes.steps import Float32Array

LAYERS, WIDTH = 3, 32
TEXTS = list(tiny.TEXTS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=LAYERS, width=WIDTH, seed=5)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder.from_pretrained(bert)


@pytest.fixture(scope="module")
def no_pooler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("no-pooler"), pooler=False)


@pytest.fixture
def idle(bert: Path, monkeypatch: pytest.MonkeyPatch) -> Embedder:
    """An embedder whose encoder must not run."""
    embedder = Embedder.from_pretrained(bert, prompts={"query": "query: "})

    def fail(*_: object, **__: object) -> None:
        pytest.fail("the encoder ran")

    monkeypatch.setattr(type(embedder.encoder), "__call__", fail)
    return embedder


def assert_same(got: Float32Array, want: Float32Array) -> None:
    """Equal within 1e-5 of the largest value."""
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def oracle(folder: Path, texts: Sequence[str] = TEXTS) -> Float32Array:
    """transformers, one text at a time, and the mean as NumPy has it."""
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**inputs).last_hidden_state[0].double().numpy().mean(0))
    return np.array(rows, dtype=np.float32)


# Loading


def test_a_transformers_folder(bert: Path) -> None:
    for model in (bert, str(bert)):
        embedder = Embedder.from_pretrained(model)
        assert str(embedder.recipe) == "mean"
        assert embedder.own is None
        assert embedder.name == str(bert)
        assert embedder.dimension == WIDTH
        assert_same(embedder.encode(TEXTS), oracle(bert))


def test_a_sentence_transformers_folder(bert: Path, tmp_path: Path) -> None:
    made = SentenceTransformer(str(bert), device="cpu")
    made.save_pretrained(str(tmp_path))
    embedder = Embedder.from_pretrained(tmp_path)
    assert embedder.own == embedder.bound
    assert_same(embedder.encode(TEXTS), made.encode(TEXTS))


def test_a_loaded_bert(bert: Path) -> None:
    model = BertModel.from_pretrained(bert).eval()
    embedder = Embedder.from_pretrained(model, recipe="cls@1")
    want = Embedder.from_pretrained(bert, recipe="cls@1")
    assert embedder.name == str(bert)
    assert np.array_equal(embedder.encode(TEXTS), want.encode(TEXTS))


def test_a_loaded_bert_is_copied_with_its_changes(bert: Path) -> None:
    model = BertModel.from_pretrained(bert).train()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed = Embedder.from_pretrained(model).encode(TEXTS)
    assert np.abs(changed - oracle(bert)).max() > 0.1
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.zero_()
    assert model.training
    del before["embeddings.word_embeddings.weight"]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_a_masked_language_model(tmp_path: Path) -> None:
    """Its encoder is taken; it has no pooler, and none is invented."""
    source = tiny.make_bert(tmp_path / "source", pooler=False, seed=7)
    BertForMaskedLM.from_pretrained(source).save_pretrained(tmp_path / "mlm")
    tiny.make_tokenizer_files(tmp_path / "mlm")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "mlm")
    for given_model in (model, tmp_path / "mlm"):
        embedder = Embedder.from_pretrained(given_model)
        assert embedder.encoder.pooler is None
        assert_same(embedder.encode(TEXTS), oracle(source))


def test_a_loaded_model_without_a_tokenizer(bert: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(bert).save_pretrained(tmp_path)
    model = BertModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="no tokenizer is found for the BertModel of name_or_path"):
        Embedder.from_pretrained(model)


def test_a_pooler_that_transformers_invented_is_none(no_pooler: Path) -> None:
    """Loading the object gave it random pooler weights."""
    loaded = BertModel.from_pretrained(no_pooler)
    assert loaded.pooler is not None
    for model in (loaded, SentenceTransformer(str(no_pooler), device="cpu")):
        embedder = Embedder.from_pretrained(model)
        assert embedder.encoder.pooler is None
        assert_same(embedder.encode(TEXTS), oracle(no_pooler))


def test_a_loaded_sentence_transformer(bert: Path) -> None:
    model = SentenceTransformer(
        str(bert), device="cpu", prompts={"query": "query: "}, default_prompt_name="query"
    )
    model.max_seq_length = 8
    embedder = Embedder.from_pretrained(model)
    assert embedder.tokenizer.max_length == 8
    assert_same(embedder.encode(TEXTS), model.encode(TEXTS))
    assert_same(embedder.encode(TEXTS, prompt=""), model.encode(TEXTS, prompt=""))


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model is a Linear; expected a name, a folder, a model"):
        Embedder.from_pretrained(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


@pytest.fixture
def hub_cache(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of huggingface_hub with two revisions of somebody/tiny-bert, laid out by hand."""
    cache = tmp_path / "hub"
    repo = cache / "models--somebody--tiny-bert"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    (repo / "refs" / "v2").write_text(OTHER)
    shutil.copytree(bert, repo / "snapshots" / COMMIT)
    tiny.make_bert(repo / "snapshots" / OTHER, layers=1, seed=8)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return repo


def test_a_hub_id_from_the_cache(hub_cache: Path, bert: Path) -> None:
    embedder = Embedder.from_pretrained("somebody/tiny-bert", local_files_only=True)
    assert embedder.name == "somebody/tiny-bert"
    assert_same(embedder.encode(TEXTS), oracle(bert))


@pytest.mark.parametrize("revision", ["v2", OTHER])
def test_a_revision_from_the_cache(hub_cache: Path, revision: str) -> None:
    embedder = Embedder.from_pretrained(
        "somebody/tiny-bert", revision=revision, local_files_only=True
    )
    assert embedder.encoder.num_layers == 1
    assert_same(embedder.encode(TEXTS), oracle(hub_cache / "snapshots" / OTHER))


def test_the_cache_lacks_the_revision(hub_cache: Path) -> None:
    with pytest.raises(InputError, match=r"'somebody/tiny-bert'.* 'v3' is not in the local cache"):
        Embedder.from_pretrained("somebody/tiny-bert", revision="v3", local_files_only=True)


@pytest.mark.process
def test_the_cache_of_the_environment_offline(hub_cache: Path) -> None:
    """HF_HUB_CACHE and HF_HUB_OFFLINE are huggingface_hub's own; no option is needed."""
    code = "from embedkit.encoders.hub import find_folder; print(find_folder('somebody/tiny-bert'))"
    environment = {**os.environ, "HF_HUB_CACHE": str(hub_cache.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = hub_cache / "snapshots" / COMMIT
    assert done.stdout == f"{folder}\n"
    assert Embedder.from_pretrained(folder).encoder.num_layers > 1


def test_a_revision_of_a_folder_is_refused(bert: Path) -> None:
    with pytest.raises(InputError, match=r"revision 'v2' was given with the folder .*hub id only$"):
        Embedder.from_pretrained(bert, revision="v2")


# Options of loading


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"precision": "int4"},
            "precision is 'int4'; expected one of auto, float32, bfloat16, float16, int8",
        ),
        ({"device": "banana"}, "device is .banana., which torch cannot use here; expected cpu"),
        ({"device": "meta"}, "device is 'meta', which torch cannot use here; expected cpu"),
        ({"max_length": 513}, "max_length is 513, but the encoder has 512 positions"),
        ({"max_length": 2}, "max_length is 2; expected more than the 2 tokens that the tokenizer"),
        ({"max_length": 0}, "max_length is 0; expected a whole number from 1"),
        ({"max_length": -5}, "max_length is -5; expected a whole number from 1"),
        ({"max_length": 8.0}, "max_length is 8.0; expected a whole number from 1"),
        ({"max_length": True}, "max_length is True; expected a whole number from 1"),
        ({"recipe": "maen"}, r"recipe 'maen', character 1: .* \(did you mean mean\?\)"),
        ({"recipe": "mean@4"}, "'mean@4': layer 4 is not in this model; expected 0 to 3, or -4 to"),
    ],
)
def test_wrong_options(bert: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Embedder.from_pretrained(bert, **options)


def test_a_device_that_is_not_there(bert: Path) -> None:
    if torch.cuda.device_count() > 7:
        pytest.skip("this machine has it")
    with pytest.raises(
        InputError, match=r"^device is .cuda:7., which torch cannot use here; expected cpu"
    ):
        Embedder.from_pretrained(bert, device="cuda:7")


@pytest.mark.parametrize("recipe", ["pooler", "pooler/normalize"])
def test_a_checkpoint_without_pooler_refuses_it(no_pooler: Path, recipe: str) -> None:
    match = f"recipe '{recipe}' needs a pooler, and this checkpoint has no pooler weights"
    with pytest.raises(RecipeError, match=match):
        Embedder.from_pretrained(no_pooler, recipe=recipe)
    with pytest.raises(RecipeError, match=match):
        Embedder.from_pretrained(no_pooler).with_recipe(recipe)


def test_max_length(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, max_length=5)
    got = embedder.encode(["one two man cat dog bird"])
    assert_same(got, Embedder.from_pretrained(bert).encode(["one two man"]))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("recipe", ["mean", "cls@1", "pooler", "max@0,-1"])
def test_half_precision_is_close(bert: Path, precision: str, recipe: str) -> None:
    exact = Embedder.from_pretrained(bert, recipe).encode(TEXTS)
    half = Embedder.from_pretrained(bert, recipe, precision=precision).encode(TEXTS)
    assert half.dtype == np.float32
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.99
    assert not np.array_equal(exact, half)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_low_precision_is_saved_in_float32(family: str, tmp_path: Path) -> None:
    source = tiny.make_model(tmp_path / "source", family)
    low = Embedder.from_pretrained(source, "mean@0,-1", precision="bfloat16")
    low.save_pretrained(tmp_path / "saved")
    want = Embedder.from_pretrained(source, "mean@0,-1", precision="float32").encode(TEXTS)
    saved = Embedder.from_pretrained(tmp_path / "saved", precision="float32")
    np.testing.assert_array_equal(saved.encode(TEXTS), want)
    assert saved.fingerprint == low.fingerprint
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    assert_same(theirs, want)


def test_a_loaded_half_model_runs_in_float32(bert: Path) -> None:
    model = BertModel.from_pretrained(bert, dtype=torch.bfloat16)
    want = oracle(bert)
    got = Embedder.from_pretrained(model).encode(TEXTS)
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


# Recipes


@pytest.mark.parametrize(
    ("recipe", "printed", "dimension"),
    [
        ("mean", "mean", WIDTH),
        ("mean@3", "mean", WIDTH),
        ("cls@-4", "cls@0", WIDTH),
        ("last+cls+max@-3,3/normalize", "cls+max+last@1,-1/normalize", 3 * WIDTH),
        ("pooler/normalize", "pooler/normalize", WIDTH),
    ],
)
def test_with_recipe(embedder: Embedder, recipe: str, printed: str, dimension: int) -> None:
    other = embedder.with_recipe(recipe)
    assert str(other.recipe) == printed
    assert other.dimension == dimension == other.encode(["rain"]).shape[1]
    assert other.encoder is embedder.encoder
    assert str(embedder.recipe) == "mean"


def test_recipes_share_one_pass(embedder: Embedder) -> None:
    recipes = ["mean", "cls@0", "max+last@1,2/normalize", "pooler"]
    together = embedder.encode_recipes(TEXTS, [embedder.with_recipe(r).bound for r in recipes])
    assert together.distinct.texts == TEXTS
    for recipe, vectors in zip(recipes, together.vectors, strict=True):
        assert np.array_equal(vectors, embedder.with_recipe(recipe).encode(TEXTS))


# Encoding


def test_the_order_is_that_of_the_texts(embedder: Embedder) -> None:
    want = embedder.encode(TEXTS)
    turned = [TEXTS[i] for i in (5, 0, 7, 3, 1, 6, 2, 4)]
    assert_same(embedder.encode(turned), want[[5, 0, 7, 3, 1, 6, 2, 4]])


@given(numbers=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_neighbours_do_not_matter(embedder: Embedder, numbers: list[int]) -> None:
    """Any texts in any order with any repetitions: each has the vector that it has alone."""
    got = embedder.encode([TEXTS[number] for number in numbers])
    want = np.concatenate([embedder.encode([TEXTS[number]]) for number in numbers])
    assert_same(got, want)


def test_equal_texts_run_once(embedder: Embedder) -> None:
    texts = ["rain", "sun", "rain", "rain", "sun"]
    encoded = embedder.encode_recipes(texts, [embedder.bound])
    assert encoded.distinct.texts == ["rain", "sun"]
    assert encoded.distinct.inverse.tolist() == [0, 1, 0, 0, 1]
    vectors = embedder.encode(texts)
    assert np.array_equal(vectors, vectors[[0, 1, 0, 0, 1]])
    vectors[0] = 0  # rows are copies, not views of one another
    assert np.any(vectors[2])


UNUSUAL = {
    "empty": "",
    "blank": " \t\n ",
    "Korean": "그는 책을 읽고 있다",
    "decomposed Korean": "한국어",
    "emoji": "rain 🌧️👩‍👩‍👧",
    "NUL": "rain\0sun",
    "control": "\x01\x7f\u200b\ufeff",
    "private": "\ue000\U0010ffff",
    "typed special tokens": "[CLS] rain [SEP] [PAD] [MASK]",
    "right to left": "مطر גשם",
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_texts(embedder: Embedder, bert: Path, kind: str) -> None:
    texts = [UNUSUAL[kind], "rain"]
    assert_same(embedder.encode(texts), oracle(bert, texts))


def test_a_very_long_text(embedder: Embedder, bert: Path) -> None:
    texts = ["the cat reads " * 7150, "rain", "x" * 100_000]
    assert len(texts[0]) > 100_000
    assert_same(embedder.encode(texts), oracle(bert, texts))
    tokens = embedder.encode_recipes(texts, [embedder.bound]).tokens
    assert tokens.truncated.tolist() == [True, False, False]  # a word without end is one [UNK]
    assert tokens.lengths.tolist() == [512, 3, 3]


def test_truncation_is_exact(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, max_length=6)
    texts = ["one two man", "one two man cat", "one two man cat dog"]
    tokens = embedder.encode_recipes(texts, [embedder.bound]).tokens
    assert tokens.truncated.tolist() == [False, False, True]
    assert tokens.lengths.tolist() == [5, 6, 6]
    vectors = embedder.encode(texts)
    assert_same(vectors[1], vectors[2])


def test_texts_may_be_any_sequence(embedder: Embedder) -> None:
    want = embedder.encode(["rain", "sun"])
    assert np.array_equal(embedder.encode(("rain", "sun")), want)
    assert np.array_equal(embedder.encode(np.array(["rain", "sun"])), want)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (b"rain", r"^texts is one bytes; expected a list of str$"),
        (iter([]), r"^texts is empty; expected at least one str$"),
        (["a", "b", "c", None, None], r"^texts\[3\]: got None, expected a str$"),
        (["a", 2.5], r"^texts\[1\]: got 2\.5, expected a str$"),
        (["a", b"b"], r"^texts\[1\]: got b'b', expected a str$"),
        (["a", ["b"]], r"^texts\[1\]: got \['b'\], expected a str$"),
        (["a", float("nan")], r"^texts\[1\]: got nan, expected a str$"),
        (
            ["a", "b\ud800c"],
            r"^texts\[1\]: got the lone surrogate '\\ud800' at index 1, expected valid Unicode$",
        ),
    ],
)
def test_wrong_texts_are_found_before_the_encoder_runs(
    idle: Embedder, texts: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        idle.encode(texts)


@pytest.mark.parametrize("texts", [None, 7])
def test_what_is_no_sequence_is_refused(idle: Embedder, texts: Any) -> None:
    with pytest.raises(InputError, match=r"^texts is .*; expected a list of str$"):
        idle.encode(texts)


def test_the_tokenizer_of_another_model(idle: Embedder, bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    tiny.make_tokenizer_files(folder, vocab=(*tiny.VOCAB, "elephant"))
    other = Embedder.from_pretrained(folder)
    highest = len(tiny.VOCAB)
    with pytest.raises(InputError, match=f"gave token {highest}, and the encoder has {highest}"):
        other.encode(["elephant"])


# Prompts


def test_prompts(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, prompts={"query": "query: "})
    want = embedder.encode(["query: rain", "query: "])
    assert np.array_equal(embedder.encode(["rain", ""], prompt="query: "), want)
    assert np.array_equal(embedder.encode(["rain", ""], prompt_name="query"), want)
    assert np.array_equal(embedder.encode(["rain"]), embedder.encode(["rain"], prompt=""))


def test_prompts_add_to_the_models_own(bert: Path, tmp_path: Path) -> None:
    SentenceTransformer(
        str(bert), prompts={"query": "query: "}, default_prompt_name="query"
    ).save_pretrained(str(tmp_path))
    embedder = Embedder.from_pretrained(tmp_path, prompts={"news": "news: "})
    plain = Embedder.from_pretrained(bert)
    assert_same(embedder.encode(["rain"]), plain.encode(["query: rain"]))
    assert_same(embedder.encode(["rain"], prompt_name="news"), plain.encode(["news: rain"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_name": "passage"}, r"^unknown prompt_name 'passage'; this model has query$"),
        ({"prompt": "a", "prompt_name": "query"}, r"^got a prompt and a prompt_name; expected one"),
        ({"prompt": "\udfff"}, r"^prompt: got the lone surrogate"),
        ({"prompt": 3}, r"^prompt: got 3, expected a str$"),
    ],
)
def test_wrong_prompts(idle: Embedder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        idle.encode(["rain"], **options)


def test_a_prompt_that_is_no_text_is_refused(bert: Path) -> None:
    prompts: Any = {"query": 5}
    with pytest.raises(InputError, match="prompts"):
        Embedder.from_pretrained(bert, prompts=prompts).encode(["rain"], prompt_name="query")


# Similarity

FORMULAS = {
    "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    "dot": lambda a, b: a @ b,
    "euclidean": lambda a, b: -np.linalg.norm(a - b),
    "manhattan": lambda a, b: -np.abs(a - b).sum(),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_similarity(bert: Path, name: str, tmp_path: Path) -> None:
    SentenceTransformer(str(bert), similarity_fn_name=name).save_pretrained(str(tmp_path))
    embedder = Embedder.from_pretrained(tmp_path)
    left, right = TEXTS[:3], TEXTS[2:7]
    a, b = (embedder.encode(texts).astype(np.float64) for texts in (left, right))
    want = np.array([[FORMULAS[name](row, other) for other in b] for row in a])
    got = embedder.similarity(left, right)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(embedder.similarity(a, b), want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(embedder.similarity(left, b), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (b"rain", r"^a is one bytes; expected a list of str$"),
        (["rain", None], r"^a\[1\]: got None, expected a str$"),
        ([None, "rain"], r"^a\[0\]: got None, expected a str$"),
        ([], r"^a has shape \(0,\); expected texts or \(n, dim\)$"),
        (np.ones((2, WIDTH, 1)), r"^a has shape \(2, 32, 1\); expected texts or \(n, dim\)$"),
        (np.ones((2, 3)), r"^a has vectors of width 3 and b of 32; expected the same width$"),
    ],
)
def test_wrong_similarity_input(embedder: Embedder, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedder.similarity(values, ["sun"])


# Saving


def test_a_foreign_folder_is_left_alone(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"embedkit did not write \(notes.txt\); expected a new"):
        embedder.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_in_the_way(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="model is a file; expected a folder to save the model in"):
        embedder.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError):
        embedder.save_pretrained(tmp_path / "model" / "inside")


def test_an_empty_folder_is_filled(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    embedder.save_pretrained(tmp_path / "new")
    assert_same(Embedder.from_pretrained(tmp_path / "new").encode(TEXTS), embedder.encode(TEXTS))


def test_a_saved_folder_is_replaced(embedder: Embedder, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "saved"
    embedder.with_recipe("mean@1,-1/normalize").save_pretrained(target)
    embedder.with_recipe("cls").save_pretrained(str(target))
    assert sorted(path.name for path in target.iterdir() if path.is_dir()) == ["1_Pooling"]
    assert str(Embedder.from_pretrained(target).recipe) == "cls"
    assert [path.name for path in target.parent.iterdir()] == ["saved"]


def test_a_model_is_saved_over_itself(embedder: Embedder, tmp_path: Path) -> None:
    embedder.with_recipe("cls").save_pretrained(tmp_path / "saved")
    loaded = Embedder.from_pretrained(tmp_path / "saved", recipe="mean")
    loaded.save_pretrained(tmp_path / "saved")
    assert_same(Embedder.from_pretrained(tmp_path / "saved").encode(TEXTS), embedder.encode(TEXTS))


def test_a_refused_recipe_leaves_the_old_folder(embedder: Embedder, tmp_path: Path) -> None:
    embedder.with_recipe("cls").save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="is not fitted yet"):
        embedder.with_recipe("mean/whiten:4").save_pretrained(tmp_path / "saved")
    assert str(Embedder.from_pretrained(tmp_path / "saved").recipe) == "cls"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_source_may_be_gone(family: str, tmp_path: Path) -> None:
    source = tiny.make_model(tmp_path / "source", family)
    embedder = Embedder.from_pretrained(source, recipe="mean@0,-1")
    want = embedder.encode(TEXTS)
    shutil.rmtree(source)
    embedder.save_pretrained(tmp_path / "saved")
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert_same(saved.encode(TEXTS), want)
    assert_same(Embedder.from_pretrained(tmp_path / "saved").encode(TEXTS), want)


def test_a_loaded_object_is_saved(bert: Path, tmp_path: Path) -> None:
    embedder = Embedder.from_pretrained(BertModel.from_pretrained(bert), recipe="pooler")
    embedder.save_pretrained(tmp_path / "saved")
    assert_same(
        Embedder.from_pretrained(tmp_path / "saved").encode(TEXTS),
        Embedder.from_pretrained(bert, recipe="pooler").encode(TEXTS),
    )


def test_the_model_card(embedder: Embedder, tmp_path: Path) -> None:
    embedder.with_recipe("mean@2").save_pretrained(tmp_path / "cut")
    card = (tmp_path / "cut" / "README.md").read_text(encoding="utf-8")
    assert "`mean@2`, on hidden state 2 of 3\n" in card
    assert "(bert, 2 layers, cut from 3)" in card
    assert "Text Embeddings Inference can read this folder" in card
    embedder.with_recipe("mean@1,-1").save_pretrained(tmp_path / "average")
    card = (tmp_path / "average" / "README.md").read_text(encoding="utf-8")
    assert "`mean@1,-1`, on hidden states 1, 3 of 3\n" in card
    assert "cannot read this folder" in card
    assert "Transformer > WeightedLayerPooling > Pooling" in card


@pytest.mark.thorough
def test_loaded_minilm_keeps_its_pooler() -> None:
    """Its bias is all zeros, as of a pooler that transformers invents, but it is in the file."""
    folder = find_folder("minilm")
    vectors = Embedder.from_pretrained("minilm", "pooler").encode(TEXTS)
    for loaded in (BertModel.from_pretrained(folder), SentenceTransformer(str(folder))):
        np.testing.assert_array_equal(
            Embedder.from_pretrained(loaded, "pooler").encode(TEXTS), vectors
        )
