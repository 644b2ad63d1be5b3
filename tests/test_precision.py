"""Precisions: the choice of `auto`, and what reads and prints it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command import Run

from embedkit import Embedder, InputError, precision
from embedkit.precision import (
    AGREEMENT,
    PROBE,
    Choice,
    choose,
    fast_precision,
    product_gain,
    smallest_cosine,
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"))


def offering(name: str | None) -> Any:
    return lambda device: (name, "it is fast")


def chosen(embedder: Embedder, name: str | None, **changed: Any) -> tuple[Any, Choice]:
    arguments: dict[str, Any] = {
        "encoder": embedder.encoder,
        "tokenize": embedder.tokenizer,
        "bound": embedder.bound,
        "precision": "auto",
        "candidate": offering(name),
    }
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
    assert choice.reason == "auto: the texts to try bfloat16 on: a text cannot be tokenized"


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
        embedder = Embedder.from_pretrained(bert, precision=name)
        assert embedder.precision_choice == Choice(name, None, "asked")
        assert dtype_of(embedder.encoder) == dtype


def test_an_unknown_precision(bert: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^precision is 'half'; expected one of auto, float32, bfloat16, float16$",
    ):
        Embedder.from_pretrained(bert, precision="half")


def test_a_cpu_offers_what_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(precision, "product_gain", lambda dtype: 4.0)
    said = "bfloat16 products are {} times as fast as float32 here"
    assert fast_precision(cpu) == ("bfloat16", said.format("4.0"))
    monkeypatch.setattr(precision, "product_gain", lambda dtype: 1.2)
    assert fast_precision(cpu) == (None, said.format("1.2"))
    assert fast_precision(torch.device("mps")) == (
        None,
        "no low precision is tried on mps",
    )


def test_the_gain_is_measured() -> None:
    gain = product_gain(torch.bfloat16)
    assert 0 < gain < 100
    assert product_gain(torch.bfloat16) == gain  # once for a process


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
