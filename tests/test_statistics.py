"""Correlations, errors and their bootstrap, each against scipy, scikit-learn or arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, mean_squared_error

from embedkit import Pairs
from embedkit.evaluation.bootstrap import Resamples, interval
from embedkit.evaluation.statistics import Value, aggregate, average_ranks, measure
from embedkit.evaluation.sts import Result, difference, score_predictions

Array = NDArray[np.float64]

TIED = st.integers(-3, 3).map(float)
SPREAD = st.floats(-100, 100).map(lambda x: round(x, 3))
PLACES = st.lists(st.tuples(TIED | SPREAD, TIED | SPREAD), min_size=3, max_size=30)

ORACLES: dict[str, Callable[[Array, Array], float]] = {
    "spearman": lambda x, y: float(scipy.stats.spearmanr(x, y).statistic),
    "pearson": lambda x, y: float(scipy.stats.pearsonr(x, y).statistic),
    "mse": lambda x, y: float(mean_squared_error(y, x)),
    "f1": lambda x, y: float(f1_score(y >= 3, x >= 3, zero_division=np.nan)),
}


def oracle(metric: str, x: Array, y: Array) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's, of constant input, where it gives NaN as well
        return ORACLES[metric](x, y)


def columns(rows: list[tuple[float, float]]) -> tuple[Array, Array]:
    x, y = np.array(rows, dtype=np.float64).T
    return x, y


def make_pairs(scores: Array, subsets: list[str] | None = None) -> Pairs:
    texts = [f"text {index}" for index in range(len(scores))]
    return Pairs.from_columns("made", texts, texts, scores.tolist(), subsets)


def draw(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Labels on a scale of 0 to 5 with ties, and predictions of them with noise and ties."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 11, n) / 2
    return np.round(scores + generator.normal(size=n), 1), scores


# One value


@given(st.lists(TIED | SPREAD, min_size=1, max_size=30))
def test_average_ranks_are_scipys(values: list[float]) -> None:
    x = np.array(values)
    np.testing.assert_array_equal(average_ranks(x), scipy.stats.rankdata(x))


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@given(PLACES)
def test_correlations_are_scipys(metric: str, rows: list[tuple[float, float]]) -> None:
    x, y = columns(rows)
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    value, reason = measure(metric, x, y)
    assert reason is None
    assert value == pytest.approx(oracle(metric, x, y), abs=1e-9)


@given(PLACES)
def test_mse_and_f1_are_scikit_learns(rows: list[tuple[float, float]]) -> None:
    x, y = columns(rows)
    assert measure("mse", x, y).value == pytest.approx(oracle("mse", x, y), rel=1e-12)
    expected = oracle("f1", x, y)
    if np.isnan(expected):
        assert measure("f1", x, y, 3.0) == (None, "no score and no prediction is at least 3")
    else:
        assert measure("f1", x, y, 3.0).value == pytest.approx(expected, abs=1e-12)


def test_f1_counts_what_is_at_least_the_threshold() -> None:
    x, y = np.array([3.0, 2.9, 4.0, 1.0]), np.array([3.0, 3.0, 1.0, 0.0])
    assert measure("f1", x, y, 3.0) == (0.5, None)  # 1 hit, 2 guessed, 2 true


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 pairs are too few"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "the similarities are all the same"),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], "the scores are all the same"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], "the similarities are not all finite"),
        ([1.0, np.inf, 3.0], [1.0, 2.0, 3.0], "the similarities are not all finite"),
    ],
)
def test_undefined_correlations_say_why(
    metric: str, x: list[float], y: list[float], reason: str
) -> None:
    assert measure(metric, np.array(x), np.array(y)) == (None, reason)


def test_mse_is_defined_where_correlations_are_not() -> None:
    assert measure("mse", np.array([1.0, 1.0]), np.array([2.0, 4.0])) == (5.0, None)


@pytest.mark.parametrize("metric", ["mse", "f1"])
def test_errors_of_infinite_predictions_are_undefined(metric: str) -> None:
    value = measure(metric, np.array([np.nan, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]), 1.0)
    assert value == (None, "the similarities are not all finite")


def test_aggregates_by_hand() -> None:
    parts = {"x": (1, Value(0.5)), "y": (3, Value(0.9))}
    assert aggregate(parts, "mean").value == pytest.approx(0.7)
    assert aggregate(parts, "wmean").value == pytest.approx(0.8)


def test_one_undefined_subset_makes_the_aggregate_undefined() -> None:
    parts = {"x": (9, Value(0.5)), "y": (2, Value(None, "2 pairs are too few"))}
    assert aggregate(parts, "mean") == (None, "subset y: 2 pairs are too few")


# Resamples


@pytest.mark.parametrize("metric", list(ORACLES))
@settings(max_examples=15, deadline=None)
@given(rows=PLACES, seed=st.integers(0, 1000))
def test_each_resample_is_the_metric_of_its_repeated_pairs(
    metric: str, rows: list[tuple[float, float]], seed: int
) -> None:
    x, y = columns(rows)
    assume(np.ptp(y) > 0)
    resamples = Resamples.of(make_pairs(y), resamples=10, seed=seed)
    values = resamples.values(metric, x, 3.0)
    for value, counts in zip(values, resamples.counts.T.astype(int), strict=True):
        expected = oracle(metric, np.repeat(x, counts), np.repeat(y, counts))
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_resampled_correlations_survive_a_large_offset(metric: str) -> None:
    x, y = draw(50)
    resamples = Resamples.of(make_pairs(y), resamples=20)
    np.testing.assert_allclose(
        resamples.values(metric, x + 1e6), resamples.values(metric, x), atol=1e-8
    )


def test_many_resamples_are_computed_in_chunks_alike() -> None:
    x, y = draw(300)  # 200,000 // 300 resamples go into one chunk
    resamples = Resamples.of(make_pairs(y), resamples=1400)
    values = resamples.values("spearman", x)
    for place in (0, 665, 666, 667, 1332, 1399):
        counts = resamples.counts[:, place].astype(int)
        expected = oracle("spearman", np.repeat(x, counts), np.repeat(y, counts))
        assert values[place] == pytest.approx(expected, abs=1e-12)


def test_a_resample_has_as_many_pairs_of_each_subset() -> None:
    _, y = draw(12)
    subsets = ["x", "y", "y", "z"] * 3
    counts = Resamples.of(make_pairs(y, subsets), resamples=200).counts
    for name, size in (("x", 3), ("y", 6), ("z", 3)):
        drawn = counts[np.array(subsets) == name]
        assert (drawn.sum(0) == size).all()
        assert drawn.mean() == pytest.approx(1)
        assert len(np.unique(drawn, axis=1).T) > 5


def test_the_seed_decides_the_resamples() -> None:
    pairs = make_pairs(draw(20)[1])
    counts = Resamples.of(pairs, resamples=30, seed=1).counts
    np.testing.assert_array_equal(counts, Resamples.of(pairs, resamples=30, seed=1).counts)
    assert (counts != Resamples.of(pairs, resamples=30, seed=2).counts).any()


def test_resamples_within_a_subset_are_its_part() -> None:
    x, y = draw(30)
    chosen = np.arange(30) < 12
    subsets = np.where(chosen, "x", "y").tolist()
    resamples = Resamples.of(make_pairs(y, subsets), resamples=15)
    values = resamples.within(chosen).values("spearman", x[chosen])
    for value, counts in zip(values, resamples.counts[chosen].T.astype(int), strict=True):
        expected = oracle("spearman", np.repeat(x[chosen], counts), np.repeat(y[chosen], counts))
        assert value == pytest.approx(expected, abs=1e-12)


# Intervals


def test_the_interval_is_of_percentiles() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    assert interval(np.array([0.0, np.nan, 1.0])) is None


@pytest.mark.parametrize("metric", list(ORACLES))
def test_the_interval_is_near_scipys_bootstrap(metric: str) -> None:
    x, y = draw(80, seed=3)
    values = Resamples.of(make_pairs(y), resamples=4000).values(metric, x, 3.0)
    expected = scipy.stats.bootstrap(
        (x, y),
        lambda a, b: oracle(metric, a, b),
        n_resamples=1000,
        vectorized=False,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    # Two draws of percentiles; the standard error of each is about a tenth of this.
    width = expected.high - expected.low
    np.testing.assert_allclose(interval(values), (expected.low, expected.high), atol=0.15 * width)


def results(
    x: Array, pairs: Pairs, resamples: Resamples, similarity: str = "head", **more: Any
) -> dict[tuple[str, str], Result]:
    rows = score_predictions("mean", pairs, similarity, x, list(ORACLES), resamples, **more)
    return {(row.metric, row.aggregation): row for row in rows}


def test_results_have_the_intervals_of_their_aggregations() -> None:
    x, y = draw(40)
    subsets = ["x"] * 15 + ["y"] * 25
    resamples = Resamples.of(make_pairs(y, subsets), resamples=100)
    rows = results(x, make_pairs(y, subsets), resamples, threshold=3.0)
    drawn = resamples.counts.T.astype(int)
    for metric in ORACLES:
        of_all, of_x, of_y = (
            np.array([oracle(metric, np.repeat(x[p], c[p]), np.repeat(y[p], c[p])) for c in drawn])
            for p in (slice(0, 40), slice(0, 15), slice(15, 40))
        )
        expected = {
            "all": of_all,
            "mean": (of_x + of_y) / 2,
            "wmean": (15 * of_x + 25 * of_y) / 40,
        }
        for aggregation, values in expected.items():
            assert rows[metric, aggregation].ci95 == pytest.approx(
                tuple(np.percentile(values, [2.5, 97.5])), abs=1e-12
            )
        value_x, value_y = oracle(metric, x[:15], y[:15]), oracle(metric, x[15:], y[15:])
        assert rows[metric, "mean"].value == pytest.approx((value_x + value_y) / 2)
        assert rows[metric, "wmean"].value == pytest.approx((15 * value_x + 25 * value_y) / 40)
        found = rows[metric, "all"].subsets or {}
        assert {name: part.n for name, part in found.items()} == {"x": 15, "y": 25}
        assert found["x"].value == pytest.approx(value_x)


def test_degenerate_resamples_give_a_value_without_an_interval() -> None:
    x, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    pairs = make_pairs(y)  # three pairs: one in nine resamples draws a single one
    rows = results(x, pairs, Resamples.of(pairs, resamples=200), threshold=3.0)
    assert rows["spearman", "all"].value == pytest.approx(0.5)
    assert rows["spearman", "all"].ci95 is None
    assert rows["pearson", "all"].ci95 is None
    assert rows["mse", "all"].ci95 is not None
    assert rows["f1", "all"].ci95 is None


def test_resamples_of_one_score_have_no_correlation() -> None:
    y = np.full(34, 1.3)
    y[0] = 0.2
    x = np.random.default_rng(0).normal(size=34)
    resamples = Resamples.of(make_pairs(y), resamples=200)
    constant = resamples.counts[0] == 0
    assert 0 < constant.sum() < 200
    for metric in ("spearman", "pearson"):
        values = resamples.values(metric, x)
        np.testing.assert_array_equal(np.isfinite(values), ~constant, err_msg=metric)
        assert interval(values) is None


def test_the_difference_is_paired() -> None:
    x, y = draw(40)
    other = np.round(y + np.random.default_rng(9).normal(size=40), 1)
    pairs = make_pairs(y)
    resamples = Resamples.of(pairs, resamples=100)
    first = results(x, pairs, resamples, threshold=3.0)
    second = results(other, pairs, resamples, "line", threshold=3.0)
    for metric in ORACLES:
        found = difference(
            first[metric, "all"], second[metric, "all"], x, other, resamples, threshold=3.0
        )
        by_hand = [
            oracle(metric, np.repeat(x, counts), np.repeat(y, counts))
            - oracle(metric, np.repeat(other, counts), np.repeat(y, counts))
            for counts in resamples.counts.T.astype(int)
        ]
        assert found is not None
        assert found.to == "line"
        assert found.value == pytest.approx(oracle(metric, x, y) - oracle(metric, other, y))
        assert found.ci95 == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])), abs=1e-12)


def test_there_is_no_difference_to_an_undefined_value() -> None:
    x, y = draw(10)
    pairs = make_pairs(y)
    resamples = Resamples.of(pairs, resamples=10)
    constant = np.ones(10)
    first = results(x, pairs, resamples, threshold=3.0)["pearson", "all"]
    second = results(constant, pairs, resamples, "line", threshold=3.0)["pearson", "all"]
    assert second.reason == "the similarities are all the same"
    assert difference(first, second, x, constant, resamples) is None
