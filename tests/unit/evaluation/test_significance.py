"""Correlations, errors and their bootstrap, each against scipy, scikit-learn or arithmetic."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, mean_squared_error

import embedkit.evaluation.bootstrap
from embedkit import Pairs
from embedkit.evaluation.bootstrap import Resamples, _draw, bootstrap, interval
from embedkit.evaluation.correlation import Value, aggregate, average_ranks, measure, tie_rate
from embedkit.evaluation.pair_scores import Predictions, score_predictions
from embedkit.evaluation.results import Scored
from embedkit.evaluation.significance import (
    against_baseline,
    best_shares,
    difference,
    holm,
    p_value,
)

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


SCALES = [1e-300, 1e-170, 1e170, 1e200, 1e305]


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize("scale", SCALES)
def test_scales_correlations_do_not_depend_on_them(metric: str, scale: float) -> None:
    x, y = draw(40)
    expected = oracle(metric, x, y)
    assert measure(metric, x * scale, y).value == pytest.approx(expected, abs=1e-12)
    assert measure(metric, x, y * scale).value == pytest.approx(expected, abs=1e-12)
    assert measure(metric, x * scale, y * scale).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
@pytest.mark.parametrize("scale", SCALES)
def test_scales_resampled_correlations_do_not_depend_on_them(metric: str, scale: float) -> None:
    x, y = draw(40)
    expected = values_of(metric, x, make_pairs(y), 50)
    scaled = values_of(metric, x * scale, make_pairs(y * scale), 50)
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("outlier", [1e3, 1e9, 1e200])
def test_scales_resamples_without_an_outlier_are_scipys(outlier: float) -> None:
    x, y = draw(40)
    x[7], y[3] = outlier, -outlier
    pairs = make_pairs(y)
    values, all_counts = values_of("pearson", x, pairs, 100), counts_of(pairs, 100)
    without = (all_counts[:, [3, 7]] == 0).all(1)
    assert 5 < without.sum() < 30
    for value, counts in zip(values[without], all_counts[without], strict=True):
        expected = oracle("pearson", np.repeat(x, counts), np.repeat(y, counts))
        assert value == pytest.approx(expected, abs=1e-6)


def test_scales_squared_errors_that_overflow_are_no_value() -> None:
    x, y = draw(40)
    assert measure("mse", x * 1e200, y) == Value(None, "the squared errors are not finite")


def test_scales_errors_on_small_labels_differ_as_on_large_ones() -> None:
    x, y = draw(60)
    worse = x + np.random.default_rng(1).normal(size=60)
    for scale in (1e-6, 1, 1e6):
        pairs = make_pairs(y * scale)
        scored = score(pairs, {"own": x * scale, "worse": worse * scale}, ("mse",), resamples=200)
        (row,) = [row for row in against_baseline(scored, "own") if row.recipe == "worse"]
        assert row.baseline is not None
        difference = mean_squared_error(y, worse) - mean_squared_error(y, x)
        assert row.baseline.value == pytest.approx(difference * scale**2)
        assert row.best_share == 0


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


def test_the_tie_rate_counts_values_that_are_there_twice() -> None:
    assert tie_rate(np.array([1.0, 2.0, 1.0, 3.0, 3.0, 3.0, 4.0, 5.0])) == 5 / 8
    assert tie_rate(np.array([1.0, 2.0])) == 0


# Resamples


def counts_of(pairs: Pairs, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """(resamples, n)"""
    counts = bootstrap(pairs, lambda block: block.counts, resamples, seed)
    return counts.T.astype(int)


def cancelled(values: Array, counts: NDArray[np.int64]) -> float:
    """The range of all over the standard deviation of a resample; 1 where that has none."""
    deviation = np.repeat(values, counts).std()
    return max(1.0, np.ptp(values) / deviation) if deviation > 0 else 1.0


def values_of(
    metric: str, x: Array, pairs: Pairs, resamples: int, seed: int = 0, threshold: float = 3.0
) -> Array:
    def statistic(block: Resamples) -> Array:
        return block.values(metric, x[None], threshold)[0]

    return bootstrap(pairs, statistic, resamples, seed)


@pytest.mark.parametrize("metric", list(ORACLES))
@settings(max_examples=15, deadline=None)
@given(rows=PLACES, seed=st.integers(0, 1000))
def test_each_resample_is_the_metric_of_its_repeated_pairs(
    metric: str, rows: list[tuple[float, float]], seed: int
) -> None:
    x, y = columns(2 * rows)
    assume(np.ptp(y) > 0)
    pairs = make_pairs(y)
    values = values_of(metric, x, pairs, 10, seed)
    for value, counts in zip(values, counts_of(pairs, 10, seed), strict=True):
        expected = oracle(metric, np.repeat(x, counts), np.repeat(y, counts))
        # Sums of products cancel where a resample varies less than the whole does.
        close = min(1e-10, 1e-12 * max(cancelled(each, counts) for each in (x, y)))
        np.testing.assert_allclose(value, expected, rtol=close, atol=close)


@pytest.mark.parametrize("metric", list(ORACLES))
def test_many_predictions_at_once_are_as_one_by_one(metric: str) -> None:
    x, y = draw(40)
    several = np.stack([x, -x, np.round(x)])
    pairs = make_pairs(y)
    together = bootstrap(pairs, lambda block: block.values(metric, several, 3.0), 50)
    for values, predictions in zip(together, several, strict=True):
        np.testing.assert_allclose(values, values_of(metric, predictions, pairs, 50), atol=1e-14)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_resampled_correlations_survive_a_large_offset(metric: str) -> None:
    x, y = draw(50)
    pairs = make_pairs(y)
    np.testing.assert_allclose(
        values_of(metric, x + 1e6, pairs, 20), values_of(metric, x, pairs, 20), atol=1e-8
    )


def test_many_resamples_are_drawn_in_blocks_of_bounded_size() -> None:
    x, y = draw(300)
    pairs = make_pairs(y)
    widths: list[int] = []

    def statistic(block: Resamples) -> Array:
        widths.append(block.counts.shape[1])
        return block.values("spearman", x[None])[0]

    values = bootstrap(pairs, statistic, 1400)
    assert sorted(widths) == [68, 666, 666]  # 200,000 // 300
    counts = counts_of(pairs, 1400)
    for place in (0, 665, 666, 667, 1332, 1399):
        expected = oracle("spearman", np.repeat(x, counts[place]), np.repeat(y, counts[place]))
        assert values[place] == pytest.approx(expected, abs=1e-12)


def test_memory_threads_are_as_many_as_their_blocks_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are those of a seed, whatever the number of threads."""
    x, y = draw(3000)
    pairs, found = make_pairs(y), []
    alive, most, lock = 0, 0, threading.Lock()

    def statistic(block: Resamples) -> Array:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        values = block.values("spearman", x[None])[0]
        with lock:
            alive -= 1
        return values

    block_bytes = 8 * 3000 * 66
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for memory, threads in ((1, 1), (8 * block_bytes, 1), (3 * 8 * block_bytes, 3), (1 << 40, 64)):
        monkeypatch.setattr(embedkit.evaluation.bootstrap, "_MEMORY", memory)
        most = 0
        found.append(bootstrap(pairs, statistic, 1000))
        assert 1 <= most <= threads
    for values in found[1:]:
        np.testing.assert_array_equal(values, found[0])


