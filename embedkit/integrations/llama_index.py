"""`EmbedkitEmbedding`: an embedder as the embedding model of LlamaIndex."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from embedkit.embedder.embedder import Embedder
from embedkit.embedder.fingerprint import fingerprint as digest
from embedkit.embedder.prompts import role_prompts
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.integrations.encoding import Cache, Model, encode_role, load
from embedkit.recipes.recipe import Recipe

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError:
    raise ImportError(
        "EmbedkitEmbedding needs llama-index-core, which is not installed; run pip install "
        "'embedkit[llama-index]'"
    ) from None


class EmbedkitEmbedding(BaseEmbedding):
    """An embedder for LlamaIndex's indexes; queries and documents keep their own prompts.

    LlamaIndex describes models by their fields (`to_dict`), and files cached nodes under them. The
    field `fingerprint` tells apart all that changes an embedding but the precision, and `from_dict`
    refuses a model that has another one. Options of `Embedder` are no fields: give them to
    `from_dict` again.

    Args:
        model_name: an `Embedder`, or anything that `Embedder.from_pretrained` takes.
        recipe: a recipe, or None for the model's own.
        cache: keep embeddings on disk, in the usual cache (True) or in a folder.
        embed_batch_size: texts that LlamaIndex hands over at a time, at most 2,048.
        fingerprint: that the embedder must have; None for any.
        others: fields of `BaseEmbedding`, and options of `Embedder` for a model that is named.

    Raises:
        InputError: what is wrong with the model or with an option.

    Example:
        >>> model = EmbedkitEmbedding("minilm", precision="float32", device="cpu")
        >>> near, far = model.get_text_embedding_batch(["A cat sleeps.", "Stocks fell."])
        >>> query = model.get_query_embedding("a kitten")
        >>> bool(model.similarity(query, near) > model.similarity(query, far))
        True
    """

    model_name: str = Field(frozen=True)
    recipe: str = Field(frozen=True)
    cache: Cache
    fingerprint: str = Field(frozen=True)
    _embedder: Embedder = PrivateAttr()

    def __init__(
        self,
        model_name: Model = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        cache: Cache = False,
        embed_batch_size: int = 2048,
        fingerprint: str | None = None,
        **others: Any,
    ) -> None:
        fields = {name: others.pop(name) for name in BaseEmbedding.model_fields if name in others}
        embedder = load(model_name, recipe, cache, **others)
        own = digest({**embedder.identity, **role_prompts(embedder, None, None)})
        if fingerprint not in (None, own):
            raise InputError(
                f"the model {embedder.name} (recipe {str(embedder.recipe)!r}) has another "
                "fingerprint than was recorded; expected the same weights, recipe, prompts and "
                "maximum length"
            )
        fields |= {"model_name": embedder.name, "recipe": str(embedder.recipe), "fingerprint": own}
        fields |= {"cache": cache, "embed_batch_size": embed_batch_size}
        super().__init__(**fields)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls the class in files."""
        return "EmbedkitEmbedding"

    def __reduce__(self) -> tuple[Any, ...]:
        # LlamaIndex would load the model by its name again.
        state = dict(self.__dict__, model_name=self._embedder, recipe=None)
        return partial(EmbedkitEmbedding, **state), ()

    def _get_query_embedding(self, query: str) -> list[float]:
        return encode_role(self._embedder, "query", [query], self.cache)[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return encode_role(self._embedder, "document", texts, self.cache)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
