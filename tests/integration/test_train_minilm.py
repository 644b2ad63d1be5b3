"""A minute of each training on a real model, all-MiniLM-L6-v2, and the pairs that ship here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from embedkit import (
    CrossEncoder,
    Embedder,
    Pairs,
    TrainingSettings,
    evaluate,
    read_pairs,
    train_bi_encoder,
    train_cross_encoder,
    train_masked_lm,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def halves() -> tuple[Pairs, Pairs]:
    """To learn from, and held out; every other pair."""
    pairs = read_pairs("first_look")
    return part("even", pairs, 0), part("odd", pairs, 1)


def part(name: str, pairs: Pairs, start: int) -> Pairs:
    return Pairs(name, pairs.sentence1[start::2], pairs.sentence2[start::2], pairs.scores[start::2])


def spearman(model: CrossEncoder | Embedder, pairs: Pairs) -> float:
    (row,) = (
        row
        for row in evaluate(model, pairs).results
        if (row.metric, row.aggregation) == ("spearman", "all")
    )
    assert row.value is not None
    return row.value


def test_cross_encoder(halves: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    learnt, held_out = halves
    settings = TrainingSettings(
        epochs=4, batch_size=8, learning_rate=2e-4, evaluations=1, device="cpu"
    )
    trained = train_cross_encoder([learnt], held_out, tmp_path / "out", settings=settings)
    both = list(zip(learnt.sentence1, learnt.sentence2, strict=True))
    predictions = trained.predict(both)
    assert scipy.stats.pearsonr(predictions, learnt.scores).statistic > 0.7
    assert np.mean((predictions - learnt.scores) ** 2) < 0.7 * learnt.scores.var()


def test_bi_encoder(halves: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    learnt, held_out = halves
    before = Embedder.from_pretrained(precision="float32")
    settings = TrainingSettings(
        epochs=3, batch_size=8, learning_rate=5e-5, evaluations=1, device="cpu"
    )
    trained = train_bi_encoder([learnt], held_out, tmp_path / "out", settings=settings)
    assert str(trained.recipe) == "mean/normalize"
    assert spearman(trained, learnt) > spearman(before, learnt)


def test_masked_lm(halves: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    """MiniLM has no masked-LM head: a new one learns the words that are there."""
    texts = [text for pairs in halves for text in (*pairs.sentence1, *pairs.sentence2)]
    settings = TrainingSettings(
        epochs=1, batch_size=8, learning_rate=2e-4, evaluations=1, device="cpu"
    )
    result = train_masked_lm(texts, tmp_path / "out", new_head=True, settings=settings)
    assert result.new_head
    assert result.after < 0.5 * result.before
    assert str(Embedder.from_pretrained(tmp_path / "out").recipe) == "mean/normalize"
