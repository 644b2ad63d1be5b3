"""Published values beside measured ones, and the protocols that explain a difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command import Run, refused
from helpers.tiny import make_model
from scipy.stats import spearmanr

from embedkit import Embedder, InputError, Pairs, RetrievalSet, compare, evaluate
from embedkit.data.named_sets import NAMED_SETS
from embedkit.evaluation import published
from embedkit.evaluation.published import (
    Published,
    check_published,
    published_model,
    published_values,
)
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.reproduce import explain_differences


def test_the_table() -> None:
    rows = published_values()
    keys = {(row.model, row.recipe, row.dataset, row.source) for row in rows}
    assert len(keys) == len(rows) == 113
    assert {row.dataset for row in rows} <= NAMED_SETS.keys()
    assert all(0 < row.value < 1 for row in rows)
    by_model: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.dataset.startswith(("sts1", "stsb", "sick")):
            by_model.setdefault((row.model, row.recipe), []).append(100 * row.value)
    # The means that the sources print.
    means = {key: round(np.mean(values), 2) for key, values in by_model.items()}
    assert means["bert-base-uncased", "cls"] == 29.19
    assert means["bert-base-uncased", "mean@first-last"] == 56.70
    assert means["princeton-nlp/sup-simcse-bert-base-uncased", ""] == 81.57
    assert means["sentence-transformers/all-MiniLM-L6-v2", ""] == 78.94
    assert means["intfloat/multilingual-e5-small", ""] == 80.89


def test_which_model_a_name_means() -> None:
    minilm = "sentence-transformers/all-MiniLM-L6-v2"
    assert published_model("minilm") == published_model(minilm) == minilm
    assert published_model("mine/all-MiniLM-L6-v2") is None
    assert published_model("./all-MiniLM-L6-v2") is None


def test_what_nobody_published_is_refused_at_once(run: Run) -> None:
    with pytest.raises(
        InputError, match=r"no published values are known for 'mine'; name the model"
    ):
        check_published("mine", ["stsb"])
    with pytest.raises(InputError, match="did you mean intfloat/multilingual-e5-small"):
        check_published("multilingual-e5-small", ["stsb"])
    with pytest.raises(InputError, match=r"is known for these data sets; expected one of .*stsb"):
        check_published("minilm", ["first_look"])
    check_published("minilm", ["first_look", "sickr-test"])
    error = refused(run("evaluate", "first_look", "-m", "minilm", "--reproduce"))
    assert error.startswith("no value of sentence-transformers/all-MiniLM-L6-v2 is known for")
    with pytest.raises(InputError) as in_python:
        evaluate("minilm", "first_look", reproduce=True)
    assert str(in_python.value) == error
    with pytest.raises(InputError, match=r"known for 'mine'; .*in Python published="):
        evaluate("minilm", "first_look", published="mine")


def test_models_have_their_own_values_recipes_and_prompts(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not those of the baseline."""
    for recipe in ("mean", "cls"):
        Embedder(embedder.name, recipe, precision="float32").save_pretrained(tmp_path / recipe)
    own = spearman(embedder, pairs, "cls", "a dog ")
    rows = [
        Published(str(tmp_path / recipe), "", "sts16", own, "a dog ", "", "a paper")
        for recipe in ("mean", "cls")
    ]
    monkeypatch.setattr(published, "published_values", lambda: tuple(rows))
    models = [str(tmp_path / "mean"), {"name": str(tmp_path / "cls"), "prompt": "a dog "}]
    report = evaluate(models, pairs, reproduce=True, cache=False, show_progress=False)
    first, second = report.published
    assert (first.model, second.model) == ("mean", "cls")
    assert second.verdict == "reproduced"
    assert next(iter(first.tried or ())) == "prompt 'a dog '"
    with pytest.raises(InputError, match="got published and several models; expected one model"):
        evaluate(models, pairs, published="org/tiny")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return Embedder(make_model(tmp_path_factory.mktemp("model"), "bert"), precision="float32")


