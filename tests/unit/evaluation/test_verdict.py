"""The verdict and equal recipes, on data whose truth is known by construction."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers.terminal import rows_of as table_rows
from numpy.typing import NDArray
from rich.console import Console

import embedkit.evaluation.bootstrap
from embedkit import Pairs, Recipe, Report
from embedkit.evaluation.bootstrap import bootstrap, seed_of
from embedkit.evaluation.equal_recipes import equal_recipes
from embedkit.evaluation.model_predictions import Candidate, ModelPredictions
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.pair_scores import Predictions
from embedkit.evaluation.run import report_of
from embedkit.evaluation.run_metadata import ModelRun, ModelUsed
from embedkit.markdown import in_markdown

Array = NDArray[np.float64]
N = 80


def make_pairs(name: str = "test", seed: int = 0, n: int = N) -> Pairs:
    texts = [f"{name} {index}" for index in range(n)]
    labels = np.random.default_rng(seed).normal(size=n)
    return Pairs.from_columns(name, texts, texts, labels.tolist())


TEST = make_pairs()


def noisy(noise: float, seed: int, pairs: Pairs = TEST) -> Array:
    """Predictions that are the better the smaller the noise."""
    return pairs.scores + noise * np.random.default_rng(seed).normal(size=len(pairs.scores))


def make_report(
    predictions: dict[str, list[Array]],
    sets: tuple[Pairs, ...] = (TEST,),
    *,
    own: str | None = None,
    baseline: str = "mean",
    convention: bool = False,
    select: tuple[Pairs, ...] = (),
    seed: int = 0,
) -> Report:
    """A report of predictions of each recipe for each scored and each selecting set."""
    of_pairs = {
        dataset: [
            Predictions(recipe, "cosine", of_sets[dataset])
            for recipe, of_sets in predictions.items()
        ]
        for dataset in range(len(sets) + len(select))
    }
    model = {"name": "m", "family": "bert", "layers": 2, "width": 4, "recipe": own}
    made = ModelPredictions(
        models={
            "m": ModelRun(
                model,
                ModelUsed("cpu", "float32", 128, "0" * 64),
                {"sentence": ""},
                sentences=2 * N,
                forward_passes=N,
                truncated=0,
                cached=0,
                seconds=0,
            )
        },
        recipes={recipe: Candidate("m", Recipe.parse(recipe)) for recipe in predictions},
        similarities=("cosine",),
        decided_by="cosine",
        of_pairs=of_pairs,
        of_retrieval={},
        samples=predictions,
        geometries={dataset: {} for dataset in range(len(sets))},
        truncated=[np.zeros(len(data.scores), bool) for data in (*sets, *select)],
        score_seconds=0,
    )
    return report_of(
        made,
        EvaluationSets([*sets], [*select], []),
        Options(seed=seed),
        baseline=baseline,
        convention=convention,
    )


def spearman(x: Array, y: Array) -> float:
    return float(scipy.stats.spearmanr(x, y).statistic)


def rows_of(report: Report) -> dict[str, Any]:
    return {row.recipe: row for row in report.deciding("spearman")}


# Decisions


def test_a_better_recipe_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference is scipy's, and its interval that of the same resamples, pair by pair."""
    monkeypatch.setattr(embedkit.evaluation.bootstrap, "RESAMPLES", 200)
    x, better, worse = noisy(2, 1), noisy(0.3, 2), noisy(3, 3)
    report = make_report({"mean": [x], "cls": [better], "max": [worse]})
    verdict = report.verdict
    assert (verdict.decision, verdict.recipe, verdict.contender) == ("use", "cls", "cls")
    assert verdict.baseline == "mean"
    assert verdict.score == pytest.approx(spearman(better, TEST.scores))
    expected = spearman(better, TEST.scores) - spearman(x, TEST.scores)
    assert verdict.difference == pytest.approx(expected)
    counts = bootstrap(TEST, lambda block: block.counts, 400).T.astype(int)  # two comparisons
    assert report.run_metadata.resamples == len(counts)
    by_hand = [
        spearman(np.repeat(better, c), np.repeat(TEST.scores, c))
        - spearman(np.repeat(x, c), np.repeat(TEST.scores, c))
        for c in counts
    ]
    assert verdict.ci95 == pytest.approx(tuple(np.percentile(by_hand, [2.5, 97.5])), abs=1e-9)
    assert min(by_hand) > 0
    assert verdict.at_floor
    assert verdict.p_holm == pytest.approx(2 * 2 / 401)
    low, high = (f"{100 * end:+.2f}" for end in verdict.ci95 or ())
    assert str(verdict) == (
        f"Use cls: {100 * expected:+.2f} (95 % {low} to {high}) over mean, p <= 0.0100."
    )
    assert verdict.text["ko"] == (
        f"cls 사용: mean 대비 {100 * expected:+.2f}(95% 구간 {low} ~ {high}), p <= 0.0100."
    )


