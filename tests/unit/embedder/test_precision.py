"""Precisions: the choice of `auto`, and what reads and prints it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.command import Run, refused

from embedkit import (
    Corpus,
    Embedder,
    InputError,
    PairRegressor,
    VectorIndex,
    Vectors,
    encode_corpus,
    load_head,
    save_head,
)
from embedkit.embedder import precision
from embedkit.embedder.calibration import Measurement
from embedkit.embedder.precision import AGREEMENT, PROBE, Choice, choose, smallest_cosine

HEAD = "head.json"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"))


def offering(name: str | None) -> Any:
    return lambda device: Choice(name or "float32", None, "it is fast")


def chosen(embedder: Embedder, name: str | None, **changed: Any) -> tuple[Any, Choice]:
    arguments: dict[str, Any] = {
        "encoder": embedder.encoder,
        "tokenize": embedder.tokenizer,
        "bound": embedder.bound,
        "precision": "auto",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fast_precision", offering(name))
        return choose(**(arguments | changed))


def dtype_of(encoder: Any) -> torch.dtype:
    states = encoder(tiny.pack([[5, 6]]), [1]).layers[1]
    assert isinstance(states, torch.Tensor)
    return states.dtype


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_low_precision_that_agrees(bert: Path, name: str) -> None:
    exact = Embedder.from_pretrained(bert, precision="float32")
    low = Embedder.from_pretrained(bert, precision=name)
    a, b = exact.encode(PROBE).astype(float), low.encode(PROBE).astype(float)
    expected = min(u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(a, b, strict=True))
    assert AGREEMENT <= expected < 1
    encoder, choice = chosen(exact, name)
    assert dtype_of(encoder) == precision.PRECISIONS[name]
    assert choice.name == name
    assert choice.agreement == pytest.approx(expected, abs=1e-9)
    assert str(choice) == (
        f"{name} (auto: it is fast; smallest cosine of {name} to float32 {expected:.5f}, "
        "0.999 is needed)"
    )


def test_a_low_precision_that_disagrees(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, precision="float32")
    rough = embedder.encoder.to(torch.device("cpu"), torch.bfloat16)

    class Wrong:
        def __getattr__(self, name: str) -> Any:
            return getattr(embedder.encoder, name)

        def to(self, device: torch.device, dtype: torch.dtype) -> Any:
            return self if dtype == torch.bfloat16 else embedder.encoder

        def __call__(self, batch: Any, layers: Any, *, pooler: bool = False) -> Any:
            states = rough(batch, layers, pooler=pooler)
            generator = torch.Generator().manual_seed(0)
            noisy = {
                k: state + 0.3 * torch.randn(state.shape, generator=generator)
                for k, state in states.layers.items()
            }
            return replace(states, layers=noisy)

    encoder, choice = chosen(embedder, "bfloat16", encoder=Wrong())
    assert encoder is embedder.encoder
    assert choice.name == "float32"
    assert choice.agreement is not None
    assert choice.agreement < AGREEMENT
    assert str(choice) == (
        f"float32 (auto: smallest cosine of bfloat16 to float32 {choice.agreement:.5f}, "
        "0.999 is needed)"
    )


def test_none_to_try(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, precision="bfloat16")
    encoder, choice = chosen(embedder, None)
    assert dtype_of(encoder) == torch.float32
    assert choice == Choice("float32", None, "auto: it is fast")


def test_a_probe_that_cannot_be_tokenized(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert)

    def refuse(texts: list[str]) -> Any:
        raise InputError("a text cannot be tokenized")

    _, choice = chosen(embedder, "bfloat16", tokenize=refuse)
    assert choice.name == "float32"
    assert choice.reason == "auto: bfloat16 cannot be tried: a text cannot be tokenized"


def test_the_choice_follows_the_recipe(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_precision", offering("bfloat16"))
    mean = Embedder.from_pretrained(bert)
    cls = mean.with_recipe("cls@0")
    assert (mean.precision, cls.precision) == ("bfloat16", "bfloat16")
    assert mean.precision_choice.agreement != cls.precision_choice.agreement
    whitened = mean.with_recipe("mean/whiten:4")
    before = whitened.precision_choice
    assert before.agreement == mean.precision_choice.agreement  # it has no steps yet
    whitened.fit(tiny.TEXTS)
    assert whitened.precision_choice.agreement != before.agreement


def test_the_choice_reads_no_text_of_a_call(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_precision", offering("bfloat16"))
    embedder = Embedder.from_pretrained(bert)
    choice = embedder.precision_choice
    embedder.encode(["rain" * 50, "a"])
    assert embedder.precision_choice is choice


def test_an_explicit_precision(bert: Path) -> None:
    for name, dtype in precision.PRECISIONS.items():
        if name == precision.INT8:
            continue  # its choice says how it was calibrated
        embedder = Embedder.from_pretrained(bert, precision=name)
        assert embedder.precision_choice == Choice(name, None, "asked")
        assert dtype_of(embedder.encoder) == dtype


def test_an_unknown_precision(bert: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^precision is 'half'; expected one of auto, float32, bfloat16, float16, int8$",
    ):
        Embedder.from_pretrained(bert, precision="half")


def test_the_smallest_cosine() -> None:
    a = np.array([[1, 0], [0, 0], [3, 4]], dtype=np.float32)
    assert smallest_cosine(a, a) == 1
    assert smallest_cosine(a, np.array([[1, 1], [0, 0], [3, 4]], dtype=np.float32)) == (
        pytest.approx(np.sqrt(0.5))
    )
    assert smallest_cosine(a, np.array([[1, 0], [1, 0], [3, 4]], dtype=np.float32)) == 0


def test_the_probe_has_many_lengths_and_scripts() -> None:
    assert len(PROBE) == len(set(PROBE))
    assert min(map(len, PROBE)) <= 4
    assert max(map(len, PROBE)) >= 400
    starts = (0x41, 0x400, 0x600, 0x900, 0xE00, 0x3040, 0x4E00, 0xAC00)  # Latin to Hangul
    for start in starts:
        assert any(start <= ord(c) < start + 0x100 for text in PROBE for c in text), hex(start)


# The command line


def test_encode_says_the_precision(bert: Path, run: Run, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("rain\nthe cat\n", encoding="utf-8")
    done = run("encode", texts, "-m", bert, "--out", tmp_path / "auto", "--json")
    choice = Embedder.from_pretrained(bert).precision_choice
    assert f"precision: {choice}\n" in done.err
    assert (done.json["precision"], done.json["agreement"]) == (choice.name, choice.agreement)
    done = run(
        "encode", texts, "-m", bert, "--out", tmp_path / "low", "--precision", "bfloat16", "--json"
    )
    assert "precision: bfloat16 (asked)\n" in done.err
    assert (done.json["precision"], done.json["agreement"]) == ("bfloat16", None)


@pytest.mark.parametrize(
    ("options", "name"), [((), "float32"), (("--precision", "bfloat16"), "bfloat16")]
)
@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_reports_are_in_float32_by_default(
    bert: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: tuple[str, ...],
    name: str,
) -> None:
    monkeypatch.setattr(precision, "fast_precision", offering("float16"))
    done = run(command, "first_look", "-m", bert, "--json", *options)
    assert done.json["protocol"]["precision"] == name


# What a folder records


@pytest.fixture
def calibration_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Change the mind of the calibration; it offers bfloat16 at first."""

    def say(name: str | None) -> None:
        monkeypatch.setattr(precision, "fast_precision", offering(name))

    say("bfloat16")
    return say