def test_memory_a_block_of_many_pairs_is_drawn_in_parts() -> None:
    """The same draws as at once, with an odd number of resamples too."""
    n, resamples = 30_001, 17
    drawn = np.random.default_rng(np.random.SeedSequence(5).spawn(1)[0]).integers(n, size=(n, 16))
    expected = np.stack([np.bincount(column, minlength=n) for column in drawn.T])
    np.testing.assert_array_equal(counts_of(make_pairs(draw(n)[1]), 16, 5), expected)
    strata = [np.arange(0, n, 2), np.arange(1, n, 2)]
    counts = _draw(strata, resamples, np.random.default_rng(5))
    whole = np.random.default_rng(5)
    for places in strata:
        drawn = whole.integers(len(places), size=(len(places), resamples))
        expected = np.stack([np.bincount(column, minlength=len(places)) for column in drawn.T])
        np.testing.assert_array_equal(counts[places].T, expected)


def test_a_resample_has_as_many_pairs_of_each_subset() -> None:
    _, y = draw(12)
    subsets = ["x", "y", "y", "z"] * 3
    counts = counts_of(make_pairs(y, subsets), 200)
    # Those of fewer than six pairs are one, for a subset of one pair would never vary.
    for names, size in ((["x", "z"], 6), (["y"], 6)):
        drawn = counts[:, np.isin(subsets, names)]
        assert (drawn.sum(1) == size).all()
        assert drawn.mean(0) == pytest.approx(np.ones(size), abs=0.3), drawn.mean(0)
        assert len(np.unique(drawn, axis=0)) > 5


