"""The index against brute force, through changes, on disk and damaged."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from helpers import tiny
from helpers.bytes_of import flip, truncate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus, manifest
from embedkit.files import sole_writer
from embedkit.manifest import FileEntry, write_manifest
from embedkit.retrieval.faiss_index import RANKINGS
from embedkit.retrieval.index import VectorIndex as Index
from embedkit.similarity import find_similarity

WIDTH = 16
GENERATOR = np.random.default_rng(5)
STORED = GENERATOR.normal(size=(400, WIDTH)).astype(np.float32)
QUERIES = GENERATOR.normal(size=(9, WIDTH)).astype(np.float32)
# Kinds that search everything, and of whose hits little is lost by rounding.
WHOLE = ("flat", "hnsw", "IVF1,Flat", "SQ8", "HNSW16,SQ8", "OPQ16,SQ8", "PCA16,Flat")
NAMES = [f"문서 {n}" for n in range(len(STORED))]


def nearest(
    vectors: dict[Any, np.ndarray], queries: np.ndarray, k: int, similarity: str
) -> tuple[list[list[Any]], np.ndarray]:
    """Brute force: ids and scores."""
    names = list(vectors)
    matrix = np.stack(list(vectors.values())).astype(np.float64)
    scores = find_similarity(similarity).matrix(queries.astype(np.float64), matrix)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return (
        [[names[row] for row in rows] for rows in order],
        np.take_along_axis(scores, order, 1),
    )


def recall(found: list[list[Any]], wanted: list[list[Any]]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)])
    )


@pytest.mark.thorough
@pytest.mark.parametrize("similarity", RANKINGS)
@pytest.mark.parametrize("kind", WHOLE)
def test_every_kind_and_similarity_through_changes(
    kind: str, similarity: str, tmp_path: Path
) -> None:
    texts = [f"text {name}" for name in NAMES]
    index = VectorIndex.build(
        STORED[:300], ids=NAMES[:300], texts=texts[:300], kind=kind, similarity=similarity
    )
    index.save(tmp_path / "index")
    index.add(STORED[300:350], ids=NAMES[300:350], texts=texts[300:350])
    index.remove(NAMES[:350:3])
    index.update(STORED[350:360], ids=NAMES[1:11], texts=texts[350:360])
    current = {name: STORED[n] for n, name in enumerate(NAMES[:350]) if n % 3}
    current |= dict(zip(NAMES[1:11], STORED[350:360], strict=True))
    wanted, scores = nearest(current, QUERIES, 7, similarity)
    exact = kind in ("flat", "hnsw", "IVF1,Flat")
    again = VectorIndex.open(tmp_path / "index")
    hits = again.search(QUERIES, 7)
    compacted = VectorIndex.open(tmp_path / "index")
    compacted.compact()
    assert (compacted.info["segments"], compacted.info["removed"]) == (1, 0)
    for other in (index, again, compacted, VectorIndex.open(tmp_path / "index")):
        assert len(other) == len(current)
        assert sorted(other.ids.to_pylist()) == sorted(current)
        found = other.search(QUERIES, 7)
        assert recall(found.ids, wanted) >= (1 if exact else 0.9)
        if exact:
            assert found.ids == hits.ids == wanted
            assert np.abs(found.scores - scores).max() < 1e-5
    first = hits[0][0]
    assert (first.id, first.text) == (hits.ids[0][0], hits.texts[0][0])
    renamed = dict(zip(NAMES[1:11], texts[350:360], strict=True))
    assert hits.texts == [
        [renamed.get(name, f"text {name}") for name in names] for names in hits.ids
    ]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "remove", "compact", "open"]),
        st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True),
    ),
    max_size=12,
)


@pytest.mark.thorough
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=CHANGES, kind=st.sampled_from(["flat", "hnsw", "IVF2,Flat"]))
def test_an_index_is_a_dict_with_neighbours(
    changes: list[tuple[str, list[int]]],
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("dict")
    model = {n: STORED[n] for n in range(40, 60)}
    index = VectorIndex.build(STORED[40:60], ids=list(range(40, 60)), kind=kind)
    index.save(folder)
    for step, (change, ids) in enumerate(changes):
        vectors = STORED[(np.array(ids) + 31 * step) % len(STORED)]
        if change == "open":
            index = VectorIndex.open(folder)
        elif change == "compact":
            index.compact()
        elif change == "update":
            index.update(vectors, ids=ids)
            model |= dict(zip(ids, vectors, strict=True))
        elif change == "add" and any(n in model for n in ids):
            with pytest.raises(InputError, match="is in the index already"):
                index.add(vectors, ids=ids)
        elif change == "add":
            index.add(vectors, ids=ids)
            model |= dict(zip(ids, vectors, strict=True))
        elif any(n not in model for n in ids):
            with pytest.raises(InputError, match="nothing was removed"):
                index.remove(ids)
        else:
            index.remove(ids)
            for n in ids:
                del model[n]
        assert len(index) == len(model)
        assert sorted(index.ids.to_pylist()) == sorted(model)
        stored = VectorIndex.open(folder)
        assert sorted(stored.ids.to_pylist()) == sorted(model)
        if model and kind != "IVF2,Flat":
            # As many as there are, so that ties need no order.
            found = stored.search(QUERIES, len(model))
            _, scores = nearest(model, QUERIES, len(model), "cosine")
            assert np.abs(found.scores - scores).max() < 1e-5


def test_segments_stay_few_while_rows_come_one_by_one() -> None:
    index = VectorIndex.build(STORED[:1])
    for row in STORED[1:100]:
        index.add(row[None])
        assert index.info["segments"] <= 7
    assert index.ids.to_pylist() == list(range(100))
    wanted, _ = nearest(dict(enumerate(STORED[:100])), QUERIES, 10, "cosine")
    assert index.search(QUERIES).ids == wanted


def test_more_hits_than_rows_are_all_rows() -> None:
    index = VectorIndex.build(STORED[:5])
    index.remove([1, 3])
    hits = index.search(QUERIES, 50)
    assert hits.scores.shape == (9, 3)
    assert {frozenset(ids) for ids in hits.ids} == {frozenset([0, 2, 4])}
    index.remove([0, 2, 4])
    assert [list(hit) for hit in index.search(QUERIES)] == [[]] * 9
    assert len(index) == 0
    index.add(STORED[:2], ids=["a", "b"])
    assert index.search(STORED[:1], 1).ids == [["a"]]


def test_a_zero_vector_is_like_nothing() -> None:
    index = VectorIndex.build(np.vstack([np.zeros((1, WIDTH)), STORED[:3]]))
    hits = index.search(STORED[:1], 4)
    assert dict(zip(hits.ids[0], hits.scores[0].tolist(), strict=True))[0] == 0


def test_more_hits_than_the_probed_lists_hold_come_from_other_lists() -> None:
    index = VectorIndex.build(STORED, kind="IVF40,Flat", nprobe=1)
    for k in (200, 400):
        hits = index.search(QUERIES, k)
        assert [len(set(ids)) for ids in hits.ids] == [k] * len(QUERIES)
        assert np.isfinite(hits.scores).all()
    wanted, _ = nearest(dict(enumerate(STORED)), QUERIES, 400, "cosine")
    assert hits.ids == wanted


# Whatever is removed


REMOVED = [0, 0.5, 0.95, 0.995]
MANY = (
    GENERATOR.normal(size=(40, WIDTH))[GENERATOR.integers(0, 40, 4000)]
    + 0.7 * GENERATOR.normal(size=(4000, WIDTH))
).astype(np.float32)
ASKED = MANY[::80] + 0.3 * GENERATOR.normal(size=(50, WIDTH)).astype(np.float32)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind",
    [
        "flat",
        "hnsw",
        "IVF64,Flat",
        "IVF32,PQ16x4",
        "SQ8",
        "PQ16x4",
        "PCA16,IVF16,SQ8",
        "HNSW16,SQ8",
    ],
)
def test_recall_outlasts_removals_of_every_kind(kind: str) -> None:
    order = np.random.default_rng(3).permutation(len(MANY))
    index = VectorIndex.build(MANY, kind=kind)
    recalls = []
    for part in REMOVED:
        gone = order[: round(part * len(MANY))]
        there = set(index.ids.to_pylist())
        index.remove(name for name in gone if name in there)
        kept = np.setdiff1d(order, gone)
        wanted, _ = nearest({n: MANY[n] for n in kept.tolist()}, ASKED, 10, "cosine")
        hits = index.search(ASKED, 10)
        assert [len(set(ids)) for ids in hits.ids] == [10] * len(ASKED)
        assert {name for ids in hits.ids for name in ids} <= set(kept.tolist())
        recalls.append(recall(hits.ids, wanted))
    assert recalls[0] > (0.55 if "PQ" in kind else 0.8)
    assert min(recalls) > recalls[0] - 0.07, recalls


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["hnsw", "IVF64,Flat", "PQ16x4"])
def test_a_topic_that_is_removed_leaves_the_rows_of_others(kind: str) -> None:
    near = np.argsort(-(MANY @ MANY[0]))[:3900]
    index = VectorIndex.build(MANY, kind=kind)
    index.remove(near)
    hits = index.search(MANY[:1], 100)
    assert sorted(hits.ids[0]) == sorted(set(range(len(MANY))) - set(near.tolist()))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "kind",
    ["IVF64,Flat", pytest.param("OPQ8,IVF64,Flat", marks=pytest.mark.slow), "IVF64,Flat,RFlat"],
)
def test_a_topic_that_is_removed_leaves_its_queries_their_recall(kind: str) -> None:
    """Few live rows are left in the lists near such queries: more lists are probed."""
    queries = MANY[:1] + 0.1 * np.random.default_rng(1).normal(size=(50, MANY.shape[1]))
    near = np.argsort(-(MANY @ MANY[0]))[:1000]
    index = VectorIndex.build(MANY, kind=kind)
    whole, _ = nearest(dict(enumerate(MANY)), queries, 10, "cosine")
    before = recall(index.search(queries, 10).ids, whole)
    index.remove(near)
    live = {row: vector for row, vector in enumerate(MANY) if row not in set(near.tolist())}
    wanted, _ = nearest(live, queries, 10, "cosine")
    assert recall(index.search(queries, 10).ids, wanted) >= before - 0.05


def test_the_search_effort_is_stored_and_may_be_given_for_a_search(tmp_path: Path) -> None:
    index = VectorIndex.build(MANY, kind="IVF64,Flat", nprobe=1)
    index.save(tmp_path / "index")
    again = VectorIndex.open(tmp_path / "index")
    assert (again.info["nprobe"], VectorIndex.build(MANY, kind="IVF64,Flat").info["nprobe"]) == (
        1,
        8,
    )
    wanted, _ = nearest(dict(enumerate(MANY)), ASKED, 10, "cosine")
    one, some, every = (
        recall(again.search(ASKED, 10, **options).ids, wanted)
        for options in ({}, {"nprobe": 8}, {"nprobe": np.int64(64)})
    )
    assert one < some < every == 1
    for options, message in (
        ({"ef_search": 10}, "got ef_search, which kind 'IVF64,Flat' does not have"),
        ({"nprobe": 0}, "nprobe is 0; expected a whole number from 1"),
        ({"nprobe": True}, "nprobe is True"),
    ):
        with pytest.raises(InputError, match=message):
            again.search(ASKED, 10, **options)
    with pytest.raises(InputError, match="got nprobe, which kind 'hnsw' does not have"):
        VectorIndex.build(MANY, kind="hnsw", nprobe=3)


# In threads and processes


def test_a_search_beside_changes_sees_one_state_and_no_add_is_lost() -> None:
    index = VectorIndex.build(MANY[:100], similarity="dot")
    wrong: list[object] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                hits = index.search(ASKED, 10)
                for query, ids, scores in zip(ASKED, hits.ids, hits.scores, strict=True):
                    if np.abs(MANY[ids] @ query - scores).max() > 1e-3:
                        wrong.append(ids)
            except Exception as error:
                wrong.append(error)

    def change(first: int) -> None:
        for start in range(first, first + 900, 30):
            index.add(MANY[start : start + 30], ids=range(start, start + 30))
            index.remove(range(start, start + 20))
        index.compact()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        searching = [threading.Thread(target=search) for _ in range(2)]
        changing = [threading.Thread(target=change, args=(n,)) for n in (100, 1100, 2100)]
        for thread in searching + changing:
            thread.start()
        for thread in changing:
            thread.join()
        stop.set()
        for thread in searching:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert len(index) == 100 + 3 * 300


@pytest.mark.parametrize("kind", ["flat", "hnsw", "IVF4,SQ8"])
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_a_copied_or_pickled_index_is_the_same(
    kind: str, saved: bool, copied: Callable[[Any], Any], tmp_path: Path
) -> None:
    index = VectorIndex.build(STORED[:300], kind=kind, texts=NAMES[:300])
    index.remove([3, 5])
    if saved:
        index.save(tmp_path / "index")
    wanted = index.search(QUERIES, 5)
    other = copied(index)
    found = other.search(QUERIES, 5)
    assert (found.ids, found.texts, other.info) == (wanted.ids, wanted.texts, index.info)
    if not saved:
        other.remove([7])
        assert (len(index), len(other)) == (298, 297)


# Scales and containers


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e-42, 0])
def test_scales_of_vectors_do_not_change_cosine(scale: float) -> None:
    vectors = (STORED[:50] * np.float32(scale)).astype(np.float32)
    hits = VectorIndex.build(vectors).search(vectors[:5], 3)
    assert [len(set(ids)) for ids in hits.ids] == [3] * 5
    if scale > 1e-40:
        wanted, scores = nearest(dict(enumerate(STORED[:50])), STORED[:5], 3, "cosine")
        assert hits.ids == wanted
        assert np.abs(hits.scores - scores).max() < 1e-5
    assert np.isfinite(hits.scores).all()


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_scales_whose_scores_overflow_are_refused_by_row(similarity: str) -> None:
    long = STORED[:3].copy()
    long[1] *= 1e30
    index = VectorIndex.build(STORED[:9], similarity=similarity)
    for use in (
        lambda: index.add(long),
        lambda: index.search(long),
        lambda: VectorIndex.build(long, similarity=similarity),
    ):
        with pytest.raises(InputError, match=r"got a vector of length .*e\+30 in row 1, expected"):
            use()
    assert len(index) == 9


def test_containers_of_ids_and_queries(embedder: Embedder) -> None:
    import pandas

    texts = list(tiny.TEXTS[1:4])
    index = VectorIndex.build(embedder.encode(texts), ids=iter("abc"), embedder=embedder)
    for queries in (np.array(texts), pandas.Series(texts, index=[7, 8, 9])):
        assert index.search(queries, np.int64(1)).ids == [["a"], ["b"], ["c"]]
    index.remove(name for name in "a")
    index.add(embedder.encode(texts[:1]), ids=pandas.Series(["d"]))
    index.update(embedder.encode(texts[:1]), ids=np.array(["d"]))
    index.remove(index.ids)
    assert len(index) == 0
    for wrong in (pandas.DataFrame({"a": ["b"]}), {"a": "b"}):
        with pytest.raises(InputError):
            VectorIndex.build(STORED).search(wrong)
        with pytest.raises(InputError, match="expected a list"):
            index.remove(wrong)


# What is refused, with nothing kept


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (STORED[:2, :3], {}, "got vectors of width 3, expected 16 as in the index"),
    (STORED[0], {}, "got float32 (16,), expected an array of numbers (n, dim)"),
    ([["a"] * WIDTH], {}, "expected an array of numbers (n, dim)"),
    ([[1.0], [1.0, 2.0]], {}, "expected an array of numbers (n, dim)"),
    (np.full((2, WIDTH), [[1.0], [np.nan]]), {}, "got nan in row 1, expected finite numbers"),
    (np.full((1, WIDTH), np.inf), {}, "got inf in row 0"),
    (np.full((1, WIDTH), 1e39), {}, "got 1e+39 in row 0, expected finite numbers of float32"),
    (STORED[:0], {}, "vectors: got none"),
    (STORED[:2], {"ids": ["x"]}, "got 1 ids and 2 vectors"),
    (STORED[:2], {"ids": ["x", "x"]}, "got 'x' twice"),
    (STORED[:2], {"ids": ["x", 1]}, "ids[1]: got 1, expected an id of one kind with ids[0]"),
    (STORED[:2], {"ids": ["x", ""]}, "ids[1]: got '', expected an id"),
    (STORED[:2], {"ids": ["x", None]}, "ids[1]: got None, expected an id"),
    (STORED[:2], {"ids": ["x", "\ud800"]}, "lone surrogate"),
    (STORED[:2], {"ids": [1, 2]}, "ids: got type int64, expected string as in the index"),
    (STORED[:2], {}, "ids: got none, expected strings as in the index"),
    (STORED[:2], {"ids": ["x", "문서 0"]}, "'문서 0' is in the index already"),
    (STORED[:2], {"ids": ["x", "y"], "texts": None}, "texts: got no texts, expected texts"),
    (STORED[:2], {"ids": ["x", "y"], "texts": ["a"]}, "got 1 texts and 2 vectors"),
    (STORED[:2], {"ids": ["x", "y"], "texts": ["a", 3]}, "texts[1]: got 3, expected a str"),
]


@pytest.mark.parametrize(("vectors", "options", "message"), BAD)
def test_a_bad_batch_leaves_nothing(
    vectors: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    index = VectorIndex.build(STORED[:5], ids=NAMES[:5], texts=NAMES[:5])
    index.save(tmp_path / "index")
    before = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    given_ = {"texts": ["a", "b"], **options} if len(vectors) == 2 else options
    with pytest.raises(InputError) as caught:
        index.add(vectors, **given_)
    assert message in str(caught.value)
    assert len(index) == 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before


def test_wrong_questions_are_refused() -> None:
    index = VectorIndex.build(STORED[:5])
    for queries, k, message in (
        (QUERIES, 0, "k is 0; expected a whole number from 1"),
        (QUERIES, True, "k is True"),
        ("text", 1, r"queries is the str 'text'; expected a list"),
        (["text"], 1, "has no embedder; open it with one"),
        (QUERIES[:, :2], 1, "queries: got vectors of width 2, expected 16"),
        (QUERIES * np.nan, 1, "queries: got nan in row 0"),
        ([], 1, "queries: got"),
    ):
        with pytest.raises(InputError, match=message):
            index.search(queries, k)
    with pytest.raises(InputError, match="ids is one str; expected a list of ids"):
        index.remove("abc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "flatt"}, "kind is 'flatt', and FAISS has none for 16 dimensions and cosine"),
        ({"kind": "IDMap,Flat"}, "expected one without IDMap"),
        ({"kind": 3}, "kind is 3; expected flat, hnsw or a factory string of FAISS"),
        ({"kind": "IVF500,Flat"}, "cannot be trained on 400 vectors"),
        ({"kind": "PQ5"}, "PQ5"),
        ({"similarity": "manhattan"}, "similarity is 'manhattan'; an index has one of cosine"),
    ],
)
def test_kinds_that_are_not_to_be_had(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VectorIndex.build(STORED, **options)


# On disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two segments, with vectors of their own and removed rows."""
    index = VectorIndex.build(STORED[:300], kind="SQ8", texts=NAMES[:300])
    index.save(tmp_path / "index")
    index.add(STORED[300:310], texts=NAMES[300:310])
    index.remove([0, 305])
    return tmp_path / "index"


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_damage_is_found_and_named(damage: Callable[[Path], None], folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert len(names) == 9, names
    for name in names:
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        damage(copy / name)
        with pytest.raises(InputError, match=name):
            VectorIndex.open(copy)
        shutil.rmtree(copy)


def test_a_manifest_that_lies_is_refused(folder: Path) -> None:
    said = json.loads((folder / "index.json").read_text())
    for name, value in (("similarity", "dot"), ("generation", 9), ("segments", [])):
        (folder / "index.json").write_text(json.dumps({**said, name: value}))
        with pytest.raises(InputError, match=r"index.json: is damaged, its CRC-32 is"):
            VectorIndex.open(folder)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["flat", "hnsw", "IVF4,Flat", "SQ8", "PCA8,HNSW16", "PQ4x4,RFlat"])
