"""Options that several commands share: annotations of single ones, and records of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedkit.cli import choices
from embedkit.errors import InputError
from embedkit.evaluation.report.locale import LANGUAGES
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.data.datasets import DataSet
    from embedkit.data.pairs import PairColumns, Pairs

TEXT_FILES = ".txt (one text a line), .csv, .tsv, .jsonl (each also .gz) or .parquet"
PAIR_FILES = ".tsv, .csv, .jsonl (each also .gz) or .parquet"

# The groups of options in --help.
MODEL, PROMPTS, RECIPES, DATA = "Model", "Prompts", "Recipes", "Data"
HEADS, SCORING, SEARCH, OUTPUT = "Heads", "Scoring", "Search", "Output"


def option(
    help: str,  # noqa: A002
    *names: str,
    panel: str | None = None,
    values: Sequence[str] = (),
    several: bool = False,
    **more: Any,
) -> Any:
    """An option whose help says what the default is, where that needs words.

    Args:
        help: full sentences.
        names: those that differ from the parameter's.
        panel: its group in --help.
        values: those that it can be set to, for --help and completion; the API checks them.
        several: whether it takes several of them in one string.
        more: other arguments of `typer.Option`.
    """
    if values:
        more.setdefault("metavar", f"[{'|'.join(values)}]{'...' if several else ''}")
        more.setdefault("autocompletion", choices.completion(values, several=several))
    more.setdefault("show_default", False)
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def with_default(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option whose default is shown; see `option`."""
    return option(help, *names, show_default=True, **more)


Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        help=f"Read these files of sentence pairs: {PAIR_FILES}; first_look is the set that comes "
        "with embedkit. A folder is a retrieval set in BEIR's layout.",
        show_default=False,
        autocompletion=choices.complete_data,
    ),
]
IndexFolder: TypeAlias = Annotated[
    Path, typer.Argument(help="Use the index in this folder.", show_default=False)
]
Model: TypeAlias = Annotated[
    str,
    with_default(
        "Load this hub id, or this folder of transformers or sentence-transformers; "
        f"{DEFAULT_MODEL} is all-MiniLM-L6-v2 of the extra minilm.",
        "--model",
        "-m",
        panel=MODEL,
        autocompletion=choices.complete_model,
    ),
]
Revision: TypeAlias = Annotated[
    str | None, option("Take this revision of the model from the hub.", panel=MODEL)
]
Device: TypeAlias = Annotated[
    str | None,
    option(
        "Run on this device, such as cpu or cuda; by default on a GPU if there is one.",
        panel=MODEL,
        autocompletion=choices.completion(["cpu", "cuda"]),
    ),
]
Precision: TypeAlias = Annotated[
    str,
    with_default(
        "Run the encoder in this precision; auto takes a low one if the device is faster in it "
        "and a fixed probe agrees with float32.",
        panel=MODEL,
        values=choices.PRECISIONS,
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None,
    option(
        "Truncate texts to this many tokens, instead of the model's own maximum.",
        panel=MODEL,
    ),
]
Recipe: TypeAlias = Annotated[
    str | None,
    option(
        "Use this recipe, such as mean@-2/normalize; by default the model's own.",
        panel=MODEL,
        autocompletion=choices.complete_recipes,
    ),
]
Nprobe: TypeAlias = Annotated[
    int | None,
    option(
        "Search this many lists of an IVF index; by default the square root of their number.",
        panel=SEARCH,
        min=1,
    ),
]
EfSearch: TypeAlias = Annotated[
    int | None,
    option(
        "Keep this many candidates in a search of an HNSW index; by default 100.",
        panel=SEARCH,
        min=1,
    ),
]
TextColumn: TypeAlias = Annotated[
    list[str] | None,
    option(
        "Read the texts from this column, text by default. Give it several times to join the "
        "texts of several columns by a space.",
        panel=DATA,
    ),
]
IdColumn: TypeAlias = Annotated[
    str | None,
    option("Read the ids from this column; by default rows are numbered from 0.", panel=DATA),
]
Encoding: TypeAlias = Annotated[
    str,
    with_default(
        "Read text files in this encoding: utf-8, cp949, utf-16 or another that Python knows.",
        panel=DATA,
        autocompletion=choices.completion(["utf-8", "cp949", "utf-16"]),
    ),
]
Prompt: TypeAlias = Annotated[
    str | None, option("Put this text in front of each text.", panel=PROMPTS)
]
PromptName: TypeAlias = Annotated[
    str | None,
    option("Use the model's prompt of this name instead of --prompt.", panel=PROMPTS),
]
OwnDocumentPrompt: TypeAlias = Annotated[
    str | None,
    option(
        "Put this text in front of each text; '' is none. By default it is the one recorded in "
        "the folder, else the model's prompt called document, passage or corpus, else its default "
        "one.",
        panel=PROMPTS,
    ),
]
OwnQueryPrompt: TypeAlias = Annotated[
    str | None,
    option(
        "Put this text in front of each query; '' is none. By default it is the one recorded in "
        "the folder, which is the model's prompt called query, else its default one.",
        "--prompt",
        "--query-prompt",
        panel=PROMPTS,
    ),
]
Sentence1: TypeAlias = Annotated[
    str,
    with_default("Read the first sentences from this column.", "--sentence1-column", panel=DATA),
]
Sentence2: TypeAlias = Annotated[
    str,
    with_default("Read the second sentences from this column.", "--sentence2-column", panel=DATA),
]
Json: TypeAlias = Annotated[
    bool, option("Print JSON on stdout instead of text.", "--json", panel=OUTPUT)
]


@dataclass(frozen=True)
class PairFiles:
    """How files of sentence pairs are read."""

    sentence1: Sentence1 = "sentence1"
    sentence2: Sentence2 = "sentence2"
    score: Annotated[
        str, with_default("Read the scores from this column.", "--score-column", panel=DATA)
    ] = "score"
    subset: Annotated[
        str,
        with_default(
            "Read the subsets from this column, if the file has it.",
            "--subset-column",
            panel=DATA,
        ),
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
        Path | None,
        option(
            f"Fit steps such as whiten:256 on the texts of this file: {TEXT_FILES}.",
            panel=RECIPES,
        ),
    ] = None
    fit_column: Annotated[
        list[str] | None,
        option(
            "Read the texts of --fit from this column, text by default. Give it several times to "
            "join the texts of several columns by a space.",
            panel=RECIPES,
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
            "Compare embeddings by these similarities, cosine by default. Several are separated "
            "by spaces or commas.",
            "--similarity",
            "-s",
            panel=SCORING,
            values=choices.SIMILARITIES,
            several=True,
        ),
    ] = None
    aggregation: Annotated[
        str,
        with_default(
            "Score data with subsets over all pairs, by the mean of the subsets, or by their mean "
            "weighted by size.",
            panel=SCORING,
            values=choices.AGGREGATIONS,
        ),
    ] = "all"
    threshold: Annotated[
        float | None,
        option(
            "With a head, also report F1 of 'at least this score', such as 3 for KLUE-STS.",
            panel=SCORING,
        ),
    ] = None
    prompt: Prompt = None
    prompt_name: PromptName = None
    query_prompt: Annotated[
        str | None,
        option(
            "Put this text in front of the queries of retrieval sets. By default it is --prompt, "
            "else the model's prompt called query, else its default one.",
            panel=PROMPTS,
        ),
    ] = None
    document_prompt: Annotated[
        str | None,
        option(
            "Put this text in front of the documents of retrieval sets. By default it is "
            "--prompt, else the model's prompt called document, passage or corpus, else its "
            "default one.",
            panel=PROMPTS,
        ),
    ] = None
    index: Annotated[
        str,
        with_default(
            "Search retrieval sets with this index: flat, which is exact, hnsw, or a factory "
            "string of FAISS.",
            panel=SCORING,
            values=choices.INDEX_KINDS,
            metavar=choices.INDEX_METAVAR,
        ),
    ] = "flat"
    seed: Annotated[int, with_default("Draw the bootstrap with this seed.", panel=SCORING)] = 0

    @property
    def similarities(self) -> list[str] | None:
        """The similarities that the user named."""
        if self.similarity is None:
            return None
        names = self.similarity.replace(",", " ").split()
        if not names:
            raise InputError(
                f"--similarity is empty; expected some of {', '.join(choices.SIMILARITIES)}"
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
        Path | None,
        option("Write report.json, report.md and report.html into this folder.", panel=OUTPUT),
    ] = None
    lang: Annotated[
        str,
        with_default(
            "Write the table, report.md and report.html in this language.",
            panel=OUTPUT,
            values=LANGUAGES,
        ),
    ] = "en"


def corpus(path: Path, columns: list[str] | None, encoding: str, ids: str | None = None) -> Corpus:
    """A file of texts, of which the first one is read to find a wrong column at once."""
    from embedkit.data.corpus import Corpus

    texts = Corpus(path, tuple(columns or ["text"]), ids, encoding)
    next(iter(texts), None)
    return texts
