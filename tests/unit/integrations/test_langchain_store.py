"""`EmbedkitVectorStore` passes LangChain's standard tests, filters, and lives in a folder."""

from __future__ import annotations

import importlib
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny

from embedkit import Embedder, InputError, VectorIndex

NOT_INSTALLED = "not installed: langchain-tests"
suites = pytest.importorskip("langchain_tests.integration_tests", reason=NOT_INSTALLED)
langchain = importlib.import_module("embedkit.integrations.langchain")
EmbedkitVectorStore = langchain.EmbedkitVectorStore
TEXTS = ["the cat sleeps", "rain falls in the city", "two dogs", "music and books"]
METADATA: list[dict[str, Any]] = [
    {"year": 2023, "source": "faq", "nested": {"a": [1, None, "한국어"]}},
    {"year": 2024, "source": "news"},
    {"year": 2024, "tags": ["x", "y"], "note": None},
    {},
]
FILTERABLE = {"year": int, "source": str, "weight": float}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=6)


@pytest.fixture(scope="module")
def embeddings(bert: Path) -> Any:
    prompts = {"query": "query: ", "document": "passage: "}
    model = Embedder(bert, "mean", prompts=prompts, precision="float32")
    return langchain.EmbedkitEmbeddings(model)


@pytest.mark.anyio
class TestStandard(suites.VectorStoreIntegrationTests):  # type: ignore[misc]
    """LangChain's, the asynchronous calls too."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(params=["memory", "folder"])
    def vectorstore(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        folder = tmp_path / "index" if request.param == "folder" else None
        return EmbedkitVectorStore(self.get_embeddings(), folder)


def ids(documents: list[Any]) -> list[str]:
    return [document.id for document in documents]


@pytest.fixture
def store(embeddings: Any) -> Any:
    return EmbedkitVectorStore.from_texts(
        TEXTS, embeddings, METADATA, ids=["a", "b", "c", "d"], filterable=FILTERABLE
    )


def test_scores_are_cosines_of_queries_and_documents(store: Any, embeddings: Any) -> None:
    query = embeddings.embedder.encode_query("a cat")
    vectors = embeddings.embedder.encode_document(TEXTS)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    hits = store.similarity_search_with_score("a cat", k=4)
    assert [document.page_content for document, _ in hits] == [
        TEXTS[at] for at in np.argsort(-cosines)
    ]
    assert [score for _, score in hits] == pytest.approx(np.sort(cosines)[::-1], abs=1e-6)
    documents = [document for document, _ in hits]
    assert store.similarity_search("a cat", k=4) == documents
    assert store.similarity_search_by_vector(query.tolist(), k=4) == documents
    near = float(np.sort(cosines)[-2])
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": near - 1e-4}
    )
    assert ids(retriever.invoke("a cat")) == ids(documents[:2])


def test_metadata_come_back_as_they_were(store: Any) -> None:
    assert [document.metadata for document in store.get_by_ids(["d", "a", "c", "b", "no"])] == [
        METADATA[at] for at in (3, 0, 2, 1)
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"year": 2024}, "bc"),
        ({"year": 2024, "source": "news"}, "b"),
        ({"source": None}, "cd"),
        ("year >= 2023 AND source IN ('faq', 'news')", "ab"),
        ("year IS NULL", "d"),
        ({}, "abcd"),
        (None, "abcd"),
    ],
)
def test_filters(store: Any, condition: Any, expected: str) -> None:
    assert "".join(sorted(ids(store.similarity_search("a cat", filter=condition)))) == expected
    diverse = store.max_marginal_relevance_search("a cat", filter=condition)
    assert "".join(sorted(ids(diverse))) == expected
    retriever = store.as_retriever(search_kwargs={"filter": condition, "k": 1})
    assert ids(retriever.invoke("a cat"))[0] in expected


def test_a_filter_on_what_is_not_filterable_is_refused(store: Any) -> None:
    with pytest.raises(InputError, match="tags"):
        store.similarity_search("a cat", filter={"tags": "x"})
    with pytest.raises(TypeError, match="where"):
        store.similarity_search("a cat", where={"year": 2024})


def test_diverse_documents_are_langchains(store: Any, embeddings: Any) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    theirs = InMemoryVectorStore.from_texts(TEXTS, embeddings, ids=["a", "b", "c", "d"])
    for options in ({"k": 3}, {"k": 2, "lambda_mult": 0.1}, {"k": 2, "fetch_k": 2}):
        expected = theirs.max_marginal_relevance_search("rain", **options)
        assert ids(store.max_marginal_relevance_search("rain", **options)) == ids(expected)
        vector = embeddings.embed_query("rain")
        again = store.max_marginal_relevance_search_by_vector(vector, **options)
        assert ids(again) == ids(expected)


def test_langchains_indexing_keeps_a_store_in_step_with_its_sources(embeddings: Any) -> None:
    from langchain_core.documents import Document
    from langchain_core.indexing import InMemoryRecordManager, index

    store, records = EmbedkitVectorStore(embeddings), InMemoryRecordManager("cats")
    records.create_schema()
    texts = [Document(page_content=text, metadata={"source": text}) for text in TEXTS]
    for documents, counts in ((texts, (4, 0, 0)), (texts[:2], (0, 2, 2))):
        done = index(
            documents, records, store, cleanup="full", source_id_key="source", key_encoder="sha256"
        )
        assert (done["num_added"], done["num_skipped"], done["num_deleted"]) == counts
    hits = store.similarity_search("a cat")
    assert sorted(document.page_content for document in hits) == sorted(TEXTS[:2])


def test_a_store_in_a_folder(embeddings: Any, bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    options = {"folder": folder, "filterable": {**FILTERABLE, "on": date, "weight": float}}
    store = EmbedkitVectorStore(embeddings, **options)
    assert store.similarity_search("a cat") == store.get_by_ids(["a"]) == []
    assert not folder.exists()
    store.add_texts(TEXTS[:1], [{"year": 2023}], ids=["a"])
    store.add_texts(TEXTS[1:2], [{"on": date(2024, 1, 31), "weight": 2}], ids=["b"])
    again = EmbedkitVectorStore(embeddings, folder)
    assert ids(again.similarity_search("a cat", filter="\"on\" >= '2024-01-01'")) == ["b"]
    again.add_texts(["a new text"], [{"weight": 0.5, "more": "한국어"}], ids=["a"])
    (document,) = EmbedkitVectorStore(embeddings, **options).get_by_ids(["a"])
    assert document.page_content == "a new text"
    assert document.metadata == {"weight": 0.5, "more": "한국어"}
    index = VectorIndex.open(folder)
    assert index.provenance is not None
    assert (index.provenance.prompt, index.provenance.query_prompt) == ("passage: ", "query: ")
    assert index.metadata_columns == {
        "year": "integers",
        "source": "text",
        "on": "dates",
        "weight": "floats",
        "langchain": "text",
    }
    with pytest.raises(InputError, match="another recipe"):
        EmbedkitVectorStore(langchain.EmbedkitEmbeddings(bert, "cls"), folder)
    with pytest.raises(
        InputError, match=r"filterable has 'year'; the index has 'year' \(integers\), "
    ):
        EmbedkitVectorStore(embeddings, folder, filterable={"year": int})
    with pytest.raises(InputError, match="similarity is dot; the index has cosine"):
        EmbedkitVectorStore(embeddings, folder, similarity="dot")
    with pytest.raises(InputError, match="was changed by another since it was opened"):
        store.delete()
    again.delete()
    assert EmbedkitVectorStore(embeddings, **options).similarity_search("a cat") == []


def test_an_index_of_the_command_line(embeddings: Any, tmp_path: Path) -> None:
    vectors, metadata = embeddings.embedder.encode_document(TEXTS), {"year": [1, 2, 3, 4]}
    built = {"ids": [*"abcd"], "texts": TEXTS, "metadata": metadata, "bm25": True}
    VectorIndex.build(vectors, **built).save(tmp_path / "index")
    store = EmbedkitVectorStore(embeddings, tmp_path / "index")
    store.add_texts(["two cats"], [{"year": 5}], ids=["e"])
    assert store.get_by_ids(["e"])[0].metadata == {"year": 5}
    with pytest.raises(InputError, match=r"\[0\]: got 'x', which the index has no columns for; ex"):
        store.add_texts(["snow"], [{"x": 1}])
    # Words count too, where the index has them.
    options = {"k": 2, "filter": "year > 1"}
    retriever = store.as_retriever(search_kwargs={"mode": "bm25", **options})
    assert ids(retriever.invoke("two")) == ids(store.similarity_search("two", mode="bm25"))[:2]
    assert sorted(ids(retriever.invoke("two"))) == ["c", "e"]
    index = VectorIndex.open(tmp_path / "index", embeddings.embedder)
    hits = index.search(["two dogs"], 2, where="year > 1", mode="hybrid")
    documents = store.similarity_search_with_score("two dogs", mode="hybrid", **options)
    assert [(x.id, score) for x, score in documents] == [(hit.id, hit.score) for hit in hits[0]]
    with pytest.raises(InputError, match="got 'mode' and relevance scores, which are cosines"):
        store.similarity_search_with_relevance_scores("two", mode="hybrid")
    for by_vector in (
        lambda: store.similarity_search_by_vector(vectors[0].tolist(), mode="bm25"),
        lambda: store.max_marginal_relevance_search("two", mode="hybrid"),
    ):
        with pytest.raises(InputError, match="got 'mode', which reads the query's text, and a se"):
            by_vector()
    with pytest.raises(InputError, match="embedding is one str; expected a list of float"):
        store.similarity_search_by_vector("two")
    dense = store.similarity_search_with_relevance_scores("two", mode="dense")
    assert dense == store.similarity_search_with_relevance_scores("two")
    store.delete()  # the columns stay
    with pytest.raises(InputError, match=r"\[0\]: got 'x', which the index has no columns for; ex"):
        store.add_texts(["snow"], [{"x": 1}])


def test_a_folder_of_others_is_refused_before_texts_are_encoded(
    embeddings: Any, tmp_path: Path
) -> None:
    (tmp_path / "mine").touch()
    for folder, message in (
        (tmp_path, r"has other files in it \(mine\); expected a new or empty folder for an index"),
        (tmp_path / "mine", "mine"),
    ):
        with pytest.raises(InputError, match=message):
            EmbedkitVectorStore(embeddings, folder)


def test_threads_make_one_index(embeddings: Any, tmp_path: Path) -> None:
    store = EmbedkitVectorStore(embeddings, tmp_path / "index")
    with ThreadPoolExecutor(4) as threads:
        names = list(threads.map(lambda n: store.add_texts([f"text {n}"], ids=[str(n)]), range(8)))
    assert names == [[str(n)] for n in range(8)]
    assert len(EmbedkitVectorStore(embeddings, tmp_path / "index").index) == 8


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_store_can_be_pickled(embeddings: Any, where: str, tmp_path: Path) -> None:
    folder = tmp_path / "index" if where == "folder" else None
    store = EmbedkitVectorStore.from_texts(TEXTS, embeddings, METADATA, folder=folder)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert copy.similarity_search("a cat") == store.similarity_search("a cat")
    copy.add_texts(["snow"], ids=["new"])
    assert ids(copy.get_by_ids(["new"])) == ["new"]


def test_other_kinds_and_similarities(embeddings: Any) -> None:
    store = EmbedkitVectorStore(embeddings, kind="hnsw", similarity="dot")
    store.add_texts(TEXTS)
    products = embeddings.embedder.encode_document(TEXTS) @ embeddings.embedder.encode_query("cat")
    scores = [score for _, score in store.similarity_search_with_score("cat", ef_search=64)]
    assert scores == pytest.approx(np.sort(products)[::-1], abs=1e-4)
    with pytest.raises(InputError, match="similarity is dot; relevance scores need cosine"):
        store.similarity_search_with_relevance_scores("cat")


@pytest.mark.parametrize(
    "metadata",
    [
        {"year": "2024"},
        {"year": 2024.5},
        {"source": 3},
        {"weight": True},
        {"x": math.nan},
        {"x": (1, 2)},
        {"x": datetime(2024, 1, 1)},
        {"x": "\ud800"},
        {1: "x"},
    ],
)
def test_metadata_that_would_change_are_refused(store: Any, metadata: dict[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"metadatas\[1\]: got .*, expected filterable values of"):
        store.add_texts(["a", "b"], [{}, metadata], ids=["new", "newer"])
    assert store.get_by_ids(["new", "newer"]) == []


def test_wrong_arguments(
    embeddings: Any, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="got 2 texts, 1 metadatas and 2 ids, expected as many"):
        store.add_texts(["a", "b"], [{}])
    with pytest.raises(InputError, match="got 1 texts, 1 metadatas and 2 ids, expected as many"):
        store.add_texts(["a"], ids=["x", "y"])
    with pytest.raises(InputError, match="texts is one str; expected a list of str"):
        store.add_texts("abc")
    with pytest.raises(InputError, match="embedding is 'minilm'; expected embeddings of LangCh"):
        EmbedkitVectorStore("minilm")
    with monkeypatch.context() as patch:  # before the texts are encoded
        patch.setattr(embeddings, "embed_documents", None)
        with pytest.raises(InputError, match="ids: got 'x' twice"):
            store.add_texts(["a", "b"], ids=["x", "x"])
        for wrong in (3, 0):
            with pytest.raises(InputError, match=rf"ids\[0\]: got {wrong}, expected a str"):
                store.add_texts(["a"], ids=[wrong])
        with pytest.raises(InputError, match="ids is one str; expected a list of str"):
            store.add_texts(["a"], ids="a")
        with pytest.raises(InputError, match="metadatas is one dict; expected a list of dict"):
            store.add_texts(["a"], {"year": 2024})
        with pytest.raises(InputError, match=r"metadatas\[0\] is 'x'; expected a dict"):
            store.add_texts(["a"], ["x"])
    with pytest.raises(TypeError, match="filter"):
        store.delete(filter={"year": 2024})
    with pytest.raises(InputError, match="filterable, 'a': got <class 'dict'>, expected str, int"):
        EmbedkitVectorStore(embeddings, filterable={"a": dict})
    with pytest.raises(InputError, match=r"filterable, 3: .* and a str other than 'langchain' as"):
        EmbedkitVectorStore(embeddings, filterable={3: str})
    with pytest.raises(InputError, match=r"filterable is \['a'\]; expected a dict"):
        EmbedkitVectorStore(embeddings, filterable=["a"])
    for options in ({"kind": "nothing"}, {"similarity": "nothing"}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is 'nothing'"):
            EmbedkitVectorStore(embeddings, **options)
    VectorIndex.build(np.eye(3), texts=["x", "y", "z"]).save(tmp_path / "numbered")
    with pytest.raises(InputError, match="expected an index with texts, and with str for ids"):
        EmbedkitVectorStore(embeddings, tmp_path / "numbered")
