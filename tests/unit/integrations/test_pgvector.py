"""`PgVectorIndex` on a real server: the contract of `VectorIndex`, errors, and what is left."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused
from helpers.conditions import ROWS, conditions, table_of
from helpers.processes import exit_code
from hypothesis import HealthCheck, given, settings

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus
from embedkit.metadata.filter_language import as_filter
from embedkit.metadata.sql import as_sql
from embedkit.retrieval.rows import RowBatch
from embedkit.similarity import find_similarity

psycopg = pytest.importorskip("psycopg", reason="not installed: psycopg")
PgVectorIndex = importlib.import_module("embedkit.integrations.pgvector").PgVectorIndex
connect, use_pgvector = (
    getattr(importlib.import_module("embedkit.integrations.postgres"), name)
    for name in ("connect", "use_pgvector")
)
Table = importlib.import_module("embedkit.integrations.pgvector_table").Table

Build: TypeAlias = Callable[..., Any]
GENERATOR = np.random.default_rng(3)
STORED = GENERATOR.normal(size=(200, 8)).astype(np.float32)
QUERIES = GENERATOR.normal(size=(4, 8)).astype(np.float32)
NAMES = [f"문서 '{n}\" \\ %s" for n in range(len(STORED))]
TEXTS = [f"텍스트 {n}; DROP TABLE embeddings --" for n in range(len(STORED))]
METADATA = {
    "title": [None if n % 9 == 0 else f"{'Faq' if n % 2 else 'faq'} {n}" for n in range(200)],
    "year": [None if n % 7 == 0 else 2000 + n % 30 for n in range(200)],
    "성장률 (%)": [n / 8 - 3 for n in range(200)],
    "ok": [n % 3 == 0 for n in range(200)],
    'a "day"': [date(2024, 1 + n % 12, 1) for n in range(200)],
    "tags": [None if n % 11 == 0 else ["질문", f"t{n % 4}"][: n % 3] for n in range(200)],
}
NEW = count()
HNSW_ONLY = "&options=-c%20enable_seqscan%3Doff%20-c%20enable_sort%3Doff"


@pytest.fixture
def table() -> str:
    return f"표 {next(NEW)}"


@pytest.fixture(params=["VectorIndex", "PgVectorIndex exact", "PgVectorIndex HNSW"])
def build(request: pytest.FixtureRequest) -> Build:
    """`VectorIndex.build`, and perhaps an export of what it gives."""
    if request.param == "VectorIndex":
        return VectorIndex.build
    url = request.getfixturevalue("database")
    hnsw = request.param.endswith("HNSW")

    def export(*given: Any, **options: Any) -> Any:
        index = VectorIndex.build(*given, **options)
        url_of_plan = url + HNSW_ONLY if hnsw else url
        return PgVectorIndex.export(index, url_of_plan, table=f"t{next(NEW)}", hnsw=hnsw)

    return export


def nearest(rows: list[int], k: int, similarity: str) -> tuple[list[list[str]], np.ndarray]:
    """Brute force."""
    stored = STORED[rows].astype(np.float64)
    scores = find_similarity(similarity).matrix(QUERIES.astype(np.float64), stored)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[NAMES[rows[n]] for n in row] for row in order], np.take_along_axis(scores, order, 1)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_hits_are_those_of_brute_force(build: Build, similarity: str) -> None:
    index = build(STORED, ids=NAMES, texts=TEXTS, metadata=METADATA, similarity=similarity)
    hits = index.search(QUERIES, 7)
    wanted, scores = nearest(list(range(200)), 7, similarity)
    assert hits.ids == wanted
    assert hits.scores.dtype == np.float32
    np.testing.assert_allclose(hits.scores, scores, atol=2e-6)
    row = NAMES.index(wanted[1][2])
    assert hits[1][2].text == TEXTS[row]
    assert hits[1][2].metadata == {name: cells[row] for name, cells in METADATA.items()}
    assert hits.to_dataframe()["id"].tolist() == [name for names in wanted for name in names]
    assert (index.similarity, index.dimension, len(index)) == (similarity, 8, 200)


def test_k_may_be_larger_than_the_rows(build: Build) -> None:
    index = build(STORED[:5], ids=NAMES[:5])
    hits = index.search(QUERIES, 12)
    assert hits.scores.shape == (4, 5)
    assert hits.ids == nearest(list(range(5)), 5, "cosine")[0]
    assert (hits.texts, hits.metadata) == (None, None)
    assert index.search(QUERIES[:0], 3).ids == []
    assert index.search(QUERIES[:1], 2**64).ids == hits.ids[:1]


def test_ties_and_vectors_of_zeros(build: Build) -> None:
    vectors = np.array([[1, 0], [2, 0], [0, 1], [3, 0], [-1, 0]], np.float32)
    hits = build(vectors).search(np.array([[1.0, 0.0]]), 3)
    assert sorted(hits.ids[0]) == [0, 1, 3]
    assert hits.scores.tolist() == [[1, 1, 1]]
    zero = build(np.array([[1, 0], [0, 0], [-1, 0]], np.float32), ids=["a", "0", "b"])
    hits = zero.search(np.array([[1.0, 0.0]]), 3)
    assert (hits.ids, hits.scores.tolist()) == ([["a", "0", "b"]], [[1, 0, -1]])
    assert zero.search(np.zeros((1, 2)), 3).scores.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    "where",
    [
        "year >= 2010 AND year < 2020.5",
        "year IS NULL OR NOT (year > 2003)",
        "year NOT IN (2001, 2002, 2.5)",
        "title LIKE 'Faq%'",
        "title NOT LIKE '%1_'",
        "title LIKE '%!%%' ESCAPE '!'",
        '"성장률 (%)" BETWEEN -2.875 AND 1.1',
        '"a ""day""" = \'2024-03-01\'',
        "ok = TRUE AND '질문' IN tags",
        "'t1' NOT IN tags",
        "id = '문서 ''7\" \\ %s'",
        "text > '텍스트 5'",
        {"title": ["faq 2", "Faq 3", "' OR true --"], "ok": False},
        {"year": None},
        "year > 99999999999999999999",
    ],
)
def test_filters(build: Build, where: Any) -> None:
    index = build(STORED, ids=NAMES, texts=TEXTS, metadata=METADATA)
    memory = VectorIndex.build(STORED, ids=NAMES, texts=TEXTS, metadata=METADATA)
    condition = as_filter(where)
    assert condition is not None
    rows = np.flatnonzero(condition.mask(memory._segments[0].rows)).tolist()
    assert index.count(where) == len(rows)
    hits = index.search(QUERIES, 6, where=where)
    assert hits.ids == (nearest(rows, 6, "cosine")[0] if rows else [[]] * 4)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("month = 1", "where, character 1: got column 'month', expected one of 'title', 'year'"),
        ("year = 'x'", "where, character 1: got 'x' for 'year', expected integers"),
        ("ok < TRUE", "got < for booleans, expected = or !="),
        ("year LIKE '2%'", "got LIKE for 'year', which has integers, expected text"),
        ("title LIKE 'a!' ESCAPE '!'", "got a pattern that ends with its escape"),
        ("title = 'a", 'where, character 9: got "\'a", expected'),
    ],
)
def test_wrong_conditions(build: Build, where: str, message: str) -> None:
    index = build(STORED[:20], metadata={name: cells[:20] for name, cells in METADATA.items()})
    for call in (index.count, lambda where: index.search(QUERIES, where=where)):
        with pytest.raises(InputError) as error:
            call(where)
        assert message in str(error.value)


