"""Every family of the table: transformers and sentence-transformers are the oracles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import tiny
from helpers.families import FAMILIES, OTHERS, PACKED, WITH_POOLER
from helpers.oracle import (
    LENGTHS,
    all_states,
    assert_as_theirs,
    assert_close,
    load_theirs,
    random_texts,
    their_states,
)
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from embedkit import Embedder, InputError
from embedkit.encoders import families as packed_families
from embedkit.encoders.auto import AutoModelEncoder
from embedkit.encoders.encoder import load_encoder
from embedkit.encoders.packed import PackedEncoder

pytestmark = pytest.mark.thorough

LAYERS, WIDTH = 3, 32
TEXTS = [*tiny.TEXTS[:-1], "the literal <pad> in a text, [PAD] too", "a man and a woman " * 10]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a model of each family, made when it is first asked for."""
    root = tmp_path_factory.mktemp("families")

    class Folders(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = tiny.make_model(root / name, name, layers=LAYERS, width=WIDTH, seed=5)
            return self[name]

    return Folders()


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(folders: dict[str, Path], name: str) -> Path:
    return folders[name]


def test_states_as_transformers(name: str, folder: Path) -> None:
    encoder, family = load_encoder(folder), FAMILIES[name]
    assert isinstance(encoder, PackedEncoder if family.packed else AutoModelEncoder)
    assert (encoder.family, encoder.cuts) == (family.model_type, family.packed)
    assert (encoder.dim, encoder.num_layers) == (WIDTH, LAYERS)
    assert encoder.max_positions == (512 if family.limited else None)
    assert (encoder.pooler is not None) == family.pooler
    assert_as_theirs(encoder, folder, LENGTHS)


@pytest.mark.parametrize("model_type", packed_families.FAMILIES)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    config = transformers.AutoConfig.for_model(model_type)
    keys = packed_families.FAMILIES[model_type].keys
    assert {key: getattr(config, key) for key, _ in keys.values()} == dict(keys.values())


@pytest.mark.parametrize("side", ["left", "right"])
def test_states_as_transformers_with_pads(name: str, folder: Path, side: str) -> None:
    """What a padded batch gives for the tokens that are no pads, whichever side they are on."""
    texts, model = random_texts([1, 9, 64, 17]), load_theirs(folder)
    ids = torch.full((len(texts), 64), model.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        place = slice(64 - len(text), None) if side == "left" else slice(len(text))
        ids[row, place], mask[row, place] = torch.tensor(text), 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if FAMILIES[name].positions == "tokens":  # the others count themselves
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(0)
    with torch.inference_mode():
        expected = model(**inputs, output_hidden_states=True).hidden_states
    ours = all_states(load_encoder(folder), texts)
    for k, layer in enumerate(expected):
        assert_close(ours.layers[k], layer[mask.bool()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precisions(folder: Path, dtype: torch.dtype) -> None:
    encoder, texts = load_encoder(folder), random_texts([4, 9])
    exact = all_states(encoder, texts)
    rough = all_states(encoder.to(torch.device("cpu"), dtype), texts)
    for k, layer in exact.layers.items():
        assert rough.layers[k].dtype == dtype
        assert (rough.layers[k] - layer).abs().max() <= 0.1 * layer.abs().max()


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if family.positions != "relative"]
)
def test_the_longest_text(name: str, tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path, name, layers=1, max_positions=20)
    encoder = load_encoder(folder)
    assert encoder.max_positions == 20
    assert_as_theirs(encoder, folder, lengths=[20, 3])
    with pytest.raises((IndexError, RuntimeError)):
        all_states(encoder, random_texts([21]))


# The forms that a checkpoint of ours has

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "electra without a projection": ("electra", {"embedding_size": WIDTH}),
    "electra with one to more": ("electra", {"embedding_size": 2 * WIDTH}),
    "distilbert with relu": ("distilbert", {"activation": "relu"}),
    "distilbert with sines": ("distilbert", {"sinusoidal_pos_embds": True}),
    "roberta with many types": ("roberta", {"type_vocab_size": 3}),
    "roberta with another eps": ("roberta", {"layer_norm_eps": 0.1, "hidden_act": "gelu_new"}),
    "roberta with pads numbered 0": ("roberta", {"pad_token_id": 0}),
    "roberta with pads numbered 9": ("roberta", {"pad_token_id": 9}),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_configurations(form: str, tmp_path: Path) -> None:
    name, config = FORMS[form]
    folder = tiny.make_model(tmp_path, name, layers=2, max_positions=40, **config)
    encoder = load_encoder(folder)
    assert isinstance(encoder, PackedEncoder)
    assert encoder.max_positions == {0: 41, 9: 32}.get(config.get("pad_token_id", -1), 40)
    assert_as_theirs(encoder, folder, lengths=[1, 32, 7, 7])


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].positions == "words"])
def test_a_pad_in_a_text_takes_no_position(name: str, folders: dict[str, Path]) -> None:
    pad = load_theirs(folders[name]).config.pad_token_id
    texts = [[7, pad, 8, pad, pad, 9], [pad], [pad, 7], [7, 8, 9]]
    encoder = load_encoder(folders[name])
    expected, _ = their_states(load_theirs(folders[name]), texts)
    ours = all_states(encoder, texts).layers
    for k, layer in expected.items():
        assert_close(ours[k], layer)
    # Without its pads, the first text would be the last one: state 0 knows only token and place.
    assert_close(ours[0][[0, 2, 5]], ours[0][[9, 10, 11]])


