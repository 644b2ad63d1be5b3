"""Duplicates and pairs against brute force in float64 and sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from sentence_transformers.util import paraphrase_mining_embeddings

from embedkit import (
    Corpus,
    Embedder,
    InputError,
    Vectors,
    encode_corpus,
    find_duplicates,
    mine_paraphrases,
)
from embedkit.retrieval import duplicates as module


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 32)
    monkeypatch.setattr(module, "_COLUMNS", 48)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16))


def clustered(rows: int) -> np.ndarray:
    """(rows, 16) float32: some 40 directions with noise, of any length."""
    generator = np.random.default_rng(rows)
    centres = generator.normal(size=(40, 16))
    noise = generator.normal(scale=0.2, size=(rows, 16))
    lengths = generator.uniform(0.1, 9, size=(rows, 1))
    return ((centres[generator.integers(40, size=rows)] + noise) * lengths).astype(np.float32)


def cosines(vectors: np.ndarray) -> np.ndarray:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact @ exact.T


def leaders_by_hand(scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    leaders = []
    for row in range(len(scores)):
        near = scores[row, kept]
        if len(kept) and near.max() >= threshold:
            leaders.append(kept[int(near.argmax())])
        else:
            kept.append(row)
            leaders.append(row)
    return leaders


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97])
def test_each_row_joins_the_most_similar_row_that_is_kept(threshold: float) -> None:
    vectors = clustered(300)
    before = vectors.copy()
    found = find_duplicates(vectors, threshold=threshold)
    scores = cosines(vectors)
    assert found.representatives.tolist() == leaders_by_hand(scores, threshold)
    rows = np.arange(300)
    assert found.scores == pytest.approx(scores[rows, found.representatives], abs=1e-6)
    assert 1 < len(found.kept) < 300
    assert [group[0] for group in found.groups] == sorted({group[0] for group in found.groups})
    assert sum(map(len, found.groups)) - len(found.groups) == 300 - len(found.kept)
    assert (vectors == before).all()


def test_groups_do_not_grow_by_chains() -> None:
    angles = np.deg2rad([0, 20, 40, 60, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Neighbours have a cosine of 0.94, the ends of three of 0.77.
    assert find_duplicates(vectors, threshold=0.9).groups == [[0, 1], [2, 3]]


def test_a_threshold_of_one_takes_equal_directions_only() -> None:
    vectors = np.concatenate([clustered(50)] * 2)
    vectors[50:] *= 3
    found = find_duplicates(vectors, threshold=1)
    assert found.groups == [[row, row + 50] for row in range(50)]
    assert found.scores.max() == 1


def test_equal_texts_are_found_without_their_vectors(embedder: Embedder, tmp_path: Path) -> None:
    texts = ["rain", "그는 책을 읽고 있다", "rain", "the cat reads a book slowly", "rain"]
    found = find_duplicates(texts, embedder, threshold=1)
    assert (found.groups, found.exact) == ([[0, 2, 4]], 2)
    assert found.scores.tolist() == [1] * 5
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    encode_corpus(embedder, Corpus(tmp_path / "texts.txt"), tmp_path / "vectors")
    stored = find_duplicates(Vectors.open(tmp_path / "vectors"), threshold=1)
    assert (stored.groups, stored.exact) == ([[0, 2, 4]], 2)
    loose = find_duplicates(texts, embedder, threshold=-1)
    near = cosines(embedder.encode(texts))[0]
    assert loose.groups == [[0, 1, 2, 3, 4]]
    assert loose.scores == pytest.approx(near, abs=1e-6)


@pytest.mark.usefixtures("small_blocks")
def test_pairs_are_those_of_sentence_transformers() -> None:
    vectors = clustered(200)
    wanted = paraphrase_mining_embeddings(vectors, top_k=199, max_pairs=500)
    found = mine_paraphrases(vectors, max_pairs=500)
    assert {pair[1:] for pair in found} == {tuple(sorted(pair[1:])) for pair in wanted}
    assert [x.score for x in found] == pytest.approx([x[0] for x in wanted], abs=1e-6)
    few = paraphrase_mining_embeddings(vectors, top_k=3)
    nearest = mine_paraphrases(vectors, top_k=3)
    assert {pair[1:] for pair in nearest} == {tuple(sorted(pair[1:])) for pair in few}
    assert len(nearest) == len({pair[1:] for pair in nearest})


@pytest.mark.usefixtures("small_blocks")
def test_pairs_from_a_threshold_on() -> None:
    vectors = clustered(200)
    scores = cosines(vectors)
    above = int((scores[np.triu_indices(200, 1)] >= 0.9).sum())
    found = mine_paraphrases(vectors, threshold=0.9)
    assert len(found) == above > 100
    for score, first, second in found:
        assert first < second
        assert score == pytest.approx(scores[first, second], abs=1e-6)
    assert found == sorted(found, key=lambda pair: (-pair.score, pair.first, pair.second))
    assert mine_paraphrases(vectors, threshold=0.9, max_pairs=7) == found[:7]
    assert mine_paraphrases(vectors[:1]) == []


def test_equals_share_the_places_of_the_nearest() -> None:
    vectors = np.ones((9, 4))
    pairs = mine_paraphrases(vectors, top_k=2)
    partners = [sum(row in pair[1:] for pair in pairs) for row in range(9)]
    assert min(partners) >= 2
    assert {pair.score for pair in pairs} == {1.0}


def test_wrong_arguments(embedder: Embedder) -> None:
    vectors = clustered(4)
    with pytest.raises(InputError, match=r"threshold is 90; expected a cosine, from -1 to 1"):
        find_duplicates(vectors, threshold=90)
    with pytest.raises(InputError, match="got texts and no embedder"):
        find_duplicates(["rain"])
    with pytest.raises(InputError, match="got prompt with items that are vectors; expected texts"):
        find_duplicates(vectors, prompt="query: ")
    with pytest.raises(InputError, match="items: got nan in row 1"):
        mine_paraphrases(np.array([[1.0], [np.nan]]))
    with pytest.raises(InputError, match=r"items\[1\]: got None, expected a str"):
        mine_paraphrases(["rain", None], embedder)  # type: ignore[list-item]
    with pytest.raises(InputError, match="top_k is 0; expected a whole number from 1"):
        mine_paraphrases(vectors, top_k=0)
    with pytest.raises(InputError, match="items is one str"):
        find_duplicates("rain", embedder)


def test_rounding_above_1_orders_no_equal_pairs() -> None:
    from embedkit.retrieval.duplicates import _BestPairs

    best = _BestPairs(9, -1.0)
    scores = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    best.add(scores, np.array([0, 2]), np.array([1, 3]))
    assert best.pairs == [(1.0, 0, 1), (1.0, 2, 3)]