def test_counts_are_those_of_a_multinomial_draw() -> None:
    counts = counts_of(make_pairs(draw(20)[1]), 4000)
    assert counts.mean(0) == pytest.approx(np.ones(20), abs=0.06)  # standard error 0.0154
    assert counts.var() == pytest.approx(1 - 1 / 20, abs=0.02)
    assert np.cov(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-1 / 20, abs=0.06)


def test_the_seed_decides_the_resamples() -> None:
    pairs = make_pairs(draw(20)[1])
    counts = counts_of(pairs, 30, seed=1)
    np.testing.assert_array_equal(counts, counts_of(pairs, 30, seed=1))
    assert (counts != counts_of(pairs, 30, seed=2)).any()


def test_resamples_within_a_subset_are_its_part() -> None:
    x, y = draw(30)
    chosen = np.arange(12)
    pairs = make_pairs(y, ["x"] * 12 + ["y"] * 18)
    values = bootstrap(
        pairs, lambda block: block.within(chosen).values("spearman", x[None, chosen])[0], 15
    )
    for value, counts in zip(values, counts_of(pairs, 15)[:, chosen], strict=True):
        expected = oracle("spearman", np.repeat(x[chosen], counts), np.repeat(y[chosen], counts))
        assert value == pytest.approx(expected, abs=1e-12)


# Intervals


def test_the_interval_is_of_percentiles() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    assert interval(np.array([0.0, np.nan, 1.0])) is None


