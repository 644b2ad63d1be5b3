"""Options that several commands share: annotations of single ones, and records of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.data.datasets import DataSet
    from embedkit.data.pairs import PairColumns, Pairs

TEXT_FILES = ".txt (one text a line), .csv, .tsv, .jsonl (each also .gz) or .parquet"
PAIR_FILES = ".tsv, .csv, .jsonl (each also .gz) or .parquet"


def option(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option whose help says what the default is, where that needs words."""
    return typer.Option(*names, help=help, show_default=False, **more)


Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help=f"Files of sentence pairs: {PAIR_FILES}; first_look (first_look_en, first_look_ko) "
        "comes with embedkit. A folder is a retrieval set in BEIR's layout.",
        show_default=False,
    ),
]
Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A hub id, or a folder that transformers or sentence-transformers can load; "
        f"{DEFAULT_MODEL} is all-MiniLM-L6-v2 of the extra minilm.",
    ),
]
Revision: TypeAlias = Annotated[str | None, option("Revision of the model on the hub.")]
Device: TypeAlias = Annotated[
    str | None, option("Device to run on, such as cpu or cuda; by default a GPU if there is one.")
]
Precision: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Precision of the encoder: float32, bfloat16, float16, or auto, which takes a low "
        "one if the device is faster in it and a fixed probe agrees with float32."
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None, option("Truncate texts to this many tokens, instead of the model's own maximum.")
]
Recipe: TypeAlias = Annotated[
    str | None, option("Recipe, such as mean@-2/normalize; by default the model's own.")
]
Nprobe: TypeAlias = Annotated[
    int | None,
    option(
        "How many lists an IVF index searches; by default the square root of their number.", min=1
    ),
]
EfSearch: TypeAlias = Annotated[
    int | None, option("How many candidates an HNSW index keeps; by default 100.", min=1)
]
TextColumn: TypeAlias = Annotated[
    list[str] | None,
    option(
        "Column of the texts, text by default. Give it several times to join the texts of several "
        "columns by a space."
    ),
]
IdColumn: TypeAlias = Annotated[
    str | None, option("Column of the ids; by default rows are numbered from 0.")
]
Encoding: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Encoding of the text files that are read: utf-8, cp949, utf-16 or another that "
        "Python knows."
    ),
]
Prompt: TypeAlias = Annotated[str | None, option("Text to put in front of each text.")]
PromptName: TypeAlias = Annotated[
    str | None, option("Use the model's prompt of this name instead of --prompt.")
]
OwnDocumentPrompt: TypeAlias = Annotated[
    str | None,
    option(
        "Text to put in front of each text, '' for none. By default the one recorded in the "
        "folder, else the model's prompt called document, passage or corpus, else its default one."
    ),
]
OwnQueryPrompt: TypeAlias = Annotated[
    str | None,
    option(
        "Text to put in front of each query, '' for none. By default the one recorded in the "
        "folder, which is the model's prompt called query, else its default one.",
        "--prompt",
        "--query-prompt",
    ),
]
Sentence1: TypeAlias = Annotated[
    str, typer.Option("--sentence1-column", help="Column of the first sentence.")
]
Sentence2: TypeAlias = Annotated[
    str, typer.Option("--sentence2-column", help="Column of the second sentence.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout instead of text.")
]


Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
]


@dataclass(frozen=True)
class PairFiles:
    """How files of sentence pairs are read."""

    sentence1: Sentence1 = "sentence1"
    sentence2: Sentence2 = "sentence2"
    score: Annotated[str, typer.Option("--score-column", help="Column of the score.")] = "score"
    subset: Annotated[
        str, typer.Option("--subset-column", help="Column of the subset, if the file has one.")
    ] = "subset"
    encoding: Encoding = "utf-8"

    @property
    def columns(self) -> PairColumns:
        from embedkit.data.pairs import PairColumns

        return PairColumns(self.sentence1, self.sentence2, self.score, self.subset)

    def read(self, path: str) -> Pairs:
        from embedkit.data.pairs import read_pairs

        return read_pairs(path, self.columns, self.encoding)

    def read_sets(self, data: list[str], argument: str = "data") -> list[DataSet]:
        from embedkit.data.datasets import read_sets

        return read_sets(data, self.columns, self.encoding, argument=argument)


@dataclass(frozen=True)
class FitFile:
    """The texts that fitted steps learn from."""

    fit: Annotated[
        Path | None, option(f"Texts to fit steps such as whiten:256 on: {TEXT_FILES}.")
    ] = None
    fit_column: Annotated[
        list[str] | None,
        option(
            "Column of the texts in --fit, text by default. Give it several times to join the "
            "texts of several columns by a space."
        ),
    ] = None

    def corpus(self, encoding: str) -> Corpus | None:
        """The texts, of which the first one is read to find a wrong column at once."""
        if self.fit is None:
            if self.fit_column is not None:
                raise InputError("got --fit-column without --fit; expected both")
            return None
        return corpus(self.fit, self.fit_column, encoding)


@dataclass(frozen=True)
class Scoring:
    """What `compare` and `evaluate` share, by the names of their arguments."""

    similarity: Annotated[
        str | None,
        option(
            "One or more of cosine, dot, euclidean and manhattan, separated by spaces or commas; "
            "cosine by default.",
            "--similarity",
            "-s",
        ),
    ] = None
    aggregation: Annotated[
        str,
        typer.Option(
            help="How the values of subsets become one: all, mean or wmean (weighted by size)."
        ),
    ] = "all"
    threshold: Annotated[
        float | None,
        option("With a head: also report F1 of 'at least this score', such as 3 for KLUE-STS."),
    ] = None
    prompt: Prompt = None
    prompt_name: PromptName = None
    query_prompt: Annotated[
        str | None,
        option(
            "Text to put in front of the queries of retrieval sets; by default --prompt, else the "
            "model's prompt called query, else its default one."
        ),
    ] = None
    document_prompt: Annotated[
        str | None,
        option(
            "Text to put in front of the documents of retrieval sets; by default --prompt, else "
            "the model's prompt called document, passage or corpus, else its default one."
        ),
    ] = None
    index: Annotated[
        str,
        typer.Option(
            help="Index to search retrieval sets with: flat, which is exact, hnsw, or a factory "
            "string of FAISS."
        ),
    ] = "flat"
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0

    @property
    def similarities(self) -> list[str] | None:
        """The similarities that the user named."""
        if self.similarity is None:
            return None
        names = self.similarity.replace(",", " ").split()
        if not names:
            raise InputError(
                "--similarity is empty; expected some of cosine, dot, euclidean, manhattan"
            )
        return names

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `compare` and `evaluate`, except for the similarities."""
        return {name: value for name, value in vars(self).items() if name != "similarity"}


@dataclass(frozen=True)
class ReportFiles:
    """Where a report goes."""

    as_json: Json = False
    out: Annotated[
        Path | None, option("Folder to write report.json, report.md and report.html into.")
    ] = None
    lang: Annotated[
        str, typer.Option(help="Language of the table, report.md and report.html: en or ko.")
    ] = "en"
    overwrite: Overwrite = False


def corpus(path: Path, columns: list[str] | None, encoding: str, ids: str | None = None) -> Corpus:
    """A file of texts, of which the first one is read to find a wrong column at once."""
    from embedkit.data.corpus import Corpus

    texts = Corpus(path, tuple(columns or ["text"]), ids, encoding)
    next(iter(texts), None)
    return texts
