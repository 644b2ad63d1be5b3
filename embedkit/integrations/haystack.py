"""`EmbedkitTextEmbedder` and `EmbedkitDocumentEmbedder`: an embedder as components of Haystack."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack, cast

import torch

from embedkit.arguments import check_list
from embedkit.data.texts import check_text
from embedkit.embedder.embedder import Embedder, LoadOptions
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.integrations.encoding import Cache, Model, check_arguments, encode_role, load
from embedkit.recipes.recipe import Recipe

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError:
    raise ImportError(
        "EmbedkitTextEmbedder and EmbedkitDocumentEmbedder need haystack-ai, which is not "
        "installed; run pip install 'embedkit[haystack]'"
    ) from None


class _Component:
    """What both components do: the model is loaded once, by `warm_up` or the first `run`."""

    role: ClassVar[str]

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        cache: Cache = False,
        **options: Unpack[LoadOptions],
    ) -> None:
        check_arguments(model, recipe, cache, options)
        self.model = model
        self.embedder: Embedder | None = None
        self.prompt = prompt
        self.prompt_name = prompt_name
        self.cache = cache
        self._recipe = recipe
        self._options = options

    def warm_up(self) -> None:
        """Load the model, if it is not loaded yet."""
        if self.embedder is None:
            self.embedder = load(self.model, self._recipe, self.cache, **self._options)

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it into files.

        Raises:
            InputError: the model is a loaded one, which a file cannot name.
        """
        if not isinstance(self.model, str | Path):
            raise InputError(
                f"model is a loaded {type(self.model).__name__}; expected a name or a folder, "
                "which a file can hold"
            )
        values = {"model": self.model, "recipe": self._recipe, **self._options}
        values |= {"prompt": self.prompt, "prompt_name": self.prompt_name, "cache": self.cache}
        plain = {
            name: str(value) if isinstance(value, Recipe | Path | torch.device) else value
            for name, value in values.items()
        }
        data: dict[str, Any] = default_to_dict(self, **plain)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` described."""
        made: Self = default_from_dict(cls, data)
        return made

    def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        self.warm_up()
        embedder = cast("Embedder", self.embedder)
        given = (self.prompt, self.prompt_name)
        return encode_role(embedder, self.role, texts, self.cache, *given)


@component
class EmbedkitTextEmbedder(_Component):
    """A query's embedding, behind the model's prompt for queries.

    Args:
        model: a name or folder that `Embedder.from_pretrained` takes, which `warm_up` loads; or an
            `Embedder`, which a pipeline's file cannot hold.
        recipe: a recipe, or None for the model's own.
        prompt: text to put in front of each text instead.
        prompt_name: one of the model's prompts instead.
        cache: keep embeddings on disk, in the usual cache (True) or in a folder.
        options: of `Embedder`, for a model that is named.

    Example:
        >>> embedder = EmbedkitTextEmbedder("minilm", precision="float32", device="cpu")
        >>> len(embedder.run(text="It rains.")["embedding"])
        384
    """

    role = "query"

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """`embedding`: numbers (dim) of one text.

        Raises:
            InputError: what is no text, or what is wrong with the model.
        """
        return {"embedding": self._encode([check_text("text", text)])[0]}


@component
class EmbedkitDocumentEmbedder(_Component):
    """Documents with their embeddings, behind the model's prompt for documents.

    Args:
        args: as for `EmbedkitTextEmbedder`, and so are `options`.
        meta_fields_to_embed: values of these metadata are put in front of a document's content,
            where it has them.
        embedding_separator: between them.

    Example:
        >>> from haystack import Document
        >>> embedder = EmbedkitDocumentEmbedder("minilm", precision="float32", device="cpu")
        >>> (document,) = embedder.run(documents=[Document(content="It rains.")])["documents"]
        >>> document.content, len(document.embedding)
        ('It rains.', 384)
    """

    role = "document"

    def __init__(
        self,
        *args: Any,
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
        **options: Any,
    ) -> None:
        _Component.__init__(self, *args, **options)  # Haystack makes the class anew: no super()
        check_list("meta_fields_to_embed", meta_fields_to_embed)
        self.meta_fields_to_embed = list(meta_fields_to_embed)
        for index, name in enumerate(self.meta_fields_to_embed):
            check_text(f"meta_fields_to_embed[{index}]", name)
        self.embedding_separator = check_text("embedding_separator", embedding_separator)

    def to_dict(self) -> dict[str, Any]:
        """See `EmbedkitTextEmbedder`."""
        data = _Component.to_dict(self)
        data["init_parameters"] |= {
            "meta_fields_to_embed": self.meta_fields_to_embed,
            "embedding_separator": self.embedding_separator,
        }
        return data

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """`documents`: copies of n documents, each with its `embedding`.

        Raises:
            InputError: what is no document, or one without content and such metadata.
        """
        check_list("documents", documents, "a list of Document")
        texts = [self._text(at, document) for at, document in enumerate(documents)]
        embedded = zip(documents, self._encode(texts), strict=True)
        return {"documents": [replace(one, embedding=vector) for one, vector in embedded]}

    def _text(self, at: int, document: Document) -> str:
        values: list[Any] = []
        if isinstance(document, Document):
            values = [*map(document.meta.get, self.meta_fields_to_embed), document.content]
        parts = [str(value) for value in values if value is not None]
        if not parts:
            got = reprlib.repr(document)
            raise InputError(f"documents[{at}]: got {got}, expected a Document with content")
        return self.embedding_separator.join(parts)