def test_wrong_searches(build: Build) -> None:
    index = build(STORED[:3])
    for queries, k, message in [
        (QUERIES[:, :5], 1, "queries: got vectors of width 5, expected 8 as in the index"),
        (QUERIES, 0, "k is 0; expected a whole number from 1"),
        (QUERIES * np.nan, 1, "queries: got nan in row 0, expected finite numbers of float32"),
        (["a text"], 1, "the index has no embedder"),
        ("a text", 1, "expected a list"),
    ]:
        with pytest.raises(InputError, match=message):
            index.search(queries, k)
    with pytest.raises(InputError, match="mode is 'words'; expected one of dense, bm25, hybrid"):
        index.search(QUERIES, mode="words")


def test_changes(build: Build) -> None:
    index = build(STORED[:50], ids=NAMES[:50], texts=TEXTS[:50], metadata={"n": list(range(50))})
    index.update(
        STORED[60:64],
        ids=[NAMES[3], *NAMES[61:64]],
        texts=TEXTS[60:64],
        metadata={"n": [60, None, 62, 63]},
    )
    assert len(index) == 53
    (hit,) = index.search(STORED[60:61], 1)[0]
    assert (hit.id, hit.text, hit.metadata) == (NAMES[3], TEXTS[60], {"n": 60})
    assert index.search(STORED[3:4], 1)[0][0].score < 0.99
    index.remove([NAMES[3], NAMES[61]])
    with pytest.raises(InputError, match=r"ids: the index has no .*문서 .*3.*nothing was removed"):
        index.remove([NAMES[5], NAMES[3]])
    index.remove([NAMES[3], NAMES[5]], missing_ok=True)
    index.remove([], missing_ok=True)
    assert len(index) == 50
    assert NAMES[5] not in index.search(STORED[5:6], 50).ids[0]
    for rows, message in [
        ({"ids": ["a"]}, "texts: got no texts, expected texts as in the index"),
        ({"ids": [1], "texts": ["a"]}, "ids: got type int64, expected string as in the index"),
        ({"texts": ["a"]}, "ids: got none, expected strings as in the index"),
        ({"ids": ["a"], "texts": ["a"], "metadata": {"m": [1]}}, "metadata: got column 'm'"),
        ({"ids": ["a"], "texts": ["a"], "metadata": {"n": ["x"]}}, "column 'n': got text"),
    ]:
        with pytest.raises(InputError, match=message):
            index.update(STORED[:1], **rows)
    with pytest.raises(InputError, match="ids: got 'a' twice"):
        index.update(STORED[:2], ids=["a", "a"], texts=["a", "b"])
    with pytest.raises(InputError, match="vectors: got vectors of width 3, expected 8"):
        index.update(STORED[:1, :3], ids=["a"], texts=["a"])
    assert len(index) == 50


