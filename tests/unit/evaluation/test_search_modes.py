"""BM25, hybrid search and rerankers in compare and evaluate: trec_eval's values of other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
import transformers
from helpers import beir, tiny
from helpers.command import Run, refused

from embedkit import Embedder, InputError, Pairs, Report, RetrievalSet, compare, evaluate
from embedkit.evaluation.save_model import save_model
from embedkit.retrieval.words import find_words
from embedkit.scoring.cross_encoder import CrossEncoder

WORDS = ("cat", "dog", "bird", "city", "rain", "sun", "music", "book", "park", "train", "news")
DOCUMENTS = [" ".join(WORDS[(n * k + k) % 11] for k in range(1, 2 + n % 5)) for n in range(24)]
DATA = RetrievalSet(
    "words",
    {f"q{n}": f"the {word} is not in it" for n, word in enumerate(WORDS)},
    {f"d{n}": text for n, text in enumerate(DOCUMENTS)},
    {f"q{n}": {f"d{(7 * n + 1) % 24}": 1, f"d{n}": 2} for n in range(2, 10)},
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, pooler=False, seed=3)


def trec_eval(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the metrics, from the scores of each query's documents by their ids."""
    values = beir.trec_eval(DATA.judgements, dict(zip(DATA.judgements, scores, strict=True)))
    return {metric: float(np.mean(of_queries)) for metric, of_queries in values.items()}


def of_ranking(ids: Sequence[str]) -> dict[str, float]:
    return {name: -float(rank) for rank, name in enumerate(ids)}


def lexical() -> list[dict[str, float]]:
    """The scores above 0 of bm25s."""
    words, ids = find_words("unicode"), DATA.document_ids
    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    model.index([words(text) for text in DATA.texts["document"]], show_progress=False)
    rows = (model.get_scores(words(text)).tolist() for text in DATA.texts["query"])
    return [{x: score for x, score in zip(ids, row, strict=True) if score > 0} for row in rows]


def dense(embedder: Embedder) -> list[dict[str, float]]:
    texts = DATA.texts
    matrix = embedder.similarity(list(texts["query"]), list(texts["document"]))
    return [dict(zip(DATA.document_ids, row.tolist(), strict=True)) for row in matrix]


