"""Hits, indexes and vectors as people see them: reprs, tables in notebooks, DataFrames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny

from embedkit import Corpus, Embedder, VectorIndex, Vectors, encode_corpus

HOSTILE = "<script>alert('한국어')</script>"
TEXTS = ["그는 책을 읽고 있다.", HOSTILE, "a dog"]
QUERIES = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])


def cells(table: str) -> list[str]:
    assert "<script" not in table
    assert "color" not in table
    assert "background" not in table
    return re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", table)


@pytest.fixture
def index() -> VectorIndex:
    return VectorIndex.build(np.eye(3), ids=["x", HOSTILE, "z"], texts=TEXTS)


def test_hits_are_read_at_a_glance(index: VectorIndex) -> None:
    hits = index.search(QUERIES, k=2)
    assert repr(hits).splitlines()[:2] == [
        "Hits(queries=2, k=2)",
        "  0: \"<script>aler...국어')</script>\" 0.8000, 'x' 0.6000",
    ]
    many = index.search(np.tile(QUERIES, (4, 1)), k=3)
    lines = repr(many).splitlines()
    assert lines[0] == "Hits(queries=8, k=3)"
    assert len(lines) == 5
    assert lines[-1] == "  ..."


def test_hits_in_a_notebook(index: VectorIndex) -> None:
    hits = index.search(QUERIES[:1], k=2)
    escaped = "&lt;script&gt;alert(&#x27;한국어&#x27;)&lt;/script&gt;"
    assert cells(hits._repr_html_()) == [
        *("query", "rank", "id", "score", "text"),
        *("0", "1", escaped, "0.8000", escaped),
        *("0", "2", "x", "0.6000", TEXTS[0]),
    ]
    without = VectorIndex.build(np.eye(3)).search(np.tile(QUERIES, (600, 1)), k=1)
    assert cells(without._repr_html_())[:8] == [
        "query",
        "rank",
        "id",
        "score",
        "0",
        "1",
        "1",
        "0.8000",
    ]
    assert without._repr_html_().endswith("<p>and 1,197 more queries</p>")
    metadata = {"분류": [HOSTILE, None], "year": [2024, 2025]}
    filtered = VectorIndex.build(np.eye(2), metadata=metadata).search(np.eye(2)[:1], k=2)
    assert cells(filtered._repr_html_()) == [
        *("query", "rank", "id", "score", "분류", "year"),
        *("0", "1", "0", "1.0000", escaped, "2024"),
        *("0", "2", "1", "0.0000", "", "2025"),
    ]


def test_hits_as_a_dataframe(index: VectorIndex) -> None:
    pytest.importorskip("pandas", reason="not installed: pandas")
    hits = index.search(QUERIES, k=5)
    frame = hits.to_dataframe()
    assert list(frame) == ["query", "rank", "id", "score", "text"]
    assert frame["query"].tolist() == [0, 0, 0, 1, 1, 1]
    assert frame["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    for row in frame.itertuples():
        hit: Any = hits[row.query][row.rank - 1]
        assert (row.id, row.score, row.text) == (hit.id, hit.score, hit.text)
    assert [str(frame[name].dtype) for name in ("query", "rank", "score")] == [
        *("int64", "int64", "float64")
    ]
    numbered = VectorIndex.build(np.eye(3)).search(QUERIES, k=1).to_dataframe()
    assert list(numbered) == ["query", "rank", "id", "score"]
    assert numbered["id"].tolist() == [1, 2]
    assert numbered["id"].dtype == "int64"


def test_an_index_and_vectors(index: VectorIndex, tmp_path: Path) -> None:
    assert repr(index) == "VectorIndex(kind='flat', rows=3, dimension=3, similarity='cosine')"
    index.save(tmp_path / "index")
    assert repr(index).endswith(f", similarity='cosine', folder={str(tmp_path / 'index')!r})")
    size = f"{index.info['bytes'] / 1e6:.1f} MB in 1 segment"
    assert cells(index._repr_html_()) == [
        *("VectorIndex", "flat", "rows", "3 with texts", "dimension", "3", "similarity", "cosine"),
        *("model", "unknown", "size", size, "folder", str(tmp_path / "index")),
    ]


def test_vectors_and_an_embedder(tmp_path: Path) -> None:
    bert = tiny.make_bert(tmp_path / "<b>bert", layers=1, width=16)
    (tmp_path / "x.txt").write_text("a dog\na cat\n", encoding="utf-8")
    encode_corpus(Embedder(bert, device="cpu"), Corpus(tmp_path / "x.txt"), tmp_path / "v")
    vectors = Vectors.open(tmp_path / "v")
    assert repr(vectors) == (
        f"Vectors({str(tmp_path / 'v')!r}, rows=2, dimension=16, dtype='float32', "
        f"model={str(bert)!r})"
    )
    shown = cells(vectors._repr_html_())
    assert shown[2:8] == ["rows", "2 without texts", "dimension", "16", "dtype", "float32"]
    assert f"{tmp_path}/&lt;b&gt;bert, mean" in shown
    embedder = cells(Embedder(bert, device="cpu", precision="float32")._repr_html_())
    assert embedder[:6] == [
        *("Embedder", str(bert).replace("<b>", "&lt;b&gt;"), "recipe", "mean", "dimension", "16")
    ]
    assert embedder[-6:] == ["precision", "float32", "engine", "torch", "device", "cpu"]
    built = VectorIndex.build(vectors)
    assert f"model={str(bert)!r}" in repr(built)
    assert "in memory" in cells(built._repr_html_())