def test_worse_recipes_keep_the_baseline() -> None:
    report = make_report(
        {"mean": [noisy(0.3, 1)], "cls": [noisy(3, 2)], "max": [noisy(1, 3)]}, own="mean"
    )
    verdict = report.verdict
    assert (verdict.decision, verdict.recipe, verdict.contender) == ("keep", "mean", "max")
    assert verdict.score == pytest.approx(spearman(noisy(0.3, 1), TEST.scores))
    assert verdict.difference is not None
    assert verdict.difference < 0
    assert verdict.ci95 is not None
    low, high = (f"{100 * end:+.2f}" for end in verdict.ci95)
    closest = f"max {100 * verdict.difference:+.2f}"
    assert verdict.text == {
        "en": "Keep mean: no other recipe is significantly better "
        f"(closest: {closest}, 95 % {low} to {high}).",
        "ko": "mean 유지: 유의하게 더 나은 레시피가 없습니다"
        f"(가장 근접한 레시피: {closest}, 95% 구간 {low} ~ {high}).",
    }


def test_the_best_of_the_significantly_better_ones_is_used() -> None:
    x = noisy(2.5, 1)
    verdict = make_report({"mean": [x], "cls": [noisy(0.8, 2)], "max": [noisy(0.3, 3)]}).verdict
    assert (verdict.decision, verdict.recipe) == ("use", "max")


def test_ties_in_all_ranks_keep_the_baseline() -> None:
    x = noisy(1, 1)
    verdict = make_report({"mean": [x], "cls": [2 * x]}).verdict
    assert (verdict.decision, verdict.recipe) == ("keep", "mean")
    assert (verdict.difference, verdict.ci95, verdict.p_holm) == (0, (0, 0), 1)
    assert "(closest: cls +0.00, 95 % +0.00 to +0.00)" in str(verdict)


def modest() -> dict[str, list[Array]]:
    """`cls` is a little better than the baseline, and the others are about as good."""
    x = noisy(1.2, 11)
    names = ["max", "last", "pooler", *(f"{name}@1" for name in ("mean", "cls", "max", "last"))]
    others = {
        name: [x + 0.5 * np.random.default_rng(seed).normal(size=N)]
        for seed, name in enumerate(names, start=40)
    }
    cls = x + 0.1 * TEST.scores + 0.3 * np.random.default_rng(3).normal(size=N)
    return {"mean": [x], "cls": [cls], **others}


def test_an_interval_without_0_is_not_significant_after_holm() -> None:
    report = make_report(modest())
    verdict, row = report.verdict, rows_of(report)["cls"].baseline
    assert verdict.ci95 is not None
    assert verdict.ci95[0] > 0
    assert row.p < 0.05 < row.p_holm
    assert (verdict.decision, verdict.recipe, verdict.contender) == ("keep", "mean", "cls")
    assert verdict.p_holm == row.p_holm
    assert str(verdict).endswith(f", p = {row.p_holm:.4f} after Holm's correction).")
    assert f"Holm 보정 후 p = {row.p_holm:.4f}" in verdict.text["ko"]


