"""`EmbedkitEmbeddings` passes LangChain's standard tests, and finds documents in its store."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from numpy.testing import assert_allclose

from embedkit import Embedder, InputError

NOT_INSTALLED = "not installed: langchain-tests"
suites = pytest.importorskip("langchain_tests.integration_tests", reason=NOT_INSTALLED)
units = pytest.importorskip("langchain_tests.unit_tests", reason=NOT_INSTALLED)
langchain = importlib.import_module("embedkit.integrations.langchain")
EmbedkitEmbeddings = langchain.EmbedkitEmbeddings
PROMPTS = {"query": "query: ", "passage": "passage: "}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=6)


class _Params:
    """What both suites ask for."""

    @property
    def embeddings_class(self) -> Any:
        return EmbedkitEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "minilm", "precision": "float32", "device": "cpu"}


class TestUnit(_Params, units.EmbeddingsUnitTests):  # type: ignore[misc]
    """LangChain's."""


@pytest.mark.anyio
class TestIntegration(_Params, suites.EmbeddingsIntegrationTests):  # type: ignore[misc]
    """LangChain's, the asynchronous calls too."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


def test_queries_and_documents_have_their_own_prompts(bert: Path) -> None:
    embedder = Embedder(bert, "mean", prompts=PROMPTS, precision="float32")
    embeddings = EmbedkitEmbeddings(embedder)
    texts = ["a cat", "rain"]
    documents = embeddings.embed_documents(texts)
    assert_allclose(documents, embedder.encode([f"passage: {x}" for x in texts]), atol=1e-6)
    query = embeddings.embed_query("rain")
    assert_allclose(query, embedder.encode("query: rain"), atol=1e-6)
    assert type(query[0]) is type(documents[0][0]) is float
    assert embeddings.embed_documents([]) == []


def test_recipes_and_options(bert: Path) -> None:
    named = EmbedkitEmbeddings(bert, "cls", max_length=4, precision="float32")
    given = EmbedkitEmbeddings(Embedder(bert, max_length=4, precision="float32"), "cls")
    assert named.embed_query("a cat in the rain") == given.embed_query("a cat in the rain")
    assert str(given.embedder.recipe) == "cls"
    with pytest.raises(InputError, match="got max_length and an Embedder"):
        EmbedkitEmbeddings(given.embedder, max_length=4)


def test_a_vector_store_ranks_by_the_cosine(bert: Path) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    embedder = Embedder(bert, "mean", prompts=PROMPTS, precision="float32")
    texts = ["the cat sleeps", "rain falls in the city", "two dogs", "music and books"]
    store = InMemoryVectorStore.from_texts(texts, EmbedkitEmbeddings(embedder))
    query = embedder.encode_query("a cat")
    documents = embedder.encode_document(texts)
    cosines = documents @ query / np.linalg.norm(documents, axis=1) / np.linalg.norm(query)
    found = store.similarity_search_with_score("a cat", k=4)
    assert [document.page_content for document, _ in found] == [
        texts[at] for at in np.argsort(-cosines)
    ]
    assert [score for _, score in found] == pytest.approx(np.sort(cosines)[::-1], abs=1e-6)
