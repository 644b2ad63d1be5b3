"""Metadata of an index: types, changes, old folders, and filtered hits against brute force."""

from __future__ import annotations

import json
import threading
import tracemalloc
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedkit import Corpus, InputError, VectorIndex
from embedkit.metadata.typed_columns import read_metadata
from embedkit.similarity import find_similarity

KOREA = timezone(timedelta(hours=9))
GENERATOR = np.random.default_rng(7)
CENTRES = GENERATOR.normal(size=(20, 16))
STORED = (
    CENTRES[GENERATOR.integers(0, 20, 6000)] + 0.7 * GENERATOR.normal(size=(6000, 16))
).astype(np.float32)
QUERIES = (STORED[::300] + 0.3 * GENERATOR.normal(size=(20, 16))).astype(np.float32)
# Rows with n < x are x of 6,000; `near` is nearly what the first query looks for.
COLUMNS = {
    "n": GENERATOR.permutation(6000).tolist(),
    "near": (STORED @ QUERIES[0] > np.quantile(STORED @ QUERIES[0], 0.95)).tolist(),
}


def brute_force(chosen: np.ndarray, k: int) -> list[list[int]]:
    unit = STORED / np.linalg.norm(STORED, axis=1, keepdims=True)
    scores = np.where(chosen, QUERIES @ unit.T, -np.inf)
    order = np.argsort(-scores, axis=1)[:, : min(k, int(chosen.sum()))]
    return [[int(row) for row in rows] for rows in order]


def recall(found: list[list[Any]], wanted: list[list[Any]]) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)])
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "least"),
    [("flat", 1), ("hnsw", 0.97), ("IVF32,Flat", 0.9), ("PQ16x4", 0.5), ("IVF16,PQ16x4", 0.5)],
)
def test_filtered_hits_at_every_selectivity(kind: str, least: float) -> None:
    index = VectorIndex.build(STORED, kind=kind, metadata=COLUMNS)
    index.remove(range(0, 6000, 7))
    live = np.arange(6000) % 7 > 0
    numbers, near = np.array(COLUMNS["n"]), np.array(COLUMNS["near"])
    whole = recall(index.search(QUERIES, 10).ids, brute_force(live, 10))
    for where, chosen in [
        (f"n < {round(part * 6000)}", numbers < round(part * 6000))
        for part in (0.5, 0.05, 0.005, 0.0005)
    ] + [("near = TRUE", near), ("near = FALSE", ~near)]:
        hits = index.search(QUERIES, 10, where=where)
        wanted = brute_force(live & chosen, 10)
        assert [len(set(ids)) for ids in hits.ids] == [len(ids) for ids in wanted]
        assert all((live & chosen)[ids].all() for ids in hits.ids)
        assert recall(hits.ids, wanted) >= max(least, whole - 0.07), (where, whole)
        assert index.count(where) == int((live & chosen).sum())
        for row, names in zip(hits.metadata or [], hits.ids, strict=True):
            assert [cell["n"] for cell in row] == [COLUMNS["n"][name] for name in names]
    assert index.search(QUERIES, 10, where="n < 0").ids == [[]] * len(QUERIES)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("queries", [1, 20])  # by a selector in FAISS, or by gathered rows
def test_filtered_hits_of_a_flat_index_are_exact(similarity: str, queries: int) -> None:
    index = VectorIndex.build(STORED, similarity=similarity, metadata=COLUMNS)
    matrix = find_similarity(similarity).matrix
    scores = matrix(QUERIES[:queries].astype(float), STORED.astype(float))
    numbers = np.array(COLUMNS["n"])
    for rows in (6000, 5999, 3000, 400, 370, 7, 1, 0):
        hits = index.search(QUERIES[:queries], 10, where=f"n < {rows}")
        chosen = np.where(numbers < rows, scores, -np.inf)
        wanted = -np.sort(-chosen, axis=1)[:, : min(10, rows)]
        assert hits.scores == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        for row, ids in enumerate(hits.ids):
            assert chosen[row, np.array(ids, int)] == pytest.approx(wanted[row], abs=1e-5)


ROW = {
    "title": "비",
    "n": 2**60 + 1,
    "x": 0.1,
    "ok": False,
    "day": date(2024, 2, 29),
    "tags": ["a", "나"],
}
EMPTY = dict.fromkeys(ROW)