def test_crafted_faiss_files_are_damaged(kind: str, tmp_path: Path) -> None:
    """The CRC-32 is right, and the file is not what the manifest says."""
    index = VectorIndex.build(STORED, kind=kind)
    index.save(tmp_path / "index")
    assert len(VectorIndex.open(tmp_path / "index")) == len(STORED)
    (path,) = (tmp_path / "index").glob("*.faiss")
    right = path.read_bytes()
    fewer = VectorIndex.build(STORED[:-1], kind=kind)._segments[0].index
    narrow = VectorIndex.build(np.ascontiguousarray(STORED[:, :8]))._segments[0].index
    other = VectorIndex.build(STORED, kind=kind, similarity="euclidean")._segments[0].index
    huge = bytearray(right)
    huge[8:16] = (1 << 60).to_bytes(8, "little")
    wrong = [faiss.serialize_index(x).tobytes() for x in (fewer, narrow, other)]
    for content in (*wrong, bytes(huge), right[: len(right) // 2], b"", b"IxFI" + b"\xff" * 99):
        path.write_bytes(content)
        said = json.loads((tmp_path / "index" / "index.json").read_text())
        said["segments"][0][0] = FileEntry.of(path)
        del said["crc32"]
        write_manifest(tmp_path / "index" / "index.json", said)
        with pytest.raises(InputError, match="is damaged") as caught:
            VectorIndex.open(tmp_path / "index")
        assert path.name[:6] in str(caught.value)


def test_readers_see_the_last_committed_state(folder: Path) -> None:
    reader, writer = VectorIndex.open(folder), VectorIndex.open(folder)
    wanted = reader.search(QUERIES, 5)
    writer.update(STORED[310:400], ids=list(range(90)), texts=NAMES[310:400])
    # Its files may be gone, but what was opened stays.
    again = reader.search(QUERIES, 5)
    assert (again.ids, again.texts) == (wanted.ids, wanted.texts)
    assert len(VectorIndex.open(folder)) == len(writer)
    with pytest.raises(InputError, match="was changed by another since it was opened"):
        reader.remove([1])
    with sole_writer(folder, "index.json"), pytest.raises(InputError, match="another process"):
        writer.remove([1])
    writer.remove([1])
    assert len(VectorIndex.open(folder)) == len(writer)


def test_a_reader_that_a_writer_overtakes_reads_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.retrieval import storage as on_disk

    read, overtaken = on_disk._read, []

    def slow(path: Path, *of_segment: Any) -> Any:
        if not overtaken:
            overtaken.append(True)
            monkeypatch.setattr(on_disk, "_read", read)
            Index.open(path).compact()
        return read(path, *of_segment)

    monkeypatch.setattr(on_disk, "_read", slow)
    assert len(VectorIndex.open(folder)) == 308


def test_identity_an_index_built_anew_is_safe_from_old_handles(folder: Path) -> None:
    old = VectorIndex.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"has no index.json"):
        old.remove([1])
    assert not folder.exists()
    for _ in range(old._state.generation):
        VectorIndex.build(STORED[:3], ids=["a", "b", "c"]).save(folder)
    for change in (lambda: old.remove([1]), old.compact, lambda: old.save(folder)):
        with pytest.raises(InputError, match="another index took the place"):
            change()
    assert VectorIndex.open(folder).ids.to_pylist() == ["a", "b", "c"]


def test_place_save_writes_a_folder_that_was_deleted(folder: Path) -> None:
    index = VectorIndex.open(folder)
    wanted = index.search(QUERIES, 5).ids
    shutil.rmtree(folder)
    index.save(folder)
    assert VectorIndex.open(folder).search(QUERIES, 5).ids == wanted


def test_place_handles_do_not_follow_the_working_folder(
    folder: Path, vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    index, relative = VectorIndex.open(folder.name), Vectors.open("vectors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    index.remove([1])
    assert len(VectorIndex.open(folder)) == 307
    assert np.array_equal(relative.to_numpy(), vectors.to_numpy())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_of_users_with_names_like_ours_stay(folder: Path) -> None:
    names = ("20240101.parquet", "202401.npy", "123456-2024.npy", ".embedkit-0.tmp")
    for name in (*names, f"000001-0-{'0' * 16}.faiss"):
        (folder / name).write_text("mine")
    index = VectorIndex.open(folder)
    index.remove([1])
    index.compact()
    VectorIndex.build(STORED[:3]).save(folder)
    for name in (*names, f"000001-0-{'0' * 16}.faiss"):
        assert (folder / name).read_text() == "mine"


def rewrite(path: Path, **changes: Any) -> None:
    """Change a manifest, with the right checksum."""
    content = json.loads(path.read_text())
    del content["crc32"]
    content |= changes
    path.write_text(json.dumps({**content, "crc32": manifest._content_crc32(content)}))


@pytest.mark.parametrize(
    "name", ["../x.faiss", "/etc/passwd", "a/000001.faiss", "..", "index.json"]
)
def test_manifests_that_lead_out_of_the_folder_are_refused(name: str, folder: Path) -> None:
    (folder.parent / "x.faiss").write_text("mine")
    segments = json.loads((folder / "index.json").read_text())["segments"]
    segments[0][0][0] = name
    rewrite(folder / "index.json", segments=segments)
    for use in (VectorIndex.open, VectorIndex.build(STORED[:3]).save):
        with pytest.raises(InputError, match="is not the name of a data file"):
            use(folder)
    assert (folder.parent / "x.faiss").read_text() == "mine"


def test_symlinks_in_a_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in (next(folder.glob("*.faiss")), folder / "index.json"):
        moved = path.rename(tmp_path / path.name)
        path.symlink_to(moved)
        with pytest.raises(InputError, match=rf"{path.name}: got a symlink"):
            VectorIndex.open(folder)
        path.unlink()
        moved.rename(path)


def test_other_schemas_and_wrong_types_are_refused(folder: Path) -> None:
    whole = (folder / "index.json").read_text()
    for changes, message in (
        ({"schema": 7}, "got schema 7, expected 1"),
        ({"generation": "9"}, "generation is '9'"),
        ({"dimension": -1}, "dimension is -1"),
        ({"kind": None}, "kind is None"),
        ({"effort": "9"}, "effort is '9'"),
        ({"effort": -1}, "effort is -1"),
        ({"effort": 1.5}, "effort is 1.5"),
    ):
        rewrite(folder / "index.json", **changes)
        with pytest.raises(InputError, match=message):
            VectorIndex.open(folder)
        (folder / "index.json").write_text(whole)


def test_a_folder_of_an_older_version_opens_and_changes(folder: Path) -> None:
    """They had no identity, in the manifest and in the names of files."""
    content = json.loads((folder / "index.json").read_text())
    for entry in (entry for segment in content["segments"] for entry in segment if entry):
        old = entry[0]
        entry[0] = old.replace(f"-{content['identity']}", "")
        (folder / old).rename(folder / entry[0])
    del content["identity"], content["crc32"]
    text = json.dumps({**content, "crc32": manifest._content_crc32(content)})
    (folder / "index.json").write_text(text)
    index = VectorIndex.open(folder)
    index.compact()
    assert len(VectorIndex.open(folder)) == 308
    assert len([path for path in folder.iterdir() if not path.name.startswith(".")]) == 4


FULL = """
import resource, sys
import numpy as np
from embedkit import VectorIndex

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
indexes = [(VectorIndex.open(path), size) for path, size in zip(sys.argv[1:], (0, 100))]
works = [(lambda: VectorIndex.build(np.ones((4000, 64)), kind="SQ8", show_progress=False), 100_000)]
for index, size in indexes:
    add = lambda index=index: index.add(np.ones((200, 16)), ids=list(range(1000, 1200)))
    works.append((add, size))
for work, size in works:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        work()
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        print(error)
"""


@pytest.mark.process
def test_a_full_disk_is_a_sentence_and_the_old_state_is_whole(tmp_path: Path) -> None:
    """Files may not grow over a size, which a full disk is like."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        VectorIndex.build(STORED).save(folder)
    before = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    command = [sys.executable, "-c", FULL, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert ["cannot be written (File too large)" in line for line in lines] == [True] * 3
    assert done.stderr == ""
    after = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert after == before


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    index = VectorIndex.build(STORED[:3])
    (tmp_path / "000001-0.faiss").write_text("mine")
    with pytest.raises(InputError, match=r"has other files in it \(000001-0.faiss\)"):
        index.save(tmp_path)
    assert (tmp_path / "000001-0.faiss").read_text() == "mine"


def test_saving_over_an_index_replaces_it(folder: Path) -> None:
    VectorIndex.build(STORED[:3], ids=["a", "b", "c"]).save(folder)
    assert VectorIndex.open(folder).ids.to_pylist() == ["a", "b", "c"]
    assert len(list(folder.glob("*.faiss"))) == 1


# With a model


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=WIDTH)
    return Embedder.from_pretrained(folder, device="cpu")


@pytest.fixture
def vectors(embedder: Embedder, tmp_path: Path) -> Vectors:
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{text}\n" for text in tiny.TEXTS), encoding="utf-8")
    encode_corpus(embedder, Corpus(path), tmp_path / "vectors", texts=True)
    return Vectors.open(tmp_path / "vectors")


def test_texts_are_searched_with_the_model_behind(
    embedder: Embedder, vectors: Vectors, tmp_path: Path
) -> None:
    index = VectorIndex.build(vectors, embedder=embedder)
    index.save(tmp_path / "index")
    again = VectorIndex.open(tmp_path / "index", embedder)
    hits = again.search([tiny.TEXTS[4], tiny.TEXTS[1]], 1)
    assert [(of[0].id, of[0].text) for of in hits] == [(4, tiny.TEXTS[4]), (1, tiny.TEXTS[1])]
    assert np.abs(hits.scores - 1).max() < 1e-6
    assert again.search([""], 1, prompt=tiny.TEXTS[4]).ids == [[4]]
    assert again.origin == vectors.origin
    assert again.origin.load().fingerprint == embedder.fingerprint


def test_another_model_is_refused(embedder: Embedder, vectors: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(vectors)
    index.save(tmp_path / "index")
    other = embedder.with_recipe("cls")
    for use in (
        lambda: VectorIndex.open(tmp_path / "index", other),
        lambda: VectorIndex.build(vectors, embedder=other),
    ):
        with pytest.raises(InputError, match=r"makes others: it has another recipe; expected the"):
            use()
    encode_corpus(other, Corpus(tmp_path / "x.txt"), tmp_path / "cls", texts=True)
    with pytest.raises(InputError, match=r"vectors: got another recipe than in the index"):
        index.update(Vectors.open(tmp_path / "cls"))
    encode_corpus(
        embedder, Corpus(tmp_path / "x.txt"), tmp_path / "prompt", texts=True, prompt="a "
    )
    with pytest.raises(InputError, match=r"got prompt 'a ' instead of '' than in the index"):
        index.update(Vectors.open(tmp_path / "prompt"))
    half = Embedder.from_pretrained(embedder.name, device="cpu", precision="bfloat16")
    assert len(VectorIndex.open(tmp_path / "index", half).search(["a"], 3).ids[0]) == 3


def test_an_index_is_the_same_from_arrays_and_from_disk(
    embedder: Embedder, vectors: Vectors
) -> None:
    mine = VectorIndex.build(embedder.encode(tiny.TEXTS), texts=list(tiny.TEXTS), embedder=embedder)
    theirs = VectorIndex.build(vectors)
    assert mine.search(QUERIES, 8).ids == theirs.search(QUERIES, 8).ids
    assert mine.origin == theirs.origin


@pytest.mark.process
def test_faiss_and_torch_in_one_process_end_quietly(tmp_path: Path) -> None:
    """Two copies of OpenMP can crash at the end."""
    code = (
        "import numpy as np, torch\n"
        "from embedkit import VectorIndex\n"
        "torch.randn(300, 300) @ torch.randn(300, 300)\n"
        "index = VectorIndex.build(np.eye(8), kind='hnsw')\n"
        "print(index.search(np.eye(8), 1).ids)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[[n] for n in range(8)]}\n"
    assert done.stderr == ""
