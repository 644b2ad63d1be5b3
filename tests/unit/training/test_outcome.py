"""Verdicts on trainings: on data where the truth is known, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from embedkit import Pairs
from embedkit.evaluation.error_analysis import PairPredictions
from embedkit.evaluation.metric_delta import MetricDelta, mean_delta
from embedkit.evaluation.results import Difference
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import _curve

N = 120
GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.uniform(0, 5, N)
GOOD = SCORES + GENERATOR.normal(0, 0.5, N)
BAD = SCORES + GENERATOR.normal(0, 8, N)
TIED = (SCORES > 2.5).astype(float)
CONSTANT = np.ones(N)


def side(
    *values: NDArray[np.float64], scores: NDArray[np.float64] = SCORES
) -> list[PairPredictions]:
    """The predictions of one recipe for sets that differ in name only."""
    texts = [f"text {number}" for number in range(N)]
    return [
        PairPredictions(Pairs.from_columns(f"dev{number}", texts, texts, scores), {"mean": one})
        for number, one in enumerate(values)
    ]


def spearman(values: NDArray[np.float64]) -> float:
    return float(scipy.stats.spearmanr(values, SCORES).statistic)


@pytest.mark.parametrize(
    ("before", "after", "decision"),
    [
        (BAD, GOOD, "improved"),
        (GOOD, BAD, "worse"),
        (GOOD, GOOD, "not_improved"),
        (GOOD, 2 * GOOD + 1, "not_improved"),  # the ranks are the same
        (BAD, BAD + GENERATOR.normal(0, 0.5, N), "not_improved"),
        (TIED, GOOD, "improved"),
        (GOOD, CONSTANT, "none"),
        (CONSTANT, GOOD, "none"),
    ],
)
def test_decisions(before: NDArray[np.float64], after: NDArray[np.float64], decision: str) -> None:
    delta = mean_delta(side(before), side(after), 0)
    assert delta.decision == decision
    assert (delta.dataset, delta.metric) == ("dev0", "spearman")
    verdict = TrainingOutcome("bi-encoder", None, (delta,)).to_dict()["verdict"]
    assert verdict["decision"] == decision
    if decision == "none":
        assert verdict["difference"] is None
        assert "dev0" in verdict["text"]["en"]
        return
    assert verdict["before"] == pytest.approx(spearman(before))
    assert verdict["after"] == pytest.approx(spearman(after))
    assert verdict["difference"] == pytest.approx(spearman(after) - spearman(before), abs=1e-9)
    low, high = verdict["ci95"]
    assert (low > 0) is (decision == "improved")
    assert (high < 0) is (decision == "worse")


def test_the_mean_over_sets() -> None:
    delta = mean_delta(side(BAD, GOOD), side(GOOD, TIED), 0)
    before, after = (spearman(BAD) + spearman(GOOD)) / 2, (spearman(GOOD) + spearman(TIED)) / 2
    assert delta.dataset == "dev0, dev1"
    assert (delta.before, delta.after) == pytest.approx((before, after))
    assert delta.difference.value == pytest.approx(after - before)
    one_set = mean_delta(side(BAD), side(GOOD), 0).difference.ci95
    assert delta.difference.ci95 is not None
    assert one_set is not None
    assert np.ptp(delta.difference.ci95) < np.ptp(one_set)  # half of it varies half as much


def delta_of(value: float, low: float, high: float, p: float) -> MetricDelta:
    difference = Difference("before", value, (low, high), p)
    return MetricDelta("dev", "spearman", 0.7, 0.7 + value, difference)


NOT_BETTER = delta_of(0.0093, -0.005, 0.023, 0.2)


@pytest.mark.parametrize(
    ("trained", "delta", "saved", "english", "korean"),
    [
        (
            "bi-encoder",
            NOT_BETTER,
            True,
            "The bi-encoder did not improve significantly on dev: Spearman +0.93 [-0.50, +2.30], "
            "from 70.00 before training to 70.93; saved anyway.",
            "dev에서 바이 인코더 성능이 유의하게 향상되지 않았습니다: Spearman +0.93 "
            "[-0.50, +2.30], 학습 전 70.00 → 70.93. 그래도 모델을 저장했습니다.",
        ),
        (
            "bi-encoder",
            NOT_BETTER,
            False,
            "The bi-encoder did not improve significantly on dev: Spearman +0.93 [-0.50, +2.30], "
            "from 70.00 before training to 70.93; not saved.",
            "dev에서 바이 인코더 성능이 유의하게 향상되지 않았습니다: Spearman +0.93 "
            "[-0.50, +2.30], 학습 전 70.00 → 70.93. 모델을 저장하지 않았습니다.",
        ),
        (
            "head",
            delta_of(0.031, 0.019, 0.044, 0.0002),
            True,
            "The head improved on dev: Spearman +3.10 [+1.90, +4.40], from 70.00 by the cosine to "
            "73.10; saved.",
            "dev에서 헤드 성능이 유의하게 향상되었습니다: Spearman +3.10 [+1.90, +4.40], "
            "코사인 70.00 → 73.10. 모델을 저장했습니다.",
        ),
        (
            "mean@-2",
            delta_of(-0.031, -0.044, -0.019, 0.0002),
            True,
            "mean@-2 of the adapted encoder is significantly worse on dev: Spearman -3.10 "
            "[-4.40, -1.90], from 70.00 before training to 66.90; saved anyway.",
            "dev에서 적응한 인코더의 mean@-2 성능이 유의하게 떨어졌습니다: Spearman -3.10 "
            "[-4.40, -1.90], 학습 전 70.00 → 66.90. 그래도 모델을 저장했습니다.",
        ),
        (
            "bi-encoder",
            MetricDelta("dev", "spearman", 0.7, None, Difference("before", None, reason="x")),
            True,
            "The bi-encoder has no verdict on dev: x; saved anyway.",
            "dev에서 바이 인코더 성능을 판정할 수 없습니다(x). 그래도 모델을 저장했습니다.",
        ),
    ],
)
def test_in_words(trained: str, delta: MetricDelta, saved: bool, english: str, korean: str) -> None:
    outcome = TrainingOutcome(trained, None, (delta,), saved=saved)
    assert outcome.to_dict()["verdict"]["text"] == {"en": english, "ko": korean}
    assert str(outcome) == english


def test_both_languages_have_the_same_texts() -> None:
    folder = Path(__file__).parents[3] / "embedkit" / "evaluation" / "report" / "locale"
    english, korean = (
        json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))["training"]
        for language in ("en", "ko")
    )
    assert english.keys() == korean.keys()
    for key, text in english.items():
        fields = [
            {part.split("}")[0] for part in one.split("{")[1:]} for one in (text, korean[key])
        ]
        assert fields[0] == fields[1], key


def test_a_curve_has_a_row_for_each_evaluation() -> None:
    history = [
        {"step": 5, "loss": 0.5, "learning_rate": 0.1},
        {"step": 5, "eval_spearman": 0.25},
        {"step": 10, "loss": float("nan")},
        {"step": 10, "eval_spearman": float("nan"), "eval_runtime": 1.0},
        {"step": 10, "train_loss": 0.4},
    ]
    assert _curve(history, "eval_spearman") == (
        {"step": 5, "loss": 0.5, "spearman": 0.25},
        {"step": 10, "loss": None, "spearman": None},
    )
    assert _curve([{"step": 2, "loss": 3.0}, {"step": 2, "eval_loss": 2.5}], "eval_loss") == (
        {"step": 2, "loss": 3.0, "held_out_loss": 2.5},
    )
