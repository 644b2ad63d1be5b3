"""Retrieval sets: queries, documents and their relevance (qrels), and how they are read."""

from __future__ import annotations

import re
import reprlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from embedkit.arguments import as_path, is_built_in
from embedkit.data.named_files import locate
from embedkit.data.named_sets import NAMED_SETS
from embedkit.data.tables import Check, read_rows
from embedkit.data.text_files import row_location, tsv_records
from embedkit.data.texts import Texts, check_number, check_text, check_text_or_null, listed
from embedkit.errors import InputError


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """A retrieval set: the other record that evaluation works on, beside `Pairs`.

    Attributes:
        name: of the data set in reports; for a folder its name.
        queries: texts by id. Those without judgements are not evaluated.
        documents: texts by id, at least one; any may be empty.
        judgements: for each query that was judged, the relevance of documents by their ids, whole
            numbers: above 0 a document is relevant, and more so the larger. At least one document
            is. Relevant documents that are not among `documents` count as not retrieved, and
            queries without relevant documents have the value 0, as in trec_eval.

    Raises:
        InputError: a field is not as described above.

    Example:
        >>> documents = {"d1": "A dog runs.", "d2": "It rains."}
        >>> data = RetrievalSet("mine", {"q1": "weather"}, documents, {"q1": {"d2": 1}})
        >>> data.texts["query"]
        ('weather',)
    """

    name: str
    queries: Mapping[str, str]
    documents: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        for field in ("queries", "documents", "judgements"):
            for key, value in _mapping(field, getattr(self, field)).items():
                check_text(f"an id of {field}", key)
                if field != "judgements":
                    check_text(f"{field}[{key!r}]", value)
        qrels = {}
        for query, judged in self.judgements.items():
            where = f"judgements[{query!r}]"
            if query not in self.queries:
                raise InputError(f"{where}: got an unknown query, expected an id of queries")
            qrels[query] = {
                check_text(f"a document's id in {where}", document): _as_relevance(
                    f"{where}[{document!r}]", relevance
                )
                for document, relevance in _mapping(where, judged).items()
            }
        object.__setattr__(self, "judgements", qrels)
        missing = self.missing_documents
        if missing == sum(gain > 0 for judged in qrels.values() for gain in judged.values()):
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
    def texts(self) -> dict[str, Texts]:
        """What has to be encoded: the judged queries, and the documents."""
        return {
            "query": Texts(self.queries[query] for query in self.judgements),
            "document": Texts(self.documents[document] for document in self.document_ids),
        }


