"""Metrics of rankings and exact search, against trec_eval and brute force."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.spatial.distance
from helpers import beir
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation import exact_search as search
from embedkit.evaluation.exact_search import nearest
from embedkit.evaluation.ranking_metrics import RANKING_METRICS
from embedkit.evaluation.results import Result
from embedkit.evaluation.retrieval import DEPTH, IndexedQrels

Array = np.ndarray[Any, Any]

# Graded relevance, below 0 too; few scores, so that many tie; ids that sort as strings.
IDS = st.text("01é9ab", min_size=1, max_size=3)


@st.composite
def runs(draw: st.DrawFn) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    documents = draw(st.lists(IDS, min_size=1, max_size=30, unique=True))
    queries = [f"q{number}" for number in range(draw(st.integers(1, 4)))]
    # Documents that the corpus lacks are judged too.
    names = st.sampled_from([*documents, "absent", "lost"])
    judged = st.dictionaries(names, st.integers(-1, 3), min_size=1)
    judgements = {query: draw(judged) for query in queries}
    judgements[queries[0]][documents[0]] = 1  # a set has at least one relevant document
    score = st.integers(-2, 2).map(float)
    scores = {query: {name: draw(score) for name in documents} for query in queries}
    return judgements, scores


def retrieval_set(judgements: beir.Judgements, documents: list[str]) -> RetrievalSet:
    texts = dict.fromkeys(documents, "text")
    return RetrievalSet("r", dict.fromkeys(judgements, "query"), texts, judgements)


def results(
    data: RetrievalSet, queries: Array, documents: Array, similarity: str = "cosine"
) -> list[Result]:
    qrels = IndexedQrels.of(data)
    (rankings,) = qrels.rank("mean", queries, documents, [similarity])
    return [one.result for one in qrels.score(rankings, resamples=1000)]


@pytest.mark.thorough
@given(runs())
@settings(max_examples=60, deadline=None)
def test_trec_eval_says_the_same(
    run: tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]],
) -> None:
    """Whole way: dot products of one-hot queries are the scores, ties and all."""
    judgements, scores = run
    data = retrieval_set(judgements, list(scores["q0"]))
    queries = np.eye(len(judgements), dtype=np.float32)
    documents = np.array(
        [[scores[query][name] for query in judgements] for name in data.document_ids], np.float32
    )
    want = beir.trec_eval(judgements, scores)
    rows = results(data, queries, documents, "dot")
    assert [row.metric for row in rows] == list(RANKING_METRICS)
    for row in rows:
        if len(documents) > 1 and (documents == documents[0]).all():
            assert (row.value, row.reason) == (None, "the similarities are all the same")
        else:
            assert row.value == pytest.approx(np.mean(want[row.metric]), abs=1e-12), row.metric
            assert 0 <= row.value <= 1


def test_a_long_ranking_is_cut_where_trec_eval_s_is() -> None:
    rng = np.random.default_rng(0)
    names = [str(number) for number in range(3000)]
    judgements = {
        f"q{q}": {
            name: int(grade)
            for name, grade in zip(
                rng.choice(names, 400, replace=False), rng.integers(0, 3, 400), strict=True
            )
        }
        for q in range(5)
    }
    data = retrieval_set(judgements, names)
    queries = rng.normal(size=(5, 8)).astype(np.float32)
    documents = rng.integers(-1, 2, (3000, 8)).astype(np.float32)  # 3^8 vectors, so some are equal
    matrix = (queries.astype(np.float64) @ documents.T.astype(np.float64)).astype(np.float32)
    scores = {
        query: dict(zip(data.document_ids, row.tolist(), strict=True))
        for query, row in zip(judgements, matrix, strict=True)
    }
    want = beir.trec_eval(judgements, scores)
    for row in results(data, queries, documents, "dot"):
        assert row.value == pytest.approx(np.mean(want[row.metric]), abs=1e-12), row.metric
    assert DEPTH == 1000


def test_values_by_hand() -> None:
    gains = np.array([[0, 2, 0, 1], [0, 0, 0, 0]])
    ideal = np.array([[2, 1, 1], [0, 0, 0]])
    counts = np.array([3, 0])
    values = {name: of(gains, ideal, counts).tolist() for name, of in RANKING_METRICS.items()}
    best = 2 + 1 / np.log2(3) + 1 / 2
    assert values == {
        "ndcg@10": [pytest.approx((2 / np.log2(3) + 1 / np.log2(5)) / best), 0],
        "recall@100": [pytest.approx(2 / 3), 0],
        "mrr@10": [0.5, 0],
        "map": [pytest.approx((1 / 2 + 2 / 4) / 3), 0],
    }


def test_the_interval_is_of_resampled_queries() -> None:
    """scipy's percentile bootstrap of the mean, to the error of 1,000 resamples."""
    rng = np.random.default_rng(1)
    n = 200
    judgements = {f"q{q}": {str(q): 1} for q in range(n)}
    data = retrieval_set(judgements, [str(q) for q in range(n)])
    queries = rng.normal(size=(n, 16)).astype(np.float32)
    places = {name: place for place, name in enumerate(data.document_ids)}
    documents = rng.normal(size=(n, 16)).astype(np.float32)
    for q in range(n):
        documents[places[str(q)]] = queries[q] + rng.normal(size=16)
    _, ranking = nearest(queries, documents, "cosine", n)
    ranks = [int(np.flatnonzero(ranking[q] == places[str(q)])[0]) for q in range(n)]
    values = np.array([1 / np.log2(rank + 2) if rank < 10 else 0 for rank in ranks])
    row = results(data, queries, documents)[0]
    assert row.n == n
    assert row.value == pytest.approx(values.mean())
    want = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert row.ci95 == pytest.approx(want, abs=0.006)


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_most_judged_query() -> None:
    """10,000 queries of which one is judged on 100,000 documents, and its values by hand."""
    many, queries = 100_000, 10_000
    judgements = {f"q{q}": {str(q): 1} for q in range(queries)}
    judgements["q0"] = {str(name): 1 + name % 3 for name in range(many)}
    data = retrieval_set(judgements, [str(name) for name in range(many)])
    tracemalloc.start()
    judged = IndexedQrels.of(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert judged.ideal[0].tolist() == [3] * 10
    assert judged.ideal[1].tolist() == [1] + [0] * 9
    assert judged.counts.tolist() == [many] + [1] * (queries - 1)
    gains = np.zeros((queries, 1000), np.int64)
    gains[0, :100] = 1
    values = {
        name: metric(gains, judged.ideal, judged.counts)[0]
        for name, metric in RANKING_METRICS.items()
    }
    assert values == pytest.approx(
        {"ndcg@10": 1 / 3, "recall@100": 100 / many, "mrr@10": 1, "map": 100 / many}
    )


# A query that is a document too


@pytest.mark.parametrize("relevant", [False, True], ids=["left out", "relevant"])
def test_a_query_does_not_find_itself(relevant: bool) -> None:
    judgements = {"a": {"b": 1, **({"a": 1} if relevant else {})}}
    data = retrieval_set(judgements, ["a", "b", "c"])
    vectors = {"a": [1, 0], "b": [0.9, 0.1], "c": [0, 1]}
    documents = np.array([vectors[name] for name in data.document_ids], np.float32)
    rows = results(data, np.array([[1, 0]], np.float32), documents)
    assert data.own_documents == (set() if relevant else {"a"})
    assert [row.value for row in rows] == [1, 1, 1, 1]  # b is first, or a and then b


# No value


def test_vectors_without_a_similarity_have_a_reason() -> None:
    data = retrieval_set({"q": {"a": 1}}, ["a", "b"])
    queries, documents = np.ones((1, 2), np.float32), np.ones((2, 2), np.float32)
    rows = results(data, queries, documents)
    assert {row.reason for row in rows} == {"the similarities are all the same"}
    rows = results(data, queries * np.nan, documents)
    assert {(row.value, row.reason) for row in rows} == {
        (None, "the similarities are not all finite")
    }


# Search


DISTANCES = {
    "cosine": lambda a, b: 1 - scipy.spatial.distance.cdist(a, b, "cosine"),
    "dot": lambda a, b: a @ b.T,
    "euclidean": lambda a, b: -scipy.spatial.distance.cdist(a, b, "euclidean"),
    "manhattan": lambda a, b: -scipy.spatial.distance.cdist(a, b, "cityblock"),
}


@pytest.mark.parametrize("similarity", DISTANCES)
@pytest.mark.parametrize("k", [1, 7, 40, 99])
def test_nearest_is_brute_force(similarity: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_QUERIES", 3)
    monkeypatch.setattr(search, "_DOCUMENTS", 11)
    rng = np.random.default_rng(k)
    queries, documents = (rng.normal(size=(n, 5)).astype(np.float32) for n in (8, 40))
    matrix = DISTANCES[similarity](queries.astype(float), documents.astype(float))
    want = np.argsort(-matrix, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(nearest(queries, documents, similarity, k)[1], want)


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 9))
@settings(deadline=None)
def test_ties_keep_the_order_of_the_documents(scores: list[int], k: int, block: int) -> None:
    documents = np.array(scores, np.float32)[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_DOCUMENTS", block)
        (found,) = nearest(np.ones((1, 1), np.float32), documents, "dot", k)[1].tolist()
    assert found == sorted(range(len(scores)), key=lambda place: -scores[place])[:k]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_an_index_of_kind_flat_is_exact_search(similarity: str) -> None:
    rng = np.random.default_rng(4)
    queries, documents = (rng.normal(size=(n, 8)).astype(np.float32) for n in (5, 60))
    for k in (7, 99):
        np.testing.assert_array_equal(
            nearest(queries, documents, similarity, k, index="Flat")[1],
            nearest(queries, documents, similarity, k)[1],
        )
