"""The shape of vectors and the mistakes of recipes, against brute force, numpy and scipy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from embedkit import Embedder, Pairs, compare
from embedkit.evaluation.error_analysis import (
    Geometry,
    PairPredictions,
    analyse_errors,
    word_lengths,
    word_overlaps,
    words,
)

FLAT = Geometry(0.0, None, None)


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scales = np.linspace(0.1, 2, dim)
    return (generator.normal(size=(n, dim)) * scales + 0.3).astype(np.float32)


@pytest.mark.parametrize(("n", "dim"), [(30, 8), (8, 30)])
def test_geometry_is_brute_force(n: int, dim: int) -> None:
    x = vectors(n, dim).astype(np.float64)
    found = Geometry.of(x.astype(np.float32))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = [unit[i] @ unit[j] for i in range(n) for j in range(n) if i != j]
    assert found.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-9)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert found.top_share == pytest.approx(singular[0] ** 2 / (singular**2).sum(), abs=1e-9)
    expected = np.exp(scipy.stats.entropy(singular[singular > 1e-9]))
    assert found.effective_rank == pytest.approx(expected, rel=1e-5)


def test_geometry_by_hand() -> None:
    cross = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    found = Geometry.of(cross)
    assert found.mean_cosine == pytest.approx(-4 / 12)  # two opposites of six pairs
    assert found.top_share == pytest.approx(0.5)
    assert found.effective_rank == pytest.approx(2)
    line = Geometry.of(np.array([[1, 1], [2, 2], [4, 4]], dtype=np.float32))
    assert line.mean_cosine == pytest.approx(1)
    assert line.top_share == pytest.approx(1)
    assert line.effective_rank == pytest.approx(1, abs=1e-6)


def test_vectors_that_do_not_differ_have_no_shape() -> None:
    assert Geometry.of(np.ones((5, 3), dtype=np.float32)) == Geometry(pytest.approx(1), None, None)
    assert Geometry.of(np.ones((1, 3), dtype=np.float32)) == Geometry(None, None, None)
    assert Geometry.of(np.zeros((4, 3), dtype=np.float32)) == Geometry(0, None, None)


def test_words_and_overlaps_by_hand() -> None:
    assert words('"A dog, a DOG!" runs -- it\'s') == {"a", "dog", "runs", "it's"}
    assert words("그는 책을 읽고 있다.") == {"그는", "책을", "읽고", "있다"}
    pairs = Pairs.from_columns(
        "x", ["A dog runs.", "", "책을 읽다", "a"], ["a dog", "", "책이 있다", ""], [1, 2, 3, 4]
    )
    assert word_overlaps(pairs).tolist() == [2 / 3, 1, 0, 0]
    assert word_lengths(pairs).tolist() == [2.5, 0, 2, 0.5]


def pairs_of(scores: list[float]) -> Pairs:
    texts = [" ".join(["word"] * (1 + place % 7)) for place in range(len(scores))]
    return Pairs.from_columns("x", texts, texts[::-1], scores)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=60), st.integers(0, 100))
def test_bins_hold_every_pair_once_and_are_scipys(scores: list[int], seed: int) -> None:
    if len(set(scores)) == 1:
        scores = [*scores[1:], scores[0] + 1]
    pairs = pairs_of([float(score) for score in scores])
    x = np.random.default_rng(seed).normal(size=len(scores))
    (found,) = analyse_errors(PairPredictions(pairs, {"mean": x}), {"mean": FLAT}, "mean").recipes
    for bins, by in (
        (found.by_length, word_lengths(pairs)),
        (found.by_overlap, word_overlaps(pairs)),
    ):
        assert sum(one.n for one in bins) == len(scores)
        assert 1 <= len(bins) <= 4
        for one, after in zip(bins, (*bins[1:], None), strict=True):
            inside = (by >= one.low) & (by <= one.high)
            assert inside.sum() == one.n
            assert after is None or one.high < after.low
            gold = pairs.scores[inside]
            if one.n < 3 or np.ptp(gold) == 0:
                assert one.value is None
                assert one.reason is not None
            else:
                expected = scipy.stats.spearmanr(x[inside], gold).statistic
                assert one.value == pytest.approx(expected, abs=1e-9)


def test_quarters_are_about_equal() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(["w"] * int(n)) for n in generator.integers(3, 60, 400)]
    pairs = Pairs.from_columns("x", texts, texts, generator.normal(size=400).tolist())
    (found,) = analyse_errors(PairPredictions(pairs, {"m": pairs.scores}), {"m": FLAT}, "m").recipes
    assert [one.n for one in found.by_length] == pytest.approx([100] * 4, abs=8)


@pytest.mark.thorough
def test_intervals_of_bins_are_scipys() -> None:
    """One bin of each kind, whose pairs scipy resamples too."""
    generator = np.random.default_rng(0)
    n = 120
    pairs = Pairs.from_columns("x", ["a b"] * n, ["b c"] * n, generator.integers(0, 6, n).tolist())
    recipes = {f"r{noise}": pairs.scores + generator.normal(0, noise, n) for noise in (1, 4)}
    predictions = PairPredictions(pairs, recipes)
    found = analyse_errors(predictions, dict.fromkeys(recipes, FLAT), "r1")
    for one in found.recipes:
        (by_length,), (by_overlap,) = one.by_length, one.by_overlap
        assert by_length.ci95 is not None
        assert by_length.ci95 == by_overlap.ci95  # the same pairs, and the same seed
        expected = scipy.stats.bootstrap(
            (recipes[one.recipe], pairs.scores),
            lambda x, y, axis: (
                scipy.stats.pearsonr(
                    scipy.stats.rankdata(x, axis=axis),
                    scipy.stats.rankdata(y, axis=axis),
                    axis=axis,
                ).statistic
            ),
            paired=True,
            vectorized=True,
            n_resamples=3000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert by_length.ci95 == pytest.approx((expected.low, expected.high), abs=0.025)
    assert (
        analyse_errors(predictions, {}, "r1", seed=0).recipes[0].by_length
        == found.recipes[0].by_length
    )
    other = analyse_errors(predictions, {}, "r1", seed=1).recipes[0].by_length
    assert other[0].value == found.recipes[0].by_length[0].value
    assert other[0].ci95 != found.recipes[0].by_length[0].ci95


def test_bins_without_a_value_in_some_resample_have_no_interval() -> None:
    pairs = Pairs.from_columns("x", ["a", "a b", "a b", "a b"], ["a"] * 4, [1, 2, 3, 4])
    x = np.array([1.0, 2, 3, 4])
    (found,) = analyse_errors(PairPredictions(pairs, {"m": x}), {"m": FLAT}, "m").recipes
    assert [(one.n, one.ci95) for one in found.by_length] == [(1, None), (3, None)]
    assert found.by_length[1].value == pytest.approx(1)
    nothing = analyse_errors(PairPredictions(pairs, {"m": np.full(4, np.nan)}), {}, "m")
    assert nothing.recipes == nothing.quoted == ()


def test_the_worst_pairs_by_hand() -> None:
    pairs = pairs_of([1, 2, 3, 4, 5])
    x = np.array([0.1, 0.9, 0.3, 0.4, 0.2])  # ranks 1 5 3 4 2, right are 1 2 3 4 5
    other = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    first, second = analyse_errors(
        PairPredictions(pairs, {"a": x, "b": other}), {"a": FLAT, "b": FLAT}, "b"
    ).recipes
    assert [(miss.pair, miss.prediction, miss.off) for miss in first.worst] == [
        (1, 0.9, 0.75),
        (4, 0.2, -0.75),
    ]
    assert first.disagreements == first.worst
    assert second.worst == second.disagreements == ()


def test_what_is_quoted_is_bounded() -> None:
    n = 300
    texts = [f"{place} " + "가" * 400 for place in range(n)]
    generator = np.random.default_rng(0)
    pairs = Pairs.from_columns("x", texts, texts, generator.normal(size=n).tolist())
    recipes = {f"r{k}": generator.normal(size=n) for k in range(3)}
    found = analyse_errors(PairPredictions(pairs, recipes), dict.fromkeys(recipes, FLAT), "r0")
    for one in found.recipes:
        assert len(one.worst) == 20
        off = [abs(miss.off) for miss in one.worst]
        assert off == sorted(off, reverse=True)
    assert [len(one.disagreements) for one in found.recipes] == [0, 10, 10]
    named = {miss.pair for one in found.recipes for miss in (*one.worst, *one.disagreements)}
    assert {quoted.pair for quoted in found.quoted} == named
    assert {len(quoted.sentence1) for quoted in found.quoted} == {300}
    assert all(quoted.sentence1.endswith("…") for quoted in found.quoted)


def test_a_report_analyses_each_recipe(tmp_path: Path) -> None:
    model = tiny.make_bert(tmp_path, layers=2)
    texts = [text for text in tiny.TEXTS if text]
    pairs = Pairs.from_columns("x", texts, texts[::-1], [1, 2, 3, 4, 5, 2, 3])
    report = compare(model, pairs, ["mean", "cls@0", "max"], similarities=["dot"])
    written = json.loads(report.to_json())["diagnosis"]
    assert [one["dataset"] for one in written] == ["x"]
    assert [one["recipe"] for one in written[0]["recipes"]] == ["mean", "cls@0", "max"]
    for one in written[0]["recipes"]:
        encoded = Embedder.from_pretrained(model, one["recipe"]).encode(texts)
        expected = Geometry.of(encoded)
        assert one["geometry"]["mean_cosine"] == pytest.approx(expected.mean_cosine, abs=1e-6)
        if one["recipe"] == "cls@0":
            assert one["geometry"]["effective_rank"] is expected.effective_rank is None
        else:
            rank = pytest.approx(expected.effective_rank or 0, rel=1e-3)
            assert one["geometry"]["effective_rank"] == rank
