"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus


def names(similarity: str | None) -> list[str]:
    """The similarities that a person typed."""
    if similarity is None:
        return ["cosine"]
    if not similarity.split():
        raise InputError(
            "--similarity is empty; expected some of cosine, dot, euclidean, manhattan"
        )
    return similarity.split()


def fit_corpus(fit: Path | None, columns: list[str] | None, encoding: str) -> Corpus | None:
    """The texts of --fit, with a first look at them."""
    if fit is None:
        if columns is not None:
            raise InputError("got --fit-column without --fit; expected both")
        return None
    from embedkit.data.corpus import Corpus

    corpus = Corpus(fit, tuple(columns or ["text"]), encoding=encoding)
    next(iter(corpus), None)  # a wrong column shows before the model is loaded
    return corpus


Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Sentence pairs: .tsv, .csv, .jsonl (each also .gz) or .parquet; "
        "first_look is the set that comes with embedkit. A folder is a retrieval set in BEIR's "
        "layout.",
        show_default=False,
    ),
]
Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help=f"A hub id, or a folder of transformers or sentence-transformers; {DEFAULT_MODEL} is "
        "all-MiniLM-L6-v2 of the extra minilm.",
    ),
]
Revision: TypeAlias = Annotated[
    str | None, typer.Option(help="Revision of the hub id.", show_default=False)
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="cpu, cuda, ...; a GPU is taken where there is one.")
]
Precision: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Of the encoder: float32, bfloat16, float16, or auto, which takes a low one where the "
        "device is faster in it and a fixed probe agrees with float32."
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Tokens of a text at most, instead of the model's own.", show_default=False),
]
Similarity: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--similarity",
        "-s",
        help="One or more of cosine, dot, euclidean, manhattan, separated by spaces; by default "
        "cosine.",
        show_default=False,
    ),
]
Aggregation: TypeAlias = Annotated[
    str, typer.Option(help="For data with subsets: all, mean or wmean.")
]
Threshold: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="With a head: add the F1 score of 'at least this', such as 3 for KLUE-STS.",
        show_default=False,
    ),
]
Recipe: TypeAlias = Annotated[
    str | None, typer.Option(help="A recipe instead of the model's own.", show_default=False)
]
Nprobe: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Lists that a search of an IVF kind looks into; by default the square root of all.",
        show_default=False,
    ),
]
EfSearch: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Candidates that a search of an HNSW kind keeps; by default 100.",
        show_default=False,
    ),
]
TextColumn: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the texts, text by default; given several times, their texts are joined "
        "by a space.",
        show_default=False,
    ),
]
IdColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Column of the ids; by default rows are numbered from 0.", show_default=False
    ),
]
Encoding: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Of the text files that are read: utf-8, cp949, utf-16 or another that Python knows."
    ),
]
Fit: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Texts that steps such as whiten:256 are fitted on: .txt (a text a line), .csv, .tsv, "
        ".jsonl (each also .gz) or .parquet.",
        show_default=False,
    ),
]
FitColumn: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the texts in --fit, text by default; given several times, their texts are "
        "joined by a space.",
        show_default=False,
    ),
]
Prompt: TypeAlias = Annotated[
    str | None, typer.Option(help="Text put in front of each text.", show_default=False)
]
OwnDocumentPrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Text put in front of each text, '' for none; by default as in the folder, else the "
        "model's prompt called document, passage or corpus, else its default one.",
        show_default=False,
    ),
]
OwnQueryPrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "--query-prompt",
        help="Text put in front of each query, '' for none; by default as recorded in the folder, "
        "which is the model's prompt called query, else its default one.",
        show_default=False,
    ),
]
PromptName: TypeAlias = Annotated[
    str | None, typer.Option(help="One of the model's own prompts instead.", show_default=False)
]
QueryPrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="For the queries of retrieval sets; by default --prompt, else the model's prompt "
        "called query, else its default one.",
        show_default=False,
    ),
]
DocumentPrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="For the documents; by default --prompt, else the model's prompt called document, "
        "passage or corpus, else its default one.",
        show_default=False,
    ),
]
Index: TypeAlias = Annotated[
    str,
    typer.Option(
        help="For retrieval sets: flat, which is exact, hnsw, or a factory string of FAISS."
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option(help="Of the bootstrap.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print report.json, not a table.")]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Folder for report.json, report.md and report.html.", show_default=False),
]
Lang: TypeAlias = Annotated[
    str, typer.Option(help="Language of the table, report.md and report.html: en or ko.")
]
Sentence1: TypeAlias = Annotated[
    str, typer.Option("--sentence1-column", help="Column of the first sentence.")
]
Sentence2: TypeAlias = Annotated[
    str, typer.Option("--sentence2-column", help="Column of the second sentence.")
]
Score: TypeAlias = Annotated[str, typer.Option("--score-column", help="Column of the score.")]
Subset: TypeAlias = Annotated[
    str, typer.Option("--subset-column", help="Column of the subset, where there is one.")
]
