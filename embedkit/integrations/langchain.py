"""`EmbedkitEmbeddings` and `EmbedkitVectorStore`: an embedder and an index for LangChain."""

from __future__ import annotations

import json
import reprlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import uuid4

import numpy as np

from embedkit.arguments import as_path, check_list, check_type
from embedkit.data.texts import as_texts, listed
from embedkit.embedder.embedder import LoadOptions
from embedkit.embedder.prompts import role_prompt
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL, check_own
from embedkit.integrations.encoding import Cache, Model, encode_role, load
from embedkit.metadata.typed_columns import arrow_types
from embedkit.recipes.recipe import Recipe

if TYPE_CHECKING:
    import pyarrow as pa

    from embedkit.metadata.filter_language import Where
    from embedkit.retrieval.index import VectorIndex
    from embedkit.retrieval.results import Hit
    from embedkit.retrieval.storage import State
    from embedkit.retrieval.stored_rows import StoredRow

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError:
    raise ImportError(
        "EmbedkitEmbeddings and EmbedkitVectorStore need langchain-core, which is not installed; "
        "run pip install 'embedkit[langchain]'"
    ) from None

# ruff: noqa: A002 - LangChain calls it `filter`
_REST = "langchain"  # the column of metadata that are not filterable, as JSON
_creating = threading.Lock()  # not of a store, which can be pickled


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
        return encode_role(self.embedder, "document", texts, self.cache)

    def embed_query(self, text: str) -> list[float]:
        """The embedding of a query, behind the model's prompt for queries."""
        return encode_role(self.embedder, "query", [text], self.cache)[0]


