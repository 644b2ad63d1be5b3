"""The examples as a user runs them, on small data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny
from helpers.paths import ROOT
from sentence_transformers import SentenceTransformer

from embedkit import Embedder

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16)


def example(name: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.splitlines()


def test_similarity_search_over_a_csv(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "docs.csv"
    texts = [*tiny.TEXTS[:3], *tiny.TEXTS[4:7]]  # without commas, which CSV quotes
    path.write_text("text\n" + "".join(f'"{text}"\n' for text in texts), encoding="utf-8")
    printed = example("similarity_search.py", path, texts[4], "--model", model)
    assert printed[:2] == ["6 rows: 6 encoded, 0 kept", f"1.000  row 4: {texts[4]}"]
    assert len(printed) == 4
    again = example("similarity_search.py", path, texts[0], "--model", model)
    assert again[:2] == ["6 rows: 0 encoded, 6 kept", f"1.000  row 0: {texts[0]}"]


def test_scoring_a_file_of_pairs(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2\na cat,a dog\nrain,rain\n", encoding="utf-8")
    embedder = Embedder.from_pretrained(model, device="cpu")
    cosine = embedder.similarity(["a cat"], ["a dog"])[0, 0]
    assert example("score_pairs.py", path, "--model", model) == [
        "1.000  rain | rain",
        f"{cosine:.3f}  a cat | a dog",
    ]


def test_comparing_poolings_and_keeping_the_best(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    rows = [
        (a, b, n * 7 % 5) for n, (a, b) in enumerate(zip(tiny.TEXTS, tiny.TEXTS[1:], strict=False))
    ]
    path.write_text(
        "sentence1\tsentence2\tscore\n" + "".join(f"{a}\t{b}\t{s}\n" for a, b, s in rows),
        encoding="utf-8",
    )
    saved = tmp_path / "saved"
    printed = example("compare_klue.py", path, "--model", model, "--save", saved)
    for recipe in ("cls", "pooler", "mean", "max", "mean@1,-1", "mean@1", "cls+mean"):
        assert any(f" {recipe} " in line for line in printed), recipe
    best = printed[-1].split()[1]
    assert printed[-1] == f"Saved {best} in {saved}."
    vectors = Embedder.from_pretrained(model, best, device="cpu").encode(tiny.TEXTS)
    theirs = SentenceTransformer(str(saved), device="cpu").encode(list(tiny.TEXTS))
    assert abs(vectors - theirs).max() < 1e-5


def test_the_loss_and_what_the_classifier_reads() -> None:
    assert example("regression_loss.py") == [
        "BertForSequenceClassification, logits (2, 1)",
        "is its loss MSELoss(logits, labels)? True",
        "does its classifier read tanh(W cls + b)? True",
        "with reads='cls', does it read cls? True",
    ]


def test_a_model_without_pooler_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path / "bert", pooler=False)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "regression_loss.py", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "finds no weights there for bert.pooler.dense.bias" in done.stderr
    assert "Traceback" not in done.stderr
