"""Spearman's correlation in resamples, beside scipy's on the pairs that each resample repeats."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from embedkit.evaluation.resampled_spearman import Order, Orders, resampled_spearman

pytestmark = pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")


@pytest.mark.parametrize("n", [3, 16, 17, 50])
def test_values_are_those_of_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    scores = random.integers(0, 4, n).astype(float)
    free = random.normal(size=n)
    predictions = np.stack([free, np.round(free), free**3, np.full(n, 0.5), -scores])
    counts = random.multinomial(n, np.full(n, 1 / n), size=33).T.astype(float)
    values = resampled_spearman(counts, Order.of(scores), Orders.of(predictions))
    for column, drawn in zip(values.T, counts.T.astype(int), strict=True):
        for value, x in zip(column, predictions, strict=True):
            expected = scipy.stats.spearmanr(np.repeat(x, drawn), np.repeat(scores, drawn))
            assert value == pytest.approx(expected.statistic, abs=1e-12, nan_ok=True)


def test_predictions_of_one_order_are_computed_once() -> None:
    x = np.array([3.0, 1.0, 2.0, 2.0])
    orders = Orders.of(np.stack([x, 2 * x, -x, x + 1]))
    assert len(orders.distinct) == 2
    assert orders.rows == [0, 0, 1, 0]
