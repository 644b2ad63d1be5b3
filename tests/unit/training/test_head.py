"""Training of heads: folds, cross-validated scores, and the cosine that they are compared to."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import KFold

from embedkit import Embedder, PairRegressor, Pairs
from embedkit.encoders.packed import PackedEncoder
from embedkit.training.head import FOLDS, folds, train_head

WORDS = ("man", "woman", "dog", "bird", "city", "rain", "sun", "music", "book", "plays")


def make_pairs(name: str, n: int, texts: int, seed: int = 0) -> Pairs:
    """Pairs among `texts` sentences; the score is how many words both have."""
    generator = np.random.default_rng(seed)
    sentences = [
        f"{' '.join(generator.choice(WORDS, 3, replace=False))} {number}" for number in range(texts)
    ]
    first, second = (generator.choice(sentences, n) for _ in range(2))
    scores = [
        float(len(set(a.split()) & set(b.split()))) for a, b in zip(first, second, strict=True)
    ]
    return Pairs.from_columns(name, first.tolist(), second.tolist(), scores)


APART, CONNECTED = make_pairs("apart", 40, 500), make_pairs("connected", 40, 15)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16, seed=4)
    return Embedder.from_pretrained(folder, "mean", device="cpu", precision="float32")


@given(
    n=st.integers(10, 60),
    texts=st.integers(3, 200),
    seed=st.integers(0, 99),
)
def test_no_sentence_is_on_both_sides(n: int, texts: int, seed: int) -> None:
    sentences = np.random.default_rng(seed).integers(0, texts, (2, n))
    parts, grouped = folds(sentences, seed)
    assert len(parts) == FOLDS
    assert sorted(np.concatenate([predicted for _, predicted in parts])) == list(range(n))
    for learnt, predicted in parts:
        assert sorted([*learnt, *predicted]) == list(range(n))
        if grouped:
            assert not set(sentences[:, learnt].ravel()) & set(sentences[:, predicted].ravel())
    again, _ = folds(sentences, seed)
    assert all(
        np.array_equal(one, other)
        for pair in zip(parts, again, strict=True)
        for one, other in zip(*pair, strict=True)
    )


def test_when_pairs_are_grouped() -> None:
    chain = np.stack([np.arange(20), np.arange(1, 21)])  # each pair shares a sentence with the next
    assert folds(chain, 0)[1] is False
    two_chains = np.concatenate([chain, chain + 100], axis=1)
    assert folds(two_chains, 0)[1] is False
    singles = np.stack([np.arange(20), np.arange(20, 40)])
    assert folds(singles, 0)[1] is True
    assert folds(np.concatenate([chain + 100, singles], axis=1), 0)[1] is True  # just a half


@pytest.mark.parametrize("kind", ["ridge", "isotonic"])
def test_cross_validated_scores_are_those_by_hand(embedder: Embedder, kind: str) -> None:
    """Those of heads that are trained fold by fold; of connected pairs the folds are KFold's."""
    head = PairRegressor(embedder, head=kind, seed=3)
    outcome = train_head(head, [CONNECTED], show_progress=False)
    pairs = list(zip(CONNECTED.sentence1, CONNECTED.sentence2, strict=True))
    predictions = np.empty(40)
    for learnt, predicted in KFold(5, shuffle=True, random_state=3).split(pairs):
        own = PairRegressor(embedder, head=kind, seed=3)
        own.fit([pairs[row] for row in learnt], CONNECTED.scores[learnt])
        predictions[predicted] = own.predict([pairs[row] for row in predicted])
    assert outcome.report is not None
    values = {row.metric: row.value for row in outcome.report.results}
    expected = {
        "spearman": scipy.stats.spearmanr(predictions, CONNECTED.scores).statistic,
        "pearson": scipy.stats.pearsonr(predictions, CONNECTED.scores).statistic,
        "mse": mean_squared_error(CONNECTED.scores, predictions),
    }
    assert values == pytest.approx(expected, abs=1e-4)
    assert outcome.report.datasets == ["connected (cross-validated)"]
    assert outcome.notes == (("by_pair", {"folds": 5}),)
    cosines = embedder.similarity_pairwise(
        embedder.encode(list(CONNECTED.sentence1)), embedder.encode(list(CONNECTED.sentence2))
    )
    cosine = scipy.stats.spearmanr(cosines, CONNECTED.scores).statistic
    (delta,) = outcome.deltas
    assert delta.before == pytest.approx(cosine, abs=1e-4)
    assert delta.difference.value == pytest.approx(expected["spearman"] - cosine, abs=1e-4)
    # The head itself learnt from all pairs.
    whole = PairRegressor(embedder, head=kind, seed=3).fit(pairs, CONNECTED.scores)
    np.testing.assert_allclose(head.predict(pairs), whole.predict(pairs), atol=1e-5)


def test_texts_are_encoded_once(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    own = PackedEncoder.__call__

    def count(self: PackedEncoder, batch: object, *args: object, **options: object) -> object:
        read.append(len(batch.offsets) - 1)  # type: ignore[attr-defined]
        return own(self, batch, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PackedEncoder, "__call__", count)
    outcome = train_head(PairRegressor(embedder), [APART], show_progress=False)
    assert sum(read) == len({*APART.sentence1, *APART.sentence2})
    assert outcome.notes[0][0] == "by_sentence"


def test_the_same_every_time(embedder: Embedder) -> None:
    one, other = (
        train_head(PairRegressor(embedder, head="mlp", seed=2), [APART], show_progress=False)
        for _ in range(2)
    )
    assert one.report is not None
    assert other.report is not None
    assert one.report.results == other.report.results


def test_several_sets_are_validated_together(embedder: Embedder) -> None:
    """Also where they have the same name."""
    sets = [APART, make_pairs("apart", 30, 500, seed=1)]
    outcome = train_head(PairRegressor(embedder), sets, show_progress=False)
    assert outcome.report is not None
    assert {row.n for row in outcome.report.results} == {70}
    assert outcome.report.datasets == ["apart, apart (cross-validated)"]


def test_too_few_pairs_for_folds(embedder: Embedder) -> None:
    few = make_pairs("few", 11, 500)
    outcome = train_head(PairRegressor(embedder), [few], show_progress=False)
    assert (outcome.report, outcome.decision, outcome.in_words("en")) == (None, "none", "")
    (note,) = outcome.notes_in("en")
    assert note.startswith("Not scored: without --dev the head is cross-validated, and a fold has ")
    assert "(got 8 scored pairs; this head needs at least 10)" in note