Say = Callable[[str | None], None]
TEXTS = [f"{text} {n}" for n, text in enumerate(tiny.TEXTS)]


def corpus_of(folder: Path, texts: list[str]) -> Corpus:
    path = folder / "corpus.txt"
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return Corpus(path)


@pytest.mark.parametrize(("first", "then"), [("bfloat16", None), (None, "bfloat16")])
def test_encode_goes_on_in_the_recorded_precision_whatever_a_calibration_says(
    bert: Path,
    tmp_path: Path,
    calibration_says: Say,
    first: str | None,
    then: str | None,
) -> None:
    calibration_says(first)
    out = tmp_path / "out"
    encode_corpus(Embedder.from_pretrained(bert), corpus_of(tmp_path, TEXTS[:4]), out)
    calibration_says(then)
    embedder = Embedder.from_pretrained(bert)
    assert embedder.precision == (then or "float32")
    done = encode_corpus(embedder, corpus_of(tmp_path, TEXTS), out)
    recorded = first or "float32"
    assert (done.kept, done.encoded) == (4, len(TEXTS) - 4)
    assert done.precision == Choice(recorded, None, "auto: recorded in the folder")
    assert embedder.precision == (then or "float32")  # the caller's stays as it is
    found = Vectors.open(out)
    assert found.origin.precision == recorded
    vectors = {
        name: Embedder.from_pretrained(bert, precision=name).encode(TEXTS[4:])
        for name in ("float32", "bfloat16")
    }
    other = "bfloat16" if recorded == "float32" else "float32"
    np.testing.assert_allclose(found.to_numpy()[4:], vectors[recorded], atol=1e-6)
    assert np.abs(found.to_numpy()[4:] - vectors[other]).max() > 1e-4


