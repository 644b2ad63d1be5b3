"""`embedkit index tune`, and tuning while an index is built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused

from embedkit import VectorIndex
from embedkit.retrieval import tune


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    words = ("rain", "cat", "dog", "park", "book", "city", "sun", "train", "news", "bird")
    generator = np.random.default_rng(0)
    path = tmp_path / "corpus.txt"
    path.write_text("".join(" ".join(generator.choice(words, 6)) + "\n" for _ in range(300)))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.make_bert(tmp_path / "bert", layers=1, width=16)


def test_build_and_tune(
    run: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_FLAT", 100)
    index, queries = tmp_path / "index", tmp_path / "queries.txt"
    done = run("index", "build", corpus, "-m", model, "--kind", "auto", "--out", index)
    assert done.code == 0, done.err
    assert "tuned on 300 rows: ef_search " in done.err
    assert "; recall@10 " in done.err
    opened = VectorIndex.open(index)
    assert opened.kind == "hnsw"
    assert opened.tuning is not None
    assert (opened.tuning.target, opened.tuning.queries) == (0.95, 300)
    queries.write_text("a man plays guitar\nrain\n그는 책을 읽고 있다\n", encoding="utf-8")
    info = run("index", "tune", index, "--recall", 0.5, "--queries", queries, "--json").json
    assert (info["tuning"]["target"], info["tuning"]["queries"]) == (0.5, 3)
    assert info["tuning"]["own_queries"] is True
    assert info["ef_search"] == 10
    assert " of the first 10, tuned on 300 rows\n" in run("index", "info", index).out


def test_wrong_arguments(run: Run, corpus: Path, tmp_path: Path) -> None:
    command = ("index", "build", corpus, "-m", tmp_path / "none", "--out", tmp_path / "index")
    assert refused(run(*command, "--recall", 2)) == (
        "recall is 2.0; expected a number above 0, at most 1"
    )
    assert refused(run(*command, "--queries", corpus)) == (
        "got queries without a recall to tune on them; expected both"
    )
    assert refused(run(*command, "--recall", 0.9, "--nprobe", 3)) == (
        "got nprobe or ef_search, and a recall to tune it to; expected one"
    )
    assert "has no index.json" in refused(run("index", "tune", tmp_path / "none"))
    assert refused(run("index", "tune", tmp_path, "-m", "other")) == (
        "got --model without --queries, which it would encode; expected both"
    )
    (tmp_path / "header.csv").write_text("text\n")
    assert "header.csv: has no rows, expected texts" in refused(
        run("index", "tune", tmp_path, "--queries", tmp_path / "header.csv")
    )
