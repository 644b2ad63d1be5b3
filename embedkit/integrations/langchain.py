"""`EmbedkitEmbeddings`: an embedder as the embeddings of LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from embedkit.embedder.embedder import Embedder, LoadOptions
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe

try:
    from langchain_core.embeddings import Embeddings
except ImportError:
    raise ImportError(
        "EmbedkitEmbeddings needs langchain-core, which is not installed; run pip install "
        "'embedkit[langchain]'"
    ) from None


class EmbedkitEmbeddings(Embeddings):
    """An embedder for LangChain's vector stores; queries and documents keep their own prompts.

    Args:
        model: an `Embedder`, or anything that `Embedder.from_pretrained` takes.
        recipe: a recipe, or None for the model's own.
        options: of `Embedder`, for a model that is named.

    Raises:
        InputError: what is wrong with the model or with an option.

    Example:
        >>> embeddings = EmbedkitEmbeddings("minilm", precision="float32", device="cpu")
        >>> len(embeddings.embed_query("It rains.")), len(embeddings.embed_documents(["a", "b"]))
        (384, 2)
    """

    def __init__(
        self,
        model: Embedder | str | Path = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        if not isinstance(model, Embedder):
            model = Embedder.from_pretrained(model, recipe, **options)
        elif options:
            raise InputError(f"got {', '.join(options)} and an Embedder; it has options of its own")
        elif recipe is not None:
            model = model.with_recipe(recipe)
        self.embedder = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of n documents, behind the model's prompt for documents."""
        vectors: list[list[float]] = self.embedder.encode_document(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a query, behind the model's prompt for queries."""
        vector: list[float] = self.embedder.encode_query(text).tolist()
        return vector