def _mapping(where: str, values: object) -> Mapping[Any, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: got {reprlib.repr(values)}, expected a dict by id")
    return values


def _as_relevance(where: str, value: object) -> int:
    """A plain int of at most 18 digits: NumPy's integers cannot be written as JSON."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected an int")
    if abs(int(value)) >= 10**_DIGITS:
        raise InputError(f"{where}: got {reprlib.repr(value)}, expected at most {_DIGITS} digits")
    return int(value)


_DIGITS = 18  # of a relevance: it fits into 64 bits
_LAYOUT = "corpus.jsonl, queries.jsonl and qrels/test.tsv or qrels_test.tsv (each also .gz)"
_COLUMNS = ("query-id", "corpus-id", "score")
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

    Example:
        >>> from pathlib import Path
        >>> Path("mine").mkdir()
        >>> _ = Path("mine/corpus.jsonl").write_text('{"_id": "d1", "title": "", "text": "Rain"}')
        >>> _ = Path("mine/queries.jsonl").write_text('{"_id": "q1", "text": "weather"}')
        >>> _ = Path("mine/qrels_test.tsv").write_text("q1\\td1\\t1")
        >>> read_retrieval("mine").judgements
        {'q1': {'d1': 1}}
    """
    if is_built_in(folder, NAMED_SETS):
        return _read_named(str(folder))
    folder = as_path("folder", folder)
    return _read(folder.resolve().name, encoding, *_beir_files(folder, "test"))


def _read_named(name: str) -> RetrievalSet:
    known = NAMED_SETS[name]
    if not known.is_retrieval:
        raise InputError(f"{name} is a set of sentence pairs; expected a retrieval set")
    paths, own = locate([name])[name]
    data = _read(name, "utf-8", *(_beir_files(paths[0], known.split) if own else paths))
    if problem := known.size_problem(len(data.judgements), len(data.documents)):
        warnings.warn(f"{paths[0]}: {problem}", stacklevel=1)
    return data


def _read(name: str, encoding: str, corpus: Path, queries: Path, qrels: Path) -> RetrievalSet:
    documents = _read_texts(corpus, {"title": check_text_or_null}, encoding)
    texts = _read_texts(queries, {}, encoding)
    judgements = _read_qrels(qrels, texts, encoding)
    try:
        return RetrievalSet(name, texts, documents, judgements)
    except InputError as error:
        raise InputError(f"{qrels}: {error}") from None


def _beir_files(folder: Path, split: str) -> Iterator[Path]:
    """Corpus, queries and qrels of a folder, packed or not; any split may also be called test."""
    splits = dict.fromkeys((split, "test"))
    qrels = [name for x in splits for name in (f"qrels/{x}.tsv", f"qrels_{x}.tsv")]
    for names in (["corpus.jsonl"], ["queries.jsonl"], qrels):
        paths = [folder / f"{name}{packed}" for name in names for packed in ("", ".gz")]
        present = [path for path in paths if path.exists()]
        if not present:
            raise InputError(
                f"{folder}: got a folder without {' or '.join(names)}, expected a retrieval set in "
                f"BEIR's layout: {_LAYOUT}"
            )
        if len(present) > 1:
            listing = " and ".join(str(path.relative_to(folder)) for path in present)
            raise InputError(f"{folder}: got {listing}, expected one of them")
        yield present[0]


def _read_texts(path: Path, optional: Mapping[str, Check], encoding: str) -> dict[str, str]:
    """Texts by id; the title stands in front where it is not empty."""
    texts: dict[str, str] = {}
    locations: dict[str, str] = {}
    columns = {"_id": check_text, "text": check_text}
    for location, cells in read_rows(path, columns, optional=optional, encoding=encoding):
        name, title = cells["_id"], cells.get("title")
        if name in texts:
            raise InputError(
                f"{location}, column '_id': got {name!r}, which {locations[name]} has too, "
                "expected each id once"
            )
        locations[name] = location
        texts[name] = f"{title} {cells['text']}" if title else cells["text"]
    return texts


def _read_qrels(path: Path, queries: Mapping[str, str], encoding: str) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    locations: dict[tuple[str, str], str] = {}
    read = _rows_of_tsv if re.search(r"\.tsv(\.gz)?$", path.name) else _rows_of_table
    for location, cells in read(path, encoding):
        (query_column, query), (_, document), (column, relevance) = cells.items()
        if query not in queries:
            raise InputError(
                f"{location}, column {query_column!r}: got {query!r}, expected an _id of the "
                "queries"
            )
        where = f"{location}, column {column!r}: got {reprlib.repr(relevance)}"
        if not re.fullmatch("-?[0-9]+", relevance):
            raise InputError(f"{where}, expected a whole number")
        if len(relevance.lstrip("-")) > _DIGITS:  # of very many, int() would fail
            raise InputError(f"{where}, expected at most {_DIGITS} digits")
        if (query, document) in locations:
            raise InputError(
                f"{location}: got query {query!r} and document {document!r}, which "
                f"{locations[query, document]} has too, expected each pair once"
            )
        locations[query, document] = location
        qrels.setdefault(query, {})[document] = int(relevance)
    return qrels


def _rows_of_tsv(path: Path, encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    columns: tuple[str, ...] = _COLUMNS
    headers = 0
    for row, (line, cells) in enumerate(tsv_records(path, encoding)):
        if row == 0 and tuple(cells) in _HEADERS:
            columns, headers = tuple(cells), 1
            continue
        location = row_location(path, row + 1 - headers, line)
        if len(cells) != len(columns):
            raise InputError(f"{location}: got {len(cells)} cells, expected {listed(columns)}")
        yield location, dict(zip(columns, cells, strict=True))


def _rows_of_table(path: Path, encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    """JSONL or Parquet, as the hub has them; a relevance may be a float."""
    checks = dict(zip(_COLUMNS, (check_text, check_text, check_number), strict=True))
    for location, cells in read_rows(path, checks, encoding=encoding):
        yield location, {x: f"{cells[x]:g}" if x == "score" else cells[x] for x in _COLUMNS}