def test_rows_are_numbered_on(build: Build) -> None:
    index = build(STORED[:5], ids=[3, 4, 5, 6, 2**62])
    index.update(STORED[7:9])
    assert index.search(STORED[8:9], 1).ids == [[2**62 + 2]]


def test_an_index_whose_rows_are_all_removed(build: Build) -> None:
    index = build(STORED[:3], metadata={"n": [1, 2, 3]})
    index.remove([0, 1, 2])
    assert (len(index), index.search(QUERIES, 3).ids) == (0, [[]] * 4)
    index.update(STORED[:2], metadata={"n": [1, 2]})
    assert sorted(index.search(QUERIES[:1], 3).ids[0]) == [0, 1]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Embedder, Embedder]:
    one, other = (
        tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16, seed=seed)
        for seed in (1, 2)
    )
    return Embedder(one, "mean", precision="float32"), Embedder(other, "mean", precision="float32")


def vectors_of(embedder: Embedder, folder: Path, *texts: str) -> Vectors:
    path = folder / "texts.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    encode_corpus(embedder, Corpus(path), folder / "vectors", texts=True)
    return Vectors.open(folder / "vectors")


def test_another_model_is_refused(
    build: Build, models: tuple[Embedder, Embedder], tmp_path: Path
) -> None:
    embedder, other = models
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    index = build(vectors_of(embedder, tmp_path / "a", "비가 온다", "a cat"), embedder=embedder)
    hits = index.search(["a cat"], 1)
    assert hits.texts == [["a cat"]]
    assert hits.scores[0, 0] == pytest.approx(1, abs=1e-5)
    assert index.provenance.fingerprint == embedder.fingerprint
    with pytest.raises(InputError, match="vectors: got other weights than in the index"):
        index.update(vectors_of(other, tmp_path / "b", "x"))
    if isinstance(index, PgVectorIndex):
        again = PgVectorIndex(index.url, table=index.table, embedder=embedder)
        assert again.search(["비가 온다"], 2).ids == index.search(["비가 온다"], 2).ids
        message = "makes others: it has other weights; expected the same model"
        with pytest.raises(InputError, match=message):
            PgVectorIndex(index.url, table=index.table, embedder=other)


