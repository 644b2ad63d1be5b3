"""BM25, hybrid search and reranking in an index, while it changes, on disk and from the shell."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused

from embedkit import Corpus, Embedder, InputError, VectorIndex, build_index, sync_index
from embedkit.retrieval.words import find_words
from embedkit.scoring.cross_encoder import CrossEncoder

NOUNS = ("cat", "dog", "bird", "city", "rain", "sun", "고양이", "강아지")
TEXTS = [" ".join(NOUNS[(n * k + k) % 8] for k in range(1, 2 + n % 6)) for n in range(60)]
QUERIES = ["cat", "rain in the city", "고양이는", "a bird, a dog"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=2)
    return Embedder.from_pretrained(folder, precision="float32")


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 32)).astype(np.float32)


def oracle(texts: dict[Any, str], query: str, words: str = "unicode") -> dict[Any, float]:
    """The scores above 0 of bm25s, by id."""
    split = find_words(words)
    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    model.index([split(text) for text in texts.values()], show_progress=False)
    scores = model.get_scores(split(query)).tolist()
    return {name: score for name, score in zip(texts, scores, strict=True) if score > 0}


def check(index: VectorIndex, texts: dict[Any, str], words: str = "unicode") -> None:
    """What the index finds by words, with bm25s' scores of the texts that are left."""
    for query, hits in zip(QUERIES, index.search(QUERIES, 100, mode="bm25"), strict=True):
        expected = oracle(texts, query, words)
        assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)
        assert [hit.text for hit in hits] == [texts[hit.id] for hit in hits]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "SQ8"])
def test_bm25_is_kept_in_step(kind: str, tmp_path: Path) -> None:
    texts = dict(enumerate(TEXTS[:40]))
    index = VectorIndex.build(vectors(40), texts=TEXTS[:40], kind=kind, bm25=True)
    check(index, texts)
    index.save(tmp_path / "index")
    index.remove([0, 7, 8])
    for name in (0, 7, 8):
        del texts[name]
    check(VectorIndex.open(tmp_path / "index"), texts)
    index.add(vectors(5), ids=range(100, 105), texts=TEXTS[40:45])
    texts |= dict(zip(range(100, 105), TEXTS[40:45], strict=True))
    assert index.info["segments"] == 2
    check(VectorIndex.open(tmp_path / "index"), texts)
    index.update(vectors(2), ids=[3, 101], texts=["sun sun", "새 고양이"])
    texts |= {3: "sun sun", 101: "새 고양이"}
    check(pickle.loads(pickle.dumps(index)), texts)  # noqa: S301
    index.compact()
    assert (index.info["segments"], index.info["removed"]) == (1, 0)
    check(VectorIndex.open(tmp_path / "index"), texts)
    index.remove(list(texts))
    assert index.search(["cat"], mode="bm25").ids == [[]]
    index.add(vectors(1), ids=[1], texts=["cat"])
    check(VectorIndex.open(tmp_path / "index"), {1: "cat"})


def test_the_words_are_those_of_the_build(tmp_path: Path) -> None:
    index = VectorIndex.build(vectors(60), texts=TEXTS, bm25=True, words="english")
    index.save(tmp_path / "index")
    opened = VectorIndex.open(tmp_path / "index")
    assert (opened.words, opened.info["bm25"]) == ("english", "english")
    check(opened, dict(enumerate(TEXTS)), "english")
    assert opened.search(["raining cats"], mode="bm25").ids[0]


def test_adding_does_not_read_the_corpus_again(monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(vectors(10), texts=TEXTS[:10], bm25=True)
    split: list[str] = []

    def words(text: str) -> list[str]:
        split.append(text)
        return find_words("unicode")(text)

    monkeypatch.setattr("embedkit.retrieval.growth.find_words", lambda name: words)
    index.add(vectors(20), texts=TEXTS[10:30])  # rewrites the first segment
    assert index.info["segments"] == 1
    assert split == TEXTS[10:30]
    check(index, dict(enumerate(TEXTS[:30])))


def test_hybrid_fuses_both_rankings(embedder: Embedder) -> None:
    index = VectorIndex.build(embedder.encode(TEXTS), texts=TEXTS, embedder=embedder, bm25=True)
    dense, words = (index.search(QUERIES, 100, mode=mode).ids for mode in ("dense", "bm25"))
    fused = index.search(QUERIES, 5, mode="hybrid")
    for query, hits in enumerate(fused):
        sums: dict[Any, float] = {}
        for ids in (dense[query], words[query]):
            for rank, name in enumerate(ids, start=1):
                sums[name] = sums.get(name, 0.0) + 1 / (60 + rank)
        best = sorted(sums.values(), reverse=True)[:5]
        assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-6)
        assert [sums[hit.id] for hit in hits] == pytest.approx(best, rel=1e-6)
    for weights, mode in (((1, 0), "dense"), ((0, 1), "bm25")):
        weighted = index.search(QUERIES[:1], 3, mode="hybrid", weights=weights)
        scores = index.search(QUERIES[:1], 100, mode=mode).scores[0]
        scores = scores[np.isfinite(scores)]
        expected = (scores[:3] - scores[-1]) / (scores[0] - scores[-1])
        assert weighted.scores[0] == pytest.approx(expected, abs=1e-6)