def test_recipes_without_a_value_are_no_hypotheses() -> None:
    constant = np.ones(N)
    values = {"mean": [noisy(2, 1)], "cls": [noisy(1, 2)]}
    report, alone = make_report(values | {"max": [constant]}), make_report(values)
    assert report.verdict == alone.verdict
    verdict = make_report({"mean": [noisy(2, 1)], "cls": [constant]}).verdict
    assert (verdict.decision, verdict.recipe, verdict.contender) == ("keep", "mean", None)
    assert str(verdict) == "Keep mean: no other recipe differs from it and has a value."


def test_a_baseline_without_a_value_gives_no_verdict() -> None:
    verdict = make_report({"mean": [np.ones(N)], "cls": [noisy(1, 2)]}).verdict
    assert (verdict.decision, verdict.recipe, verdict.difference) == ("none", None, None)
    assert verdict.text == {
        "en": "No verdict: the baseline mean has no value.",
        "ko": "판정 불가: 기준 레시피 mean의 값이 없습니다.",
    }


def test_a_difference_that_cannot_be_tested_is_called_so() -> None:
    """Of six pairs with two labels some resamples have no correlation."""
    pairs = Pairs("six", *[tuple("abcdef")] * 2, np.array([0.0, 1.0] * 3))
    x = np.array([1.0, 3.0, 2.0] * 2)
    verdict = make_report({"mean": [x], "cls": [np.argsort(pairs.scores) * 1.0]}, (pairs,)).verdict
    assert verdict.decision == "keep"
    assert (verdict.ci95, verdict.p_holm) == (None, None)
    assert verdict.reason == "some resamples have no value"
    assert "not tested: some resamples have no value" in str(verdict)
    assert "검정 불가: 값이 없는 재표본이 있습니다" in verdict.text["ko"]


def test_one_recipe_has_its_score_and_interval() -> None:
    report = make_report({"mean": [noisy(1, 1)]})
    verdict, row = report.verdict, rows_of(report)["mean"]
    assert (verdict.decision, verdict.recipe, verdict.baseline) == ("single", "mean", None)
    assert verdict.score == row.value
    assert verdict.ci95 == pytest.approx(row.ci95)
    low, high = (f"{100 * end:.2f}" for end in row.ci95)
    assert str(verdict) == f"mean: Spearman {100 * row.value:.2f} (95 % {low} to {high})."
    constant = make_report({"mean": [np.ones(N)]}).verdict
    assert str(constant) == "No verdict: mean has no value."


def test_a_baseline_that_nobody_named_is_called_a_convention() -> None:
    predictions = {"mean": [noisy(0.3, 1)], "cls": [noisy(3, 2)]}
    for own, convention, called in (
        (None, True, True),
        (None, False, False),
        ("mean", True, False),
    ):
        verdict = make_report(predictions, own=own, convention=convention).verdict
        assert verdict.convention == called
        conventional = "Keep mean (baseline by convention: the model has no recipe of its own):"
        assert str(verdict).startswith(conventional) == called
        assert ("관례에 따른 기준" in verdict.text["ko"]) == called


# Several data sets, and the number of resamples


def test_the_mean_over_data_sets_is_tested_on_independent_resamples() -> None:
    """Two copies of one data set: half the variance, which equal resamples would not give."""
    copy = Pairs("copy", TEST.sentence1, TEST.sentence2, TEST.scores)
    x, y = noisy(1, 1), noisy(0.9, 2)
    one = make_report({"mean": [x], "cls": [y]})
    two = make_report({"mean": [x, x], "cls": [y, y]}, (TEST, copy))
    assert two.verdict.difference == pytest.approx(one.verdict.difference)
    assert one.verdict.ci95 is not None
    assert two.verdict.ci95 is not None
    ratio = np.ptp(two.verdict.ci95) / np.ptp(one.verdict.ci95)
    assert ratio == pytest.approx(1 / np.sqrt(2), abs=0.04)
    first, second = (
        [row for row in two.deciding("spearman") if row.dataset == name and row.recipe == "cls"]
        for name in ("test", "copy")
    )
    assert first[0].ci95 == rows_of(one)["cls"].ci95  # the first set keeps its resamples
    assert second[0].ci95 != first[0].ci95
    assert [seed_of(7, dataset) for dataset in range(3)] == [7, (7, 1), (7, 2)]