HEADS = {
    "roberta": "RobertaForMaskedLM",
    "xlm-roberta": "XLMRobertaForSequenceClassification",
    "camembert": "CamembertForMaskedLM",
    "electra": "ElectraForPreTraining",
    "distilbert": "DistilBertForMaskedLM",
}


@pytest.mark.parametrize("name", HEADS)
def test_the_prefix_of_a_model_with_a_head(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    config = transformers.AutoConfig.from_pretrained(folders[name])
    tiny.randomise(getattr(transformers, HEADS[name])(config)).save_pretrained(tmp_path)
    assert not any(k.startswith("embeddings") for k in load_file(tmp_path / "model.safetensors"))
    encoder = load_encoder(tmp_path)
    assert isinstance(encoder, PackedEncoder)
    assert encoder.pooler is None
    assert_as_theirs(encoder, tmp_path, lengths=[5, 9])


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("roberta", {"is_decoder": True}),
        ("electra", {"hidden_act": "gelu_10"}),
        ("distilbert", {"num_attention_heads": 2}),  # BERT's name: transformers takes it too
    ],
)
def test_what_we_leave_to_transformers(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path, name, layers=2)
    edit_config(folder, **changes)
    encoder = load_encoder(folder)
    assert isinstance(encoder, AutoModelEncoder)
    assert_as_theirs(encoder, folder, lengths=[5, 9])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("roberta", {"pad_token_id": None}, "pad_token_id is None; expected a positive number"),
        ("roberta", {"pad_token_id": -1}, "pad_token_id is -1; expected a positive number"),
        (
            "camembert",
            {"pad_token_id": 41},
            "pad_token_id 41 leaves none of the 42 positions; expected a smaller one",
        ),
        ("electra", {"embedding_size": 0}, "embedding_size is 0; expected a positive number"),
        ("distilbert", {"dim": "32"}, "dim is '32'; expected a positive number"),
        ("distilbert", {"n_heads": 5}, "dim 32 is not a multiple of n_heads 5"),
    ],
)
def test_absurd_numbers(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path, name, layers=1, max_positions=40)
    edit_config(folder, **changes)
    with pytest.raises(InputError) as error:
        load_encoder(folder)
    assert str(error.value) == f"{folder}/config.json: {message}"


