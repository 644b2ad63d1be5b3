"""int8: calibrated, certified, saved, and never mixed with float32."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.command import Run
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import embedkit.evaluation.quantize as quantize_module
from embedkit import Corpus, Embedder, InputError, encode_corpus, quantize
from embedkit.embedder.certificate import row_cosines
from embedkit.encoders.linear import Affine
from embedkit.encoders.openvino_graph import Part, Quantized
from embedkit.encoders.packed import PackedEncoder
from embedkit.encoders.quantization import FILE, Int8Linear, emulated

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(find_spec("openvino") is None, reason="the extra openvino is not installed"),
]

SENTENCE = "a man plays guitar in the park and the cat reads a book slowly to two birds"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[start : start + size]) for start in range(8) for size in (1, 4, 8)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def quantized(bert: Path) -> Embedder:
    return Embedder(bert, precision="int8", calibrate_on=TEXTS)


@pytest.fixture
def saved(quantized: Embedder, tmp_path: Path) -> Path:
    quantized.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_linear_by_mental_arithmetic() -> None:
    """Input levels are 1 apart from -127 to 128, and weights 1 apart up to 127."""
    linear = Int8Linear(Affine(torch.tensor([[127.0, 2.4]]), torch.tensor([10.0])))
    linear.run_as(Quantized(np.array([1.0, 1.0], np.float32), -127.0, 128.0))
    given = torch.tensor([[1.2, 2.0], [0.4, 500.0], [-1.6, -500.0]])
    assert linear(given).tolist() == [
        [127 + 4 + 10],  # 1.2 is 1
        [0 + 2 * 128 + 10],
        [-2 * 127 - 2 * 127 + 10],
    ]
    linear.run_as(None)
    assert linear(given[:1]).tolist() == [[pytest.approx(127 * 1.2 + 4.8 + 10)]]


def test_openvino_computes_what_the_emulation_does(
    quantized: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.encoders.openvino.has_bfloat16", lambda: False)
    quantized = Embedder(quantized.name, precision="int8")
    assert quantized.encoder.int8 is not None
    exact = Embedder(quantized.name, precision="float32", engine="torch").encode(TEXTS)
    network, linears = emulated(quantized.encoder, quantized.encoder.int8.parts)  # type: ignore[arg-type]
    tokens = quantized.tokenizer(TEXTS)
    states = network(tokens.batch(np.arange(len(TEXTS))), [2]).only
    means = [x.mean(0).numpy() for x in states.split(tokens.lengths.tolist())]
    loss, of_graph = (np.abs(quantized.encode(TEXTS) - x).max() for x in (exact, means))
    assert of_graph < loss / 3  # a value on the edge of two levels may fall on either side
    assert not any(linear.exact for linear in linears.values())


def test_no_more_linears_stay_float_than_the_cosine_needs(
    bert: Path, quantized: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0.99996
    monkeypatch.setattr("embedkit.encoders.quantization.MEAN_COSINE", asked)
    encoder = Embedder(bert, precision="int8", calibrate_on=TEXTS).encoder
    assert isinstance(encoder, PackedEncoder)
    assert encoder.int8 is not None
    assert isinstance(quantized.encoder, PackedEncoder)
    assert quantized.encoder.int8 is not None
    taken = [text for index, text in enumerate(dict.fromkeys(TEXTS)) if index % 5]
    tokens = quantized.tokenizer(taken)

    def means(parts: Mapping[Part, Quantized]) -> NDArray[np.float32]:
        network, _ = emulated(encoder, parts)
        states = network(tokens.batch(np.arange(len(taken))), [2]).only
        return np.array([x.mean(0).numpy() for x in states.split(tokens.lengths.tolist())])

    def cosine(parts: Mapping[Part, Quantized]) -> float:
        return float(row_cosines(means({}), means(parts)).mean())

    parts, everything = encoder.int8.parts, quantized.encoder.int8.parts
    assert (len(parts), len(everything)) == (5, 8)
    assert cosine(parts) >= asked
    assert any(
        cosine({**parts, part: everything[part]}) < asked for part in {*everything} - {*parts}
    )


def test_saved_and_loaded_without_calibration(
    quantized: Embedder, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.embedder.certificate.calibrate", None)
    loaded = Embedder(saved, precision="int8")
    vectors = quantized.encode(TEXTS)
    copied = pickle.loads(pickle.dumps(loaded))  # noqa: S301
    for one in (loaded, copied, loaded.with_recipe("mean")):
        assert (one.precision, one.fingerprint) == ("int8", quantized.fingerprint)
        np.testing.assert_allclose(one.encode(TEXTS), vectors, atol=1e-6)
    exact = Embedder(saved)
    assert exact.precision != "int8"  # there is no bound that it was certified by
    assert exact.fingerprint != quantized.fingerprint
    assert Embedder(saved, precision="int8").with_recipe("cls@1").encode("rain").shape == (32,)


def test_the_number_of_threads_changes_no_calibration(bert: Path, quantized: Embedder) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - threads if threads < 3 else 1)
    try:
        again = Embedder(bert, precision="int8", calibrate_on=TEXTS)
    finally:
        torch.set_num_threads(threads)
    assert again.fingerprint == quantized.fingerprint


def test_vectors_of_two_quantizations_do_not_mix(
    bert: Path, quantized: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("rain\nthe cat\n")
    corpus, folder = Corpus(tmp_path / "texts.txt"), tmp_path / "vectors"
    encode_corpus(quantized, corpus, folder, show_progress=False)
    exact = Embedder(bert, precision="float32")
    other = Embedder(bert, precision="int8", calibrate_on=[text + " rain" for text in TEXTS])
    for wrong in (exact, other):
        with pytest.raises(InputError, match=r"another quantization \(int8\)"):
            encode_corpus(wrong, corpus, folder, show_progress=False)


@pytest.mark.parametrize(
    "change",
    [
        {"0.up.smoothing": np.ones(3, np.float32)},
        {"0.up.smoothing": np.zeros(32, np.float32)},
        {"0.up.smoothing": np.full(32, np.nan, np.float32)},
        {"0.up.range": np.array([1, 2], np.float32)},
        {"0.up.range": np.array([-1, np.inf], np.float32)},
        {"9.up.range": np.array([-1, 1], np.float32)},
    ],
)
def test_hostile_files(saved: Path, change: dict[str, np.ndarray]) -> None:
    with safe_open(saved / FILE, framework="np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.setdefault("0.up.smoothing", np.ones(32, np.float32))
    tensors.setdefault("0.up.range", np.array([-1, 1], np.float32))
    save_file(tensors | change, saved / FILE, metadata)
    with pytest.raises(InputError, match=next(iter(change)).rpartition(".")[0]):
        Embedder(saved)


def test_embeddings_that_are_not_finite_are_not_calibrated(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"][0] = np.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="in float32 has numbers that are not finite"):
        quantize(folder, tmp_path / "out", calibrate_on=TEXTS)


def test_wrong_options(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in (
        ({"precision": "int8", "engine": "torch"}, "expected engine openvino"),
        ({"calibrate_on": TEXTS}, "calibrate_on and precision 'auto'"),
        ({"precision": "int8", "calibrate_on": TEXTS[:3]}, "expected at least 10"),
    ):
        with pytest.raises(InputError, match=message):
            Embedder(bert, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_loss without certify"):
        quantize(bert, tmp_path / "out", max_loss=0.1)
    monkeypatch.setattr("embedkit.embedder.certificate.calibrate", None)  # they are told before it
    for recipe, message in (("idf_mean", "cannot be saved"), ("mean/pca:4", "is not fitted")):
        with pytest.raises(InputError, match=message):
            quantize(bert, tmp_path / "out", recipe=recipe, calibrate_on=TEXTS)


def test_certified_by_pairs(
    bert: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, pairs = tmp_path / "texts.txt", tmp_path / "pairs.tsv"
    texts.write_text("\n".join(TEXTS))
    rows = [f"{a}\t{b}\t{i % 5}" for i, (a, b) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True))]
    pairs.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    out = tmp_path / "out"
    options = ("-m", bert, "--calibrate-on", texts, "--certify", pairs, "--out", out)
    done = run("quantize", *options, "--max-loss", 1.9, "--json").json
    (change,) = done["changes"]
    low, high = change["ci95"]
    assert low <= change["change"] <= high
    assert change["change"] == pytest.approx(change["int8"] - change["float32"], abs=1e-5)
    assert 0.9 < done["smallest_cosine"] <= done["mean_cosine"] <= 1
    assert Embedder(out).precision == "int8"  # certified, so by default
    assert Embedder(out, "cls").precision != "int8"  # another recipe than the certified one
    assert Embedder(out).with_recipe("cls").with_recipe("mean").precision == "int8"
    asked = Embedder(out, "cls", precision="int8")
    assert "cosine of mean to float32" in asked.precision_choice.reason
    asked.save_pretrained(tmp_path / "cls")
    assert Embedder(tmp_path / "cls").precision != "int8"  # `cls` was not certified
    Embedder(out, max_length=20).save_pretrained(tmp_path / "shorter")
    assert Embedder(tmp_path / "shorter").precision == "int8"
    bad = {**change, "change": -0.01, "ci95": (-0.02, 0.0)}
    monkeypatch.setattr(quantize_module, "_changes", lambda *_: [bad])
    refused = run("quantize", *options, "--max-loss", 0.005, "--overwrite")
    assert refused.code == 1
    assert "[-0.0200, +0.0000]" in refused.err


@pytest.mark.slow
def test_minilm_on_texts_of_another_kind() -> None:
    exact = Embedder("minilm", precision="float32", device="cpu")
    texts = [
        "how long do cooked beans keep in the fridge",
        "symptoms of vitamin b12 deficiency in adults",
        "The committee approved the budget after a long debate on Tuesday evening.",
        "cheap flights to lisbon",
        "He closed the door quietly so that nobody would wake up.",
        "What is the capital of Australia?",
    ]
    rough = Embedder("minilm", precision="int8", device="cpu")
    cosines = (exact.encode(texts) * rough.encode(texts)).sum(1)
    assert cosines.mean() > 0.997
