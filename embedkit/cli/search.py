"""`embedkit search`: search an index for texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.arguments import check_count
from embedkit.cli import choices, options, output, ranking
from embedkit.cli.tune import index_embedder
from embedkit.errors import InputError, printable

if TYPE_CHECKING:
    from embedkit.data.corpus import Document
    from embedkit.retrieval.results import Hit

_CHUNK = 1024  # queries at a time


def search_command(
    context: typer.Context,
    index: options.IndexFolder,
    query: Annotated[
        str | None, typer.Argument(help="Search for this text.", show_default=False)
    ] = None,
    k: Annotated[int, options.search_option("Show at most this many hits of a query.", "-k")] = 10,
    queries: Annotated[
        Path | None,
        options.data_option(f"Read the queries from this file instead: {options.TEXT_FILES}."),
    ] = None,
    text_column: options.TextColumn = None,
    id_column: options.IdColumn = None,
    encoding: options.Encoding = "utf-8",
    model: options.IndexModel = None,
    prompt: options.OwnQueryPrompt = None,
    prompt_name: options.PromptName = None,
    device: options.Device = None,
    where: Annotated[
        str | None,
        options.search_option(
            "Search only rows whose metadata meet this condition, such as \"category = 'faq' AND "
            'year >= 2024".'
        ),
    ] = None,
    nprobe: options.Nprobe = None,
    ef_search: options.EfSearch = None,
    mode: Annotated[
        str,
        options.search_option(
            "Search by vectors (dense), by words (bm25, which loads no model) or by both, fused by "
            "reciprocal rank (hybrid). The last two are for indexes that were built with --bm25.",
            values=choices.MODES,
        ),
    ] = "dense",
    weights: ranking.Weights = None,
    rerank: ranking.Rerank = None,
    rerank_depth: ranking.RerankDepth = 100,
    as_json: Annotated[
        bool, options.output_option("Print a JSON object a query on stdout, one a line.", "--json")
    ] = False,
) -> None:
    """Search an index for texts.

    Example: [bold]embedkit search my-index "which pooling is best?" -k 5[/bold]
    """
    if (query is None) == (queries is None):
        raise InputError("expected either a QUERY or a file of them (--queries)")
    check_count("-k", k)
    from embedkit.data.corpus import Corpus, Document
    from embedkit.data.tables import chunks

    if query is not None:
        options.refuse(
            context, options.FILE_OPTIONS, "and a QUERY; expected a file of them (--queries)"
        )
        corpus: Corpus | list[Document] = [Document("QUERY", 0, query)]
    else:
        corpus = options.corpus(Path(str(queries)), text_column, encoding, id_column)
        for _ in corpus:  # a wrong row shows before the model is loaded
            pass
    from embedkit.retrieval.index import VectorIndex
    from embedkit.retrieval.search import Search

    opened = VectorIndex.open(index)
    search = Search(
        prompt=prompt,
        prompt_name=prompt_name,
        where=where,
        nprobe=nprobe,
        ef_search=ef_search,
        mode=mode,
        weights=ranking.read_weights(weights),
        rerank=rerank,
        rerank_depth=rerank_depth,
    )
    search.check(opened)
    if where is not None and not opened.count(where):
        output.inform("--where: no row meets the condition")
    if mode == "bm25":
        if model is not None:
            raise InputError("got --model for mode 'bm25', which reads no vectors")
        if device is not None and rerank is None:
            raise InputError("got --device for mode 'bm25', which loads no model")
    else:
        from embedkit.embedder.prompts import described, query_prompt

        opened.embedder = embedder = index_embedder(opened, model, device)
        text = query_prompt(embedder, opened.provenance, prompt, prompt_name)
        output.inform(f"prompt: {described(text, embedder.settings.prompts)}")
    if rerank is not None:
        from embedkit.scoring.loading import load_model

        search = replace(search, rerank=load_model(rerank, device=device))
    for chunk in chunks(corpus, _CHUNK):
        results = search.hits(opened, [document.text for document in chunk], k)
        for document, hits in zip(chunk, results, strict=True):
            _show(document, hits, as_json=as_json, named=query is None)


def _show(query: Document, hits: list[Hit], *, as_json: bool, named: bool) -> None:
    if as_json:
        rows = [
            {name: value for name, value in hit._asdict().items() if value is not None}
            for hit in hits
        ]
        name = {"id": query.id} if named else {}
        content = {**name, "query": query.text, "hits": rows}
        print(json.dumps(content, ensure_ascii=False, default=str))  # dates as ISO 8601
        return
    if named:
        print(printable(f"{query.id}: {query.text}"))
    for hit in hits:
        text = "" if hit.text is None else f"  {hit.text}"
        given = {name: x for name, x in (hit.metadata or {}).items() if x is not None}
        metadata = "".join(f"  {name}={_cell(value)}" for name, value in given.items())
        print(printable(f"{hit.score:7.4f}  {hit.id}{text}{metadata}"))


def _cell(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