@pytest.mark.parametrize("name", PACKED)
def test_weights_of_another_family(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folders[name] / "config.json").read_text())
    architecture = type(load_theirs(folders[name])).__name__
    with pytest.raises(InputError, match=f"expected those of a {architecture}$"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("name", WITH_POOLER)
def test_a_pooler_by_checkpoint_only(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    without = load_encoder(tiny.make_model(tmp_path, name, layers=1, pooler=False))
    assert without.pooler is None
    pooler = load_encoder(folders[name]).pooler
    assert pooler is not None
    tensors = load_file(folders[name] / "model.safetensors")
    (weight,) = (v for k, v in tensors.items() if k in ("pooler.weight", "pooler.dense.weight"))
    assert torch.equal(pooler.weight, weight)


def test_electra_starts_after_its_projection(folders: dict[str, Path]) -> None:
    model, texts = load_theirs(folders["electra"]), random_texts([7])
    with torch.inference_mode():
        embedded = model.embeddings_project(model.embeddings(torch.tensor(texts)))[0]
    assert_close(all_states(load_encoder(folders["electra"]), texts).layers[0], embedded)


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_the_encoder_of_a_checkpoint_with_a_decoder(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    config = transformers.AutoConfig.from_pretrained(folders[name], num_decoder_layers=1)
    config.is_encoder_decoder = True
    whole = tiny.randomise(transformers.AutoModel.from_config(config))
    whole.save_pretrained(tmp_path / "whole")
    encoder, texts = load_encoder(tmp_path / "whole"), random_texts([3, 40, 1])
    expected, _ = their_states(whole.encoder, texts)
    ours = all_states(encoder, texts).layers
    for k, layer in expected.items():
        assert_close(ours[k], layer)
    (tmp_path / "saved").mkdir()
    encoder.save(tmp_path / "saved", num_layers=LAYERS, output_hidden_states=False)
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert not any(name.startswith("decoder.") for name in saved)
    assert_as_theirs(load_encoder(tmp_path / "saved"), tmp_path / "saved", lengths=[3, 9])


# Saving: the same vectors in sentence-transformers


@pytest.fixture(params=["mean", "cls+last@1/normalize", "max@0", "weighted_mean@0,-1"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def assert_same(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    """Equal within 1e-5 of the largest value."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_saved_for_sentence_transformers(
    name: str, folder: Path, recipe: str, tmp_path: Path
) -> None:
    embedder = Embedder.from_pretrained(folder, recipe)
    got = embedder.encode(TEXTS)
    embedder.save_pretrained(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    # Its weighted_mean counts pads on the left as tokens.
    batch = 1 if "weighted_mean" in recipe and theirs.tokenizer.padding_side == "left" else 32
    assert_same(got, theirs.encode(TEXTS, batch_size=batch))
    again = Embedder.from_pretrained(tmp_path / "saved")
    assert_same(got, again.encode(TEXTS))
    assert again.fingerprint == embedder.fingerprint
    kept = again.encoder.num_layers
    top = max(embedder.recipe.states(LAYERS))
    assert kept == (top if FAMILIES[name].packed else LAYERS)


def test_sentence_transformers_invents_no_pooler(name: str, tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "model", name, layers=2, pooler=False)
    for recipe in ("mean", "mean@1"):
        Embedder.from_pretrained(folder, recipe).save_pretrained(tmp_path / "saved")
        theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")[0].auto_model
        assert not any("pooler" in key.split(".") for key in theirs.state_dict())
        if FAMILIES[name].packed:
            saved = load_file(tmp_path / "saved" / "model.safetensors")
            assert theirs.state_dict().keys() == saved.keys()


def test_loaded_objects(name: str, folder: Path) -> None:
    """A model of transformers and one of sentence-transformers, not their folders."""
    want = Embedder.from_pretrained(folder, "mean@1").encode(TEXTS)
    for model in (load_theirs(folder), SentenceTransformer(str(folder), device="cpu")):
        assert_same(Embedder.from_pretrained(model, "mean@1").encode(TEXTS), want)


@pytest.mark.parametrize("name", WITH_POOLER)
def test_a_saved_pooler(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    embedder = Embedder.from_pretrained(folders[name], "pooler/normalize")
    embedder.save_pretrained(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert_same(embedder.encode(TEXTS), theirs.encode(TEXTS))
    assert str(Embedder.from_pretrained(tmp_path / "saved").recipe) == "pooler/normalize"


@pytest.mark.parametrize("name", OTHERS)
def test_an_encoder_of_transformers_is_not_cut(name: str, folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders[name])
    with pytest.raises(ValueError, match=f"^a {name} encoder cannot be cut$"):
        encoder.save(folders[name], num_layers=1, output_hidden_states=False)


# Prompts left out of the pooling


def test_prompts_left_out(name: str, folder: Path, tmp_path: Path) -> None:
    poolings = ("cls", "mean", "weightedmean", "lasttoken")
    modules = [Transformer(str(folder)), Pooling(WIDTH, poolings, include_prompt=False)]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "the query: "})
    theirs.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    embedder = Embedder.from_pretrained(tmp_path / "theirs")
    assert not embedder.settings.include_prompt
    batch = 1 if theirs.tokenizer.padding_side == "left" else 32
    for option in ({"prompt_name": "query"}, {"prompt": "a man says: "}, {"prompt": ""}):
        want = theirs.encode(TEXTS, batch_size=batch, **option)
        assert_same(embedder.encode(TEXTS, **option), want)
