"""`EmbedkitEmbeddings`: an embedder as the embeddings of LangChain."""

from __future__ import annotations

from typing import Unpack

from embedkit.embedder.embedder import LoadOptions
from embedkit.embedder.prompts import role_prompt
from embedkit.files import DEFAULT_MODEL
from embedkit.integrations.encoding import Cache, Model, encode, load
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array

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
        cache: keep embeddings on disk, in the usual cache (True) or in a folder.
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
        model: Model = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        cache: Cache = False,
        **options: Unpack[LoadOptions],
    ) -> None:
        self.embedder = load(model, recipe, cache, **options)
        self.cache = cache

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of n documents, behind the model's prompt for documents."""
        vectors: list[list[float]] = self._encode("document", texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a query, behind the model's prompt for queries."""
        vector: list[float] = self._encode("query", [text])[0].tolist()
        return vector

    def _encode(self, role: str, texts: list[str]) -> Float32Array:
        return encode(self.embedder, texts, role_prompt(self.embedder, role), self.cache)