@pytest.mark.thorough
@pytest.mark.parametrize("metric", list(ORACLES))
def test_the_interval_is_near_scipys_bootstrap(metric: str) -> None:
    x, y = draw(80, seed=3)
    values = values_of(metric, x, make_pairs(y), 4000)
    expected = scipy.stats.bootstrap(
        (x, y),
        lambda a, b: oracle(metric, a, b),
        n_resamples=500,
        vectorized=False,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    # Two draws of percentiles; the standard error of each is about a tenth of this.
    width = expected.high - expected.low
    np.testing.assert_allclose(interval(values), (expected.low, expected.high), atol=0.15 * width)


@pytest.mark.thorough
def test_the_interval_of_a_difference_is_near_scipys_bootstrap() -> None:
    x, y = draw(80, seed=3)
    other = np.round(y + 2 * np.random.default_rng(9).normal(size=80), 1)
    one, two = score(make_pairs(y), {"a": x, "b": other}, resamples=4000)
    found = difference(one, two, "b")
    assert found.ci95 is not None
    expected = scipy.stats.bootstrap(
        (x, other, y),
        lambda a, b, c: oracle("spearman", a, c) - oracle("spearman", b, c),
        n_resamples=1000,
        vectorized=False,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = expected.confidence_interval
    np.testing.assert_allclose(found.ci95, (low, high), atol=0.15 * (high - low))
    # The same p-value from scipy's resamples, drawn otherwise.
    assert found.p is not None
    assert found.p == pytest.approx(p_value(expected.bootstrap_distribution), abs=0.03)


def score(
    pairs: Pairs,
    predictions: dict[str, Array],
    metrics: tuple[str, ...] = ("spearman",),
    resamples: int = 100,
) -> list[Scored]:
    return score_predictions(
        pairs,
        [Predictions(name, "cosine", x, metrics) for name, x in predictions.items()],
        threshold=3.0,
        resamples=resamples,
    )


@pytest.mark.thorough
def test_results_have_the_intervals_of_their_aggregations() -> None:
    x, y = draw(40)
    subsets = ["x"] * 15 + ["y"] * 25
    pairs = make_pairs(y, subsets)
    scored = score(pairs, {"mean": x}, tuple(ORACLES))
    rows = {(one.metric, one.aggregation): one for one, _ in scored}
    drawn = counts_of(pairs, 100)
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
    assert all(row.ties == tie_rate(x) for row in rows.values())


def test_degenerate_resamples_give_a_value_without_an_interval() -> None:
    x, y = np.array([1.0, 2.0, 2.0] * 2), np.array([1.0, 3.0, 1.0] * 2)
    # A resample in eleven draws no pair with the label 3.
    scored = score(make_pairs(y), {"mean": x}, tuple(ORACLES), resamples=200)
    rows = {one.metric: one for one, _ in scored}
    assert rows["spearman"].value == pytest.approx(0.5)
    for metric in ("spearman", "pearson", "f1"):
        assert (rows[metric].ci95, rows[metric].reason) == (None, "some resamples have no value")
    assert rows["mse"].ci95 is not None
    assert rows["mse"].reason is None


@pytest.mark.parametrize("n", [3, 5])
def test_few_pairs_have_no_interval(n: int) -> None:
    """Five pairs cannot show a difference at the 5 % level, whatever the test."""
    y = np.arange(n, dtype=np.float64)
    scored = score(make_pairs(y), {"mean": y + 1, "cls": y}, ("mse",), resamples=200)
    assert [one.value for one, _ in scored] == [1, 0]
    for one, _ in scored:
        assert (one.ci95, one.reason) == (None, "fewer than 6 samples are too few")
    delta = difference(scored[0], scored[1], "cls")
    assert (delta.value, delta.p, delta.reason) == (1, None, "fewer than 6 samples are too few")


def test_pairs_with_a_subset_each_vary_as_pairs_without_subsets() -> None:
    x, y = draw(40)
    (alone, _), *_ = score(make_pairs(y), {"mean": x}, ("spearman",))
    subsets = [str(index) for index in range(40)]
    rows = [one for one, _ in score(make_pairs(y, subsets), {"mean": x}, ("spearman",))]
    assert (rows[0].aggregation, rows[0].ci95) == ("all", alone.ci95)


def test_a_mean_over_small_subsets_has_no_interval() -> None:
    x, y = draw(40)
    rows = [one for one, _ in score(make_pairs(y, ["x"] * 36 + ["y"] * 4), {"mean": x}, ("mse",))]
    assert [row.ci95 is None for row in rows] == [False, True, True]
    assert [row.reason for row in rows] == [None, *["fewer than 6 samples are too few"] * 2]
    assert rows[1].value == pytest.approx(
        (((x - y) ** 2)[:36].mean() + ((x - y) ** 2)[36:].mean()) / 2
    )


def test_resamples_of_one_score_have_no_correlation() -> None:
    y = np.full(34, 1.3)
    y[0] = 0.2
    x = np.random.default_rng(0).normal(size=34)
    pairs = make_pairs(y)
    constant = counts_of(pairs, 200)[:, 0] == 0
    assert 0 < constant.sum() < 200
    for metric in ("spearman", "pearson"):
        values = values_of(metric, x, pairs, 200)
        np.testing.assert_array_equal(np.isfinite(values), ~constant, err_msg=metric)
        assert interval(values) is None


# Differences


def test_the_difference_is_paired() -> None:
    x, y = draw(40)
    other = np.round(y + np.random.default_rng(9).normal(size=40), 1)
    pairs = make_pairs(y)
    scored = score(pairs, {"a": x, "b": other}, tuple(ORACLES))
    rows = {(one.result.recipe, one.result.metric): one for one in scored}
    for metric in ORACLES:
        found = difference(rows["a", metric], rows["b", metric], "b")
        by_hand = [
            oracle(metric, np.repeat(x, counts), np.repeat(y, counts))
            - oracle(metric, np.repeat(other, counts), np.repeat(y, counts))
            for counts in counts_of(pairs, 100)
        ]
        assert found.to == "b"
        assert found.value == pytest.approx(oracle(metric, x, y) - oracle(metric, other, y))
        assert found.ci95 == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])), abs=1e-12)
        assert found.p == p_value(np.array(by_hand))
        assert found.reason is None


def test_there_is_no_difference_to_an_undefined_value() -> None:
    x, y = draw(10)
    scored = score(make_pairs(y), {"a": x, "b": np.ones(10)}, ("pearson",), resamples=10)
    assert scored[1].result.reason == "the similarities are all the same"
    found = difference(*scored, "b")
    assert (found.value, found.ci95, found.p) == (None, None, None)
    assert found.reason == "b has no value"


