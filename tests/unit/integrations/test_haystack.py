"""The embedders of Haystack, in its pipelines."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from numpy.testing import assert_allclose

from embedkit import Embedder, InputError, Recipe

haystack = pytest.importorskip("haystack", reason="not installed: haystack-ai")
integration = importlib.import_module("embedkit.integrations.haystack")
TextEmbedder = integration.EmbedkitTextEmbedder
DocumentEmbedder = integration.EmbedkitDocumentEmbedder
TEXTS = ["the cat sleeps", "rain falls in the city", "two dogs", "music and books"]
PROMPTS = {"query": "query: ", "passage": "passage: "}
ALLOWED = {"allowed_modules": ["embedkit.integrations.haystack"]}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=6)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder(bert, "mean", prompts=PROMPTS, precision="float32")


def pipelines(options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """A store, the pipeline that fills it, and the one that searches it."""
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.components.writers import DocumentWriter
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing, searching = haystack.Pipeline(), haystack.Pipeline()
    indexing.add_component("embed", DocumentEmbedder(**options))
    indexing.add_component("write", DocumentWriter(store))
    indexing.connect("embed.documents", "write.documents")
    searching.add_component("embed", TextEmbedder(**options))
    searching.add_component("retrieve", InMemoryEmbeddingRetriever(store, top_k=4))
    searching.connect("embed.embedding", "retrieve.query_embedding")
    return store, indexing, searching


def test_a_pipeline_ranks_by_the_cosine(bert: Path, embedder: Embedder) -> None:
    options = {"model": str(bert), "recipe": "mean", "prompts": PROMPTS, "precision": "float32"}
    _, indexing, searching = pipelines(options)
    documents = [haystack.Document(content=text) for text in TEXTS]
    again = haystack.Pipeline.loads(indexing.dumps(), **ALLOWED)
    assert again.dumps() == indexing.dumps()
    again.run({"embed": {"documents": documents}})  # its store is the same one, by its index
    assert documents[0].embedding is None
    searches = haystack.Pipeline.loads(searching.dumps(), **ALLOWED)
    query, vectors = embedder.encode_query("a cat"), embedder.encode_document(TEXTS)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    inputs = {"embed": {"text": "a cat"}}
    for results in (searching.run(inputs), asyncio.run(searches.run_async(inputs))):
        hits = results["retrieve"]["documents"]
        assert [hit.content for hit in hits] == [TEXTS[at] for at in np.argsort(-cosines)]
        assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1], atol=1e-6)


def test_metadata_are_put_in_front(embedder: Embedder) -> None:
    component = DocumentEmbedder(
        embedder, meta_fields_to_embed=["title", "year"], embedding_separator=" | "
    )
    documents = [
        haystack.Document(content="rain", meta={"title": "news", "year": 2024}),
        haystack.Document(content="rain", meta={"year": None}),
        haystack.Document(meta={"title": "news"}),
    ]
    done = component.run(documents=documents)["documents"]
    expected = embedder.encode_document(["news | 2024 | rain", "rain", "news"])
    assert_allclose([one.embedding for one in done], expected, atol=1e-6)
    assert [one.meta for one in done] == [one.meta for one in documents]
    assert component.run(documents=[]) == {"documents": []}


def test_prompts_of_the_callers(embedder: Embedder) -> None:
    for options, text in (
        ({"prompt": "p: "}, "p: rain"),
        ({"prompt_name": "passage"}, "passage: rain"),
    ):
        got = TextEmbedder(embedder, **options).run(text="rain")["embedding"]
        assert_allclose(got, embedder.encode(text), atol=1e-6)


def test_a_component_loads_its_model_once_and_late(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    load = Embedder.from_pretrained

    def count(*args: Any, **options: Any) -> Embedder:
        loaded.append(args)
        return load(*args, **options)

    monkeypatch.setattr(Embedder, "from_pretrained", count)
    for wrong in ({"recipe": "median"}, {"prefix": "query: "}, {"cache": 5}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}"):
            DocumentEmbedder(bert, **wrong)
    component = TextEmbedder(bert)
    assert loaded == []
    component.warm_up()
    component.run(text="rain")
    assert loaded == [(bert, None)]


def test_dictionaries_hold_plain_values(bert: Path, embedder: Embedder) -> None:
    component = DocumentEmbedder(
        bert,
        Recipe.of("cls"),
        device=torch.device("cpu"),
        meta_fields_to_embed=("title",),
        cache=bert,
    )
    data = component.to_dict()
    assert data == {
        "type": "embedkit.integrations.haystack.EmbedkitDocumentEmbedder",
        "init_parameters": {
            "model": str(bert),
            "recipe": "cls",
            "device": "cpu",
            "prompt": None,
            "prompt_name": None,
            "cache": str(bert),
            "meta_fields_to_embed": ["title"],
            "embedding_separator": "\n",
        },
    }
    assert DocumentEmbedder.from_dict(data).to_dict() == data
    with pytest.raises(InputError, match="model is a loaded Embedder; expected a name or a folder"):
        TextEmbedder(embedder).to_dict()


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("rain", "documents is one str; expected a list of Document"),
        (["rain"], r"documents\[0\]: got 'rain', expected a Document with content"),
        ([haystack.Document(content="a"), haystack.Document()], r"documents\[1\]: got Document"),
    ],
)
def test_what_has_no_text_is_refused(
    embedder: Embedder, documents: list[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        DocumentEmbedder(embedder).run(documents=documents)
    with pytest.raises(InputError, match=r"text: got \['rain'\], expected a str"):
        TextEmbedder(embedder).run(text=["rain"])
    with pytest.raises(InputError, match="meta_fields_to_embed is one str"):
        DocumentEmbedder(embedder, meta_fields_to_embed="title")
    with pytest.raises(InputError, match=r"meta_fields_to_embed\[0\]: got 3, expected a str"):
        DocumentEmbedder(embedder, meta_fields_to_embed=[3])
    with pytest.raises(InputError, match="embedding_separator: got None, expected a str"):
        DocumentEmbedder(embedder, embedding_separator=None)
    with pytest.raises(InputError, match="got device and an Embedder; it has options of its own"):
        TextEmbedder(embedder, device="cpu")