def test_types_are_kept_through_changes_and_folders(tmp_path: Path) -> None:
    index = VectorIndex.build(np.eye(3), ids=["a", "b", "c"], metadata=[ROW, EMPTY, ROW])
    index.save(tmp_path / "index")
    index.add(np.eye(3)[:1], ids=["d"])
    index.add(np.eye(3)[:1], ids=["e"], metadata={"x": [3], "n": [None]})
    index.update_metadata(["c", "b"], {"title": ["하나", None], "new": [1, 2]})
    index.update(np.eye(3)[1:2], ids=["a"], metadata=[{**ROW, "new": 7}])
    expected = {
        "a": {**ROW, "new": 7},
        "b": {**EMPTY, "new": 2},
        "c": {**ROW, "title": "하나", "new": 1},
        "d": {**EMPTY, "new": None},
        "e": {**EMPTY, "x": 3.0, "new": None},
    }
    again = VectorIndex.open(tmp_path / "index")
    compacted = VectorIndex.open(tmp_path / "index")
    compacted.compact()
    for opened in (index, again, compacted, VectorIndex.open(tmp_path / "index")):
        assert {row.id: row.metadata for row in opened.get(list(expected))} == expected
        hits = opened.search(np.eye(3), 5)
        assert hits.metadata == [[expected[str(name)] for name in names] for names in hits.ids]
    assert list(index.metadata_columns.values()) == [
        *("text", "integers", "floats", "booleans", "dates", "lists of texts", "integers")
    ]
    assert sorted(index.search(np.eye(3), 5, where="'나' IN tags").ids[0]) == ["a", "c"]


def test_metadata_are_changed_without_touching_vectors(tmp_path: Path) -> None:
    index = VectorIndex.build(STORED[:50], kind="SQ8", metadata={"n": list(range(50))})
    index.save(tmp_path / "index")
    before = {path.name for path in (tmp_path / "index").iterdir()}
    scores = index.search(QUERIES, 5).scores
    index.update_metadata([3], {"n": [100]})
    after = {path.name for path in (tmp_path / "index").iterdir()}
    assert {Path(name).suffix for name in before - after} == {".arrow"}
    assert {Path(name).suffix for name in after - before} == {".arrow"}
    again = VectorIndex.open(tmp_path / "index")
    assert np.array_equal(again.search(QUERIES, 5).scores, scores)
    assert set(again.search(QUERIES[:1], 5, where="n >= 49").ids[0]) == {3, 49}