def ranked(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


def fused(*of_searches: Mapping[str, float]) -> dict[str, float]:
    """Reciprocal rank fusion as its paper has it; of equal documents the first list's is first."""
    sums: dict[str, float] = {}
    for scores in of_searches:
        for rank, name in enumerate(ranked(scores), start=1):
            sums[name] = sums.get(name, 0.0) + 1 / (60 + rank)
    first = [name for scores in of_searches for name in ranked(scores)]
    return of_ranking(sorted(sums, key=lambda name: (-round(sums[name], 12), first.index(name))))


def values(report: Report, candidate: str) -> dict[str, float | None]:
    return {x.metric: x.value for x in report.results if x.candidate == candidate}


def test_three_modes_in_one_table(bert: Path) -> None:
    report = evaluate(bert, DATA, modes=["dense", "bm25", "hybrid"])
    by_words, by_vectors = lexical(), dense(Embedder.from_pretrained(bert, precision="float32"))
    both = [fused(*x) for x in zip(by_vectors, by_words, strict=True)]
    name = bert.name
    assert values(report, name) == pytest.approx(trec_eval(by_vectors), abs=1e-9)
    assert values(report, "bm25") == pytest.approx(trec_eval(by_words), abs=1e-9)
    assert values(report, f"{name} hybrid") == pytest.approx(trec_eval(both), abs=1e-9)
    assert report.baseline == name
    differences = {
        row.candidate: row.baseline.value for row in report.deciding("ndcg@10") if row.baseline
    }
    expected = trec_eval(by_words)["ndcg@10"] - trec_eval(by_vectors)["ndcg@10"]
    assert differences["bm25"] == pytest.approx(expected, abs=1e-9)
    notes = " ".join(report.notes)
    assert "bm25: Lucene's BM25 with k1 = 1.2 and b = 0.75; terms: unicode." in notes
    assert "hybrid: reciprocal rank fusion (k = 60) of both rankings." in notes
    assert report.to_dict()["protocol"]["search"]["modes"] == ("dense", "bm25", "hybrid")


def test_scores_are_fused_by_weights(bert: Path) -> None:
    report = evaluate(bert, DATA, modes=["hybrid"], weights=(0.3, 0.7))
    by_words, by_vectors = lexical(), dense(Embedder.from_pretrained(bert, precision="float32"))
    both = []
    for of_query in zip(by_vectors, by_words, strict=True):
        sums: Counter[str] = Counter()
        for scores, weight in zip(of_query, (0.3, 0.7), strict=True):
            low, high = (x(scores.values(), default=0) for x in (min, max))
            for name, score in scores.items():
                sums[name] += weight * ((score - low) / (high - low) if high > low else 1)
        both.append(dict(sums))
    expected = trec_eval(both)
    assert values(report, f"{bert.name} hybrid") == pytest.approx(expected, abs=1e-9)
    assert report.to_dict()["protocol"]["search"]["weights"] == (0.3, 0.7)
    assert "with the weights 0.3 (dense) and 0.7 (BM25)." in " ".join(report.notes)
    with pytest.raises(InputError, match="got weights without a mode that reads them"):
        evaluate(bert, DATA, weights=(1, 1))


def test_a_way_to_search_is_not_saved_as_a_model(bert: Path, tmp_path: Path) -> None:
    report = compare(bert, DATA, ["mean"], modes=["dense", "hybrid", "bm25"])
    embedder = Embedder.from_pretrained(bert)
    message = "recipe is 'mean hybrid', a way to search, which no model folder records; expected a"
    with pytest.raises(InputError, match=message):
        save_model(report, embedder, tmp_path / "model", "mean hybrid")
    with pytest.raises(InputError, match=r"'bm25', .* expected none: BM25 has no model"):
        save_model(report, embedder, tmp_path / "model", "bm25")
    assert save_model(report, embedder, tmp_path / "model", "mean") == "mean"


def test_bm25_needs_no_model() -> None:
    report = evaluate(None, DATA, modes=["bm25"])
    assert values(report, "bm25") == pytest.approx(trec_eval(lexical()), abs=1e-9)
    assert report.title == "bm25: retrieval metrics x 100"
    assert report.best is None
    assert "table" in report.to_html()


def test_recipes_are_crossed_with_modes(bert: Path) -> None:
    report = compare(
        bert, DATA, ["mean", "mean/normalize", "cls"], modes=["hybrid", "dense"], baseline="cls"
    )
    assert [*report.compared] == [
        x + mode for x in ("mean", "mean/normalize", "cls") for mode in (" hybrid", "")
    ]
    assert report.equal == {"mean/normalize": "mean", "mean/normalize hybrid": "mean hybrid"}
    assert report.baseline == "cls hybrid"  # of the first mode, as nothing else is named
    named = compare(bert, DATA, ["mean", "cls"], modes=["dense", "bm25"], baseline="bm25")
    assert named.baseline == "bm25"


@pytest.mark.parametrize("kind", ["embedder", "cross-encoder"])
def test_rerank(bert: Path, tmp_path: Path, kind: str) -> None:
    if kind == "embedder":
        tiny.make_bert(tmp_path / "second", layers=1, seed=8)
        second = Embedder.from_pretrained(tmp_path / "second", precision="float32")
        scores = dense(second)
    else:
        CrossEncoder.untrained(bert, "mean", (0, 5)).save_pretrained(tmp_path / "second")
        model = CrossEncoder.from_pretrained(tmp_path / "second")
        pairs = [(query, text) for query in DATA.texts["query"] for text in DATA.texts["document"]]
        rows = model.predict(pairs).reshape(-1, len(DOCUMENTS)).tolist()
        scores = [dict(zip(DATA.document_ids, row, strict=True)) for row in rows]
    report = evaluate(
        bert, DATA, modes=["dense", "bm25"], rerank=tmp_path / "second", rerank_depth=3
    )
    found = {bert.name: dense(Embedder.from_pretrained(bert, precision="float32"))}
    found["bm25"] = lexical()
    for name, of_queries in found.items():
        orders = []
        for own, second_scores in zip(of_queries, scores, strict=True):
            ids = ranked(own)
            first = sorted(ids[:3], key=lambda x: -second_scores[x])
            orders.append(of_ranking([*first, *ids[3:]]))
        assert values(report, f"{name} rerank") == pytest.approx(trec_eval(orders), abs=1e-9)
        assert values(report, name) == pytest.approx(trec_eval(of_queries), abs=1e-9)
    assert f"the first 3 documents of each query, ordered by {tmp_path / 'second'}." in " ".join(
        report.notes
    )


def test_what_cannot_be_compared_is_refused(bert: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mode is 'sparse'; expected one of dense, bm25, hybrid"):
        evaluate(bert, DATA, modes=["sparse"])
    with pytest.raises(InputError, match="got a model for bm25 alone, which needs none"):
        evaluate(bert, DATA, modes=["bm25"])
    with pytest.raises(InputError, match="got bm25 alone, which has no recipes; expected dense"):
        compare(bert, DATA, modes=["bm25"])
    options: dict[str, Any] = {
        "similarities": ["dot"],
        "prompt": "x",
        "query_prompt": "x",
        "index": "HNSW32,Flat",
    }
    for name, value in options.items():
        with pytest.raises(InputError, match=f"got {name} for bm25 alone, which has no embed"):
            evaluate(None, DATA, modes=["bm25"], **{name: value})
    config = transformers.AutoConfig.from_pretrained(bert, num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="three: is a classifier of 3 labels; expected one label"):
        evaluate(bert, DATA, rerank=tmp_path / "three")
    with pytest.raises(InputError, match="there is no model; expected at least one"):
        evaluate(None, DATA)
    with pytest.raises(InputError, match="got words without a mode that reads them"):
        evaluate(bert, DATA, words="english")
    pairs = Pairs("pairs", ["a", "b", "e"], ["c", "d", "f"], np.array([1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="got modes or a reranker for pairs, which is sentence"):
        evaluate(bert, [DATA, pairs], modes=["dense", "hybrid"])
    folder = beir.write(
        tmp_path / "words", [{"_id": "d", "text": "a"}], [{"_id": "q", "text": "a"}], "q\td\t1\n"
    )
    message = refused(run("compare", folder, "-m", bert, "--mode", "hybrid", "--save-best", "best"))
    assert message == "got --save-best with --mode or --rerank, of which a saved model has none"


def test_the_command_line(run: Run, bert: Path, tmp_path: Path) -> None:
    documents = [{"_id": "d1", "text": "고양이가 잔다"}, {"_id": "d2", "text": "비가 온다"}]
    queries = [{"_id": "q", "text": "고양이는?"}]
    folder = beir.write(tmp_path / "ko", documents, queries, "q\td1\t1\n")
    report = run("evaluate", folder, "--mode", "bm25", "--words", "kiwi", "--json").json
    assert [row["value"] for row in report["results"]] == [1, 1, 1, 1]
    assert report["protocol"]["search"]["words"] == "kiwi"
    for option in (("--device", "cpu"), ("--precision", "bfloat16"), ("--recipe", "cls")):
        assert refused(run("evaluate", folder, "--mode", "bm25 bm25", *option)) == (
            f"got {option[0]} for bm25 alone, which has no model; expected none, or "
            "dense or hybrid too"
        )
    reranked = ("--mode", "bm25", "--rerank", bert, "--device", "no")
    assert refused(run("evaluate", folder, *reranked)).startswith("device is 'no', which torch")
    config = transformers.AutoConfig.from_pretrained(bert, num_labels=3)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "three")
    reranked = ("--mode", "bm25", "--rerank", tmp_path / "three", "--device", "cpu")
    assert refused(run("evaluate", folder, *reranked)) == (
        f"{tmp_path / 'three'}: is a classifier of 3 labels; expected one label"
    )
    reranked = ("--mode", "bm25", "--rerank", bert, "--device", "cpu", "--json")
    assert run("evaluate", folder, *reranked).json["protocol"]["search"]["reranker"] == str(bert)
