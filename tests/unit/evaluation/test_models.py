"""Several models in one report: averages, paired differences, names, files of models."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from helpers.command import Run, refused

import embedkit.evaluation.bootstrap
import embedkit.evaluation.models
from embedkit import Embedder, InputError, Pairs, Report, compare, evaluate
from embedkit.evaluation.bootstrap import bootstrap, seed_of
from embedkit.evaluation.models import read_model_file, read_models
from embedkit.evaluation.significance import holm, p_value

RESAMPLES = 600
WORDS = ("cat", "dog", "bird", "rain", "book", "park", "city", "music", "sun", "train")


def make_pairs(name: str, seed: int, n: int = 40) -> Pairs:
    """Sentences whose label is how many of their words are the same."""
    generator = np.random.default_rng(seed)
    one, two, labels = [], [], []
    for _ in range(n):
        shared = int(generator.integers(0, 5))
        words = list(generator.permutation(WORDS))
        one.append(" ".join(words[:5]))
        two.append(" ".join([*words[:shared], *words[5 : 10 - shared]]))
        labels.append(float(shared))
    return Pairs.from_columns(name, one, two, labels)


SETS = [make_pairs("first", 1), make_pairs("second", 2, 30)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [
        tiny.make_bert(folder / name, layers=2, width=16, seed=seed)
        for seed, name in enumerate(("a", "b", "c"))
    ]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedkit.evaluation.bootstrap, "RESAMPLES", RESAMPLES)


@pytest.fixture(scope="module")
def report(models: list[Path]) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedkit.evaluation.bootstrap, "RESAMPLES", RESAMPLES)
        return evaluate(models, SETS, show_progress=False)


def cosines(model: Path, pairs: Pairs) -> Any:
    embedder = Embedder(model, device="cpu", precision="float32")
    one, two = (embedder.encode(texts) for texts in (pairs.sentence1, pairs.sentence2))
    return np.round(np.array(embedder.similarity_pairwise(one, two), float), 6)


@pytest.mark.thorough
def test_averages_and_differences_are_those_by_hand(models: list[Path], report: Report) -> None:
    """By scipy, on the resamples of the bootstrap."""
    drawn = [
        bootstrap(pairs, lambda block: block.counts, RESAMPLES, seed_of(0, position)).T.astype(int)
        for position, pairs in enumerate(SETS)
    ]
    values, resampled = {}, {}
    for model in models:
        predictions = [cosines(model, pairs) for pairs in SETS]
        values[model.name] = np.mean(
            [scipy.stats.spearmanr(x, y.scores)[0] for x, y in zip(predictions, SETS, strict=True)]
        )
        resampled[model.name] = np.mean(
            [
                [
                    scipy.stats.spearmanr(np.repeat(x, c), np.repeat(pairs.scores, c))[0]
                    for c in counts
                ]
                for x, pairs, counts in zip(predictions, SETS, drawn, strict=True)
            ],
            axis=0,
        )
    averages = {row.model: row for row in report.averages}
    assert [*averages] == ["a", "b", "c"]
    differences = {name: resampled[name] - resampled["a"] for name in ("b", "c")}
    corrected = dict(
        zip(differences, holm([p_value(x) for x in differences.values()]), strict=True)
    )
    for name, row in averages.items():
        assert row.value == pytest.approx(values[name], abs=1e-6)
        assert row.ci95 == pytest.approx(np.percentile(resampled[name], [2.5, 97.5]), abs=1e-6)
        assert (row.dataset, row.n, row.recipe) == ("all", 2, "mean")
        if name == "a":
            assert row.baseline is None
            continue
        assert row.baseline is not None
        assert row.baseline.value == pytest.approx(values[name] - values["a"], abs=1e-6)
        low_high = np.percentile(differences[name], [2.5, 97.5])
        assert row.baseline.ci95 == pytest.approx(low_high, abs=1e-6)
        assert row.baseline.p_holm == pytest.approx(corrected[name])
    assert report.verdict.p_holm == averages[str(report.verdict.contender)].baseline.p_holm


def test_each_value_is_that_of_the_model_alone(models: list[Path], report: Report) -> None:
    for model in models:
        alone = evaluate(model, SETS, show_progress=False)
        own = [row for row in report.results if row.model == model.name]
        assert [(x.dataset, x.metric, x.value) for x in own] == [
            (x.dataset, x.metric, x.value) for x in alone.results
        ]
        for one, other in zip(own, alone.results, strict=True):
            assert one.ci95 == pytest.approx(other.ci95, abs=1e-12)
        average = next(row for row in report.averages if row.model == model.name)
        assert alone.averages[0].value == average.value
        assert alone.averages[0].ci95 == alone.verdict.ci95
        assert average.ci95 == pytest.approx(alone.verdict.ci95, abs=1e-12)


def test_the_table_is_models_by_tasks(report: Report) -> None:
    grid = report.grid()
    assert grid.headings == (
        *("model", "recipe", "first", "second", "average", "average 95 %", "vs a", "p (Holm)"),
        *("best in", ""),
    )
    assert [row[0] for row in grid.rows] == report.ranking()
    shown = {row[0]: row for row in grid.rows}
    for row in report.results:
        if row.metric == "spearman":
            cell = shown[row.candidate][2 if row.dataset == "first" else 3]
            star = row.baseline is not None and (row.baseline.p_holm or 1) < 0.05
            assert cell == f"{100 * row.value:.2f}" + "*" * star
    assert shown["a"][6] == "baseline"
    korean = report.grid("ko")
    assert korean.headings[:2] == ("모델", "레시피")
    assert "average" not in korean.headings
    page = report.to_html()
    for name in ("a", "b", "c"):
        assert f">{name}</" in page
    assert "<table" in report._repr_html_()


def test_the_json_has_models_and_averages(report: Report, models: list[Path]) -> None:
    content = json.loads(report.to_json())
    assert content["schema"] == 1
    assert [(x["name"], x["source"]) for x in content["models"]] == [
        (model.name, str(model)) for model in models
    ]
    assert {len(x["sha256"]) for x in content["models"]} == {64}
    assert [(x["model"], x["suite"], x["n"]) for x in content["averages"]] == [
        (name, "all", 2) for name in "abc"
    ]
    assert all(x["ci95"][0] <= x["value"] <= x["ci95"][1] for x in content["averages"])
    assert {(x["model"], x["candidate"]) for x in content["results"]} == {(x, x) for x in "abc"}
    single = json.loads(evaluate(models[0], SETS[:1], show_progress=False).to_json())
    assert "models" not in single
    assert single["averages"][0]["suite"] == "all"
    assert "candidate" not in single["results"][0]


def test_the_verdict_is_about_models(models: list[Path]) -> None:
    oracle, noise = make_oracle(SETS[0].scores, 0.1), make_oracle(SETS[0].scores, 50)
    assert oracle.decision == "use"
    assert str(oracle).startswith("Use other: +")
    assert " over own, p " in str(oracle)
    assert oracle.text["ko"].startswith("other 사용: own 대비 +")
    assert str(noise).startswith("Keep own: no other model is significantly better")
    assert "유의하게 더 나은 모델이 없습니다" in noise.text["ko"]


def make_oracle(scores: Any, spread: float) -> Any:
    """The verdict on a model that predicts the labels up to noise, and one that does not."""
    from embedkit.evaluation.model_predictions import Candidate, ModelPredictions
    from embedkit.evaluation.options import EvaluationSets, Options
    from embedkit.evaluation.pair_scores import Predictions
    from embedkit.evaluation.run import report_of
    from embedkit.evaluation.run_metadata import ModelRun, ModelUsed
    from embedkit.recipes.recipe import Recipe

    n = len(scores)
    generator = np.random.default_rng(0)
    predicted = {
        "own": scores + 8 * generator.normal(size=n),
        "other": scores + spread * generator.normal(size=n),
    }
    described = {"family": "bert", "layers": 2, "width": 4, "recipe": "mean"}

    def run(name: str) -> ModelRun:
        used = ModelUsed("cpu", "float32", 128, "0" * 64)
        return ModelRun({"name": name, **described}, used, {"sentence": ""}, 2 * n, n, 0, 0, 0.0)

    made = ModelPredictions(
        models={name: run(name) for name in predicted},
        recipes={name: Candidate(name, Recipe.parse("mean")) for name in predicted},
        similarities=("cosine",),
        decided_by="cosine",
        of_pairs={0: [Predictions(name, "cosine", x) for name, x in predicted.items()]},
        of_retrieval={},
        samples={name: [x] for name, x in predicted.items()},
        geometries={0: {}},
        truncated=[np.zeros(n, bool)],
        score_seconds=0.0,
    )
    return report_of(made, EvaluationSets([SETS[0]], [], []), Options(), baseline="own").verdict


def test_a_named_baseline(models: list[Path], report: Report) -> None:
    for name in ("b", str(models[1])):
        other = evaluate(models, SETS, baseline=name, show_progress=False)
        assert other.baseline == "b"
        assert other.model["name"] == str(models[1])
    first = {row.model: row for row in report.averages}
    row = next(row for row in other.averages if row.model == "a")
    assert row.baseline is not None
    assert first["b"].baseline is not None
    assert row.baseline.value == pytest.approx(-first["b"].baseline.value)
    with pytest.raises(InputError, match="baseline is 'x'; expected one of the models: a, b, c"):
        evaluate(models, SETS, baseline="x")
    with pytest.raises(InputError, match="got a baseline for one model"):
        evaluate(models[0], SETS, baseline="a")


@pytest.mark.parametrize("saved", [False, True], ids=["without a recipe", "with its own recipe"])
@pytest.mark.parametrize("first", ["a model", "copy"])
def test_a_row_of_equal_models_is_the_baseline(
    models: list[Path], tmp_path: Path, saved: bool, first: str
) -> None:
    for name in ("a model", "copy"):
        if saved:
            Embedder(models[0], "mean", device="cpu").save_pretrained(tmp_path / name)
        else:
            shutil.copytree(models[0], tmp_path / name)
    other = "copy" if first == "a model" else "a model"
    folders = [tmp_path / first, tmp_path / other]
    for baseline, row, equal in ((None, first, other), (other, other, first)):
        report = evaluate(folders, SETS, baseline=baseline, show_progress=False)
        assert report.baseline == row
        assert report.equal == {equal: row}
        assert str(report.verdict).startswith(f"Keep {row}: ")
        assert f"vs {row}" in report.grid().headings


def test_models_and_recipes_are_crossed(models: list[Path]) -> None:
    report = compare(models[:2], SETS[:1], ["mean", "cls"], show_progress=False)
    assert [*report.compared] == ["a mean", "a cls", "b mean", "b cls"]
    assert report.baseline == "a mean"
    for model in models[:2]:
        alone = compare(model, SETS[:1], ["mean", "cls"], show_progress=False)
        for row in alone.results:
            (own,) = (
                x
                for x in report.results
                if (x.model, x.recipe, x.metric) == (model.name, row.recipe, row.metric)
            )
            assert (own.value, own.ci95) == (row.value, row.ci95)
    assert report.grid().headings[0] == "candidate"
    assert "Holm-corrected over the candidates" in " ".join(report.notes)
    assert "비교한 후보 전체에 대해" in report.to_markdown("ko")
    named = compare(models[:2], SETS[:1], ["mean", "cls"], baseline="b cls", show_progress=False)
    assert named.baseline == "b cls"
    joined = compare(models[:2], SETS[:1], ["cls"], baseline="max", show_progress=False)
    assert ([*joined.compared], joined.baseline) == (["a cls", "a max", "b cls"], "a max")
    whole = compare(models[:2], SETS[:1], show_progress=False)
    assert {name.split()[0] for name in whole.compared} == {"a", "b"}
    assert "a pooler" in whole.compared


def test_settings_of_one_model(models: list[Path], tmp_path: Path) -> None:
    a, b = map(str, models[:2])
    mixed = [
        a,
        {"name": a, "recipe": "cls"},
        {"name": b, "prompt": "the cat is ", "precision": "bfloat16"},
    ]
    report = evaluate(mixed, SETS[:1], show_progress=False)
    assert [*report.compared] == ["a", "a (recipe=cls)", "b"]
    run = report.models["b"]
    assert (run.prompts["sentence"], run.used.precision) == ("the cat is ", "bfloat16")
    assert report.models["a"].prompts["sentence"] == ""
    own = Embedder(b, device="cpu", precision="bfloat16")
    alone = evaluate(own, SETS[:1], prompt="the cat is ", show_progress=False)
    shown = [row.value for row in report.results if row.candidate == "b"]
    assert shown == [row.value for row in alone.results]
    file = tmp_path / "models.toml"
    file.write_text(
        f'[[model]]\nname = "{a}"\n\n[[model]]\nname = "{a}"\nrecipe = "cls"\n\n[[model]]\n'
        f'name = "{b}"\nprompt = "the cat is "\nprecision = "bfloat16"\n'
    )
    assert read_model_file(file) == [{"name": a}, *mixed[1:]]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '[[model]]\nname = "m"\nprompts = "x"',
            "unknown key 'prompts' of a model; .*did you mean 'prompt'",
        ),
        ('[[model]]\nname = "m"\nrecipe = "meen"', "unknown pooling 'meen'"),
        ('[[model]]\nname = "m"\nprecision = "int3"', "precision is 'int3'"),
        ('[[model]]\nname = "m"\nrecipe = 3', "recipe of model m is 3; expected a str"),
        ('[[model]]\nrecipe = "cls"', "has no name"),
        ('model = "m"', r"expected a \[\[model\]\] for each model"),
        ('[[models]]\nname = "m"', r"expected a \[\[model\]\] for each model.*got models"),
        ("[[model", "cannot be read as TOML"),
        ("", r"expected a \[\[model\]\]"),
    ],
)
def test_what_is_wrong_with_a_file_of_models(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "m.toml").write_text(content)
    with pytest.raises(InputError, match=problem) as error:
        read_model_file(tmp_path / "m.toml")
    assert "m.toml" in str(error.value)
    for name, problem in (("none.toml", "No such file or directory"), ("", "Is a directory")):
        with pytest.raises(InputError, match=f"{name}: {problem}; expected a TOML file of models"):
            read_model_file(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["x/a", "y/b"], ["a", "b"]),
        (["x/a", "y/a", "z"], ["x/a", "y/a", "z"]),
        (["minilm", "./minilm"], ["minilm", "./minilm"]),
        (
            [{"name": "x/a", "prompt": "p: "}, {"name": "x/a", "prompt": ""}, "b"],
            ["a (prompt='p: ')", "a (prompt='')", "b"],
        ),
    ],
)
def test_names_are_short_and_distinct(
    given: list[Any], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedkit.evaluation.models, "find_folder", lambda *_, **__: Path("none"))
    monkeypatch.setattr(embedkit.evaluation.models, "folder_kind", lambda _: "model")
    monkeypatch.setattr(embedkit.evaluation.models, "check_kind", lambda *_: None)
    assert [x.name for x in read_models(given, embedders=False, crossed=False)] == names


def test_wrong_models(models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are found before one is loaded."""
    monkeypatch.setattr(embedkit.evaluation.models, "load_model", None)
    for given, problem in (
        ([models[0], models[0].parent / "none"], "none': there is no such folder"),
        ([models[0], models[0]], "model a is given twice"),
        ([models[0], models[0].parent], "has no config.json; expected a model folder"),
        ([], "there is no model"),
    ):
        with pytest.raises(InputError, match=problem):
            evaluate(given, SETS)