WORDS = ["a", "dog", "runs", "fast", "in", "the", "park", "and", "two", "cats", "sleep", "warm"]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Pairs that are called as a public set, with subsets."""
    draw = np.random.default_rng(1)
    first, second = (
        [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(90)] for _ in range(2)
    )
    subsets = ["one"] * 30 + ["two"] * 60
    return Pairs.from_columns("sts16", first, second, draw.integers(0, 6, 90), subsets)


def spearman(embedder: Embedder, pairs: Pairs, recipe: str, prompt: str = "") -> float:
    """Cosine Spearman by numpy and scipy."""
    bound = embedder.bind(recipe)
    first, second = (
        embedder.encode_recipes(list(texts), [bound], prompt=prompt)
        for texts in (pairs.sentence1, pairs.sentence2)
    )
    a, b = (
        of_side.vectors[0][of_side.distinct.inverse].astype(np.float64)
        for of_side in (first, second)
    )
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(spearmanr(np.round(cosine, 6), pairs.scores).statistic)


def publish(monkeypatch: pytest.MonkeyPatch, value: float, **more: str) -> None:
    row = Published("org/tiny", "mean", "sts16", value, "", "", "a paper")
    monkeypatch.setattr(published, "published_values", lambda: (row._replace(**more),))


def looked_for(embedder: Embedder, data: Pairs | RetrievalSet) -> Report:
    return evaluate(
        embedder, data, reproduce=True, published="org/tiny", cache=False, show_progress=False
    )


def test_a_value_is_reproduced_within_a_twentieth_of_a_point(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = spearman(embedder, pairs, "mean")
    publish(monkeypatch, value + 0.00045)
    (row,) = looked_for(embedder, pairs).published
    assert row.verdict == "reproduced"
    assert row.measured == pytest.approx(value, abs=1e-4)
    assert row.difference == pytest.approx(-0.00045, abs=1e-4)
    publish(monkeypatch, value - 0.3)
    assert looked_for(embedder, pairs).published[0].verdict == "not_reproduced"


def test_protocols_are_tried_on_the_embeddings_of_the_cache(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(monkeypatch, 0.99)
    passes = []
    encode = Embedder.encode_recipes

    def counted(self: Embedder, texts: Any, bounds: Any, **options: Any) -> Any:
        passes.append([str(bound.recipe) for bound in bounds])
        return encode(self, texts, bounds, **options)

    monkeypatch.setattr(Embedder, "encode_recipes", counted)
    report = evaluate(embedder, pairs, cache=tmp_path, show_progress=False)
    tried = [
        explain_differences(
            report, [pairs], lambda _: embedder, "org/tiny", cache=cache, show_progress=False
        )
        for cache in (tmp_path, tmp_path, False)
    ]
    own = str(embedder.bound.recipe)
    first, second, *others = passes
    assert first == [own]
    assert own not in second
    assert others
    assert all(own in of_pass for of_pass in others)  # without a cache
    assert tried[0].published == tried[1].published == tried[2].published


@pytest.mark.parametrize("recipe", ["mean@1,-1", "mean@0,-1", "cls", "max"])
def test_another_recipe_explains_a_value(
    recipe: str, embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, spearman(embedder, pairs, recipe))
    report = looked_for(embedder, pairs)
    (row,) = report.published
    assert (row.verdict, row.explanation) == ("explained", f"recipe {recipe}")
    assert report.notes[-1].endswith(f"explained by recipe {recipe}.")
    assert "프로토콜 차이" in report.notes_in("ko")[-1]
    (listed,) = report.to_dict()["published"]
    assert listed["difference"] == row.measured - row.published


def test_the_recipe_of_the_model_explains_the_value_of_another(
    pairs: Pairs, embedder: Embedder, monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    folder = str(tmp_path / "model")
    Embedder(embedder.name, "cls+mean", precision="float32").save_pretrained(folder)
    publish(monkeypatch, spearman(embedder, pairs, "cls+mean"), recipe="")
    models = {"name": folder, "recipe": "cls"}
    options = {"published": "org/tiny", "cache": False, "show_progress": False}
    (row,) = evaluate(models, pairs, reproduce=True, **options).published
    assert (row.recipe, row.verdict, row.explanation) == ("cls", "explained", "recipe cls+mean")
    (row,) = evaluate(models, pairs, **options).published
    assert row.verdict == "differs"


def test_aggregations_and_prompts_explain_values(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = evaluate(embedder, pairs, show_progress=False).results
    for aggregation in ("mean", "wmean"):
        (value,) = (
            row.value
            for row in results
            if (row.metric, row.aggregation) == ("spearman", aggregation)
        )
        assert value is not None
        publish(monkeypatch, value)
        assert looked_for(embedder, pairs).published[0].explanation == f"aggregation {aggregation}"
    publish(monkeypatch, spearman(embedder, pairs, "mean", "a dog "), prompt="a dog ")
    assert looked_for(embedder, pairs).published[0].explanation == "prompt 'a dog '"


def test_the_highest_of_the_similarities(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cosine", "dot", "euclidean", "manhattan")
    results = evaluate(embedder, pairs, similarities=names, show_progress=False).results
    values = [
        row.value
        for row in results
        if (row.metric, row.aggregation) == ("spearman", "all") and row.value is not None
    ]
    assert len(values) == 4
    assert max(values) - values[0] > 0.001
    publish(monkeypatch, max(values))
    assert looked_for(embedder, pairs).published[0].explanation == (
        "maximum over cosine, dot, euclidean, manhattan"
    )


def test_the_cosine_explains_the_value_of_another_similarity(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, spearman(embedder, pairs, "mean"))
    options: dict[str, Any] = {"published": "org/tiny", "cache": False, "show_progress": False}
    report = evaluate(embedder, pairs, similarities=("dot",), reproduce=True, **options)
    assert report.published[0].explanation == "similarity cosine"


def test_what_is_tried_in_vain_is_listed(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, 0.99)
    report = looked_for(embedder, pairs)
    (row,) = report.published
    assert row.tried is not None
    assert [*row.tried] == [
        *("recipe mean@1,-1", "recipe mean@0,-1", "aggregation mean", "aggregation wmean"),
        *("maximum over cosine, dot, euclidean, manhattan", "recipe cls", "recipe max"),
    ]
    assert row.tried["recipe cls"] == pytest.approx(spearman(embedder, pairs, "cls"), abs=1e-4)
    assert f"recipe cls {100 * row.tried['recipe cls'] - 99:+.2f}" in report.notes[-1]


def test_compare_shows_the_value_of_the_recipe_that_it_was_published_for(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, 0.5, model=embedder.name, recipe="cls")
    report = compare(embedder, pairs, ["mean", "cls"], show_progress=False)
    assert [(row.recipe, row.verdict) for row in report.published] == [("cls", "differs")]
    assert "--reproduce looks for the reason" in report.notes[-1]


def test_the_command_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, embedder: Embedder
) -> None:
    rows = [f"sentence {i}\tanother {i % 7}\t{i % 5}" for i in range(1186)]
    text = "\n".join(["sentence1\tsentence2\tscore", *rows])
    (tmp_path / "sts16.tsv").write_text(text + "\n")
    monkeypatch.setenv("EMBEDKIT_DATASETS", str(tmp_path))
    publish(monkeypatch, 0.99)
    folder = embedder.name
    command = ("evaluate", "sts16", "-m", folder, "--published", "org/tiny")
    assert run(*command).code == 0
    done = run(*command, "--reproduce")
    assert done.code == 1
    assert "Differences to the published value after" in " ".join(done.out.split())
    publish(monkeypatch, 0.99, recipe="cls")
    done = run(*command, "--reproduce")
    assert done.code == 1
    assert "nothing was compared: no value is published for this recipe" in done.err


def test_prompts_explain_a_retrieval_value(
    embedder: Embedder, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = {f"d{i}": text for i, text in enumerate(pairs.sentence1)}
    queries = {f"q{i}": text for i, text in enumerate(pairs.sentence2[:30])}
    qrels = {query: {f"d{i}": 1, f"d{i + 30}": 1} for i, query in enumerate(queries)}
    data = RetrievalSet("scifact", queries, documents, qrels)
    report = evaluate(
        embedder, data, query_prompt="the dog ", document_prompt="two cats ", show_progress=False
    )
    (row,) = report.deciding("ndcg@10")
    assert row.value is not None
    publish(
        monkeypatch, row.value, dataset="scifact", prompt="the dog ", document_prompt="two cats "
    )
    report = looked_for(embedder, data)
    assert report.published[0].explanation == "prompt 'the dog ' and 'two cats '"
    assert report.published[0].tried == {"prompt 'the dog ' and 'two cats '": row.value}
    publish(monkeypatch, 0.99, dataset="scifact")
    assert [*(looked_for(embedder, data).published[0].tried or {})] == [
        *("recipe mean@1,-1", "recipe mean@0,-1"),
        *("maximum over cosine, dot, euclidean, manhattan", "recipe cls", "recipe max"),
    ]
