"""What every integration does: its cache, and the sentence where its package is missing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from numpy.testing import assert_allclose

from embedkit import Embedder, InputError
from embedkit.encoders.packed import PackedEncoder

TEXTS = ["a cat", "rain in the city", "a cat"]
# module -> class, package that it imports, extra
INTEGRATIONS = {
    "langchain": ("EmbedkitEmbeddings", "langchain_core.documents", "langchain"),
    "llama_index": (
        "EmbedkitEmbedding",
        "llama_index.core.base.embeddings.base",
        "llama-index",
    ),
    "haystack": ("EmbedkitTextEmbedder", "haystack", "haystack"),
}


def door(module: str, name: str) -> Any:
    package = INTEGRATIONS[module][1].split(".")[0]
    pytest.importorskip(package, reason=f"not installed: {package}")
    return getattr(importlib.import_module(f"embedkit.integrations.{module}"), name)


def langchain(**options: Any) -> Any:
    embeddings = door("langchain", "EmbedkitEmbeddings")(**options)
    return embeddings.embed_documents(TEXTS), embeddings.embed_query(TEXTS[0])


def llama_index(model: Any, **options: Any) -> Any:
    embedding = door("llama_index", "EmbedkitEmbedding")(model, **options)
    return embedding.get_text_embedding_batch(TEXTS), embedding.get_query_embedding(TEXTS[0])


def haystack(**options: Any) -> Any:
    documents = door("haystack", "EmbedkitDocumentEmbedder")(**options)
    query = door("haystack", "EmbedkitTextEmbedder")(**options)
    from haystack import Document

    done = documents.run(documents=[Document(content=text) for text in TEXTS])["documents"]
    return [one.embedding for one in done], query.run(text=TEXTS[0])["embedding"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=6)


@pytest.mark.parametrize("encoded", [langchain, llama_index, haystack])
def test_what_is_cached_is_not_computed_again(
    encoded: Callable[..., Any], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    model = Embedder(bert, "mean/normalize", prompts=prompts, precision="float32")
    documents, query = encoded(model=model, cache=tmp_path)
    assert documents == encoded(model=model)[0]
    assert_allclose(documents, model.encode_document(TEXTS), atol=1e-6)
    assert_allclose(query, model.encode_query(TEXTS[0]), atol=1e-6)
    assert documents[0] == documents[2] != query

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(PackedEncoder, "__call__", fail)
    assert encoded(model=model, cache=tmp_path) == (documents, query)


@pytest.mark.parametrize("encoded", [langchain, llama_index, haystack])
def test_a_wrong_cache_or_option_is_one_sentence(encoded: Callable[..., Any], bert: Path) -> None:
    model = Embedder(bert, precision="float32")
    with pytest.raises(InputError, match="cache is 5; expected a path"):
        encoded(model=model, cache=5)
    with pytest.raises(InputError, match="got max_length and an Embedder; it has options of its"):
        encoded(model=model, max_length=4)
    with pytest.raises(InputError, match="got the option 'prefix', expected calibrate_on, device"):
        encoded(model=model, prefix="query: ")


@pytest.mark.parametrize("module", INTEGRATIONS)
def test_a_missing_package_is_one_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, package, extra = INTEGRATIONS[module]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"embedkit.integrations.{module}", raising=False)
    with pytest.raises(ImportError) as error:
        importlib.import_module(f"embedkit.integrations.{module}")
    assert str(error.value).startswith(name)
    assert str(error.value).endswith(f"not installed; run pip install 'embedkit[{extra}]'")
