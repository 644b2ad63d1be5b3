"""The worst queries and the documents that they miss, by hand and against trec_eval and scipy."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers import beir, tiny
from rich.console import Console

from embedkit import Embedder, Pairs, Report, RetrievalSet, compare, evaluate
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.retrieval import IndexedQrels
from embedkit.evaluation.retrieval_errors import (
    MissedDocument,
    QueryErrors,
    QuotedText,
    RetrievalErrorAnalysis,
    analyse_retrieval_errors,
)


def analysed(
    data: RetrievalSet, similarities: dict[str, np.ndarray[Any, Any]], seed: int = 0
) -> RetrievalErrorAnalysis:
    """Of recipes with these similarities (queries, documents in the order of `document_ids`)."""
    qrels = IndexedQrels.of(data)
    rankings = [
        one
        for recipe, matrix in similarities.items()
        for one in qrels.rank(
            recipe, np.eye(len(matrix), dtype=np.float32), matrix.T.astype(np.float32), ["dot"]
        )
    ]
    return analyse_retrieval_errors(qrels, rankings, seed)


# Twelve documents d00 to d11; a matrix has the similarity of d11 first.
DOCUMENTS = {f"d{n:02}": f"text {n}" for n in range(12)}
JUDGEMENTS = {
    "perfect": {"d00": 1},
    "late": {"d10": 1, "d11": 2, "d02": 0},
    "second": {"d00": 1},
    "nothing": {"d03": 0},
    "d05": {"d06": 1},  # the text of a document, which is left out of its own ranking
    "absent": {"lost": 3, "d00": 1},
}
QUERIES = {name: "one" if name in ("perfect", "second") else "one two" for name in JUDGEMENTS}


def by_hand() -> RetrievalErrorAnalysis:
    data = RetrievalSet("hand", QUERIES, DOCUMENTS, JUDGEMENTS)
    falling = np.arange(12.0)  # d00 first, d11 last, in the order of `document_ids`
    matrix = np.stack([falling] * 6)
    matrix[2] = np.roll(falling, 1)  # d11 d10 ... d00 have 11 0 1 ... 10: d11 first, then d00
    matrix[4] = np.where(np.array(data.document_ids) == "d05", 99, falling)
    return analysed(data, {"mean": matrix})


def test_the_worst_queries_by_hand() -> None:
    (one,) = by_hand().recipes
    assert one.worst == (
        # d10 at rank 11, d11 at 12; the most relevant missed document comes first.
        QueryErrors(
            "late",
            0.0,
            11,
            "d00",
            2,
            2,
            (MissedDocument("d11", 2, 12), MissedDocument("d10", 1, 11)),
        ),
        QueryErrors(
            "absent",
            pytest.approx(1 / (3 + 1 / np.log2(3))),
            1,
            "d00",
            2,
            1,
            (MissedDocument("lost", 3, None),),
        ),
        # Without itself, d05 leaves d06 at rank 6.
        QueryErrors("d05", pytest.approx(1 / np.log2(7)), 6, "d00", 1, 0, ()),
        QueryErrors("second", pytest.approx(1 / np.log2(3)), 2, "d11", 1, 0, ()),
    )
    assert (one.relevant, one.missed) == (7, 3)


def test_queries_and_documents_are_quoted() -> None:
    analysis = by_hand()
    assert analysis.dataset == "hand"
    assert [quoted.id for quoted in analysis.queries] == ["late", "absent", "d05", "second"]
    # `lost` is in no corpus.
    assert {quoted.id for quoted in analysis.documents} == {"d00", "d11", "d10"}
    assert QuotedText("d10", "text 10") in analysis.documents
    long = RetrievalSet("long", {"q": "가" * 400}, {"a": "b" * 301, "b": "c"}, {"q": {"b": 1}})
    quoted = analysed(long, {"mean": np.array([[0.0, 1.0]])})
    assert quoted.queries == (QuotedText("q", "가" * 299 + "…"),)
    assert quoted.documents == (QuotedText("a", "b" * 299 + "…"),)


def test_bins_by_hand() -> None:
    """Two queries of one word, four of two; one of these has nothing to find."""
    (one,) = by_hand().recipes
    short, long = one.by_length
    assert (short.low, short.high, short.n) == (1, 1, 2)
    assert short.value == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert (long.low, long.high, long.n) == (2, 2, 4)
    assert long.value == pytest.approx((1 / (3 + 1 / np.log2(3)) + 1 / np.log2(7)) / 4)


@pytest.mark.thorough
def test_random_rankings_are_trec_evals_and_brute_force() -> None:
    rng = np.random.default_rng(3)
    names = [f"d{n}" for n in range(1500)]
    lengths = rng.integers(1, 30, 60)
    queries = {f"q{n}": " ".join(["w"] * size) for n, size in enumerate(lengths)}
    judgements = {
        query: {
            name: int(gain)
            for name, gain in zip(
                rng.choice(names, 6, replace=False), rng.integers(0, 4, 6), strict=True
            )
        }
        for query in queries
    }
    data = RetrievalSet("r", queries, dict.fromkeys(names, "text"), judgements)
    gains = np.array([[judgements[q].get(d, 0) for d in data.document_ids] for q in queries])
    matrices = {f"r{n}": gains * n + rng.normal(size=gains.shape) * 2 for n in (1, 2)}
    analysis = analysed(data, matrices)
    assert [one.recipe for one in analysis.recipes] == ["r1", "r2"]
    for one in analysis.recipes:
        matrix = matrices[one.recipe].astype(np.float32)
        scores = {
            query: dict(zip(data.document_ids, row.tolist(), strict=True))
            for query, row in zip(queries, matrix, strict=True)
        }
        want = dict(zip(queries, beir.trec_eval(judgements, scores)["ndcg@10"], strict=True))
        missed = 0
        expected = {}
        for row, (query, judged) in enumerate(judgements.items()):
            order = [data.document_ids[at] for at in np.argsort(-matrix[row], kind="stable")]
            ranks = {name: order.index(name) + 1 for name, gain in judged.items() if gain > 0}
            beyond = [name for name, rank in ranks.items() if rank > 10]
            missed += len(beyond)
            found = [rank for rank in ranks.values() if rank <= 1000]
            expected[query] = (min(found, default=None), order[0], len(ranks), len(beyond), ranks)
        assert (one.relevant, one.missed) == ((gains > 0).sum(), missed)
        assert len(one.worst) == 20
        keys = [(error.value, -(error.first_relevant or 1001)) for error in one.worst]
        assert keys == sorted(keys)
        shown = {error.query for error in one.worst}
        assert max(want[query] for query in shown) <= min(
            value for query, value in want.items() if query not in shown and expected[query][2]
        )
        for error in one.worst:
            assert error.value == pytest.approx(want[error.query], abs=1e-12)
            first_relevant, first, relevant, beyond_ten, ranks = expected[error.query]
            assert (error.first_relevant, error.first) == (first_relevant, first)
            assert (error.relevant, error.missed) == (relevant, beyond_ten)
            assert len(error.documents) == min(3, beyond_ten)
            for document in error.documents:
                rank = ranks[document.document]
                assert document.rank == (rank if rank <= 1000 else None)
                assert document.relevance == judgements[error.query][document.document]
        values = np.array([*want.values()])
        assert sum(own.n for own in one.by_length) == 60
        for own in one.by_length:
            inside = values[(lengths >= own.low) & (lengths <= own.high)]
            assert own.n == len(inside)
            assert own.value == pytest.approx(inside.mean(), abs=1e-12)
            interval = scipy.stats.bootstrap(
                (inside,),
                np.mean,
                n_resamples=3000,
                method="percentile",
                rng=np.random.default_rng(1),
            ).confidence_interval
            assert own.ci95 == pytest.approx((interval.low, interval.high), abs=0.03)


def test_a_recipe_without_values_has_no_errors() -> None:
    data = RetrievalSet("hand", QUERIES, DOCUMENTS, JUDGEMENTS)
    nothing = np.full((6, 12), np.nan)
    assert analysed(data, {"mean": nothing}) == RetrievalErrorAnalysis("hand", (), (), ())
    perfect = RetrievalSet("perfect", {"q": "a b"}, DOCUMENTS, {"q": {"d00": 1}})
    (one,) = analysed(perfect, {"mean": np.arange(12.0)[None]}).recipes
    assert (one.worst, one.missed) == ((), 0)


# In reports


def words(name: str) -> RetrievalSet:
    texts = [text for text in tiny.TEXTS if text]
    documents = {f"d{n:02}": text for n, text in enumerate([*texts, *(t * 2 for t in texts)])}
    queries = {f"q{n}": text for n, text in enumerate(texts)}
    return RetrievalSet(
        name, queries, documents, {query: {f"d{13 - n:02}": 1} for n, query in enumerate(queries)}
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    model = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2)
    pairs = Pairs.from_columns("pairs", ["a", "b", "c"], ["a", "c", "d"], [1, 2, 3])
    return compare(model, [pairs, words("words")], ["mean", "cls", "max"])


def test_report_json_has_them_beside_those_of_pairs(report: Report) -> None:
    written = json.loads(report.to_json())
    assert [one["dataset"] for one in written["diagnosis"]] == ["pairs"]
    (one,) = written["retrieval_diagnosis"]
    assert one["dataset"] == "words"
    assert [of["recipe"] for of in one["recipes"]] == ["mean", "cls", "max"]
    values = {row.recipe: row.value for row in report.deciding("ndcg@10")}
    for of in one["recipes"]:
        bins = [(own["n"], own["value"]) for own in of["by_length"]]
        mean = sum(n * value for n, value in bins) / sum(n for n, _ in bins)
        assert mean == pytest.approx(values[of["recipe"]])
        assert {"query", "value", "first_relevant", "first", "relevant", "missed", "documents"} == (
            set(of["worst"][0])
        )


@pytest.mark.parametrize("language", ["en", "ko"])
def test_tables_show_the_best_recipe(report: Report, language: str) -> None:
    texts = catalogue(language)["table"]
    (analysis,) = report.retrieval_error_analyses
    best = next(one for one in analysis.recipes if one.recipe == str(report.best))
    markdown = report.to_markdown(language)
    about = {"recipe": best.recipe, "dataset": "words"}
    assert f"## {texts['queries_by_length'].format(**about)}" in markdown
    heading = texts["worst_queries"].format(relevant=best.relevant, missed=best.missed, **about)
    table = markdown.split(f"## {heading}")[1].strip().splitlines()
    quoted = {one.id: one.text for one in analysis.queries}
    assert len(table) == 2 + len(best.worst)
    for line, error in zip(table[2:], best.worst, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[0] == quoted[error.query]
        assert cells[1] == f"{100 * error.value:.2f}"
        assert cells[2] == str(error.first_relevant)
    out = StringIO()
    report.print(Console(file=out, width=200), language)
    for text in (heading, *(quoted[error.query] for error in best.worst[:5])):
        assert "".join(text.split()) in "".join(out.getvalue().split())


def test_evaluate_shows_its_only_recipe(tmp_path: Path) -> None:
    model = Embedder.from_pretrained(tiny.make_bert(tmp_path, layers=1), "cls")
    report = evaluate(model, words("<mine>"))
    notebook = report._repr_html_()
    assert "<p>cls on &lt;mine&gt;: nDCG@10 by query length</p><table" in notebook
    assert notebook.count("<table") == 3
    text = str(evaluate(model, words("mine")))
    assert "cls on mine: nDCG@10 by query length" in text
    assert "cls on mine: the lowest nDCG@10; " in text
