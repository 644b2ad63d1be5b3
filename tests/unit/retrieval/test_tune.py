"""The choice of a kind, tuned searches and rescored hits against brute force in float64."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedkit import InputError, VectorIndex
from embedkit.manifest import write_manifest
from embedkit.retrieval import tune as module
from embedkit.retrieval.tune import Tuning, as_kind, check_recall, choose_kind, tune
from embedkit.similarity import find_similarity

WIDTH, K = 24, 10


def clustered(rows: int, seed: int) -> np.ndarray:
    """(rows, WIDTH) float32: 60 directions with noise."""
    centres = np.random.default_rng(0).normal(size=(60, WIDTH))
    generator = np.random.default_rng(seed)
    noise = generator.normal(scale=1.2, size=(rows, WIDTH))
    return (centres[generator.integers(60, size=rows)] + noise).astype(np.float32)


STORED, QUERIES = clustered(3000, 1), clustered(80, 2)


def exact(similarity: str, queries: np.ndarray = QUERIES) -> np.ndarray:
    return find_similarity(similarity).matrix(queries.astype(float), STORED.astype(float))


def tuned(index: VectorIndex, target: float, queries: np.ndarray | None = None) -> Tuning:
    return tune(index._segments, index._ranking, target, queries, K, False)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUERIES", 80)
    monkeypatch.setattr(module, "_TIMED", 2)


@pytest.mark.parametrize(
    ("rows", "dimension", "options", "kind"),
    [
        (50_000, 384, {}, "flat"),
        (50_001, 384, {}, "hnsw"),
        (2_000_000, 384, {}, "hnsw"),
        (3_000_000, 384, {}, "IVF4096,PQ48"),
        (200_000, 384, {"memory": 0.3}, "IVF2048,PQ48"),
        (200_000, 31, {"memory": 0.01}, "IVF2048,SQ8"),
    ],
)
def test_the_kind_follows_rows_and_memory(
    rows: int, dimension: int, options: dict[str, Any], kind: str
) -> None:
    assert choose_kind(rows, dimension, **options) == kind


@pytest.mark.parametrize(
    ("kind", "similarity"),
    [
        ("PQ6x4", "cosine"),
        ("IVF8,PQ6x4", "dot"),
        ("IVF8,PQ6x4", "euclidean"),
        ("RaBitQ", "cosine"),
        ("PCA8,Flat", "euclidean"),
        ("HNSW8,SQ4", "dot"),
    ],
)
def test_compressed_kinds_show_exact_scores(kind: str, similarity: str) -> None:
    index = VectorIndex.build(STORED, kind=kind, similarity=similarity)
    index.remove(range(0, 3000, 2))
    hits = index.search(QUERIES, K)
    scores = exact(similarity)
    for row, (ids, shown) in enumerate(zip(hits.ids, hits.scores, strict=True)):
        assert shown == pytest.approx(scores[row, ids], rel=1e-4, abs=1e-5)
        assert (np.diff(shown) <= 0).all()
        assert all(name % 2 for name in ids)
        assert len(ids) == K


def test_candidates_raise_the_recall_of_a_compressed_kind() -> None:
    index = VectorIndex.build(STORED, kind="PQ4x4")
    truth = np.argsort(-exact("cosine"), axis=1)[:, :K]
    recalls = []
    for rescore in (1, 8, 64, 300):
        _, rows = index._segments[0].search(index._ranking.prepare(QUERIES), K, None, rescore)
        recalls.append(
            np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, truth, strict=True)])
        )
    assert recalls[0] < recalls[1] < recalls[2] <= recalls[3] == 1
    assert recalls[0] < 0.8


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["IVF32,Flat", "hnsw", "IVF32,PQ12x4", "PQ12x4"])
def test_the_least_effort_that_reaches_the_recall_is_set(kind: str) -> None:
    index = VectorIndex.build(STORED, kind=kind, similarity="euclidean")
    result = tuned(index, 0.9, QUERIES)
    assert result.reached
    truth = np.argsort(-exact("euclidean"), axis=1)[:, :K]

    def recall(effort: int | None, rescore: int | None) -> float:
        _, rows = index._segments[0].search(QUERIES, K, effort, rescore)
        return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, truth, strict=True)]))

    assert result.recall == pytest.approx(recall(result.effort, result.rescore), abs=1e-9)
    assert result.low <= result.recall <= result.high
    assert (result.queries, result.own_queries, result.rows) == (80, True, 3000)
    if kind == "IVF32,Flat":
        assert result.rescore is None
        assert result.effort is not None
        assert 1 < result.effort < 32
        assert recall(round(result.effort / 1.4), None) < result.recall
        assert tuned(index, 0.999, QUERIES).effort > result.effort  # type: ignore[operator]
    if "PQ" in kind:
        assert result.rescore in module._CANDIDATES[1:]
        assert recall(result.effort, result.rescore // 2) < result.recall


def test_rows_that_are_queries_are_no_hits_of_themselves() -> None:
    index = VectorIndex.build(STORED, kind="IVF64,Flat")
    index.add(STORED[:500] + 0.01, ids=range(3000, 3500))
    index.remove(range(100))
    result = tuned(index, 0.8)
    assert (result.queries, result.own_queries, result.rows) == (80, False, 3400)
    everywhere = np.concatenate([STORED, STORED[:500] + 0.01])
    queries, own = module._sample(index._segments, 80)
    assert own.min() >= 100
    units = everywhere / np.linalg.norm(everywhere, axis=1, keepdims=True)
    assert queries == pytest.approx(units[own], abs=1e-6)
    scores = units[own].astype(float) @ units.T.astype(float)
    scores[np.arange(80), own] = scores[:, :100] = -1
    truth = -np.sort(-scores, axis=1)[:, :K]
    got = module._scores(index._segments, index._ranking, queries, K, own, exact=True)
    assert got == pytest.approx(truth, abs=1e-5)
    found = module._scores(index._segments, index._ranking, queries, K, own, effort=result.effort)
    assert result.recall == pytest.approx((found >= truth[:, -1:] - 1e-5).mean())


def test_what_cannot_be_reached_is_set_highest() -> None:
    index = VectorIndex.build(STORED, kind="PQ1x4", similarity="euclidean")
    result = tuned(index, 1, QUERIES)
    assert not result.reached
    assert result.rescore == 64
    flat = tuned(VectorIndex.build(STORED), 1, QUERIES)
    assert (flat.recall, flat.low, flat.effort, flat.rescore) == (1, 1, None, None)


def test_an_index_of_few_rows() -> None:
    index = VectorIndex.build(STORED[:3], kind="hnsw")
    result = tuned(index, 0.95)
    assert (result.recall, result.queries, result.k) == (1, 3, 2)


def test_growth_by_more_than_half_is_stale() -> None:
    made = Tuning(0.95, 0.97, 0.96, 0.98, K, 80, False, 1000, 8, None)
    assert [made.is_stale(rows) for rows in (100, 1000, 1500, 1501)] == [False, False, False, True]


@pytest.mark.thorough
def test_a_tuned_search_is_stored_and_used(tmp_path: Path) -> None:
    index = VectorIndex.build(STORED[:2000], kind="IVF16,PQ12x4")
    result = index.tune(0.9, queries=QUERIES)
    index.save(tmp_path / "index")
    opened = VectorIndex.open(tmp_path / "index")
    assert opened.tuning == replace(result, milliseconds=0, memory=0)
    assert opened.effort == result.effort
    stored = index.info["tuning"]
    assert (stored["recall"], stored["rows"], stored["stale"]) == (result.recall, 2000, False)
    assert result.memory > 2000 * 6
    _, rows = index._segments[0].search(
        index._ranking.prepare(QUERIES), K, result.effort, result.rescore
    )
    assert opened.search(QUERIES, K).ids == rows.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened.add(STORED[2000:], ids=range(2000, 3000))
    with pytest.warns(UserWarning, match="tuned on 2,000 rows, and there are 3,001"):
        opened.add(STORED[:1], ids=[3000])
    assert VectorIndex.open(tmp_path / "index").info["tuning"]["stale"]
    opened.tune(0.9, queries=QUERIES)
    assert not VectorIndex.open(tmp_path / "index").info["tuning"]["stale"]


def test_an_index_that_knows_no_tuning_opens(tmp_path: Path) -> None:
    index = VectorIndex.build(STORED, kind="IVF16,Flat", nprobe=3)
    index.save(tmp_path / "index")
    manifest = tmp_path / "index" / "index.json"
    content = json.loads(manifest.read_text())
    del content["crc32"]
    assert content.pop("tuning") is None
    write_manifest(manifest, content)
    opened = VectorIndex.open(tmp_path / "index")
    assert (opened.effort, opened.tuning) == (3, None)
    assert opened.search(QUERIES, K).ids == index.search(QUERIES, K).ids
    write_manifest(manifest, {**content, "tuning": {"effort": 3}})
    with pytest.raises(InputError, match="is damaged"):
        VectorIndex.open(tmp_path / "index")


@pytest.mark.parametrize("kind", ["SQ8", "IVF8,PQ6x4"])
def test_hits_are_rescored_from_float16(kind: str, tmp_path: Path) -> None:
    index = VectorIndex.build(STORED[:2900], kind=kind, dtype="float16")
    index.save(tmp_path / "index")
    opened = VectorIndex.open(tmp_path / "index")
    opened.add(STORED[2900:], ids=range(2900, 3000))
    (vectors,) = (tmp_path / "index").glob("000001*.npy")
    assert np.load(vectors).dtype == np.float16
    units = STORED / np.linalg.norm(STORED, axis=1, keepdims=True)
    rounded = units.astype(np.float16).astype(float)
    asked = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    scores = asked @ rounded.T
    assert np.abs(scores - exact("cosine")).max() > 1e-5  # what rounding changes
    opened.remove(range(100))
    again = VectorIndex.open(tmp_path / "index")
    assert again.info["dtype"] == "float16"
    opened.compact()
    for found in (opened, again):
        hits = found.search(QUERIES, K)
        for row, (ids, shown) in enumerate(zip(hits.ids, hits.scores, strict=True)):
            assert shown == pytest.approx(scores[row, ids], abs=1e-6)
    (row,) = opened.get([2950], vectors=True)
    assert row.vector == pytest.approx(rounded[2950], abs=0)
    assert opened.tune(0.9, queries=QUERIES).reached


def test_float16_where_it_has_no_use_or_is_too_small(tmp_path: Path) -> None:
    for kind in ("flat", "hnsw", "IVF8,Flat"):
        with pytest.raises(InputError, match=f"got dtype 'float16' for kind '{kind}', which"):
            VectorIndex.build(STORED, kind=kind, dtype="float16")
    with pytest.raises(InputError, match="dtype is 'float8'; expected one of float32, float16"):
        VectorIndex.build(STORED, kind="SQ8", dtype="float8")
    with pytest.raises(InputError, match=r"of size 1e\+06, expected at most 65504 \(float16\)"):
        VectorIndex.build(1e6 * np.eye(3), kind="SQ8", similarity="dot", dtype="float16")
    VectorIndex.build(STORED, kind="SQ8").save(tmp_path / "index")
    content = json.loads((tmp_path / "index" / "index.json").read_text())
    assert (content["schema"], "dtype" in content) == (1, False)  # as earlier versions read it


def test_an_index_is_tuned_as_it_is_built() -> None:
    index = VectorIndex.build(STORED, kind="IVF32,Flat", recall=0.9, queries=QUERIES)
    expected = tuned(VectorIndex.build(STORED, kind="IVF32,Flat"), 0.9, QUERIES)
    assert index.tuning is not None
    assert (index.effort, index.tuning.recall) == (expected.effort, expected.recall)
    refusals: dict[str, dict[str, Any]] = {
        "got nprobe or ef_search, and a recall": {"recall": 0.9, "nprobe": 3},
        "got queries without a recall": {"queries": QUERIES},
        "recall is 2; expected a number": {"recall": 2},
        "queries: got vectors of width 3": {"recall": 0.9, "queries": np.eye(3)},
    }
    for message, options in refusals.items():
        with pytest.raises(InputError, match=message):
            VectorIndex.build(STORED, kind="IVF32,Flat", **options)
    assert VectorIndex.build(STORED[:9], kind="auto").tuning is not None
    assert VectorIndex.build(STORED[:9], kind="flat").tuning is None


@pytest.mark.thorough
def test_a_small_index_of_product_quantization_opens(tmp_path: Path) -> None:
    index = VectorIndex.build(STORED[:300], kind="IVF16,PQ2")
    index.save(tmp_path / "index")  # FAISS makes a table that is longer than the file
    opened = VectorIndex.open(tmp_path / "index")
    assert opened.search(QUERIES, K).ids == index.search(QUERIES, K).ids


def test_kind_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VectorIndex.build(STORED, kind="auto").kind == "flat"
    monkeypatch.setattr(module, "_FLAT", 1000)
    assert VectorIndex.build(STORED, kind="auto").kind == "hnsw"
    assert as_kind("auto", len(STORED), WIDTH, 0.0005) == "IVF256,PQ3"
    with pytest.raises(InputError, match="got memory and kind 'flat'"):
        VectorIndex.build(STORED, memory=1)
    with pytest.raises(InputError, match="memory is 0; expected GB, above 0"):
        VectorIndex.build(STORED, kind="auto", memory=0)


def test_an_index_of_one_row_is_tuned_and_an_empty_one_is_not() -> None:
    index = VectorIndex.build(STORED[:1], kind="auto")
    assert index.tuning is not None
    assert index.tuning.recall == 1
    index.remove([0])
    with pytest.raises(InputError, match="the index has no rows; expected at least 1"):
        index.tune()


def test_no_queries_to_tune_on() -> None:
    with pytest.raises(InputError, match="queries is empty; expected at least one"):
        VectorIndex.build(STORED).tune(queries=STORED[:0])


@pytest.mark.parametrize("recall", [0, -1, 1.01, float("nan"), "0.9"])
def test_wrong_recall(recall: Any) -> None:
    with pytest.raises(InputError, match="recall"):
        check_recall(recall)
