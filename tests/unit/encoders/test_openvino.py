"""OpenVINO runs the packed families; transformers is the oracle, and torch's engine."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.families import PACKED
from helpers.oracle import all_states, assert_as_theirs, assert_close, random_texts

from embedkit import Embedder, InputError
from embedkit.encoders.encoder import Encoder, load_encoder, on_engine
from embedkit.encoders.linear import ACTIVATIONS
from embedkit.similarity import unit

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(find_spec("openvino") is None, reason="the extra openvino is not installed"),
]

CPU = torch.device("cpu")
TEXTS = [*tiny.TEXTS, "어제 국회에서 통과된 법안", "a man and a woman " * 30]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Encoder:
    return on_engine(load_encoder(folder), "openvino").to(CPU, dtype)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder(bert, precision="float32", device="cpu", engine="openvino")


@pytest.mark.parametrize("name", PACKED)
def test_states_as_transformers(name: str, tmp_path: Path) -> None:
    """All layers and the pooler, texts of 1 token, which run first, to the longest one."""
    folder = tiny.make_model(tmp_path, name, layers=2)
    encoder = load(folder)
    assert (encoder.engine, encoder.device) == ("openvino", CPU)
    assert_as_theirs(encoder, folder)
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    texts = [[7, pad, 8, pad, pad, 9], [pad], [pad, 7]]  # RoBERTa counts no pads
    ours, torchs = (all_states(one, texts).layers for one in (encoder, load_encoder(folder)))
    for layer, states in torchs.items():
        assert_close(ours[layer], states)


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("bert", {"hidden_act": name}) for name in ACTIVATIONS if name != "gelu"},
    "no projection": ("electra", {"embedding_size": 32}),
    "pads numbered 9": ("roberta", {"pad_token_id": 9, "layer_norm_eps": 0.1}),
    "one head": ("distilbert", {"n_heads": 1}),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_configurations(form: str, tmp_path: Path) -> None:
    name, config = FORMS[form]
    folder = tiny.make_model(tmp_path, name, layers=1, max_positions=40, **config)
    assert_as_theirs(load(folder), folder, lengths=[1, 32, 7, 7, 16])


def test_any_hidden_states_in_any_order(bert: Path) -> None:
    encoder, texts = load(bert), random_texts([3, 20])
    every = all_states(encoder, texts)
    some = encoder(tiny.pack(texts), [2, 0])
    assert list(some.layers) == [2, 0]
    assert torch.equal(some.layers[2], every.layers[2])
    assert torch.equal(some.layers[0], every.layers[0])
    assert some.pooler_output is None
    alone = encoder(tiny.pack(texts), [], pooler=True)
    assert alone.pooler_output is not None
    assert every.pooler_output is not None
    assert torch.equal(alone.pooler_output, every.pooler_output)


@pytest.mark.parametrize("recipe", ["mean", "cls+max@1,-1/normalize", "pooler", "weighted_mean@0"])
def test_embeddings_are_those_of_torch(embedder: Embedder, recipe: str) -> None:
    theirs = Embedder(embedder.name, recipe, precision="float32", device="cpu", engine="torch")
    ours = embedder.with_recipe(recipe)
    assert (ours.engine, theirs.engine) == ("openvino", "torch")
    assert ours.fingerprint == theirs.fingerprint
    gap = unit(ours.encode(TEXTS)) - unit(theirs.encode(TEXTS))
    assert np.abs(gap).max() < 1e-5


def test_bfloat16(bert: Path) -> None:
    from embedkit.encoders.openvino import has_bfloat16

    texts = random_texts([1, 9, 40])
    exact = all_states(load(bert), texts)
    if not has_bfloat16():
        with pytest.raises(InputError, match="no instructions for it on this CPU"):
            load(bert, torch.bfloat16)
        return
    rough = all_states(load(bert, torch.bfloat16), texts)
    for layer, states in exact.layers.items():
        assert rough.layers[layer].dtype == torch.float32
        assert (rough.layers[layer] - states).abs().max() <= 0.1 * states.abs().max()
    assert not torch.equal(rough.layers[2], exact.layers[2])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reproducible_bits(bert: Path, precision: str) -> None:
    from embedkit.encoders.openvino import has_bfloat16

    if precision == "bfloat16" and not has_bfloat16():
        pytest.skip("this CPU has no instructions for bfloat16")
    same = Embedder(bert, precision=precision, device="cpu", engine="openvino", reproducible=True)
    texts = [*TEXTS, *(f"the {'cat ' * n}" for n in range(1, 40))]
    together = same.encode(texts)
    np.testing.assert_array_equal(same.encode(texts[::-1])[::-1], together)
    np.testing.assert_array_equal(np.stack([same.encode(text) for text in texts]), together)


def test_threads_share_a_compiled_model(embedder: Embedder) -> None:
    expected = embedder.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: embedder.encode(TEXTS), range(8)):
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),  # noqa: S301
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies(embedder: Embedder, kind: str) -> None:
    expected = embedder.encode(TEXTS)
    other = COPIES[kind](embedder)
    assert other.engine == "openvino"
    np.testing.assert_array_equal(other.encode(TEXTS), expected)


def test_a_forked_process_is_refused(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder.encode("rain")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(InputError, match="this process was forked from one that ran OpenVINO"):
        embedder.encode("rain")


# What is refused


def test_what_it_does_not_run(bert: Path, other_device: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the CPU alone, and device is 'meta'; expected device"):
        Embedder(bert, precision="float32", engine="openvino", device=other_device)
    with pytest.raises(InputError, match="'float16', which OpenVINO does not compute in; expected"):
        Embedder(bert, precision="float16", engine="openvino", device="cpu")
    mpnet = tiny.make_model(tmp_path, "mpnet", layers=1)
    expected = "does not run this mpnet encoder; expected engine torch, or a model of bert, roberta"
    with pytest.raises(InputError, match=f"^engine is 'openvino', which {expected}"):
        Embedder(mpnet, precision="float32", engine="openvino", device="cpu")


def test_ids_and_lengths_that_the_tables_have_not(bert: Path) -> None:
    encoder = load(bert)
    for texts in ([[encoder.vocab_size]], [[5] * 513]):
        with pytest.raises(IndexError):
            encoder(tiny.pack(texts), [0])


def test_a_package_that_is_not_installed(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedkit.encoders import openvino

    openvino._started.cache_clear()
    for name in ("openvino", "openvino.opset13"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"not installed .*run pip install 'embedkit\[openvino\]'"):
        Embedder(bert, precision="float32", engine="openvino", device="cpu")


@pytest.mark.process
def test_its_import_sends_nothing() -> None:
    """OpenVINO's telemetry reports each import; we import it without."""
    program = (
        "import sys; from embedkit.encoders.openvino_graph import import_openvino\n"
        "print(import_openvino().__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["openvino", "[]"], done.stderr