@pytest.mark.thorough
def test_one_model_is_in_memory_at_a_time(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Embedder]] = []
    load = embedkit.evaluation.models.load_model

    def loaded(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        assert [one() for one in alive if one() is not None] == []
        model = load(*arguments, **options)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(embedkit.evaluation.models, "load_model", loaded)
    evaluate(models, SETS, show_progress=False)
    assert len(alive) == 3


def test_suites_are_averaged_each(models: list[Path]) -> None:
    third = make_pairs("third", 3, 20)
    suites = {"both": ["first", "second"], "last": ["third"]}
    report = evaluate(models[:2], [*SETS, third], suites=suites, show_progress=False)
    values = {(x.candidate, x.dataset): x.value for x in report.deciding("spearman")}
    for row in report.averages:
        own = [values[row.candidate, name] for name in suites[row.dataset]]
        assert row.value == pytest.approx(np.mean(own))
    assert [row.dataset for row in report.averages] == ["both", "both", "last", "last"]
    headings = report.grid().headings
    assert [name for name in headings if name.startswith(("both", "last"))] == [
        *("both", "both 95 %", "both vs a", "both p (Holm)"),
        *("last", "last 95 %", "last vs a", "last p (Holm)"),
    ]
    with pytest.raises(InputError, match="suite 's' has 'x', which is not scored"):
        evaluate(models[0], SETS, suites={"s": ["x"]})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{pairs.name}.tsv" for pairs in SETS]
    for path, pairs in zip(paths, SETS, strict=True):
        rows = zip(pairs.sentence1, pairs.sentence2, pairs.scores, strict=True)
        lines = ("\t".join(map(str, row)) for row in rows)
        path.write_text("\n".join(["sentence1\tsentence2\tscore", *lines]) + "\n")
    return paths


def test_the_command(
    run: Run, models: list[Path], files: list[Path], tmp_path: Path, report: Report
) -> None:
    toml = tmp_path / "models.toml"
    toml.write_text(f'[[model]]\nname = "{models[2]}"\n')
    done = run(
        *("evaluate", *files, "-m", models[0], "-m", models[1], "--models", toml, "--json"),
        *("--baseline", "b"),
    )
    content = done.json
    assert content["baseline"] == "b"
    values = {(x["model"], x["dataset"], x["metric"]): x["value"] for x in content["results"]}
    assert values == {(x.model, x.dataset, x.metric): x.value for x in report.results}
    toml.write_text(f'[[model]]\nname = "{models[1]}"\nrecipe = "max"\n')
    of_recipe = run(
        *("evaluate", files[0], "-m", models[0], "--models", toml, "--recipe", "cls", "--json")
    ).json
    alone = [
        compare(model, SETS[:1], [recipe], show_progress=False).deciding("spearman")[0]
        for model, recipe in ((models[0], "cls"), (models[1], "max"))
    ]
    shown = [x for x in of_recipe["results"] if x["metric"] == "spearman"]
    assert [x["recipe"] for x in shown] == ["cls", "max"]
    assert [x["value"] for x in shown] == [x.value for x in alone]
    table = run("evaluate", *files, "-m", models[0], "-m", models[1]).out
    assert table.splitlines()[0].startswith(("Use ", "Keep a"))
    crossed = run(
        *("compare", files[0], "-m", models[0], "-m", models[1], "--recipes", "mean cls", "--json"),
    ).json
    assert {x["candidate"] for x in crossed["results"]} == {"a mean", "a cls", "b mean", "b cls"}
    for arguments, problem in (
        (
            ("compare", files[0], "--save-best", tmp_path / "x"),
            "got --save-best and several models",
        ),
        (("evaluate", files[0], "--revision", "main"), "got --revision and several models"),
        (("evaluate", files[0], "--baseline", "none"), "baseline is 'none'"),
    ):
        wrong = run(*arguments, "-m", models[0], "-m", models[1])
        assert refused(wrong).startswith(problem)


def test_models_of_several_kinds_are_refused(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "head.json").write_text("{}")
    with pytest.raises(InputError, match=r"got models of several kinds, a \(a model\) and head"):
        evaluate([models[0], tmp_path / "head"], SETS)
    with pytest.raises(InputError, match="got prompt for head, a head; expected none"):
        evaluate([models[0], {"name": str(tmp_path / "head"), "prompt": "x"}], SETS)