def test_the_mean_decides_and_not_one_of_the_data_sets() -> None:
    other = make_pairs("other", 5)
    report = make_report(
        {
            "mean": [noisy(0.5, 1), noisy(0.5, 2, other)],
            "cls": [noisy(0.2, 3), noisy(6, 4, other)],  # better on one, much worse on the other
        },
        (TEST, other),
    )
    assert report.verdict.decision == "keep"
    deltas = [row.baseline.value for row in report.deciding("spearman") if row.recipe == "cls"]
    assert report.verdict.difference == pytest.approx(np.mean(deltas))


def test_many_recipes_have_200_resamples_a_comparison() -> None:
    """So that Holm's correction of the smallest possible p stays below 0.01."""
    pairs = make_pairs(n=30)
    names = ["mean", *(f"{name}@{layer}" for name in ("cls", "max", "last") for layer in range(20))]
    predictions = {name: [noisy(4, seed, pairs)] for seed, name in enumerate(names, start=100)}
    predictions["cls@7"] = [noisy(0.01, 1, pairs)]
    report = make_report(predictions, (pairs,))
    assert report.run_metadata.resamples == 200 * 60
    assert "(12,000 resamples" in " ".join(report.notes)
    verdict = report.verdict
    assert (verdict.decision, verdict.recipe, verdict.at_floor) == ("use", "cls@7", True)
    assert verdict.p_holm == pytest.approx(60 * 2 / 12_001)
    assert "p <= 0.0100" in str(verdict)
    (line,) = [line for line in report.to_markdown().splitlines() if line.startswith("| cls@7 ")]
    assert "| &lt;= 0.0100 |" in line


# Selection


def with_dev(predictions: dict[str, list[Array]]) -> dict[str, list[Array]]:
    """The same, and predictions for the pairs that select: `cls` is the best there."""
    dev = make_pairs("dev", 9)
    return {
        recipe: [*values, noisy(0.2 if recipe == "cls" else 2, seed, dev)]
        for seed, (recipe, values) in enumerate(predictions.items())
    }


def test_a_selected_recipe_is_one_hypothesis() -> None:
    """What Holm's correction over all recipes does not find here, one hypothesis does."""
    report = make_report(with_dev(modest()), select=(make_pairs("dev", 9),))
    verdict, row = report.verdict, rows_of(report)["cls"].baseline
    assert verdict.selected == "cls"
    assert (verdict.decision, verdict.recipe) == ("select", "cls")
    assert verdict.p_holm == row.p < 0.05 < row.p_holm
    assert str(verdict).startswith("Use cls, selected on dev: +")
    assert verdict.text["ko"].startswith("cls 사용(dev에서 선택): mean 대비 +")


def test_a_selected_recipe_that_is_not_better_keeps_the_baseline() -> None:
    report = make_report(
        with_dev({"mean": [noisy(0.5, 1)], "cls": [noisy(2, 2)], "max": [noisy(0.01, 3)]}),
        select=(make_pairs("dev", 9),),
    )
    verdict = report.verdict
    assert (verdict.decision, verdict.recipe, verdict.contender) == ("keep", "mean", "cls")
    assert "cls, selected on dev, is not significantly better (-" in str(verdict)
    assert "dev에서 선택한 cls 레시피는 유의하게 더 낫지 않습니다" in verdict.text["ko"]


def test_a_selected_recipe_without_a_value_here_keeps_the_baseline() -> None:
    report = make_report(
        with_dev({"mean": [noisy(0.5, 1)], "cls": [np.ones(N)]}), select=(make_pairs("dev", 9),)
    )
    assert report.verdict.recipe == "mean"
    assert report.verdict.text == {
        "en": "Keep mean: cls, selected on dev, cannot be tested here: cls has no value.",
        "ko": "mean 유지: dev에서 선택한 cls 레시피는 여기서 검정할 수 없습니다"
        "(cls에 값이 없습니다).",
    }


def test_a_selected_baseline_is_kept() -> None:
    report = make_report(
        with_dev({"cls": [noisy(0.5, 1)], "mean": [noisy(2, 2)]}),
        baseline="cls",
        select=(make_pairs("dev", 9),),
    )
    assert str(report.verdict) == "Keep cls: it was selected on dev."
    assert report.verdict.recipe == "cls"