# PgVectorIndex alone


@pytest.mark.thorough
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS, condition=conditions())
def test_postgresql_takes_the_rows_that_arrow_takes(
    database: str, rows: list[dict[str, Any]], condition: str
) -> None:
    arrow, parsed, values = table_of(rows), as_filter(condition), dict[str, Any]()
    assert parsed is not None
    table = Table("conditions", "cosine", 1, arrow.schema, None, False, False)
    statement = psycopg.sql.SQL("SELECT id FROM conditions WHERE {} ORDER BY id")
    with connect(database) as connection, connection.transaction(force_rollback=True):
        use_pgvector(connection, create=True)
        cursor = connection.cursor()
        table.create(cursor)
        table.load(cursor, [RowBatch(arrow, np.ones((len(rows), 1), np.float32))], lambda _: None)
        cursor.execute(statement.format(as_sql(parsed, arrow.schema, values)), values)
        assert [id_ for (id_,) in cursor] == np.flatnonzero(parsed.mask(arrow)).tolist()


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return {str(name) for (name,) in connection.execute(query)}


CENTRES = GENERATOR.normal(size=(40, 32))
MANY = (CENTRES[GENERATOR.integers(0, 40, 4000)] + GENERATOR.normal(size=(4000, 32))).astype("f4")
ASKED = MANY[::100] + 0.3 * GENERATOR.normal(size=(40, 32)).astype("f4")


def recall(found: list[list[Any]], wanted: list[list[Any]]) -> float:
    pairs = zip(found, wanted, strict=True)
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in pairs]))


@pytest.fixture(scope="module")
def many(database: str) -> tuple[VectorIndex, Any]:
    memory = VectorIndex.build(MANY, metadata={"n": list(range(4000))})
    return memory, PgVectorIndex.export(memory, database + HNSW_ONLY, table="many")


def scans(url: str) -> int:
    """How often HNSW indexes of the table `many` were used."""
    query = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE 'many_embedding%'"
    with psycopg.connect(url) as connection:
        return int(connection.execute(query).fetchall()[0][0])


@pytest.mark.thorough
def test_recall_of_hnsw_with_and_without_a_filter(many: Any, database: str) -> None:
    memory, index = many
    before = scans(database)
    for where, least in (
        (None, 0.97),
        ("n < 2000", 0.95),
        ("n < 40", 0.95),
        ("n IN (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)", 1),
    ):
        wanted = memory.search(ASKED, 10, where=where)
        exact = index.search(ASKED, 10, where=where, exact=True)
        assert exact.ids == wanted.ids
        np.testing.assert_allclose(exact.scores, wanted.scores, atol=2e-6)
        hits = index.search(ASKED, 10, where=where)
        assert [len(ids) for ids in hits.ids] == [10] * 40
        assert recall(hits.ids, wanted.ids) >= least, where
        assert (np.diff(hits.scores, axis=1) <= 0).all()
    index.close()  # a backend reports all that it used when it ends
    while scans(database) < before + 40:
        time.sleep(0.01)
    assert index.search(ASKED[:1], 1200).scores.shape == (1, 1200)


