"""Options that several commands share: annotations of single ones, and records of many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    from embedkit.evaluation.models import ModelSettings

TEXT_FILES = ".txt (one text a line), .csv, .tsv, .jsonl (each also .gz) or .parquet"
PAIR_FILES = ".tsv, .csv, .jsonl (each also .gz) or .parquet"


def option(
    help: str,  # noqa: A002
    *names: str,  # those that differ from the parameter's
    panel: str | None = None,  # the group
    values: Sequence[str] = (),  # those that it can be set to; the API checks them
    several: bool = False,  # whether it takes several of them in one string
    **more: Any,
) -> Any:
    """`typer.Option` in a group of --help, with values to show and to complete."""
    if values:
        more.setdefault("metavar", f"[{'|'.join(values)}]{'...' if several else ''}")
        more.setdefault("autocompletion", choices.completion(values, several=several))
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


model_option = partial(option, panel="Model")
prompt_option = partial(option, panel="Prompts")
recipe_option = partial(option, panel="Recipes")
head_option = partial(option, panel="Heads")
data_option = partial(option, panel="Data")
scoring_option = partial(option, panel="Scoring")
search_option = partial(option, panel="Search")
output_option = partial(option, panel="Output")

Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA",
        help=f"Read these files of sentence pairs: {PAIR_FILES}; first_look "
        "(first_look_en, first_look_ko) comes with embedkit. A folder is a retrieval set in "
        "BEIR's layout. Names such as stsb, korsts or the suite sts7 are public data sets, which "
        "embedkit datasets lists.",
        show_default=False,
        autocompletion=choices.complete_data,
    ),
]
IndexFolder: TypeAlias = Annotated[
    Path, typer.Argument(help="Use the index in this folder.", show_default=False)
]
IndexModel: TypeAlias = Annotated[
    str | None,
    model_option(
        "Load the index's model from here; by default from its recorded location.",
        "--model",
        "-m",
        autocompletion=choices.complete_model,
    ),
]
Model: TypeAlias = Annotated[
    str,
    model_option(
        "Load this hub id, or this folder of transformers or sentence-transformers; "
        f"{DEFAULT_MODEL} is all-MiniLM-L6-v2 of the extra minilm.",
        "--model",
        "-m",
        autocompletion=choices.complete_model,
    ),
]
Revision: TypeAlias = Annotated[
    str | None, model_option("Take this revision of the model from the hub.")
]
Device: TypeAlias = Annotated[
    str | None,
    model_option(
        "Run on this device, such as cpu or cuda; by default on a GPU if there is one.",
        autocompletion=choices.completion(["cpu", "cuda"]),
    ),
]
Precision: TypeAlias = Annotated[
    str,
    model_option(
        "Run the encoder in this precision; auto uses a lower one than float32 if it is faster on "
        "this device and agrees with float32 on fixed sample sentences.",
        values=choices.PRECISIONS,
    ),
]
Engine: TypeAlias = Annotated[
    str,
    model_option(
        "Run the encoder with this engine. openvino is an extra, for CPUs; auto uses it if "
        "embedkit bench --calibrate measured it as faster.",
        values=choices.ENGINES,
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None,
    model_option("Truncate texts to this many tokens, instead of the model's own maximum."),
]
Recipe: TypeAlias = Annotated[
    str | None,
    model_option(
        "Use this recipe, such as mean@-2/normalize; by default the model's own.",
        autocompletion=choices.complete_recipes,
    ),
]
Nprobe: TypeAlias = Annotated[
    int | None,
    search_option(
        "Search this many lists of an IVF index; by default the square root of their number."
    ),
]
EfSearch: TypeAlias = Annotated[
    int | None,
    search_option("Keep this many candidates in a search of an HNSW index; by default 100."),
]
TextColumn: TypeAlias = Annotated[
    list[str] | None,
    data_option(
        "Read the texts from this column, text by default. Give it several times to join the "
        "texts of several columns by a space."
    ),
]
IdColumn: TypeAlias = Annotated[
    str | None, data_option("Read the ids from this column; by default rows are numbered from 0.")
]
Encoding: TypeAlias = Annotated[
    str,
    data_option(
        "Read text files in this encoding: utf-8, cp949, utf-16 or another that Python knows.",
        autocompletion=choices.completion(["utf-8", "cp949", "utf-16"]),
    ),
]
Prompt: TypeAlias = Annotated[str | None, prompt_option("Put this text in front of each text.")]
PromptName: TypeAlias = Annotated[
    str | None, prompt_option("Use the model's prompt of this name instead of --prompt.")
]
OwnDocumentPrompt: TypeAlias = Annotated[
    str | None,
    prompt_option(
        "Put this text in front of each text; '' is none. By default it is the one recorded in "
        "the folder, else the model's prompt called document, passage or corpus, else its default "
        "one."
    ),
]
OwnQueryPrompt: TypeAlias = Annotated[
    str | None,
    prompt_option(
        "Put this text in front of each query; '' is none. By default it is the one recorded in "
        "the folder, which is the model's prompt called query, else its default one.",
        "--prompt",
        "--query-prompt",
    ),
]
Sentence1: TypeAlias = Annotated[
    str, data_option("Read the first sentences from this column.", "--sentence1-column")
]
Sentence2: TypeAlias = Annotated[
    str, data_option("Read the second sentences from this column.", "--sentence2-column")
]
Unit: TypeAlias = Annotated[
    str | None,
    data_option(
        "Assign tags to words or to characters. By default to characters for JSONL and for CoNLL "
        "files with one character per line, to words for other CoNLL files, and to the model's "
        "unit for plain texts.",
        "--unit",
        values=("word", "character"),
    ),
]
Format: TypeAlias = Annotated[
    str | None,
    output_option(
        "Print the results on stdout as a table, Markdown, LaTeX (booktabs), CSV or JSON.",
        values=choices.FORMATS,
    ),
]
Json: TypeAlias = Annotated[bool, output_option("Print JSON on stdout instead of text.", "--json")]

Overwrite: TypeAlias = Annotated[
    bool, output_option("Replace the files of an earlier run.", "--overwrite")
]


@dataclass(frozen=True)
class ModelsToCompare:
    """The models of `compare` and `evaluate`, and whether their embeddings are kept."""

    model: Annotated[
        list[str] | None,
        model_option(
            "Load this hub id, or this folder of transformers or sentence-transformers; by default "
            f"{DEFAULT_MODEL}, which is all-MiniLM-L6-v2 of the extra minilm. Give it several "
            "times to compare models.",
            "--model",
            "-m",
            autocompletion=choices.complete_model,
        ),
    ] = None
    models: Annotated[
        Path | None,
        model_option(
            "Compare the models of this TOML file, an array of tables called model, each with name "
            "and, for it alone, recipe, prompt, query_prompt, document_prompt, precision or engine."
        ),
    ] = None
    max_length: MaxLength = None
    device: Device = None
    engine: Engine = "auto"
    revision: Revision = None
    cache: Annotated[
        bool | None,
        model_option(
            "Keep embeddings on disk, and reuse those that are there; the default with several "
            "models or --reproduce. See embedkit cache.",
            "--cache/--no-cache",
        ),
    ] = None

    @property
    def sources(self) -> list[Any]:
        """What was named, each as the API takes it."""
        from embedkit.evaluation.models import read_model_file

        of_file = [] if self.models is None else read_model_file(self.models)
        return [*(self.model or []), *of_file] or [DEFAULT_MODEL]

    def read(self, precision: str | None, recipe: str | None = None) -> list[ModelSettings]:
        """The models, with the options of all of them; a recipe in the file comes first."""
        from embedkit.evaluation.models import ModelSettings

        sources = self.sources
        if self.revision is not None and len(sources) > 1:
            raise InputError("got --revision and several models; expected one model")
        options = {
            "max_length": self.max_length,
            "device": self.device,
            "revision": self.revision,
            "precision": precision,
            "engine": None if self.engine == "auto" else self.engine,
        }
        loading = {name: value for name, value in options.items() if value is not None}
        models = [replace(ModelSettings.of(source), loading=loading) for source in sources]
        return [replace(one, recipe=one.recipe or recipe) for one in models]


@dataclass(frozen=True)
class PairFiles:
    """How files of sentence pairs are read."""

    sentence1: Sentence1 = "sentence1"
    sentence2: Sentence2 = "sentence2"
    score: Annotated[str, data_option("Read the scores from this column.", "--score-column")] = (
        "score"
    )
    subset: Annotated[
        str,
        data_option("Read the subsets from this column, if the file has it.", "--subset-column"),
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
        recipe_option(f"Fit steps such as whiten:256 on the texts of this file: {TEXT_FILES}."),
    ] = None
    fit_column: Annotated[
        list[str] | None,
        recipe_option(
            "Read the texts of --fit from this column, text by default. Give it several times to "
            "join the texts of several columns by a space."
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
        scoring_option(
            "Compare embeddings by these similarities, cosine by default. Several are separated "
            "by spaces or commas.",
            "--similarity",
            "-s",
            values=choices.SIMILARITIES,
            several=True,
        ),
    ] = None
    aggregation: Annotated[
        str,
        scoring_option(
            "Score data with subsets over all pairs, by the mean of the subsets, or by their mean "
            "weighted by size.",
            values=choices.AGGREGATIONS,
        ),
    ] = "all"
    threshold: Annotated[
        float | None,
        scoring_option(
            "With a head, also report F1 of 'at least this score', such as 3 for KLUE-STS."
        ),
    ] = None
    prompt: Prompt = None
    prompt_name: PromptName = None
    query_prompt: Annotated[
        str | None,
        prompt_option(
            "Put this text in front of the queries of retrieval sets. By default it is --prompt, "
            "else the model's prompt called query, else its default one."
        ),
    ] = None
    document_prompt: Annotated[
        str | None,
        prompt_option(
            "Put this text in front of the documents of retrieval sets. By default it is "
            "--prompt, else the model's prompt called document, passage or corpus, else its "
            "default one."
        ),
    ] = None
    index: Annotated[
        str,
        scoring_option(
            "Search retrieval sets with this index: flat, which is exact, hnsw, or a factory "
            "string of FAISS.",
            values=choices.INDEX_KINDS,
            metavar=choices.INDEX_METAVAR,
        ),
    ] = "flat"
    seed: Annotated[int, scoring_option("Draw the bootstrap with this seed.")] = 0

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
    """Where a report goes, and in which form."""

    as_json: Json = False
    format: Format = None
    out: Annotated[
        Path | None, output_option("Write report.json, report.md and report.html into this folder.")
    ] = None
    lang: Annotated[
        str,
        output_option(
            "Write the table, report.md and report.html in this language.", values=LANGUAGES
        ),
    ] = "en"
    overwrite: Overwrite = False

    def check_format(self, known: Sequence[str] = choices.FORMATS) -> str:
        """The name of the format."""
        name = self.format or ("json" if self.as_json else "table")
        if name not in known:
            raise InputError(f"--format is {name!r}; expected one of {', '.join(known)}")
        if self.as_json and name != "json":
            raise InputError(f"got --json and --format {name}; expected one of them")
        return name


def corpus(
    path: str | Path, columns: list[str] | None, encoding: str, ids: str | None = None
) -> Corpus:
    """Files of texts, of which the first one is read to find a wrong column at once."""
    from embedkit.data.corpus import Corpus
    from embedkit.data.remote import as_source

    texts = Corpus(as_source("path", path), tuple(columns or ["text"]), ids, encoding)
    next(iter(texts), None)
    return texts


FILE_OPTIONS = ("text_column", "id_column", "encoding")  # how a file of texts is read


def refuse(context: typer.Context, names: Collection[str], reason: str) -> None:
    """Refuse options that the user gave, where the command would not read them."""
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and given is not None and given.name == "COMMANDLINE":
            is_off = context.params[parameter.name] is False
            option = (parameter.secondary_opts if is_off else parameter.opts)[0]
            raise InputError(f"got {option} {reason}")