def test_the_p_value_by_hand() -> None:
    differences = np.array([1.0] * 95 + [-1.0] * 3 + [0.0])
    assert p_value(differences) == 2 * (4 + 1) / 100
    assert p_value(-differences) == p_value(differences)
    assert p_value(np.ones(99)) == 2 / 100  # never 0
    assert p_value(np.zeros(99)) == 1  # no difference at all


@given(st.lists(st.floats(-1, 1), min_size=40, max_size=200), st.floats(-1, 1))
def test_the_p_value_agrees_with_the_interval(draws: list[float], shift: float) -> None:
    values = np.array(draws) + shift
    low, high = np.percentile(values, [2.5, 97.5])
    p = p_value(values)
    if p < 0.05:
        assert not low < 0 < high
    if low > 0 or high < 0:
        assert p <= 0.05 + 4 / (len(values) + 1)  # two draws on each side of a percentile


@pytest.mark.thorough
def test_under_no_difference_p_values_are_uniform() -> None:
    """Two predictions of the same worth: p < 0.05 in about one of twenty draws."""
    small = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        y = generator.normal(size=60)
        noise = generator.normal(size=(2, 60))
        one, two = score(make_pairs(y), dict(zip("ab", y + noise, strict=True)), resamples=200)
        p = difference(one, two, "b").p
        assert p is not None
        small += p < 0.05
    assert 2 <= small <= 20  # 10 are expected; the 0.1 and 99.9 % points of the binomial: 2, 21


def test_holms_correction_by_hand() -> None:
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1; the last two may not fall below 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
def test_holms_correction_rejects_step_by_step(p_values: list[float]) -> None:
    """The definition (Holm 1979): go on while the k-th smallest p is below level / (m - k + 1)."""
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected: set[int] = set()
        for k, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[number] * (len(p_values) - k) > level:
                break
            rejected.add(number)
        assert {number for number, p in enumerate(corrected) if p <= level} == rejected


def test_best_shares_by_hand() -> None:
    values = np.array([[3.0, 1.0, 2.0, 0.0], [3.0 + 1e-9, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    third = 1 / 3
    expected = [(0.5 + 0 + 1 + third) / 4, (0.5 + 1 + 0 + third) / 4, third / 4]
    assert best_shares(values) == pytest.approx(expected)


def test_recipes_are_held_against_the_baseline() -> None:
    x, y = draw(60)
    worse = x + 3 * np.random.default_rng(1).normal(size=60)
    predictions = {"worse": worse, "own": x, "same": 2 * x, "none": np.ones(60), "worst": -x}
    pairs = make_pairs(y)
    scored = score(pairs, predictions, resamples=500)
    judged = {row.recipe: row for row in against_baseline(scored, "own")}
    by_name = {one.result.recipe: one for one in scored}

    assert judged["own"].baseline is None
    same = judged["same"].baseline
    assert same is not None
    assert (same.value, same.ci95, same.p) == (0, (0, 0), 1)
    none = judged["none"].baseline
    assert none is not None
    assert (none.value, none.p, none.p_holm, none.reason) == (None, None, None, "none has no value")

    tested = [difference(by_name[name], by_name["own"], "own") for name in ("worse", "worst")]
    p_values = [found.p or 0 for found in tested] + [1.0]  # three: the undefined one is outside
    for name, p_holm in zip(("worse", "worst"), holm(p_values), strict=False):
        found = judged[name].baseline
        assert found is not None
        assert found.to == "own"
        assert found.p_holm == p_holm

    values = np.stack([one.resampled for one in scored if one.resampled is not None])
    shares = dict(zip(("worse", "own", "same", "worst"), best_shares(values), strict=True))
    assert {name: row.best_share for name, row in judged.items() if name != "none"} == shares
    assert shares["own"] == shares["same"]
    assert judged["none"].best_share is None


def test_recipes_are_corrected_over_their_own_family() -> None:
    """Each dataset, similarity, metric and aggregation is one; mse is better where it is lower."""
    x, y = draw(40)
    pairs = make_pairs(y, ["x"] * 20 + ["y"] * 20)
    scored = score(pairs, {"own": x, "off": x + 2}, ("spearman", "mse"), resamples=200)
    rows = [row for row in against_baseline(scored, "own") if row.recipe == "off"]
    assert len(rows) == 6
    for row in rows:
        assert row.baseline is not None
        assert row.baseline.p_holm == row.baseline.p  # the only one of its family
        assert row.best_share == (0.5 if row.metric == "spearman" else 0)
