"""`EmbedkitEmbedding` in LlamaIndex's own indexes and pipelines."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from numpy.testing import assert_allclose
from pydantic import ValidationError

from embedkit import Embedder, InputError

core = pytest.importorskip("llama_index.core", reason="not installed: llama-index-core")
EmbedkitEmbedding = importlib.import_module("embedkit.integrations.llama_index").EmbedkitEmbedding
TEXTS = ["the cat sleeps", "rain falls in the city", "two dogs", "music and books"]
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, seed=6)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder(bert, "mean", prompts=PROMPTS, precision="float32")


def test_an_index_ranks_by_the_cosine(embedder: Embedder) -> None:
    model = EmbedkitEmbedding(embedder, embed_batch_size=3)
    documents = [core.Document(text=text, excluded_embed_metadata_keys=["n"]) for text in TEXTS]
    index = core.VectorStoreIndex.from_documents(documents, embed_model=model)
    hits = index.as_retriever(similarity_top_k=4).retrieve("a cat")
    query, vectors = embedder.encode_query("a cat"), embedder.encode_document(TEXTS)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    assert [hit.text for hit in hits] == [TEXTS[at] for at in np.argsort(-cosines)]
    assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1], atol=1e-6)


def test_all_calls_agree(embedder: Embedder) -> None:
    model = EmbedkitEmbedding(embedder)
    texts, query = embedder.encode_document(TEXTS), embedder.encode_query("rain")
    run = asyncio.run
    for got in (model.get_text_embedding_batch(TEXTS), run(model.aget_text_embedding_batch(TEXTS))):
        assert_allclose(got, texts, atol=1e-6)
    for got in (model.get_text_embedding(TEXTS[1]), run(model.aget_text_embedding(TEXTS[1]))):
        assert_allclose(got, texts[1], atol=1e-6)
    for got in (model.get_query_embedding("rain"), run(model.aget_query_embedding("rain"))):
        assert_allclose(got, query, atol=1e-6)
        assert type(got[0]) is float
    nodes = model([core.schema.TextNode(text=text) for text in TEXTS])
    assert_allclose([node.embedding for node in nodes], texts, atol=1e-6)


def test_a_description_finds_its_model_and_no_other(bert: Path) -> None:
    model = EmbedkitEmbedding(bert, "cls", max_length=8, precision="float32", num_workers=2)
    described = json.loads(model.to_json())
    assert {name: described[name] for name in ("model_name", "recipe", "num_workers")} == {
        "model_name": str(bert),
        "recipe": "cls",
        "num_workers": 2,
    }
    again = EmbedkitEmbedding.from_dict(described, max_length=8, precision="float32")
    assert again.get_query_embedding("a cat") == model.get_query_embedding("a cat")
    for changed in ({"max_length": 9}, {"recipe": "mean"}, {"prompts": PROMPTS}):
        with pytest.raises(InputError, match="another fingerprint than was recorded"):
            EmbedkitEmbedding.from_dict(described, **{"max_length": 8, **changed})


def test_fields_of_the_model_do_not_change(embedder: Embedder) -> None:
    """The embeddings would stay those of the recipe before."""
    with pytest.raises(ValidationError, match="Field is frozen"):
        EmbedkitEmbedding(embedder).recipe = "cls"


def test_copies_keep_the_embedder(embedder: Embedder) -> None:
    fitted = embedder.with_recipe("mean/pca:2").fit(TEXTS)
    model = EmbedkitEmbedding(fitted, embed_batch_size=7)
    expected = model.get_query_embedding("rain")
    assert len(expected) == 2
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):  # noqa: S301
        assert copied.get_query_embedding("rain") == pytest.approx(expected, abs=1e-6)
        assert copied.to_dict() == model.to_dict()


def test_a_pipeline_caches_nodes_by_what_changes_an_embedding(embedder: Embedder) -> None:
    from llama_index.core.ingestion import IngestionCache, IngestionPipeline

    cache = IngestionCache()
    documents = [core.Document(text=TEXTS[0], id_="1")]

    def embedded(of: Embedder) -> object:
        pipeline = IngestionPipeline(transformations=[EmbedkitEmbedding(of)], cache=cache)
        (node,) = pipeline.run(documents=documents)
        return node.embedding

    first, other = embedded(embedder), embedded(embedder.with_recipe("cls"))
    assert first == embedded(embedder)
    assert_allclose(other, embedder.with_recipe("cls").encode_document(TEXTS[0]), atol=1e-6)


def test_a_recipe_that_is_not_fitted_is_refused_at_once(bert: Path) -> None:
    with pytest.raises(InputError, match="center is not fitted yet"):
        EmbedkitEmbedding(bert, "mean/center")