def test_rows_by_id_and_removal_as_stores_expect_them() -> None:
    index = VectorIndex.build(STORED[:4], ids=list("abcd"), texts=list("ABCD"))
    index.remove(["b", "no"], missing_ok=True)
    index.add(STORED[4:5], ids=["e"], texts=["E"])
    unit = STORED[4] / np.linalg.norm(STORED[4])
    (first, second) = index.get(["e", "a"], vectors=True)
    assert (first.id, first.text, first.metadata, second.id) == ("e", "E", None, "a")
    np.testing.assert_allclose(first.vector, unit, rtol=1e-6)
    assert index.get(["a"])[0].vector is None
    assert [row.id for row in index.get(["x", "d", "b", "a"], missing_ok=True)] == ["d", "a"]
    for call, message in (
        (lambda: index.get(["b"]), "ids: the index has no 'b'; expected ids of its rows"),
        (lambda: index.get([1], missing_ok=True), "ids: got type int64, expected string as in"),
        (lambda: index.remove(["a", "b"]), "ids: the index has no 'b'; nothing was removed"),
        (lambda: index.update_metadata(["b"], {"n": [1]}), "no 'b'; nothing was changed"),
        (lambda: index.update_metadata(["a"], {"n": [1, 2]}), "got 2 rows of metadata and 1 ids"),
        (lambda: index.update_metadata(["a", "a"], {"n": [1, 2]}), "got 'a' twice"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert len(index) == 4
    assert index.metadata_columns == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"m": ["x"]}, "metadata: got column 'm', expected columns of the index: 'n', 'x', 'day'"),
        ({"n": ["x"]}, "column 'n': got text, expected integers as in the index"),
        ({"n": [0.5]}, "column 'n': got floats, expected integers as in the index"),
        ({"x": [2**53 + 1]}, "column 'x': got Integer value 9007199254740993 not in range"),
        ({"x": [float("inf")]}, "column 'x': got a float that is not finite"),
        ({"day": [datetime(2024, 1, 1, 3)]}, "column 'day': got 'a time of day', expected one of"),
        ({"day": [datetime(2024, 1, 1, 9, tzinfo=KOREA)]}, "column 'day': got 'a time of day'"),
        ({"day": [date(2024, 1, 1), datetime(2024, 1, 1, 3)]}, "got 'a datetime among dates'"),
        ({"x": [1.5, True]}, "column 'x': got 'a bool among floats', expected one of"),
        ({"n": [2**63]}, "column 'n': got '"),
        ({"n": [1, "x"]}, "column 'n': got '"),
        ({"n": "a"}, "metadata, column 'n' is one str; expected a list of values"),
        ({"n": {1}}, "metadata, column 'n' is one set; expected a list of values"),
        ({"n": [{"a": 1}]}, "column 'n': got 'type struct<a: int64>', expected one of text, int"),
        ({"n": [["a", None]]}, "column 'n': got 'None in a list'"),
        ({"n": [1, 2]}, "got 2 rows of metadata and 1 vectors, expected as many of each"),
        ({"n": [1, 2], "x": [1]}, "got columns of 2 of 'n', 1 of 'x' rows, expected as many"),
        ({5: [1]}, "got the column name 5, expected a text"),
        ("n", "metadata: got 'n', expected a table, a dict of columns, or a list of dicts"),
    ],
)
def test_wrong_metadata(metadata: Any, message: str) -> None:
    index = VectorIndex.build(
        np.eye(2), ids=["a", "b"], metadata={"n": [1, 2], "x": [1.5, 2], "day": [date.today()] * 2}
    )
    with pytest.raises(InputError) as error:
        index.add(np.eye(2)[:1], ids=["c"], metadata=metadata)
    assert message in str(error.value)
    assert index.ids.to_pylist() == ["a", "b"]


def test_tables_of_pandas_and_arrow() -> None:
    import pyarrow as pa

    pd = pytest.importorskip("pandas", reason="not installed: pandas")
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None], "Int64"),
            "x": [0.5, float("nan")],
            "day": pd.to_datetime(["2024-01-31", None]).tz_localize("Asia/Seoul"),
            "kind": pd.Categorical(["가", "나"]),
        },
        index=[5, 9],
    )
    table = pa.table({"n": pa.array([1, None], pa.int8()), "tags": [["a"], None]})
    rows = [VectorIndex.build(np.eye(2), metadata=x).get([0, 1]) for x in (frame, table)]
    assert [row.metadata for row in rows[0]] == [
        {"n": 1, "x": 0.5, "day": date(2024, 1, 31), "kind": "가"},
        {"n": None, "x": None, "day": None, "kind": "나"},
    ]
    assert [row.metadata for row in rows[1]] == [{"n": 1, "tags": ["a"]}, {"n": None, "tags": None}]
    hits = VectorIndex.build(np.eye(2), metadata=frame).search(np.eye(2), 1).to_dataframe()
    assert hits["n"].tolist() == [1, pd.NA]
    assert list(hits) == ["query", "rank", "id", "score", "n", "x", "day", "kind"]
    with pytest.raises(InputError, match="column 'x': got 'a bool among floats'"):
        VectorIndex.build(np.eye(2), metadata=pd.DataFrame({"x": [1.5, True]}, dtype=object))
    clash = VectorIndex.build(np.eye(1), metadata={"metadata.score": [5], "score": ["high"]})
    (row,) = clash.search(np.eye(1), 1).to_dataframe().to_dict("records")
    assert (row["metadata.score"], row["metadata.metadata.score"]) == (5, "high")


