"""Retrieval sets: queries, documents and which of these answer which, and how they are read."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path

from embedkit.data.tables import check_path, check_text, listed, read_rows, text_cell, tsv_records
from embedkit.data.text_files import line_place
from embedkit.errors import InputError


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """A retrieval set: the other record that evaluation works on, beside `Pairs`.

    Attributes:
        name: what results are filed under; for a folder its name.
        queries: texts by id. Those without judgements are not evaluated.
        documents: texts by id, at least one; any may be empty.
        judgements: for each query that was judged, the relevance of documents by their ids, whole
            numbers: above 0 a document is relevant, and more so the larger. At least one document
            is. Relevant documents that are not among `documents` count as not retrieved, and
            queries without relevant documents have the value 0, as in trec_eval.

    Raises:
        InputError: where a field is not as said above.
    """

    name: str
    queries: Mapping[str, str]
    documents: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for field in ("queries", "documents", "judgements"):
            values = getattr(self, field)
            if not isinstance(values, Mapping):
                raise InputError(f"{field}: got {reprlib.repr(values)}, expected a dict by id")
            for key, value in values.items():
                check_text(f"an id of {field}", key)
                if field != "judgements":
                    check_text(f"{field}[{key!r}]", value)
        for query, judged in self.judgements.items():
            where = f"judgements[{query!r}]"
            if query not in self.queries:
                raise InputError(f"{where}: got an unknown query, expected an id of queries")
            if not isinstance(judged, Mapping):
                raise InputError(f"{where}: got {reprlib.repr(judged)}, expected a dict by id")
            for document, relevance in judged.items():
                where = f"judgements[{query!r}][{document!r}]"
                check_text(f"a document's id in judgements[{query!r}]", document)
                if isinstance(relevance, bool) or not isinstance(relevance, Integral):
                    raise InputError(f"{where}: got {reprlib.repr(relevance)}, expected an int")
                if abs(int(relevance)) >= 10**_DIGITS:
                    raise InputError(f"{where}: got {reprlib.repr(relevance)}, expected {_SHORT}")
        plain = {  # NumPy's integers are written to no JSON
            query: {document: int(relevance) for document, relevance in judged.items()}
            for query, judged in self.judgements.items()
        }
        object.__setattr__(self, "judgements", plain)
        missing = self.missing_documents
        if missing == sum(gain > 0 for judged in plain.values() for gain in judged.values()):
            absent = f" ({missing} relevant ones are not in the set)" if missing else ""
            raise InputError(
                f"got no relevant document for any query{absent}, expected at least one"
            )

    @cached_property
    def document_ids(self) -> tuple[str, ...]:
        """From the last to the first: of documents that tie, trec_eval ranks the last first."""
        return tuple(sorted(self.documents, reverse=True))

    @cached_property
    def own_documents(self) -> frozenset[str]:
        """Judged queries that are documents too, by id, and not relevant to themselves.

        Such a query would find itself; as in BEIR, it is left out of its own ranking.
        """
        return frozenset(
            query
            for query, judged in self.judgements.items()
            if query in self.documents and judged.get(query, 0) <= 0
        )

    @cached_property
    def missing_documents(self) -> int:
        """How many relevant documents are not among `documents`, counted once a query."""
        return sum(
            gain > 0 and document not in self.documents
            for judged in self.judgements.values()
            for document, gain in judged.items()
        )

    @property
    def queries_without_relevant(self) -> int:
        """How many judged queries have no relevant document."""
        return sum(max(judged.values(), default=0) <= 0 for judged in self.judgements.values())

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """What has to be encoded: the judged queries, and the documents."""
        return {
            "query": tuple(self.queries[query] for query in self.judgements),
            "document": tuple(self.documents[document] for document in self.document_ids),
        }


LAYOUT = "corpus.jsonl, queries.jsonl and qrels/test.tsv or qrels_test.tsv (each also .gz)"


_DIGITS = 18  # of a relevance: it fits into 64 bits


_SHORT = f"at most {_DIGITS} digits"


_COLUMNS: Sequence[str] = ("query-id", "corpus-id", "score")


_HEADERS = (_COLUMNS, ("query_id", "doc_id", "score"))


def read_retrieval(folder: str | Path, encoding: str = "utf-8") -> RetrievalSet:
    """Reads a retrieval set from a folder in BEIR's layout (Thakur et al. 2021).

    - `corpus.jsonl`: an object a line with `_id`, `text` and, where it has one, `title`. Document
      texts are title, space and text, or the text alone where the title is absent, null or empty.
    - `queries.jsonl`: an object a line with `_id` and `text`.
    - `qrels/test.tsv` or `qrels_test.tsv`: query id, document id and relevance, split at tabs,
      under the header `query-id corpus-id score`, `query_id doc_id score`, or none.

    Each may be packed as `.gz`; texts are taken verbatim, other keys are ignored, and so are empty
    lines.

    Raises:
        InputError: the folder lacks a file or has it twice, or a file is not as said above, has
            an id twice or judges a query that is not there; the message names the file and, where
            there is one, the row (from 1), the line and the column.
    """
    folder = check_path("folder", folder)
    corpus = _find(folder, "corpus.jsonl")
    topics = _find(folder, "queries.jsonl")
    qrels = _find(folder, "qrels/test.tsv", "qrels_test.tsv")
    documents = dict(_texts(corpus, ("title",), encoding))
    queries = dict(_texts(topics, (), encoding))
    judgements = _read_judgements(qrels, queries, encoding)
    try:
        return RetrievalSet(folder.resolve().name, queries, documents, judgements)
    except InputError as error:
        raise InputError(f"{qrels}: {error}") from None


def _find(folder: Path, *names: str) -> Path:
    """The one file of these names in the folder, packed or not."""
    paths = [folder / f"{name}{packed}" for name in names for packed in ("", ".gz")]
    found = [path for path in paths if path.exists()]
    if not found:
        raise InputError(
            f"{folder}: got a folder without {' or '.join(names)}, expected a retrieval set in "
            f"BEIR's layout: {LAYOUT}"
        )
    if len(found) > 1:
        raise InputError(
            f"{folder}: got {' and '.join(str(path.relative_to(folder)) for path in found)}, "
            "expected one of them"
        )
    return found[0]


def _texts(path: Path, optional: tuple[str, ...], encoding: str) -> Iterator[tuple[str, str]]:
    """Id and text of each row; the optional column stands in front where it is not empty."""
    seen: dict[str, str] = {}
    for place, cells in read_rows(path, ("_id", "text"), optional=optional, encoding=encoding):
        name = text_cell(place, "_id", cells["_id"])
        if name in seen:
            raise InputError(
                f"{place}, column '_id': got {name!r}, which {seen[name]} has too, "
                "expected each id once"
            )
        seen[name] = place
        front = [key for key in optional if cells.get(key) is not None]
        *titles, text = (text_cell(place, key, cells[key]) for key in (*front, "text"))
        yield name, " ".join([*filter(None, titles), text])


def _read_judgements(
    path: Path, queries: Mapping[str, str], encoding: str
) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    seen: dict[tuple[str, str], str] = {}
    columns = _COLUMNS
    headers = 0
    for number, (line, cells) in enumerate(tsv_records(path, encoding)):
        if number == 0 and tuple(cells) in _HEADERS:
            columns, headers = cells, 1
            continue
        place = line_place(path, number + 1 - headers, line)
        if len(cells) != len(columns):
            raise InputError(f"{place}: got {len(cells)} cells, expected {listed(columns)}")
        query, document, relevance = cells
        if query not in queries:
            raise InputError(
                f"{place}, column {columns[0]!r}: got {query!r}, expected an _id of the queries"
            )
        is_whole = re.fullmatch("-?[0-9]+", relevance)
        if not is_whole or len(relevance.lstrip("-")) > _DIGITS:
            raise InputError(
                f"{place}, column {columns[2]!r}: got {reprlib.repr(relevance)}, expected "
                f"{_SHORT if is_whole else 'a whole number'}"
            )
        if (query, document) in seen:
            raise InputError(
                f"{place}: got query {query!r} and document {document!r}, which "
                f"{seen[query, document]} has too, expected each pair once"
            )
        seen[query, document] = place
        judgements.setdefault(query, {})[document] = int(relevance)
    return judgements