class EmbedkitVectorStore(VectorStore):
    """Documents in a `VectorIndex`, in memory or in a folder, for LangChain.

    Metadata of a document are any dict that JSON can hold; they are kept as one text, in the column
    `langchain` of the index. Those that are named in `filterable` are columns of their own, which
    filters read: `filter={"source": "faq"}`, or `filter="source = 'faq' AND year >= 2024"`.
    Adding a document under an id that is there replaces it.

    Args:
        embedding: any embeddings of LangChain. The index records an `EmbedkitEmbeddings`, and
            opens with no other model.
        folder: where the index is, or will be from the first document on; None for memory.
        filterable: metadata to filter by, with their types: str, int, float, bool, datetime.date,
            or list[str] for texts. A folder keeps its own.
        kind: `flat` (exact, the default), `hnsw`, or a factory string of FAISS.
        similarity: cosine, dot or euclidean; None for the model's, or cosine.

    Attributes:
        index: the `VectorIndex`; None before the first document.

    Raises:
        InputError: what is wrong with an argument, or an index that has no texts or is of another
            model.

    Example:
        >>> embeddings = EmbedkitEmbeddings("minilm", precision="float32", device="cpu")
        >>> store = EmbedkitVectorStore(embeddings, filterable={"year": int})
        >>> store.add_texts(["A cat.", "A dog."], [{"year": 2023}, {"year": 2024}], ids=["a", "b"])
        ['a', 'b']
        >>> [document.id for document in store.similarity_search("kitten", filter="year > 2023")]
        ['b']
    """

    def __init__(
        self,
        embedding: Embeddings,
        folder: str | Path | None = None,
        *,
        filterable: Mapping[str, Any] | None = None,
        kind: str | None = None,
        similarity: str | None = None,
    ) -> None:
        from embedkit.retrieval.storage import MANIFEST

        check_type("embedding", embedding, Embeddings, "embeddings of LangChain")
        self._embedding = embedding
        self._embedder = embedding.embedder if isinstance(embedding, EmbedkitEmbeddings) else None
        self._folder = None if folder is None else as_path("folder", folder)
        self._kind, self._similarity = kind, similarity
        self._types = _arrow_types(filterable or {})
        self.index: VectorIndex | None = None
        if self._folder is not None and (self._folder / MANIFEST).exists():
            self.index = self._open(self._folder)
            return
        if self._folder is not None:
            check_own(self._folder, MANIFEST, "an index")
        if self._embedder is not None:
            self._state(self._embedder.dimension)

    @property
    def embeddings(self) -> Embeddings:
        """What texts are encoded with."""
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> Self:
        """A store with n texts; `options` are those of the class."""
        store = cls(embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> list[str]:
        """Encode and keep n texts, with n dicts and under n ids (None for a random one).

        `batch_size`, which LangChain's `index` hands over, has no meaning here; `options` are
        other arguments of `VectorIndex.update`.

        Raises:
            InputError: what is wrong, with its position; nothing is added then.
        """
        from embedkit.retrieval.rows import check_vectors

        check_list("texts", texts)
        check_list("ids", ids or [])
        check_list("metadatas", metadatas or [], "a list of dict")
        contents = list(texts)
        names = [str(uuid4()) if x in (None, "") else x for x in ids or [""] * len(contents)]
        given = [metadata or {} for metadata in metadatas or [{}] * len(contents)]
        if not len(contents) == len(names) == len(given):
            counts = f"{len(contents)} texts, {len(given)} metadatas and {len(names)} ids"
            raise InputError(f"got {counts}, expected as many of each")
        if not contents:
            return []
        ((name, count),) = Counter(as_texts(names, "ids")).most_common(1)
        if count > 1:
            raise InputError(f"ids: got {name!r} twice, expected each id once")
        metadata = self._columns(given)
        vectors = check_vectors("embeddings", self._embedding.embed_documents(contents))
        with _creating:
            if self.index is None:
                self.index = self._new(vectors.shape[1])
        self.index.update(vectors, ids=names, texts=contents, metadata=metadata, **options)
        return names

    def delete(self, ids: list[str] | None = None) -> bool:  # type: ignore[override]
        """Remove documents, or all of them; ids that are not there are passed over."""
        if self.index is not None:
            self.index.remove(self.index.ids if ids is None else ids, missing_ok=True)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents that are there, in the order of their ids."""
        rows = [] if self.index is None else self.index.get(ids, missing_ok=True)
        return [_document(row) for row in rows]

    def similarity_search(
        self, query: str, k: int = 4, filter: Where | None = None, **options: Any
    ) -> list[Document]:
        """The k documents nearest to a text, of those that the filter lets through.

        Args:
            query: the text.
            k: at most.
            filter: a condition on filterable metadata; `where` of `VectorIndex.search`.
            options: other arguments of `VectorIndex.search`.

        Raises:
            InputError: what is wrong with the filter, and where.
        """
        hits = self.similarity_search_with_score(query, k, filter, **options)
        return [document for document, _ in hits]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Where | None = None, **options: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, with the similarity, which is larger for nearer ones."""
        queries = [query] if _by_text(options) else [self._embedding.embed_query(query)]
        return [(_document(hit), hit.score) for hit in self._hits(queries, k, filter, **options)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Where | None = None, **options: Any
    ) -> list[Document]:
        """As `similarity_search`, for a query's embedding."""
        return [_document(hit) for hit in self._hits_by_vector(embedding, k, filter, **options)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **options: Any,
    ) -> list[Document]:
        """k of the `fetch_k` nearest documents, near to the query and far from one another."""
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, filter, **options
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,
        **options: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a query's embedding."""
        names = [hit.id for hit in self._hits_by_vector(embedding, fetch_k, filter, **options)]
        if self.index is None or not names:
            return []
        rows = self.index.get(names, vectors=True, missing_ok=True)
        vectors = [row.vector.tolist() for row in rows if row.vector is not None]
        chosen = maximal_marginal_relevance(np.array(embedding), vectors, lambda_mult, k)
        return [_document(rows[at]) for at in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self.index is not None and self.index.similarity != "cosine":
            raise InputError(f"similarity is {self.index.similarity}; relevance scores need cosine")
        return lambda score: min(max(score, 0.0), 1.0)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        if by_text := _by_text(options):
            raise InputError(f"got {listed(by_text)} and relevance scores, which are cosines")
        return super()._similarity_search_with_relevance_scores(query, k, **options)

    def _hits(self, queries: Any, k: int, where: Where | None, **options: Any) -> list[Hit]:
        if self.index is None:
            return []
        return self.index.search(queries, k, where=where, **options)[0]

    def _hits_by_vector(
        self, embedding: Any, k: int, where: Where | None, **options: Any
    ) -> list[Hit]:
        check_list("embedding", embedding, "a list of float")
        if by_text := _by_text(options):
            raise InputError(
                f"got {listed(by_text)}, which reads the query's text, and a search by vector or "
                "for diversity; expected similarity_search"
            )
        return self._hits([embedding], k, where, **options)

    def _new(self, dimension: int) -> VectorIndex:
        """An index without rows, in its folder."""
        from embedkit.retrieval.index import VectorIndex

        index = VectorIndex(self._state(dimension), (), self._embedder)
        if self._folder is not None:
            index.save(self._folder)
        return index

    def _state(self, dimension: int) -> State:
        """What a new index is made of; refuses what FAISS does not have."""
        from embedkit.retrieval.faiss_index import new_index
        from embedkit.retrieval.storage import State
        from embedkit.vectors.provenance import Provenance

        provenance = None
        if self._embedder is not None:
            provenance = Provenance.of(self._embedder, role_prompt(self._embedder, "document"))
        own = "cosine" if provenance is None else provenance.similarity
        state = State(self._kind or "flat", self._similarity or own, dimension, provenance)
        new_index(state.kind, dimension, state.similarity)
        return state

    def _open(self, folder: Path) -> VectorIndex:
        from embedkit.retrieval.index import VectorIndex

        index = VectorIndex.open(folder, self._embedder)
        for name, given in (("kind", self._kind), ("similarity", self._similarity)):
            if given not in (None, getattr(index, name)):
                raise InputError(f"{name} is {given}; the index has {getattr(index, name)}")
        if len(index) and (index.has_integer_ids or not index.has_texts):
            raise InputError(f"{folder}: expected an index with texts, and with str for ids")
        kinds = {name: kind for name, kind in index.metadata_columns.items() if name != _REST}
        own = {name: arrow_types()[kind] for name, kind in kinds.items()}
        if (len(index) or kinds) and self._types not in ({}, own):
            raise InputError(
                f"filterable has {listed(self._types)}; the index has "
                f"{', '.join(f'{name!r} ({kind})' for name, kind in kinds.items()) or 'none'}"
            )
        self._types = own or self._types
        return index

    def _columns(self, metadatas: Sequence[Mapping[str, Any]]) -> pa.Table | None:
        """Filterable values each in their column, and the others as JSON."""
        import pyarrow as pa

        index, fields, rows = self.index, {**self._types, _REST: pa.string()}, []
        if index is not None and index.has_texts and _REST not in index.metadata_columns:
            del fields[_REST]  # `embedkit index build` made it
        for at, metadata in enumerate(metadatas):
            check_type(f"metadatas[{at}]", metadata, Mapping, "a dict")
            own = {name: metadata[name] for name in self._types if metadata.get(name) is not None}
            rest = {name: value for name, value in metadata.items() if name not in own}
            try:
                typed = {name: pa.scalar(own[name], self._types[name]).as_py() for name in own}
                text = json.dumps(rest, ensure_ascii=False, allow_nan=False)
                booleans = [[type(x) is bool for x in row.values()] for row in (typed, own)]
                faithful = (typed, json.loads(text.encode())) == (own, rest)
                faithful &= booleans[0] == booleans[1]  # True == 1.0
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                faithful = False
            if not faithful:
                raise InputError(
                    f"metadatas[{at}]: got {reprlib.repr(metadata)}, expected filterable values of "
                    "their types, and others that JSON can hold"
                )
            if rest and _REST not in fields:
                raise InputError(
                    f"metadatas[{at}]: got {listed(rest)}, which the index has no columns for; "
                    f"expected {listed(fields)}"
                )
            rows.append({**own, _REST: text})
        return pa.Table.from_pylist(rows, pa.schema(fields)) if fields else None


def _document(row: Hit | StoredRow) -> Document:
    columns = dict(row.metadata or {})
    rest = json.loads(columns.pop(_REST, None) or "{}")
    own = {name: value for name, value in columns.items() if value is not None}
    return Document(id=str(row.id), page_content=row.text or "", metadata={**own, **rest})


def _by_text(options: Mapping[str, Any]) -> list[str]:
    """The options of a search that read the words of the query."""
    return [name for name in ("mode", "rerank") if options.get(name) not in (None, "dense")]


def _arrow_types(filterable: Mapping[str, Any]) -> dict[str, pa.DataType]:
    check_type("filterable", filterable, Mapping, "a dict of names and types")
    by_python = dict(
        zip((str, int, float, bool, date, list[str]), arrow_types().values(), strict=True)
    )
    for name, kind in filterable.items():
        if kind not in tuple(by_python) or name == _REST or not isinstance(name, str):
            raise InputError(
                f"filterable, {name!r}: got {kind!r}, expected str, int, float, bool, date or "
                f"list[str], and a str other than {_REST!r} as the name"
            )
    return {name: by_python[kind] for name, kind in filterable.items()}