@pytest.mark.parametrize("kind", ["flat", "hnsw", "IVF4,SQ8", "IVF4,PQ4x4"])
def test_an_index_without_rows_keeps_its_columns(kind: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    names, texts = [f"d{n}" for n in range(40)], [f"text {n}" for n in range(40)]
    metadata = {"year": list(range(40))}
    index = VectorIndex.build(
        vectors, ids=names, texts=texts, metadata=metadata, kind=kind, bm25=True
    )
    index.save(tmp_path)
    index.remove(index.ids)
    for empty in (index, VectorIndex.open(tmp_path)):
        assert (len(empty), empty.ids.to_pylist()) == (0, [])
        assert (empty.metadata_columns, empty.has_texts) == ({"year": "integers"}, True)
        assert empty.search(vectors[:2], where="year > 3").ids == [[], []]
        assert empty.search(["text"], mode="bm25").texts == [[]]
    with pytest.raises(InputError, match="column 'year': got text, expected integers as in the"):
        index.add(vectors, ids=names, texts=texts, metadata={"year": texts})
    index.add(vectors, ids=names, texts=texts, metadata=metadata)
    opened = VectorIndex.open(tmp_path)
    hits = opened.search(vectors[5:6], k=3, where="year < 6", nprobe=4 if "IVF" in kind else None)
    assert (hits.ids[0][0], len(hits.ids[0])) == ("d5", 3)
    assert opened.search(["7"], k=1, mode="bm25").ids == [["d7"]]
    assert opened.info["segments"] == 1


def test_columns_of_a_csv_get_the_types_that_all_cells_spell(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "id,text,n,zip,x,ok,day,long,big,none\n"
        "a,하나,1,007,1,true,2024-02-29,9223372036854775807,9223372036854775808,\n"
        "b,둘,-20,123,-2.5e3,False,2024-12-01,-9223372036854775808,1,\n"
        "c,셋,,,,,,,,\n",
        encoding="utf-8",
    )
    table = read_metadata(Corpus(path, id_column="id"), None)
    assert table.to_pylist() == [
        {
            "n": 1,
            "zip": "007",
            "x": 1.0,
            "ok": True,
            "day": date(2024, 2, 29),
            "long": 2**63 - 1,
            "big": "9223372036854775808",
            "none": None,
        },
        {
            "n": -20,
            "zip": "123",
            "x": -2500.0,
            "ok": False,
            "day": date(2024, 12, 1),
            "long": -(2**63),
            "big": "1",
            "none": None,
        },
        dict.fromkeys(table.column_names),
    ]
    as_before = read_metadata(Corpus(path, id_column="id"), ["n"], {"n": "text"})
    assert as_before.column("n").to_pylist() == ["1", "-20", None]
    with pytest.raises(InputError, match=r"x\.csv: got columns .*, expected 'year' among them"):
        read_metadata(Corpus(path, id_column="id"), ["year"])


def test_texts_are_not_held_for_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text,n\n" + "".join(f"{n},{'x' * 1000},{n}\n" for n in range(4000)))

    def read() -> None:
        for names in (["n"], None):
            assert read_metadata(Corpus(path, id_column="id"), names).column_names == ["n"]

    read()  # imports modules
    tracemalloc.start()
    read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_metadata_of_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows: list[dict[str, Any]] = [{"text": "a", "n": 1}, {"text": "b", "n": 2.5, "tags": ["x"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_metadata(Corpus(path), None).to_pylist() == [
        {"n": 1.0, "tags": None},
        {"n": 2.5, "tags": ["x"]},
    ]
    path.write_text('{"text": "a", "n": {"deep": 1}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.jsonl, column 'n': got objects, .* as 'n\.deep'"):
        read_metadata(Corpus(path), None)


def test_an_index_without_metadata_keeps_the_schema_that_earlier_versions_read(
    tmp_path: Path,
) -> None:
    for name, metadata, schema in (("plain", None, 1), ("with", {"n": [1, 2]}, 2)):
        VectorIndex.build(np.eye(2), texts=["a", "b"], metadata=metadata).save(tmp_path / name)
        assert json.loads((tmp_path / name / "index.json").read_text())["schema"] == schema
        assert len(VectorIndex.open(tmp_path / name)) == 2


def test_a_filtered_search_beside_changes_sees_one_state() -> None:
    """Each state has one value in all rows, and every search finds all rows or none."""
    index = VectorIndex.build(STORED[:50], metadata={"n": [0] * 50})
    wrong: list[object] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                hits = index.search(QUERIES[:1], 50, where="n > 3 OR n <= 3")[0]
                odd = index.search(QUERIES[:1], 50, where={"n": 7})[0]
                values = {(hit.metadata or {})["n"] for hit in hits}
                if len(hits) != 50 or len(values) != 1 or len(odd) not in (0, 50):
                    wrong.append((len(hits), values, len(odd)))
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for value in range(60):
            index.update_metadata(range(50), {"n": [value % 10] * 50})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