def test_a_filter_applies_to_both_sides(embedder: Embedder) -> None:
    years = [2000 + n % 3 for n in range(60)]
    index = VectorIndex.build(
        embedder.encode(TEXTS), texts=TEXTS, metadata={"year": years}, embedder=embedder, bm25=True
    )
    for mode in ("dense", "bm25", "hybrid"):
        found = index.search(QUERIES, 60, mode=mode, where="year = 2001").ids
        assert all(ids and all(name % 3 == 1 for name in ids) for ids in found)
    for query, hits in zip(
        QUERIES, index.search(QUERIES, 60, mode="bm25", where={"year": 2001}), strict=True
    ):
        every = oracle(dict(enumerate(TEXTS)), query)
        expected = {name: score for name, score in every.items() if name % 3 == 1}
        assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)


def test_rerank(embedder: Embedder, tmp_path: Path) -> None:
    tiny.make_bert(tmp_path / "bert", layers=1, seed=5)
    CrossEncoder.untrained(tmp_path / "bert", "mean", (0, 5)).save_pretrained(tmp_path / "cross")
    model = CrossEncoder.from_pretrained(tmp_path / "cross")
    index = VectorIndex.build(embedder.encode(TEXTS), texts=TEXTS, embedder=embedder, bm25=True)
    for mode in ("dense", "bm25"):
        first = index.search(QUERIES, 7, mode=mode)
        hits = index.search(QUERIES, 2, mode=mode, rerank=tmp_path / "cross", rerank_depth=7)
        for query, own, before in zip(QUERIES, hits, first, strict=True):
            ranked = model.rank(query, [hit.text for hit in before], top_k=2)
            assert [hit.text for hit in own] == [before[row["corpus_id"]].text for row in ranked]
            assert [hit.score for hit in own] == pytest.approx([x["score"] for x in ranked])
    second = Embedder.from_pretrained(tmp_path / "bert", precision="float32")
    (hits,) = index.search(QUERIES[:1], 60, rerank=second)
    similarities = second.similarity(QUERIES[0], TEXTS)[0]
    assert [hit.score for hit in hits] == pytest.approx(
        sorted(similarities, reverse=True), abs=1e-5
    )


def test_what_an_index_cannot_do_is_refused(embedder: Embedder) -> None:
    plain = VectorIndex.build(vectors(3), texts=TEXTS[:3])
    message = "the index has no BM25; build it with bm25=True (embedkit index build FILE --bm25)"
    with pytest.raises(InputError, match=re.escape(message)):
        plain.search(["cat"], mode="hybrid")
    bare = VectorIndex.build(vectors(3))
    with pytest.raises(InputError, match="got rerank, and the index has no texts"):
        bare.search(vectors(1), rerank="minilm")
    with pytest.raises(InputError, match="bm25: got no texts; expected texts "):
        VectorIndex.build(vectors(3), bm25=True)
    with pytest.raises(InputError, match="got words 'kiwi' without bm25"):
        VectorIndex.build(vectors(3), words="kiwi")
    index = VectorIndex.build(vectors(3), texts=TEXTS[:3], bm25=True)
    with pytest.raises(InputError, match="mode is 'sparse'; expected one of dense, bm25, hybrid"):
        index.search(["cat"], mode="sparse")
    with pytest.raises(InputError, match="got weights for mode 'bm25'; expected mode 'hybrid'"):
        index.search(["cat"], mode="bm25", weights=(1, 1))
    with pytest.raises(InputError, match="got prompt for mode 'bm25', which reads no vectors"):
        index.search(["cat"], mode="bm25", prompt="query: ")
    with pytest.raises(InputError, match="queries is one ndarray; expected a list of str"):
        index.search(vectors(1), mode="bm25")


