"""Published numbers for the whole: all-MiniLM-L6-v2 as the MTEB leaderboard has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.command import Run
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, compare, evaluate, read_retrieval
from embedkit.encoders.packed import PackedEncoder

# Cosine Spearman of all pairs, and Pearson where it is known.
GOLDEN = {
    "sts_en/stsb_test.tsv": (0.820325, 0.827406),
    "sts_en/sts12_test.tsv": (0.723684, 0.813599),
    "sts_en/sts16_test.tsv": (0.789859, 0.779324),
    "sts_ko/korsts_test.tsv": (0.421842, 0.369268),
}


# multilingual-e5-small from its 4-bit copy: Spearman and Pearson, by the prompt.
E5 = {
    "query: ": {
        "sts_en/stsb_test.tsv": (0.839724, 0.824627),
        "sts_ko/korsts_test.tsv": (0.768461, 0.776988),
    },
    "": {
        "sts_en/stsb_test.tsv": (0.839113, 0.819983),
        "sts_ko/korsts_test.tsv": (0.744420, 0.752283),
    },
}


@pytest.mark.slow
def test_evaluate_gives_the_published_values(shared_data: Callable[[str], Path], run: Run) -> None:
    report = run("evaluate", *map(shared_data, GOLDEN), "--json").json
    values = {
        (row["dataset"], row["metric"]): row["value"]
        for row in report["results"]
        if row["aggregation"] == "all"
    }
    for name, (spearman, pearson) in GOLDEN.items():
        dataset = Path(name).stem
        assert values[dataset, "spearman"] == pytest.approx(spearman, abs=1e-5)
        assert values[dataset, "pearson"] == pytest.approx(pearson, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", E5, ids=["query", "no prompt"])
def test_multilingual_e5_reads_korean_and_its_prompt(
    prompt: str, e5: Path, shared_data: Callable[[str], Path]
) -> None:
    report = evaluate(e5, [shared_data(name) for name in E5[prompt]], prompt=prompt)
    found = {(row.dataset, row.metric): row.value for row in report.results}
    for name, (spearman, pearson) in E5[prompt].items():
        dataset = Path(name).stem
        assert found[dataset, "spearman"] == pytest.approx(spearman, abs=1e-4)
        assert found[dataset, "pearson"] == pytest.approx(pearson, abs=1e-4)


@pytest.mark.slow
def test_multilingual_e5_is_sentence_transformers_own(e5: Path) -> None:
    texts = ["그는 책을 읽고 있다.", "ㅋㅋㅠㅠ 비가 온다", "A man reads a book.", "", "책 " * 600]
    model = Embedder.from_pretrained(e5, prompts={"query": "query: "}, device="cpu")
    assert isinstance(model.encoder, PackedEncoder)
    assert model.encoder.pooler is None
    oracle = SentenceTransformer(str(e5), device="cpu", prompts={"query": "query: "})
    got, want = (each.encode(texts, prompt_name="query") for each in (model, oracle))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.slow
def test_evaluate_gives_the_published_retrieval_values(
    shared_data: Callable[[str], Path], run: Run
) -> None:
    """The one pass over 5,183 abstracts of up to 256 tokens is the longest test of all."""
    done = run("evaluate", shared_data("retrieval/scifact"), "--json")
    found = {row["metric"]: row for row in done.json["results"]}
    assert {row["n"] for row in found.values()} == {300}
    assert found["ndcg@10"]["value"] == pytest.approx(0.64508, abs=1e-4)
    assert found["recall@100"]["value"] == pytest.approx(0.92500, abs=1e-4)
    assert done.json["forward_passes"] == 5483


@pytest.mark.slow
def test_encode_index_and_search_give_them_too(
    shared_data: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    scifact = shared_data("retrieval/scifact")
    judged = read_retrieval(scifact).judgements
    queries = tmp_path / "queries.jsonl"
    with (scifact / "queries.jsonl").open(encoding="utf-8") as lines:
        queries.write_text("".join(x for x in lines if json.loads(x)["_id"] in judged))
    columns = ("--text-column", "title", "--text-column", "text", "--id-column", "_id")
    run("encode", scifact / "corpus.jsonl.gz", *columns, "--out", tmp_path / "vectors")
    run("index", "build", tmp_path / "vectors", "--out", tmp_path / "index")
    done = run(
        *("search", tmp_path / "index", "--queries", queries, "--id-column", "_id"),
        *("-k", 100, "--json"),
    )
    assert done.code == 0, done.err
    ndcg, recall = [], []
    for line in map(json.loads, done.out.splitlines()):
        gains = judged[line["id"]]
        found = [gains.get(hit["id"], 0) for hit in line["hits"]]
        discounts = 1 / np.log2(np.arange(2, 12))
        ideal = sorted(gains.values(), reverse=True)[:10]
        ndcg.append(found[:10] @ discounts / (ideal @ discounts[: len(ideal)]))
        recall.append(sum(found) / sum(gains.values()))
    assert len(ndcg) == 300
    assert np.mean(ndcg) == pytest.approx(0.64508, abs=1e-4)
    assert np.mean(recall) == pytest.approx(0.92500, abs=1e-4)


@pytest.mark.slow
def test_heads_gain_where_the_cosine_is_poor(shared_data: Callable[[str], Path]) -> None:
    """What the README's table says, from stsb_train to stsb_test."""
    report = compare(
        "minilm",
        shared_data("sts_en/stsb_test.tsv"),
        ["mean", "mean@3", "pooler"],
        head="ridge",
        train=shared_data("sts_en/stsb_train.tsv"),
    )
    values = {(row.recipe, row.similarity, row.metric): row.value for row in report.results}
    gains = {}
    for recipe in ("mean", "mean@3", "pooler"):
        line, head = (values[recipe, by, "mse"] for by in ("line", "head"))
        assert line is not None
        assert head is not None
        assert head < line
        before, after = (values[recipe, by, "spearman"] for by in ("cosine", "head"))
        assert before is not None
        assert after is not None
        gains[recipe] = after - before
    assert gains["mean@3"] >= 0.15
    assert gains["pooler"] >= 0.03


def test_the_shipped_set_shows_that_minilm_reads_no_korean() -> None:
    report = evaluate("minilm", "first_look")
    subsets = report.deciding("spearman")[0].subsets
    assert subsets is not None
    assert {name: subset.n for name, subset in subsets.items()} == {"en": 120, "ko": 120}
    english, korean = subsets["en"].value, subsets["ko"].value
    assert english is not None
    assert korean is not None
    assert english > korean + 0.3