def test_nothing_selected_is_no_verdict() -> None:
    constant = np.ones(N)
    report = make_report(
        {"mean": [noisy(1, 1), constant], "cls": [noisy(2, 1), constant]},
        select=(make_pairs("dev", 9),),
    )
    assert report.verdict.decision == "none"
    assert str(report.verdict) == "No verdict: no recipe has a value on dev."


def test_a_selection_on_the_scored_pairs_is_corrected() -> None:
    """Selected on a copy of the scored pairs, a recipe is one of all that were tried."""
    copy = replace(TEST, name="copy")
    report = make_report({name: 2 * x for name, x in modest().items()}, select=(copy,))
    verdict, row = report.verdict, rows_of(report)["cls"].baseline
    assert (verdict.decision, verdict.selected) == ("keep", "cls")
    assert row.p < 0.05 < row.p_holm == verdict.p_holm
    p = f"p = {verdict.p_holm:.4f}"
    assert str(verdict).endswith(f", {p} after Holm's correction).")
    assert verdict.text["ko"].endswith(f", Holm 보정 후 {p}).")
    assert f"{N} of the scored pairs were also used for the selection" in " ".join(report.notes)


def test_no_note_contradicts_the_verdict() -> None:
    """The average differs significantly where no data set alone does."""
    sets = tuple(make_pairs(name, seed) for seed, name in enumerate("abc", start=1))
    predictions = {
        name: [noisy(noise, seed + n, pairs) for n, pairs in enumerate(sets)]
        for name, noise, seed in (("mean", 0.6, 111), ("cls", 0.5, 611))
    }
    report = make_report(predictions, sets)
    tested = [row.baseline.p_holm for row in report.deciding("spearman") if row.baseline]
    assert report.verdict.decision == "use"
    assert min(tested) > 0.05
    assert not any("differs significantly" in text for text in report.notes)


def test_repeated_pairs_are_counted() -> None:
    """Twelve pairs, thirty times each, are no 360 pairs."""
    once = make_pairs(n=12)
    columns = [30 * x for x in (once.sentence1, once.sentence2, tuple(once.scores.tolist()))]
    pairs = Pairs.from_columns("made", *columns)
    report = make_report({"mean": [noisy(1, 1, pairs)], "cls": [noisy(1, 2, pairs)]}, (pairs,))
    assert any(text.startswith("348 of the 360 scored pairs repeat") for text in report.notes)
    assert any(text.startswith("채점한 문장 쌍 360개 중 348개는") for text in report.notes_in("ko"))
    report = make_report({"mean": [noisy(1, 1)]})
    assert not any("repeat" in text for text in report.notes)


# Equal recipes


def test_recipes_are_equal_if_all_predictions_agree() -> None:
    a, b = np.array([0.1, 0.5, 0.9]), np.array([1.0, 2.0, 3.0])
    predictions = {
        "mean_sqrt_len": [a, b],
        "cls": [a, b + 1e-5],  # differs on the second set
        "mean": [a + 9e-7, b],
        "mean/normalize": [a, b - 9e-7],
        "max": [a * np.nan, b],
    }
    others = {"mean_sqrt_len": "mean", "mean/normalize": "mean"}
    assert equal_recipes(predictions) == others  # the shortest
    own = {"mean_sqrt_len": "mean/normalize", "mean": "mean/normalize"}
    assert equal_recipes(predictions, ["mean/normalize"]) == own
    assert equal_recipes(predictions, "cls") == others
    assert equal_recipes({"mean": [a], "max": [a * np.nan], "last": [a * np.nan]}) == {}