def test_an_explicit_precision_that_is_not_the_recorded_one_is_refused(
    bert: Path, tmp_path: Path, run: Run, calibration_says: Say
) -> None:
    source, out = corpus_of(tmp_path, TEXTS).path, tmp_path / "out"
    command = ("encode", source, "-m", bert, "--out", out, "--json")
    assert run(*command).json["precision"] == "bfloat16"
    before = Vectors.open(out).to_numpy()
    calibration_says(None)
    again = run(*command)
    assert (again.json["precision"], again.json["kept"]) == ("bfloat16", len(TEXTS))
    assert "precision: bfloat16 (auto: recorded in the folder)\n" in again.err
    said = refused(run(*command, "--precision", "float32"))
    assert "these would have precision 'float32' instead of 'bfloat16'" in said
    assert run(*command, "--precision", "bfloat16").json["kept"] == len(TEXTS)
    np.testing.assert_array_equal(Vectors.open(out).to_numpy(), before)


def test_an_index_is_searched_in_the_recorded_precision(
    bert: Path, tmp_path: Path, run: Run, calibration_says: Say
) -> None:
    """When it is built, opened, added to, and by the command."""
    embedder = Embedder.from_pretrained(bert)
    encode_corpus(embedder, corpus_of(tmp_path, TEXTS), tmp_path / "vectors", texts=True)
    calibration_says(None)
    auto = Embedder.from_pretrained(bert)
    query = "the cat reads"
    expected = {
        name: Embedder.from_pretrained(bert, precision=name).encode([query])
        for name in ("float32", "bfloat16")
    }
    stored = Vectors.open(tmp_path / "vectors").to_numpy()

    def scores(name: str) -> list[float]:
        a, b = expected[name].astype(float), stored.astype(float)
        cosines = (b @ a[0]) / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        return sorted(cosines.tolist(), reverse=True)[:3]

    assert np.abs(np.subtract(scores("bfloat16"), scores("float32"))).max() > 1e-5
    built = VectorIndex.build(Vectors.open(tmp_path / "vectors"), embedder=auto)
    built.save(tmp_path / "index")
    more = corpus_of(tmp_path, ["zebra", "a train"])
    more.path.rename(tmp_path / "more.txt")
    ids = tmp_path / "more.jsonl"
    ids.write_text('{"id": 100, "text": "zebra of 1984"}\n', encoding="utf-8")
    encode_corpus(auto, Corpus(ids, id_column="id"), tmp_path / "more", texts=True)
    assert Vectors.open(tmp_path / "more").origin.precision == "float32"
    assert run("index", "add", tmp_path / "index", tmp_path / "more").code == 0
    opened = VectorIndex.open(tmp_path / "index", auto)
    opened.remove([100])
    for index in (built, opened):
        assert index.origin is not None
        assert index.origin.precision == "bfloat16"
        assert index.embedder is not None
        assert index.embedder.precision == "bfloat16"
        np.testing.assert_allclose(
            index.search([query], 3).scores[0], scores("bfloat16"), atol=1e-6
        )
    hits = run("search", tmp_path / "index", query, "-k", 3, "--json").json["hits"]
    np.testing.assert_allclose([hit["score"] for hit in hits], scores("bfloat16"), atol=1e-6)
    explicit = Embedder.from_pretrained(bert, precision="float32")
    asked = VectorIndex.open(tmp_path / "index", explicit)
    np.testing.assert_allclose(asked.search([query], 3).scores[0], scores("float32"), atol=1e-6)


@pytest.fixture
def head(bert: Path, tmp_path: Path, calibration_says: Say) -> tuple[Path, Any]:
    """A folder of a head that was trained in bfloat16, and its predictions."""
    embedder = Embedder.from_pretrained(bert)
    regressor = PairRegressor(embedder, features=["cosine"])
    regressor.fit(PAIRS, [5 * embedder.similarity([a], [b])[0, 0] for a, b in PAIRS])
    save_head(regressor, tmp_path / "head")
    return tmp_path / "head", regressor.predict(PAIRS)