def test_ef_search(database: str, table: str) -> None:
    vectors = np.random.default_rng(4).normal(size=(1500, 32)).astype(np.float32)
    memory = VectorIndex.build(vectors)
    links = {"m": 4, "ef_construction": 8}  # a graph in which a short search finds little
    index = PgVectorIndex.export(memory, database + HNSW_ONLY, table=table, **links)
    wanted = memory.search(ASKED, 10).ids
    low, high = (recall(index.search(ASKED, 10, ef_search=ef).ids, wanted) for ef in (1, 1000))
    assert low < 0.6
    assert high > 0.95
    index.ef_search = 1
    assert recall(index.search(ASKED, 10).ids, wanted) == low
    index.ef_search = 1001
    with pytest.raises(InputError, match="ef_search is 1,001; expected at most 1,000"):
        index.search(ASKED)


def test_halfvec(database: str, table: str) -> None:
    memory = VectorIndex.build(STORED, ids=NAMES)
    index = PgVectorIndex.export(memory, database, table=table, halfvec=True)
    np.testing.assert_allclose(
        index.search(QUERIES, 5, exact=True).scores, memory.search(QUERIES, 5).scores, atol=1e-3
    )
    index.update(STORED[:1] * 3, ids=["new"])
    assert "new" in index.search(STORED[:1], 2).ids[0]
    long = VectorIndex.build(STORED * 1e6, similarity="dot")
    with pytest.raises(InputError, match="infinite value not allowed in halfvec"):
        PgVectorIndex.export(long, database, table=f"{table} long", halfvec=True)
    assert f"{table} long" not in tables(database)


def test_a_graph_that_outgrows_its_memory_warns(database: str, table: str) -> None:
    url = database + "&options=-c%20maintenance_work_mem%3D1MB"
    with pytest.warns(UserWarning, match="hnsw graph no longer fits into maintenance_work_mem"):
        PgVectorIndex.export(VectorIndex.build(MANY), url, table=table)


def test_modes_of_words_are_refused_by_name(database: str, table: str) -> None:
    memory = VectorIndex.build(STORED[:3], texts=TEXTS[:3], bm25=True)
    index = PgVectorIndex.export(memory, database, table=table)
    for mode in ("bm25", "hybrid"):
        with pytest.raises(InputError, match=f"mode is '{mode}', which PgVectorIndex does not"):
            index.search(["a"], mode=mode)