def test_a_damaged_file_of_terms_is_named(tmp_path: Path) -> None:
    VectorIndex.build(vectors(3), texts=TEXTS[:3], bm25=True).save(tmp_path / "index")
    (terms,) = (tmp_path / "index").glob("*.terms.arrow")
    terms.write_bytes(terms.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{terms.name}: is damaged"):
        VectorIndex.open(tmp_path / "index")


def test_an_index_without_bm25_stays_as_earlier_versions_read_it(tmp_path: Path) -> None:
    VectorIndex.build(vectors(3), texts=TEXTS[:3]).save(tmp_path / "plain")
    content = json.loads((tmp_path / "plain" / "index.json").read_text())
    assert (content["schema"], [len(x) for x in content["segments"]]) == (1, [4])
    assert "words" not in content
    VectorIndex.build(vectors(3), texts=TEXTS[:3], bm25=True).save(tmp_path / "index")
    assert json.loads((tmp_path / "index" / "index.json").read_text())["schema"] == 2


def test_from_the_shell(run: Run, tmp_path: Path, embedder: Embedder) -> None:
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "docs.txt").write_text("고양이가 잔다\n비가 온다\n개가 짖는다\n")
    model = ("-m", tmp_path / "model")
    run("encode", tmp_path / "docs.txt", *model, "--texts", "--out", tmp_path / "vectors")
    folder = tmp_path / "index"
    built = run("index", "build", tmp_path / "vectors", "--out", folder, "--bm25", "--json").json
    assert built["bm25"] == "unicode"
    hits = run("search", folder, "고양이는 어디에", "--mode", "bm25", "--json").json["hits"]
    assert [hit["text"] for hit in hits] == ["고양이가 잔다"]
    options = ("--mode", "hybrid", "--rerank", tmp_path / "model", "-k", "2", "--json")
    hits = run("search", folder, "고양이는", *options).json["hits"]
    similarities = embedder.similarity("고양이는", ["고양이가 잔다", "비가 온다", "개가 짖는다"])[0]
    expected = sorted(similarities.tolist(), reverse=True)[:2]
    assert [hit["score"] for hit in hits] == pytest.approx(expected, abs=1e-4)
    index = VectorIndex.open(folder, embedder)
    expected = index.search(["고양이는"], 3, mode="hybrid", weights=(0.9, 0.1))[0]
    options = ("--mode", "hybrid", "--weights", "0.9,0.1", "-k", "3", "--json")
    hits = run("search", folder, "고양이는", *options).json["hits"]
    assert [(x["id"], x["score"]) for x in hits] == [
        (x.id, pytest.approx(x.score, abs=1e-6)) for x in expected
    ]
    assert refused(run("search", folder, "x", "--mode", "hybrid", "--weights", "much")) == (
        "--weights is 'much'; expected two numbers, of dense search and of BM25, such as 0.7,0.3"
    )
    assert refused(run("search", folder, "x", "--mode", "hybrid", "--weights", "1")) == (
        "weights is [1.0]; expected two numbers from 0, of dense search and of BM25"
    )
    assert refused(run("search", folder, "x", "--mode", "bm25", *model)) == (
        "got --model for mode 'bm25', which reads no vectors"
    )
    assert refused(run("search", folder, "x", "--mode", "bm25", "--device", "cpu")) == (
        "got --device for mode 'bm25', which loads no model"
    )


def test_a_file_is_followed(embedder: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "docs.csv"
    path.write_text("id,text\na,고양이가 잔다\nb,비가 온다\nc,a cat naps\n")
    corpus = Corpus(path, id_column="id")
    index = build_index(embedder, corpus, tmp_path / "index", bm25=True, words="english")
    assert index.search(["cats"], mode="bm25").ids == [["c"]]
    path.write_text("id,text\na,고양이가 잔다\nb,two cats\nd,a dog\n")
    changes = sync_index(index, corpus)
    assert (changes.added, changes.updated, changes.removed, changes.kept) == (1, 1, 1, 1)
    opened = VectorIndex.open(tmp_path / "index")
    assert opened.search(["cats", "고양이", "비가"], mode="bm25").ids == [["b"], ["a"], []]
    with pytest.raises(InputError, match="bm25: got no texts"):
        build_index(embedder, corpus, tmp_path / "other", texts=False, bm25=True)