PAIRS = [(a, b) for a in TEXTS[:6] for b in TEXTS[2:6]]


def test_a_head_predicts_in_the_precision_that_it_was_trained_in(
    bert: Path,
    tmp_path: Path,
    run: Run,
    head: tuple[Path, Any],
    calibration_says: Say,
) -> None:
    folder, predictions = head
    assert json.loads((folder / HEAD).read_text(encoding="utf-8"))["precision"] == "bfloat16"
    calibration_says(None)
    for loaded in (
        load_head(folder),
        load_head(folder, precision="auto"),
        load_head(folder, Embedder.from_pretrained(bert)),
    ):
        assert loaded.embedder is not None
        assert loaded.embedder.precision == "bfloat16"
        np.testing.assert_allclose(loaded.predict(PAIRS), predictions, atol=1e-9)
    exact = Embedder.from_pretrained(bert, precision="float32")
    message = r"trained on bfloat16 embeddings, got precision 'float32'"
    for arguments in ({"precision": "float32"}, {"embedder": exact}):
        with pytest.raises(InputError, match=message):
            load_head(folder, **arguments)
    data = tmp_path / "pairs.tsv"
    rows = "".join(f"{a}\t{b}\t{n % 6}\n" for n, (a, b) in enumerate(PAIRS))
    data.write_text("sentence1\tsentence2\tscore\n" + rows, encoding="utf-8")
    scored = [
        json.loads(line) for line in run("score", data, "-m", folder, "--json").out.split("\n")[:-1]
    ]
    np.testing.assert_allclose([row["prediction"] for row in scored], predictions, atol=1e-9)
    for options, name in (
        ((), "bfloat16"),
        (("--precision", "auto"), "bfloat16"),
        (("--precision", "bfloat16"), "bfloat16"),
    ):
        report = run("evaluate", data, "-m", folder, "--json", *options).json
        assert report["protocol"]["precision"] == name
    assert "trained on bfloat16" in refused(
        run("evaluate", data, "-m", folder, "--precision", "float32")
    )
    said = run("info", "-m", folder, "--json").json
    assert (said["precision"], said["reason"]) == ("bfloat16", "the head was trained in it")


def test_an_older_head_runs_in_float32(
    bert: Path, head: tuple[Path, Any], calibration_says: Say
) -> None:
    folder, _ = head
    said = json.loads((folder / HEAD).read_text(encoding="utf-8"))
    del said["precision"]
    (folder / HEAD).write_text(json.dumps(said), encoding="utf-8")
    for options in ({}, {"precision": "auto"}):
        embedder = load_head(folder, **options).embedder
        assert embedder is not None
        assert embedder.precision == "float32"
    said["precision"] = ["bfloat16"]
    (folder / HEAD).write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(InputError, match=r"head.json: is damaged \(precision is \['bfloat16'\]\)"):
        load_head(folder)


# embedkit info


def test_info_says_precision_engine_figures_and_reason(
    bert: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measurement("CPU X", 4, "2.13.0", "torch", {"float32": 400.0, "bfloat16": 200.0}, 9)
    candidate = Choice("bfloat16", None, "it is fast", measured)
    monkeypatch.setattr(precision, "fast_precision", lambda device: candidate)
    choice = Embedder.from_pretrained(bert).precision_choice
    assert choice.measured == measured
    assert run("info", "-m", bert, "--json").json == {
        "schema": 1,
        "model": str(bert),
        "precision": "bfloat16",
        "agreement": choice.agreement,
        "engine": "torch",
        "measured": {
            "cpu": "CPU X",
            "cores": 4,
            "torch": "2.13.0",
            "engine": "torch",
            "microseconds": {"float32": 400.0, "bfloat16": 200.0},
            "rounds": 9,
            "gain": 2.0,
        },
        "openvino": None,
        "reason": choice.reason,
    }
    assert run("info", "-m", bert).out.splitlines() == [
        f"{bert}: bfloat16 with torch ({choice.reason})",
        "measured: float32 400 us, bfloat16 200 us a product on one thread, the shortest of 9; "
        "CPU X; 4 cores; torch 2.13.0",
    ]
    monkeypatch.setattr(precision, "fast_precision", offering(None))
    said = run("info", "-m", bert, "--json").json
    assert (said["precision"], said["measured"]) == ("float32", None)
    assert said["reason"] == "auto: it is fast"
    assert "nowhere" in refused(run("info", "-m", "./nowhere"))