SECRET = "s3cr3t"  # noqa: S105


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/d", "127.0.0.1.*port 1.*Connection refused"),
        (f"postgresql://me:{SECRET}@s3cr3t@h/d", "the URL of the database is not"),
        (f"postgresql://me:{SECRET}/x@h/d", "the URL of the database is not"),
        (f"postgresql://me:{SECRET}#x@h/d", "the URL of the database is not"),
        (f"postgresql://me:{SECRET}?x@h/d", "the URL of the database is not"),
        (f"postgresql://me:{SECRET}", "the URL of the database is not"),
        (f"postgresql://me:{SECRET}%zz@h/d", "the URL of the database is not"),
        (f"mysql://me:{SECRET}@h/d", "the URL of the database is not"),
        (f"host=h password={SECRET}", "the URL of the database is not"),
        (f"postgresql://127.0.0.1:1/d?password={SECRET}&sslmode=bad", "invalid sslmode value"),
        (7, "the URL of the database is not"),
    ],
)
def test_wrong_urls_and_no_server(url: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        PgVectorIndex(url)
    chain = [error.value, error.value.__cause__]
    assert not any(SECRET in str(one) for one in chain)
    assert "\n" not in str(error.value)


def test_a_password_that_the_server_repeats_is_hidden(database: str, monkeypatch: Any) -> None:
    wrong = database.replace("/postgres?", f"/{SECRET}?").replace(
        "postgres@", f"postgres:{SECRET}@"
    )
    with pytest.raises(InputError, match=r'database "\*\*\*" does not exist'):
        PgVectorIndex(wrong)


def test_what_is_not_there_or_not_allowed(database: str, table: str) -> None:
    memory = VectorIndex.build(STORED[:3])
    PgVectorIndex.export(memory, database, table=table)
    with pytest.raises(InputError, match="already exists; expected a name of a new table"):
        PgVectorIndex.export(VectorIndex.build(STORED[:2]), database, table=table)
    assert len(PgVectorIndex(database, table=table)) == 3
    with pytest.raises(InputError, match='"none_embedkit" does not exist; expected a table that'):
        PgVectorIndex(database, table="none")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute("CREATE TABLE strange_embedkit (settings json)")
        connection.execute("INSERT INTO strange_embedkit VALUES ('{\"similarity\": 1}')")
    bare, guest = database.replace("/postgres?", "/bare?"), database.replace("postgres@", "guest@")
    with pytest.raises(InputError, match="table 'strange': its record was not written by embedkit"):
        PgVectorIndex(database, table="strange")
    with pytest.raises(InputError, match=r"a database with pgvector none, expected 0\.8 or newer"):
        PgVectorIndex(bare)
    bare_guest = bare.replace("postgres@", "guest@")
    with pytest.raises(InputError, match="permission denied to create extension"):
        PgVectorIndex.export(memory, bare_guest)
    with pytest.raises(InputError, match="permission denied for schema public; expected a user"):
        PgVectorIndex.export(memory, guest)
    with pytest.raises(
        InputError, match=r"permission denied for table .*expected a user with that"
    ):
        PgVectorIndex(guest, table=table)
    with psycopg.connect(bare) as connection:  # a failed export creates no extension either
        assert connection.execute("SELECT count(*) FROM pg_extension").fetchall() == [(1,)]
    assert PgVectorIndex.export(memory, bare).search(STORED[:1], 1).ids == [[0]]


@pytest.mark.parametrize("table", ["", "a.b.c", ".a", "가" * 19, "50%", "a\0b", 5])
def test_wrong_names_of_tables(table: Any) -> None:
    for call in (
        PgVectorIndex,
        lambda url, table: PgVectorIndex.export(one_row(), url, table=table),
    ):
        with pytest.raises(InputError, match=r"expected NAME or SCHEMA\.NAME of at most 54 bytes"):
            call("postgresql://127.0.0.1:1", table=table)


def one_row(dimension: int = 2, **options: Any) -> VectorIndex:
    return VectorIndex.build(np.ones((1, dimension)), **options)


@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        (lambda: one_row(metadata={"id": [1]}), {}, "metadata: got column 'id', expected a name"),
        (lambda: one_row(metadata={"가" * 22: [1]}), {}, "expected a name of at most 63 bytes"),
        (lambda: one_row(metadata={"a\0": [1]}), {}, r"got column 'a\\x00', .* without NUL"),
        (lambda: one_row(2001), {}, "got vectors of 2,001 numbers, expected at most 2,000 for vec"),
        (lambda: one_row(4001), {"halfvec": True}, "at most 4,000 for halfvec with HNSW"),
        (lambda: one_row(16001), {"hnsw": False}, "expected at most 16,000 for vector"),
        (one_row, {"m": 1}, "m is 1; expected a whole number from 2"),
        (one_row, {"m": 101}, "m is 101; expected at most 100"),
        (one_row, {"ef_construction": 1001}, "ef_construction is 1,001; expected at most 1,000"),
        (lambda: "mine", {}, "index is 'mine'; expected a VectorIndex"),
        (one_row, {"m": 8, "ef_construction": 9}, "ef_construction is 9; expected .* from 16"),
    ],
)
def test_what_postgresql_cannot_hold(index: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):  # before a connection is tried
        PgVectorIndex.export(index(), "postgresql://127.0.0.1:1", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["비\0"]}, "invalid byte sequence .*; expected texts without NUL"),
        ({"metadata": {f"c{n}": [n] for n in range(1600)}}, "can have at most 1600 columns"),
    ],
)
def test_what_the_server_refuses_is_wrong_input(
    database: str, table: str, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PgVectorIndex.export(one_row(**options), database, table=table)


def test_an_index_without_rows_is_refused() -> None:
    index = one_row()
    index.remove([0])
    with pytest.raises(InputError, match="got an index without rows; expected at least one"):
        PgVectorIndex.export(index, "postgresql://127.0.0.1:1")


def test_a_schema_may_be_named(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute('CREATE SCHEMA IF NOT EXISTS "우리 것"')
    PgVectorIndex.export(one_row(), database, table="우리 것.표")
    assert len(PgVectorIndex(database, table="우리 것.표")) == 1


def test_a_table_of_another_model_in_its_place_is_refused(database: str, table: str) -> None:
    index = PgVectorIndex.export(one_row(), database, table=table)
    with psycopg.connect(database) as connection:
        connection.execute(f'DROP TABLE "{table}", "{table}_embedkit"')
    PgVectorIndex.export(one_row(similarity="dot"), database, table=table)
    with pytest.raises(InputError, match="was made anew, perhaps of another model, since"):
        index.search(np.ones((1, 2)))


def test_a_server_that_went_away(database: str, table: str) -> None:
    index = PgVectorIndex.export(one_row(), database, table=table)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [index._connection.info.backend_pid])
    with pytest.raises(ConnectionError, match=f"table '{table}': .*terminat"):
        index.count()
    assert index.count() == 1  # on a new connection


def test_copies_connect_anew(database: str, table: str) -> None:
    index = PgVectorIndex.export(one_row(), database, table=table)
    index.ef_search = 7
    copied = pickle.loads(pickle.dumps(index))  # noqa: S301
    assert (copied.count(), copied.ef_search, copied.table) == (1, 7, table)
    own = index._connection.info.backend_pid
    process = multiprocessing.get_context("fork").Process(target=end_unless_new, args=(index, own))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert index.count() == 1
    assert index._connection.info.backend_pid == own


def end_unless_new(index: Any, pid: int) -> None:
    assert index.count() == 1
    assert index._connection.info.backend_pid != pid


def test_a_failed_export_leaves_nothing(
    database: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Table, "build", fail)
    with pytest.raises(KeyboardInterrupt):
        PgVectorIndex.export(one_row(), database, table=table)
    assert not {table, f"{table}_embedkit"} & tables(database)


def killed_export(database: str, table: str) -> None:
    """Killed when the rows are in the table."""
    Table.build = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    PgVectorIndex.export(VectorIndex.build(STORED), database, table=table)


@pytest.mark.process
def test_a_killed_export_leaves_nothing(database: str, table: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert exit_code(log, killed_export, database, table) == -signal.SIGKILL, log.read_text()
    assert not {table, f"{table}_embedkit"} & tables(database)
    memory = VectorIndex.build(STORED)
    assert len(PgVectorIndex.export(memory, database, table=table)) == 200


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "index"
    VectorIndex.build(
        STORED[:9], ids=NAMES[:9], texts=TEXTS[:9], metadata={"연도": list(range(9))}, bm25=True
    ).save(path)
    return path


def test_export(run: Run, folder: Path, database: str, table: str) -> None:
    command = ("index", "export", folder, "--to", database, "--table", table)
    done = run(*command)
    assert done.code == 0, done.err
    assert done.err == (
        f"table {table}: 9 rows of 8 numbers (vector), cosine, HNSW; BM25 was not copied\n"
    )
    index = PgVectorIndex(database, table=table)
    assert index.search(STORED[4:5], 1, where="연도 > 2")[0][0].text == TEXTS[4]
    assert "already exists; expected a name of a new table" in refused(run(*command))
    other = ("--table", f"{table}b", "--halfvec", "--no-hnsw", "--json")
    assert run(*command[:5], *other).json == {
        "schema": 1,
        "table": f"{table}b",
        "rows": 9,
        "dimension": 8,
        "similarity": "cosine",
        "type": "halfvec",
        "hnsw": False,
    }


def test_wrong_exports(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/d"
    assert SECRET not in refused(run("index", "export", folder, "--to", url))
    assert "index.json" in refused(run("index", "export", tmp_path / "none", "--to", url))
    monkeypatch.delitem(sys.modules, "embedkit.integrations.pgvector")
    monkeypatch.setitem(sys.modules, "psycopg.sql", None)
    assert "run pip install 'embedkit[pgvector]'" in refused(
        run("index", "export", folder, "--to", url)
    )