def test_equal_recipes_are_one_row_and_one_hypothesis() -> None:
    x, better, worse = noisy(2, 1), noisy(0.3, 2), noisy(4, 3)
    alone = make_report({"mean": [x], "cls": [better], "max": [worse]})
    report = make_report(
        {
            "mean": [x],
            "mean_sqrt_len": [x],
            "cls/normalize": [better],
            "cls": [better],
            "max": [worse],
        }
    )
    assert report.verdict == alone.verdict
    assert report.equal == {"mean_sqrt_len": "mean", "cls/normalize": "cls"}
    rows, expected = rows_of(report), rows_of(alone)
    for recipe in ("mean", "cls", "max"):
        assert rows[recipe] == expected[recipe]
    assert rows["cls/normalize"].baseline == rows["cls"].baseline
    assert rows["cls/normalize"].best_share == rows["cls"].best_share
    assert sum(rows[recipe].best_share for recipe in report.rows()) == pytest.approx(1)
    assert report.rows() == alone.ranking()
    assert str(report.best) == "cls"
    grid = report.grid()
    assert [row[0] for row in grid.rows] == ["cls", "mean", "max"]
    assert grid.equals == ("cls/normalize", "mean_sqrt_len", "")
    written = json.loads(report.to_json())
    assert len(written["results"]) == 2 * 5
    assert {row["recipe"]: row.get("equal_to") for row in written["results"]} == {
        "mean": None,
        "mean_sqrt_len": "mean",
        "cls/normalize": "cls",
        "cls": None,
        "max": None,
    }
    assert "| cls = cls/normalize |" in report.to_markdown()
    assert "= cls/normalize" in report.to_html("ko")
    text = StringIO()
    report.print(Console(file=text, width=80))
    assert ["=cls/normalize"] in table_rows(text.getvalue())


def test_recipes_that_all_predict_the_same_keep_the_baseline() -> None:
    x = noisy(1, 1)
    report = make_report({"mean": [x], "mean/normalize": [x]}, own="mean/normalize")
    assert str(report.verdict) == "Keep mean: no other recipe differs from it and has a value."
    assert report.grid().rows[0][0] == "mean/normalize"
    assert report.grid().rows[0][3] == "baseline"


def test_a_selected_recipe_that_is_equal_to_the_baseline_keeps_it() -> None:
    x, dev = noisy(1, 1), make_pairs("dev", 9)
    values = {"mean": [x, dev.scores], "mean/normalize": [x, dev.scores]}
    report = make_report({**values, "cls": [noisy(2, 2), -dev.scores]}, select=(dev,))
    assert report.verdict.decision == "keep"
    assert report.verdict.recipe == "mean"
    assert report.verdict.contender is None


# Every output


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_verdict_is_the_first_line_of_every_output(language: str) -> None:
    report = make_report({"mean": [noisy(2, 1)], "cls": [noisy(0.3, 2)]})
    sentence = report.verdict.text[language]
    text = StringIO()
    report.print(Console(file=text, width=200), language)
    lines = text.getvalue().splitlines()
    assert lines[0] == sentence
    table = [number for number, line in enumerate(lines) if set(line) == {"─"}]
    for note in report.notes_in(language):  # the caveats are below the table
        assert lines.index(note) > max(table)
    markdown = report.to_markdown(language)
    assert markdown.splitlines()[0] == f"# {in_markdown(sentence)}"
    page = report.to_html(language)
    header = page[page.index("<header>") :]
    assert header.startswith(f'<header>\n<p class="verdict">{sentence.replace("<=", "&lt;=")}</p>')
    assert page.index('class="notes"') > page.index('class="sortable results"')
    notebook = report._repr_html_()
    assert notebook.startswith(f"<p><b>{str(report.verdict).replace('<=', '&lt;=')}</b></p>")
    assert str(report).startswith(str(report.verdict)[:60])


def test_the_verdict_in_json() -> None:
    report = make_report({"mean": [noisy(2, 1)], "cls": [noisy(0.3, 2)]})
    written = json.loads(report.to_json())["verdict"]
    assert written["decision"] == "use"
    assert (written["recipe"], written["baseline"]) == ("cls", "mean")
    assert written["difference"] == report.verdict.difference
    assert written["ci95"] == list(report.verdict.ci95 or ())
    assert written["p_holm"] == pytest.approx(2 / 10_001)
    assert written["at_floor"] is True
    assert written["text"] == {"en": str(report.verdict), "ko": report.verdict.in_words("ko")}
