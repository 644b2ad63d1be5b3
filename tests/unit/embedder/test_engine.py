"""Which engine runs an embedder: asked for, recorded in its folder, or chosen by `auto`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused

from embedkit import Embedder, InputError, load_model
from embedkit.embedder import calibration, precision
from embedkit.embedder.cache import EmbeddingCache, encode_texts
from embedkit.embedder.calibration import Measurement, calibrate_openvino, kept_openvino
from embedkit.embedder.precision import ENGINE_WORTH, Choice, fastest_engine

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the extra openvino is not installed"
)

TEXTS = list(tiny.TEXTS)
Measured = Callable[..., Measurement]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Keeps a measurement in which OpenVINO is so often as fast as torch, by precision."""
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))

    def keep(**gains: float) -> Measurement:
        times = dict.fromkeys(gains, 1e-3)
        times |= {f"{name} by torch": 1e-3 * gain for name, gain in gains.items()}
        monkeypatch.setattr(calibration, "_time_layers", lambda: (times, 60))
        kept = calibrate_openvino()
        assert kept is not None
        return kept

    return keep


def load(bert: Path, **options: str) -> Embedder:
    return Embedder(bert, **{"precision": "float32", "device": "cpu", **options})


# auto


def test_auto_takes_no_engine_that_was_not_measured(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "_time_layers", lambda: pytest.fail("timed at load"))
    embedder = load(bert)
    assert (embedder.engine, embedder.precision_choice) == (
        "torch",
        Choice("float32", None, "asked"),
    )
    assert kept_openvino() is None


@pytest.mark.parametrize(("gain", "engine"), [(1.5, "openvino"), (1.05, "torch")])
def test_auto_goes_by_the_kept_measurement(
    bert: Path, measured: Measured, gain: float, engine: str
) -> None:
    assert 1.05 < ENGINE_WORTH < 1.5
    measured(float32=gain)
    embedder = load(bert)
    why = f"asked; OpenVINO is {gain:.2f} times as fast as torch here, 1.1 is needed"
    assert (embedder.engine, embedder.precision_choice.engine) == (engine, engine)
    assert embedder.precision_choice.reason.startswith(why)
    if engine == "openvino":
        assert embedder.precision_choice.agreement == pytest.approx(1, abs=1e-6)
        assert str(embedder.precision_choice).startswith("float32 by openvino (asked; ")
        assert "engine='openvino'" in repr(embedder)


def test_auto_counts_the_precision_and_the_family(
    bert: Path, measured: Measured, tmp_path: Path
) -> None:
    measured(float32=1.0, bfloat16=2.0)
    encoder = load(bert, engine="torch").encoder
    assert fastest_engine(encoder, "bfloat16")[0] == "openvino"
    assert fastest_engine(encoder, "float32")[0] == "torch"
    assert fastest_engine(encoder, "float16")[0] == "torch"
    mpnet = tiny.make_model(tmp_path / "mpnet", "mpnet", layers=1)
    assert fastest_engine(load(mpnet).encoder, "bfloat16") == ("torch", "")


