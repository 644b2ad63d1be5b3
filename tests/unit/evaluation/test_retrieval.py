"""Retrieval sets in compare and evaluate: the same values as trec_eval gives for other tools."""

from __future__ import annotations

import hashlib
import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers import beir, tiny
from helpers.command import Run, refused
from rich.cells import cell_len
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA

from embedkit import (
    Embedder,
    InputError,
    Pairs,
    Report,
    RetrievalSet,
    compare,
    evaluate,
    read_retrieval,
)
from embedkit.encoders.packed import PackedEncoder

WORDS = ("cat", "dog", "bird", "city", "rain", "sun", "music", "book", "park", "train", "news")
DOCUMENTS = [
    {
        "_id": str(n),
        "title": WORDS[n % 11] if n % 3 else "",
        "text": " ".join(WORDS[(n * k + k) % 11] for k in range(1, 2 + n % 5)),
    }
    for n in range(24)
]
QUERIES = [{"_id": f"q{n}", "text": f"the {word} is not in it"} for n, word in enumerate(WORDS)]
QRELS = "".join(
    f"q{n}\t{(7 * n + 1) % 24}\t1\nq{n}\t{n}\t2\nq{n}\t{(5 * n + 3) % 24}\t0\n"
    for n in range(2, 10)
)
METRICS = ["ndcg@10", "recall@100", "mrr@10", "map"]
SENTENCES = ("dog", "a cat", "two birds", "the sun is not in it", "he eats")
PAIRS = [(SENTENCES[i % 5], SENTENCES[(i + 1 + i // 5) % 5], float(i % 4)) for i in range(10)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, pooler=False, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beir.write(tmp_path_factory.mktemp("words") / "words", DOCUMENTS, QUERIES, QRELS)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = ["sentence1\tsentence2\tscore", *("\t".join(map(str, row)) for row in PAIRS)]
    path.write_text("\n".join(rows) + "\n")
    return path


def trec_eval(
    data: RetrievalSet, queries: np.ndarray[Any, Any], documents: np.ndarray[Any, Any]
) -> dict[str, float]:
    """Means over the queries, by cosine."""
    queries, documents = (
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        for x in (queries, documents)
    )
    scores = {
        query: dict(zip(data.document_ids, row.tolist(), strict=True))
        for query, row in zip(data.judgements, queries @ documents.T, strict=True)
    }
    return {
        metric: float(np.mean(values))
        for metric, values in beir.trec_eval(data.judgements, scores).items()
    }


def values_of(report: Any, recipe: str) -> dict[str, float]:
    return {
        row["metric"]: row["value"]
        for row in report["results"]
        if row["recipe"] == recipe and row["dataset"] == "words"
    }


@pytest.mark.parametrize("recipe", ["mean", "cls@1", "max+mean@1,-1/normalize"])
def test_values_are_trec_eval_s_of_sentence_transformers_vectors(
    run: Run, bert: Path, folder: Path, tmp_path: Path, recipe: str
) -> None:
    Embedder.from_pretrained(bert, recipe=recipe).save_pretrained(tmp_path / "model")
    theirs = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    data = read_retrieval(folder)
    texts = data.texts
    want = trec_eval(data, *(theirs.encode(list(texts[role])) for role in ("query", "document")))
    report = run("compare", folder, "-m", bert, "--recipes", f"{recipe} last", "--json").json
    own = str(Embedder.from_pretrained(bert, recipe=recipe).recipe)
    assert values_of(report, own) == pytest.approx(want, abs=1e-9)
    (row,) = evaluate(tmp_path / "model", folder).deciding("ndcg@10")
    assert (row.n, row.similarity, row.aggregation) == (8, "cosine", "all")
    assert row.value == pytest.approx(want["ndcg@10"], abs=1e-9)
    assert row.ci95 is not None
    assert 0 <= row.ci95[0] < row.value < row.ci95[1] <= 1


def test_similarities(run: Run, bert: Path, folder: Path) -> None:
    names = "cosine dot euclidean manhattan"
    report = run("evaluate", folder, "-m", bert, "-s", names, "--json").json
    assert [(row["similarity"], row["metric"]) for row in report["results"]] == [
        (name, metric) for name in names.split() for metric in METRICS
    ]
    assert report["protocol"]["search"] == {
        "index": "flat",
        "depth": 1000,
        "query_prompt": "",
        "document_prompt": "",
        "modes": ["dense"],
        "words": None,
        "reranker": None,
        "rerank_depth": None,
        "weights": None,
    }


# An approximate index


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_a_small_graph_finds_all(bert: Path, folder: Path, similarity: str) -> None:
    exact = evaluate(bert, folder, similarities=[similarity])
    graph = evaluate(bert, folder, similarities=[similarity], index="hnsw")
    assert graph.results == exact.results
    assert graph.run_metadata.search is not None
    assert graph.run_metadata.search.index == "hnsw"
    assert (
        "words: an approximate index (hnsw) ranks 24 documents for each query, to a depth of 1,000."
    ) in graph.notes


def test_an_index_that_probes_some_lists_ranks_as_many_documents_as_an_exact_one(
    run: Run, bert: Path, folder: Path
) -> None:
    exact = run("compare", folder, "-m", bert, "--recipes", "mean cls", "--json").json
    options = ("--recipes", "mean cls", "--index", "IVF4,Flat", "--json")
    cells = run("compare", folder, "-m", bert, *options).json
    for recipe in ("mean", "cls"):
        assert values_of(cells, recipe)["recall@100"] == values_of(exact, recipe)["recall@100"] == 1


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("command", ["compare", "evaluate"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "hsnw"], "kind is 'hsnw', and FAISS has none for 32 dimensions and cosine"),
        (
            ["--index", "hnsw", "-s", "cosine manhattan"],
            "similarity is 'manhattan'; an index has one of cosine, dot, euclidean",
        ),
    ],
)
def test_an_index_that_there_is_not(
    run: Run, bert: Path, folder: Path, command: str, options: list[str], message: str
) -> None:
    assert refused(run(command, folder, "-m", bert, *options)).startswith(message)


# Pairs and retrieval sets together


def test_one_report_from_one_pass(
    run: Run, bert: Path, folder: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    forward = PackedEncoder.__call__

    def counted(self: PackedEncoder, batch: Any, *args: Any, **kwargs: Any) -> Any:
        encoded.append(len(batch.offsets) - 1)
        return forward(self, batch, *args, **kwargs)

    monkeypatch.setattr(PackedEncoder, "__call__", counted)
    report = run("compare", pairs, folder, "-m", bert, "--json").json
    data = read_retrieval(folder)
    words = {*data.texts["query"], *data.texts["document"]}
    assert words & set(SENTENCES)  # one is in both sets, and encoded for each
    assert sum(encoded) == report["forward_passes"] == len(set(SENTENCES)) + len(words)
    assert report["sentences"] == 20 + 8 + 24
    metrics = {
        dataset: {row["metric"] for row in report["results"] if row["dataset"] == dataset}
        for dataset in ("pairs", "words")
    }
    assert metrics == {"pairs": {"spearman", "pearson"}, "words": set(METRICS)}
    alone = run("compare", folder, "-m", bert, "--json").json
    for recipe in {row["recipe"] for row in report["results"]}:
        assert values_of(report, recipe) == values_of(alone, recipe)


def test_the_best_is_that_of_the_main_metrics_together(
    run: Run, bert: Path, folder: Path, pairs: Path, tmp_path: Path
) -> None:
    best = tmp_path / "best"
    done = run("compare", pairs, folder, "-m", bert, "--json", "--save-best", best)
    totals: dict[str, float] = {}
    for row in done.json["results"]:
        if row["metric"] in ("spearman", "ndcg@10") and row["value"] is not None:
            totals[row["recipe"]] = totals.get(row["recipe"], 0) + row["value"]
    assert totals[done.json["best"]] == pytest.approx(max(totals.values()), abs=1e-6)
    again = run("evaluate", folder, "-m", best, "--json").json
    (recipe,) = {row["recipe"] for row in again["results"]}
    saved = done.json["verdict"]["recipe"]
    assert values_of(again, recipe) == pytest.approx(values_of(done.json, saved), abs=1e-9)


def test_the_verdict_is_on_the_mean_of_pairs_and_retrieval(
    bert: Path, folder: Path, pairs: Path
) -> None:
    recipes = ["mean", "mean/normalize", "cls"]
    report = compare(bert, [pairs, folder], recipes)
    assert report.equal == {"mean/normalize": "mean"}
    deltas = [
        row.baseline.value
        for row in report.deciding("spearman", "ndcg@10")
        if row.recipe == "cls" and row.baseline is not None
    ]
    assert report.verdict.contender == "cls"
    assert report.verdict.difference == pytest.approx(np.mean(deltas))
    assert report.verdict.metrics == ("Spearman", "nDCG@10")
    assert compare(bert, folder, recipes, similarities=["dot"]).equal == {}
    both = compare(bert, folder, recipes, similarities=["cosine", "dot"])
    assert both.equal == {}  # for they differ by one of the similarities


def test_the_best_of_each_data_set_is_named(bert: Path, folder: Path, pairs: Path) -> None:
    recipes = ["cls@0", "max", "mean"]
    report = compare(bert, [pairs, folder], recipes)
    best = {
        name: max(
            (row for row in report.deciding(metric) if row.value is not None),
            key=lambda row: row.value or 0,
        ).recipe
        for name, metric in (("pairs", "spearman"), ("words", "ndcg@10"))
    }
    assert best["pairs"] != best["words"]  # else the test could not fail
    note = f"Best recipe of each data set: pairs {best['pairs']}, words {best['words']}."
    assert note in report.notes
    assert "Best recipe of each" not in " ".join(compare(bert, pairs, recipes).notes)


def test_one_constant_vector_ranks_nothing(bert: Path, folder: Path) -> None:
    report = compare(bert, folder, ["cls@0", "mean"])
    rows = [row for row in report.results if row.recipe == "cls@0"]
    assert {(row.value, row.reason) for row in rows} == {
        (None, "the similarities are all the same")
    }
    assert str(report.best) == "mean"


def test_no_pooler_is_shown_as_absent(bert: Path, folder: Path) -> None:
    rows = [row for row in compare(bert, folder).results if row.recipe == "pooler"]
    assert [row.metric for row in rows] == METRICS
    assert {row.reason for row in rows} == {"the checkpoint has no pooler weights"}


def test_queries_that_are_documents_too(bert: Path) -> None:
    texts = {str(n): f"{WORDS[n]} {n}" for n in range(11)}
    data = RetrievalSet("r", texts, texts, {"1": {"2": 1}, "3": {"4": 1}})
    report = evaluate(bert, data)
    (used,) = report.to_dict()["protocol"]["data"]
    assert (used["queries"], used["documents"], used["left_out"]) == (2, 11, 2)
    assert (
        "r: 2 queries are also documents and are excluded from their own rankings, as in BEIR."
    ) in report.notes
    embedder = Embedder.from_pretrained(bert)
    documents = embedder.encode([texts[name] for name in data.document_ids])
    similarities = embedder.similarity([texts["1"], texts["3"]], documents)
    scores = {
        query: {
            name: float(score)
            for name, score in zip(data.document_ids, row, strict=True)
            if name != query
        }
        for query, row in zip(data.judgements, similarities, strict=True)
    }
    want = beir.trec_eval(data.judgements, scores)
    got = {row.metric: row.value for row in report.results}
    assert got == pytest.approx({metric: np.mean(values) for metric, values in want.items()})


# Prompts

OWN = {"query": "query play ", "document": "passage play ", "other": "a "}


@pytest.fixture(scope="module")
def with_prompts(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("prompts") / "model"
    Embedder.from_pretrained(bert, recipe="mean", prompts=OWN).save_pretrained(model)
    return model


@pytest.mark.parametrize(
    ("options", "query", "document"),
    [
        ([], OWN["query"], OWN["document"]),
        (["--prompt", "one "], "one ", "one "),
        (["--prompt-name", "other"], "a ", "a "),
        (["--query-prompt", "two "], "two ", OWN["document"]),
        (["--prompt", "one ", "--document-prompt", ""], "one ", ""),
    ],
)
def test_prompts(
    run: Run, with_prompts: Path, folder: Path, options: list[str], query: str, document: str
) -> None:
    data = read_retrieval(folder)
    texts = {role: list(of_role) for role, of_role in data.texts.items()}
    theirs = SentenceTransformer(str(with_prompts), device="cpu")
    if options:
        vectors = (
            theirs.encode(texts["query"], prompt=query),
            theirs.encode(texts["document"], prompt=document),
        )
    else:
        vectors = (theirs.encode_query(texts["query"]), theirs.encode_document(texts["document"]))
    done = run("evaluate", folder, "-m", with_prompts, *options, "--json")
    assert values_of(done.json, "mean") == pytest.approx(trec_eval(data, *vectors), abs=1e-9)
    search = done.json["protocol"]["search"]
    assert (search["query_prompt"], search["document_prompt"]) == (query, document)
    note = f"Prompt of the queries: {query!r}; of the documents: {document!r}."
    assert note in done.json["notes"]


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({"passage": "p ", "corpus": "c "}, "", "p "),
        ({"corpus": "c ", "query": "q "}, "q ", "c "),
        ({"document": "", "passage": "p "}, "", ""),
    ],
)
def test_other_names_of_the_document_prompt(
    bert: Path, folder: Path, prompts: dict[str, str], query: str, document: str
) -> None:
    report = evaluate(Embedder.from_pretrained(bert, prompts=prompts), folder)
    search = report.run_metadata.search
    assert search is not None
    assert (search.query_prompt, search.document_prompt) == (query, document)


def test_options_of_retrieval_sets_need_one(run: Run, bert: Path, pairs: Path) -> None:
    message = (
        "got an index, or a prompt for queries or documents, but no retrieval set; expected a "
        "folder of one"
    )
    for command in ("compare", "evaluate"):
        for option in (("--query-prompt", "q "), ("--index", "hnsw")):
            assert refused(run(command, pairs, "-m", bert, *option)) == message
    with pytest.raises(InputError, match=message):
        evaluate(bert, pairs, document_prompt="")


# Wrong data


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_a_bad_folder(run: Run, command: str, pairs: Path, tmp_path: Path) -> None:
    beir.write(tmp_path, DOCUMENTS, QUERIES, QRELS + "q999\t1\t1\n")
    assert refused(run(command, pairs, tmp_path)) == (
        f"{tmp_path}/qrels/test.tsv, row 25 (line 25), column 'query-id': got 'q999', expected an "
        "_id of the queries"
    )


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_data_a_command_counts_relevant_documents_that_are_absent(
    run: Run, command: str, bert: Path, folder: Path, tmp_path: Path
) -> None:
    """As ArguAna has them: they are scored as not retrieved, in the values and in words."""
    absent = beir.write(tmp_path / "words", DOCUMENTS, QUERIES, QRELS + "q8\t999\t1\nq8\t998\t0\n")
    judgements = read_retrieval(absent).judgements
    document_ids = read_retrieval(folder).document_ids
    embedder = Embedder.from_pretrained(bert)
    texts = read_retrieval(folder).texts
    similarities = embedder.similarity(list(texts["query"]), list(texts["document"]))
    scores = {
        query: dict(zip(document_ids, row.tolist(), strict=True))
        for query, row in zip(judgements, similarities, strict=True)
    }
    want = beir.trec_eval(judgements, scores)
    options = ("--recipes", "mean") if command == "compare" else ()
    report = run(command, absent, "-m", bert, *options, "--json").json
    got = {row["metric"]: row["value"] for row in report["results"] if row["recipe"] == "mean"}
    assert got == pytest.approx({metric: np.mean(values) for metric, values in want.items()})
    (used,) = report["protocol"]["data"]
    assert (used["missing_documents"], used["queries_without_relevant"]) == (1, 0)
    assert (
        "words: 1 relevant documents are not in the corpus; they count as not retrieved, as in "
        "trec_eval."
    ) in report["notes"]


@pytest.mark.usefixtures("no_forward")
def test_heads_take_no_retrieval_sets(run: Run, bert: Path, folder: Path, pairs: Path) -> None:
    message = "words is a retrieval set; a head is trained and scored on sentence pairs"
    for data, train in ((folder, pairs), (pairs, folder)):
        options = ("--head", "ridge", "--train", train)
        assert refused(run("compare", data, "-m", bert, *options)) == message
        with pytest.raises(InputError, match=message):
            compare(bert, data, head="ridge", train=train)


def test_a_saved_head_takes_no_retrieval_set(
    run: Run, bert: Path, folder: Path, pairs: Path, tmp_path: Path
) -> None:
    head = tmp_path / "head"
    assert run("train", "head", pairs, "-m", bert, "--out", head).code == 0
    assert refused(run("evaluate", folder, "-m", head)) == (
        "words is a retrieval set; a head is trained and scored on sentence pairs"
    )


def test_two_sets_of_one_name(bert: Path, folder: Path) -> None:
    same = Pairs.from_columns("words", *zip(*PAIRS, strict=True))
    with pytest.raises(InputError, match="two data sets are called 'words'"):
        compare(bert, [folder, same])


# Tables


def test_tables(
    run: Run,
    bert: Path,
    folder: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(bert.parent)  # a short name keeps the title on one line
    done = run("compare", folder, "-m", bert, "--out", tmp_path / "report")
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert (
        "| recipe | ndcg@10 | 95 % | vs mean | p (Holm) | best in | recall@100 | mrr@10 | map |  |"
    ) in markdown
    assert markdown.splitlines()[2].endswith(": nDCG@10 x 100")
    note = "- 95 % intervals come from a bootstrap over the queries (10,000 resamples, seed 0)."
    assert note in markdown
    assert "exact search ranks 24 documents for each query, to a depth of 1,000." in markdown
    assert max(map(cell_len, done.out.splitlines()[3:6])) <= 120

    table = run("evaluate", folder, "-m", bert.name).out.splitlines()
    assert "metrics x 100" in table[1]
    assert table[2].split() == ["dataset", "queries", "similarity", *METRICS]
    assert max(map(cell_len, table[2:5])) <= 80

    mixed = compare(bert, [pairs, folder], ["mean", "cls"])
    assert mixed.grid().headings == (
        *("recipe", "pairs spearman", "words ndcg@10", "average", "average 95 %", "vs mean"),
        *("p (Holm)", "best in", ""),
    )
    assert mixed.title.endswith(": Spearman and nDCG@10 x 100")
    assert any("over the pairs or queries (10,000 resamples, seed" in note for note in mixed.notes)

    one = evaluate(bert, [pairs, folder])
    assert one.grid().headings == (
        *("dataset", "n", "similarity", "aggregation"),
        *("spearman", "pearson", *METRICS),
    )
    values = {row.metric: f"{100 * row.value:.2f}" for row in one.results if row.value is not None}
    assert [row[4:] for row in one.grid().rows] == [
        (values["spearman"], values["pearson"], "", "", "", ""),
        ("", "", *(values[metric] for metric in METRICS)),
    ]
    assert one.title.endswith(": correlations and retrieval metrics x 100")


# What is chance


def nearest_queries(embedder: Embedder, data: RetrievalSet) -> dict[str, list[float]]:
    """A value a query, by trec_eval of cosines in numpy."""
    queries, documents = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (embedder.encode(texts).astype(np.float64) for texts in data.texts.values())
    )
    scores = {
        query: dict(zip(data.document_ids, row.tolist(), strict=True))
        for query, row in zip(data.judgements, queries @ documents.T, strict=True)
    }
    return beir.trec_eval(data.judgements, scores)


def test_differences_between_recipes_are_paired_over_the_queries(bert: Path, folder: Path) -> None:
    recipes = ("mean", "cls", "max@1")
    report = compare(bert, folder, recipes, baseline="cls")
    data = read_retrieval(folder)
    of_queries = {
        name: nearest_queries(Embedder.from_pretrained(bert, name), data) for name in recipes
    }
    assert report.baseline == "cls"
    tested = 0
    for metric in METRICS:
        rows = {row.recipe: row for row in report.results if row.metric == metric}
        assert rows["cls"].baseline is None
        shares = [row.best_share or 0 for row in rows.values()]
        assert sum(shares) == pytest.approx(1)
        p_values = []
        for name in ("mean", "max@1"):
            found = rows[name].baseline
            assert found is not None
            less = np.subtract(of_queries[name][metric], of_queries["cls"][metric])
            assert found.value == pytest.approx(less.mean(), abs=1e-9)
            assert found.ci95 is not None
            assert found.p is not None
            if np.ptp(less) > 0:
                tested += 1
                want = scipy.stats.bootstrap(
                    (less,),
                    np.mean,
                    n_resamples=9999,
                    method="percentile",
                    rng=np.random.default_rng(2),
                )
                assert found.ci95 == pytest.approx(want.confidence_interval, abs=0.02)
                below = np.mean(want.bootstrap_distribution <= 1e-6)
                above = np.mean(want.bootstrap_distribution >= -1e-6)
                assert found.p == pytest.approx(min(1, 2 * min(below, above)), abs=0.03)
            p_values.append((found.p, found.p_holm))
        (low, low_holm), (high, high_holm) = sorted(p_values)
        assert low_holm == pytest.approx(min(1, 2 * low))
        assert high_holm == pytest.approx(min(1, max(2 * low, high)))
    assert tested >= 4


@pytest.mark.parametrize("count", [1, 5, 8, 29, 30])
def test_few_queries_decide_nothing_or_with_a_caution(bert: Path, count: int) -> None:
    """One query is one value: without a limit its interval would have no width, and p be 0.0002."""
    documents = {str(n): f"{word} the" for n, word in enumerate(WORDS)}
    queries = {f"q{n}": WORDS[n % 11] for n in range(count)}
    qrels = {f"q{n}": {str(n % 11): 1} for n in range(count)}
    data = RetrievalSet("few", queries, documents, qrels)
    report = compare(bert, data, ["max", "mean"])
    (row, other) = report.deciding("ndcg@10")
    assert (row.value or 0) > (other.value or 1)
    if count < 6:
        assert row.baseline is not None
        assert (row.ci95, row.baseline.ci95, row.baseline.p) == (None, None, None)
        assert report.verdict.reason == "fewer than 6 samples are too few"
        assert "max, mean: no interval (fewer than 6 samples are too few)." in report.notes
    else:
        assert (report.verdict.decision, report.verdict.recipe) == ("use", "max")
        few = count < 30
        assert report.verdict.few_queries == (count if few else None)
        cautions = {
            "en": f"Caution: with as few as {count} queries, p is too low.",
            "ko": f"주의: 질의가 {count}개뿐인 데이터가 있어 p값이 실제보다 작게 나옵니다.",
        }
        for language, caution in cautions.items():
            headline = report.to_dict()["verdict"]["text"][language]
            assert headline.endswith(caution) == few
            assert f">{html.escape(headline)}<" in report.to_html(language)
        assert any(f"queries (here {count})" in text for text in report.notes) == few


def test_the_seed_is_one_for_pairs_and_queries(bert: Path, folder: Path, pairs: Path) -> None:
    def compared(seed: int) -> Report:
        return compare(bert, [pairs, folder], ["mean", "cls"], seed=seed)

    one, same, other = compared(1), compared(1), compared(2)
    assert one.results == same.results
    for metric in ("spearman", "ndcg@10"):
        for a, b in zip(one.deciding(metric), other.deciding(metric), strict=True):
            assert (a.value, a.ci95 == b.ci95) == (b.value, False)


# The protocol


def test_the_protocol_names_the_retrieval_set(bert: Path, folder: Path, pairs: Path) -> None:
    report = compare(
        bert, [pairs, folder], ["mean", "cls"], query_prompt="cat ", document_prompt="dog "
    )
    of_pairs, used = report.to_dict()["protocol"]["data"]
    lines = [[row["_id"], row["text"]] for row in QUERIES]
    lines += [
        [row["_id"], " ".join(filter(None, (row["title"], row["text"])))] for row in DOCUMENTS
    ]
    lines += [[a, b, int(c)] for a, b, c in (row.split("\t") for row in QRELS.splitlines())]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    documents = {line[1] for line in lines[11:35]}
    assert used == {
        "name": "words",
        "role": "scored",
        "queries": 8,
        "documents": 24,
        "left_out": 0,
        "missing_documents": 0,
        "queries_without_relevant": 0,
        "distinct_texts": 8 + len(documents),
        "truncated_share": 0.0,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    assert of_pairs["pairs"] == 10
    assert [diagnosis.dataset for diagnosis in report.error_analyses] == ["pairs"]


# Selection


def dev_set(name: str = "dev") -> RetrievalSet:
    """Other queries on the same documents; q2 and q3 have the texts of scored ones."""
    data = {row["_id"]: " ".join(filter(None, (row["title"], row["text"]))) for row in DOCUMENTS}
    queries = {f"q{n}": f"{word} {WORDS[n - 4]}" for n, word in enumerate(WORDS)}
    queries |= {"q2": QUERIES[2]["text"], "q3": QUERIES[3]["text"]}
    judgements = {f"q{n}": {str((3 * n) % 24): 1, str((n * n) % 24): 2} for n in range(9)}
    return RetrievalSet(name, queries, data, judgements)


def mean_ndcg(bert: Path, recipe: str, similarity: str, data: RetrievalSet) -> float:
    """trec_eval's mean over the queries of similarities in numpy."""
    embedder = Embedder.from_pretrained(bert, recipe)
    a, b = (embedder.encode(list(texts)).astype(np.float64) for texts in data.texts.values())
    if similarity == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    scores = {
        query: dict(zip(data.document_ids, row.tolist(), strict=True))
        for query, row in zip(data.judgements, a @ b.T, strict=True)
    }
    return float(np.mean(beir.trec_eval(data.judgements, scores)["ndcg@10"]))


def test_a_recipe_and_a_similarity_are_selected_on_another_retrieval_set(
    run: Run, bert: Path, folder: Path, tmp_path: Path
) -> None:
    recipes, similarities = ("mean", "cls", "max", "mean@1", "cls@1"), ("dot", "cosine")
    dev, test = dev_set(), read_retrieval(folder)
    choices = [(recipe, similarity) for recipe in recipes for similarity in similarities]
    on_dev = {choice: mean_ndcg(bert, *choice, dev) for choice in choices}
    on_test = {choice: mean_ndcg(bert, *choice, test) for choice in choices}
    best = max(choices, key=on_dev.__getitem__)
    assert best != max(choices, key=on_test.__getitem__)  # else the test could not fail
    report = compare(bert, folder, recipes, select=dev, similarities=similarities)
    selection = report.selection
    assert selection is not None
    assert (selection.recipe, selection.similarity) == best
    assert (str(report.best), report.decided_by) == best
    assert selection.value == pytest.approx(on_dev[best], abs=1e-9)
    assert {(x.recipe, x.similarity): x.value for x in selection.results} == pytest.approx(
        on_dev, abs=1e-9
    )
    assert {(x.recipe, x.similarity): x.value for x in report.results if x.metric == "ndcg@10"} == (
        pytest.approx(on_test, abs=1e-9)
    )
    assert (selection.shared_pairs, selection.shared_queries) == (0, 2)
    assert [used.role for used in report.run_metadata.data] == ["scored", "selected on"]
    assert (
        f"{best[0]} with {best[1]} was selected on dev (nDCG@10 {100 * on_dev[best]:.2f})."
    ) in report.notes
    assert (
        "2 of the scored queries were also used for the selection, so the score is biased upwards, "
        "and the verdict is corrected as if nothing had been selected."
    ) in report.notes
    assert not any("selected and scored" in note for note in report.notes)

    rows = [{"_id": name, "title": "", "text": text} for name, text in dev.documents.items()]
    queries = [{"_id": name, "text": text} for name, text in dev.queries.items()]
    qrels = "".join(
        f"{query}\t{name}\t{gain}\n"
        for query, judged in dev.judgements.items()
        for name, gain in judged.items()
    )
    on_disk = beir.write(tmp_path / "dev", rows, queries, qrels)
    options = ("--recipes", " ".join(recipes), "-s", "dot cosine", "--select", on_disk, "--json")
    printed = run("compare", folder, "-m", bert, *options).json
    assert printed["selection"] == json.loads(report.to_json())["selection"]
    assert printed["best"] == best[0]


def test_pairs_and_a_retrieval_set_select_together(bert: Path, folder: Path, pairs: Path) -> None:
    recipes = ["mean", "cls", "max"]
    report = compare(bert, folder, recipes, select=[pairs, dev_set()])
    on_pairs = {x.recipe: x.value or 0 for x in compare(bert, pairs, recipes).deciding("spearman")}
    means = {
        recipe: (on_pairs[recipe] + mean_ndcg(bert, recipe, "cosine", dev_set())) / 2
        for recipe in recipes
    }
    assert report.selection is not None
    assert report.selection.recipe == max(recipes, key=means.__getitem__)
    assert report.selection.value == pytest.approx(max(means.values()), abs=1e-6)
    value = f"{100 * report.selection.value:.2f}"
    assert any(f"mean of Spearman and nDCG@10 {value}" in note for note in report.notes)


def test_a_retrieval_set_selects_for_pairs(bert: Path, pairs: Path) -> None:
    recipes = ["mean", "cls", "max"]
    report = compare(bert, pairs, recipes, select=dev_set(), query_prompt="the ")
    assert report.best is not None
    assert report.run_metadata.search is not None
    assert report.run_metadata.search.query_prompt == "the "
    on_dev = compare(bert, dev_set(), recipes, query_prompt="the ")
    assert str(report.best) == str(on_dev.best)
    assert report.retrieval_error_analyses == ()  # of scored sets only


@pytest.mark.usefixtures("no_forward")
def test_heads_are_not_selected_on_a_retrieval_set(bert: Path, folder: Path, pairs: Path) -> None:
    message = "words is a retrieval set; a head is trained and scored on sentence pairs"
    train = Pairs.from_columns("train", *zip(*PAIRS, strict=True))
    with pytest.raises(InputError, match=message):
        compare(bert, pairs, head="ridge", train=train, select=folder)


def test_what_is_selected_on_pairs_is_scored_by_retrieval(
    bert: Path, folder: Path, pairs: Path
) -> None:
    report = compare(bert, folder, ["mean", "cls", "max"], select=pairs)
    on_pairs = {
        row.recipe: row.value
        for row in compare(bert, pairs, ["mean", "cls", "max"]).deciding("spearman")
    }
    assert str(report.best) == max(on_pairs, key=lambda recipe: on_pairs[recipe] or 0)
    assert {row.metric for row in report.results} == set(METRICS)
    assert not any("biased upwards" in note for note in report.notes)


# Recipes that are fitted


def whitened(embedder: Embedder, data: RetrievalSet, texts: list[str]) -> dict[str, float]:
    """By scikit-learn, fitted on these texts behind the prompt of documents."""
    prompts = embedder.settings.prompts
    query, document = prompts.get("query", ""), prompts.get("document", "")
    pca = PCA(4, whiten=True, svd_solver="full").fit(embedder.encode(texts, prompt=document))
    return trec_eval(
        data,
        pca.transform(embedder.encode(list(data.texts["query"]), prompt=query)),
        pca.transform(embedder.encode(list(data.texts["document"]), prompt=document)),
    )


def test_steps_fitted_on_a_retrieval_set(bert: Path, folder: Path) -> None:
    data = read_retrieval(folder)
    scored = [text for texts in data.texts.values() for text in texts]
    report = compare(str(bert), folder, ["mean", "mean/whiten:4"], fit="data")
    want = whitened(Embedder.from_pretrained(bert, device="cpu"), data, scored)
    assert values_of(report.to_dict(), "mean/whiten:4") == pytest.approx(want, abs=1e-9)
    assert report.fit is not None
    assert (report.fit["on_data"], report.fit["texts"]) == (True, len(scored))


def test_texts_to_fit_on_have_the_prompt_of_documents(with_prompts: Path, folder: Path) -> None:
    texts = [f"{first} {second}" for first in WORDS for second in WORDS]
    report = compare(str(with_prompts), folder, ["mean/whiten:4"], fit=texts)
    embedder = Embedder.from_pretrained(with_prompts, device="cpu")
    want = whitened(embedder, read_retrieval(folder), texts)
    assert values_of(report.to_dict(), "mean/whiten:4") == pytest.approx(want, abs=1e-9)


@pytest.mark.usefixtures("no_forward")
def test_scored_texts_of_several_prompts_are_not_fitted_on(
    with_prompts: Path, folder: Path
) -> None:
    with pytest.raises(InputError) as error:
        compare(str(with_prompts), folder, ["mean/whiten:4"], fit="data")
    assert str(error.value) == (
        f"the scored texts have several prompts, {OWN['document']!r} and {OWN['query']!r} among "
        "them, and recipes are fitted behind one; name other texts to fit on (--fit FILE)"
    )


@pytest.mark.usefixtures("no_forward")
def test_an_index_that_there_is_not_is_refused_before_the_fit(bert: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="PQ7"):  # 4 numbers are not cut in 7
        compare(str(bert), folder, ["mean/whiten:4"], fit="data", index="PQ7")