def test_auto_takes_torch_where_the_vectors_differ(
    bert: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(float32=2.0)
    monkeypatch.setattr(precision, "smallest_cosine", lambda a, b: 0.5)
    choice = load(bert).precision_choice
    assert (choice.name, choice.engine, choice.agreement) == ("float32", "torch", 0.5)
    assert (
        choice.reason
        == "auto: smallest cosine of float32 by openvino to float32 0.50000, 0.999 is needed"
    )


def test_what_is_asked_for_is_not_measured(bert: Path, measured: Measured) -> None:
    measured(float32=2.0)
    assert load(bert, engine="torch").engine == "torch"
    measured(float32=0.5)
    assert load(bert, engine="openvino").precision_choice == Choice(
        "float32", None, "asked", engine="openvino"
    )
    with pytest.raises(InputError, match=r"^engine is 'onnx'; expected one of auto, torch, openv"):
        load(bert, engine="onnx")


def test_auto_leaves_openvino_for_another_device(
    bert: Path, measured: Measured, other_device: str
) -> None:
    measured(float32=2.0)
    embedder = load(bert)
    assert embedder.engine == "openvino"
    assert embedder.to("cpu") is embedder
    assert embedder.to(other_device).engine == "torch"
    asked = load(bert, engine="openvino")
    with pytest.raises(InputError, match="runs on the CPU alone, and device is 'meta'"):
        asked.to(other_device)
    assert (asked.engine, asked.device.type) == ("openvino", "cpu")


# The folder's record


def test_a_folder_records_openvino(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    asked = load(bert, engine="openvino")
    asked.save(folder)
    again = load(folder)
    assert again.engine == "openvino"
    np.testing.assert_array_equal(again.encode(TEXTS), asked.encode(TEXTS))
    assert load(folder, engine="torch").engine == "torch"
    mark = json.loads((folder / "embedkit.json").read_text())
    assert mark["engine"] == "openvino"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        assert load(folder).engine == "torch"
    (folder / "embedkit.json").write_text(json.dumps({**mark, "engine": ["onnx"]}))
    with pytest.raises(InputError, match=r"embedkit\.json: engine is \['onnx'\]; expected one of"):
        load(folder)


def test_a_folder_records_no_other_engine(bert: Path, tmp_path: Path) -> None:
    load(bert, engine="torch").save(tmp_path / "saved")
    assert "engine" not in json.loads((tmp_path / "saved" / "embedkit.json").read_text())


def test_embeddings_are_cached_for_each_engine(bert: Path, tmp_path: Path) -> None:
    engines = ("torch", "openvino", "openvino", "torch")
    with EmbeddingCache(tmp_path) as cache:
        cached = [
            encode_texts(embedder, TEXTS, [embedder.bound], "", cache).cached
            for embedder in (load(bert, engine=engine) for engine in engines)
        ]
    assert cached == [0, 0, len(TEXTS), len(TEXTS)]


# The measurement


@pytest.mark.thorough
def test_engines_are_timed_on_the_same_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "_SETTLED", 8)
    monkeypatch.setattr(calibration, "_ROUNDS", 10_000)
    vectors = {}
    real = calibration.shortest

    def noting(jobs: dict[str, Callable[[], object]], *args: object, **options: object) -> object:
        vectors.update({name: job().layers[1] for name, job in jobs.items()})  # type: ignore[attr-defined]
        return real(jobs, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "shortest", noting)
    kept = calibrate_openvino()
    assert kept is not None
    assert kept.engine.startswith("openvino 20")
    assert kept == kept_openvino()
    assert kept.gain_over_torch("float32") > 0
    np.testing.assert_allclose(vectors["float32"], vectors["float32 by torch"], atol=1e-5)
    assert set(kept.microseconds) == set(vectors)


def test_a_measurement_holds_for_the_versions(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = measured(float32=1.5)
    assert kept_openvino() == kept
    monkeypatch.setattr(calibration, "version", lambda name: "2099.1")
    assert kept_openvino() is None


# The command line


def test_info(run: Run, bert: Path, measured: Measured) -> None:
    assert (
        "only after it has been measured: embedkit bench --calibrate" in run("info", "-m", bert).err
    )
    kept = measured(float32=1.5)
    shown = run("info", "-m", bert, "--json").json
    assert (shown["engine"], shown["precision"]) == ("openvino", "float32")
    assert shown["openvino"] == kept.to_json()
    assert "OpenVINO is 1.50 times as fast as torch here" in shown["reason"]
    plain = run("info", "-m", bert).out.splitlines()
    assert plain[0].startswith(f"{bert}: float32 with openvino (auto: ")
    assert "float32 1,000 us, float32 by torch 1,500 us a layer on one thread" in plain[-1]


def test_the_option(run: Run, bert: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(filter(None, TEXTS)))
    base = ("encode", corpus, "-m", bert, "--precision", "float32", "--json", "--out")
    shown = run(*base, tmp_path / "vectors", "--engine", "openvino").json
    assert (shown["precision"], shown["engine"]) == ("float32", "openvino")
    assert run(*base, tmp_path / "vectors", "--engine", "torch").json["kept"] == shown["rows"]
    message = refused(run(*base, tmp_path / "other", "--engine", "onnx"))
    assert "engine is 'onnx'; expected one of auto, torch, openvino" in message


def test_a_loaded_model_has_its_engine(bert: Path) -> None:
    assert load_model(bert, device="cpu", engine="openvino").engine == "openvino"  # type: ignore[union-attr]
