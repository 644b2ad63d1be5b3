"""`embedkit index`: build, change and describe an index of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli import choices, options, output, ranking
from embedkit.cli.app import App
from embedkit.cli.encoder_options import EncoderOptions
from embedkit.cli.export import export_command
from embedkit.cli.tune import Queries, read_queries, tell_tuning, tune_command
from embedkit.cli.vectors import vectors_folder
from embedkit.errors import InputError, counted, printable

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.retrieval.index import VectorIndex
    from embedkit.vectors.embeddings import Vectors

index_app = App(
    help="Build and change an index of vectors.", no_args_is_help=True, rich_markup_mode="rich"
)

_OF_TEXTS = (*EncoderOptions.__dataclass_fields__, "metadata", "texts")

_Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help=f"Read texts from this file: {options.TEXT_FILES}; from a folder, glob or URL of such "
        "files; or the vectors that embedkit encode wrote into this folder.",
        show_default=False,
    ),
]
_Metadata = Annotated[
    list[str] | None,
    options.data_option(
        "Keep these columns of the file with the vectors, for --where of embedkit search: names "
        "separated by spaces or commas, or all."
    ),
]
_More = Annotated[
    list[str] | None,
    typer.Argument(metavar="COLUMN", help="Keep these columns of --metadata too.", hidden=True),
]
_Vectors = Annotated[
    Path,
    typer.Argument(
        help="Read the vectors that embedkit encode wrote into this folder.", show_default=False
    ),
]


@dataclass(frozen=True)
class _BuildOptions:
    """Options of an index, by the names of the arguments of `VectorIndex.build`."""

    kind: Annotated[
        str,
        options.option(
            "Make an index of this kind: flat, which is exact, hnsw, or a factory string of FAISS "
            "such as IVF256,Flat; auto chooses by the number of rows and --memory.",
            panel="Index",
            values=choices.BUILT_KINDS,
            metavar="[flat|hnsw|auto|FACTORY]",
        ),
    ] = "flat"
    recall: Annotated[
        float | None,
        options.search_option(
            "Tune the search to find this share of the true nearest rows; kind auto uses 0.95."
        ),
    ] = None
    queries: Queries = None
    memory: Annotated[
        float | None,
        options.option("Let kind auto use this many GB of memory; by default 4.", panel="Index"),
    ] = None
    dtype: Annotated[
        str,
        options.option(
            "Store the vectors of a kind that compresses them, such as IVF256,PQ48, in this data "
            "type; they rescore its hits.",
            panel="Index",
            values=choices.DTYPES,
        ),
    ] = "float32"
    similarity: Annotated[
        str | None,
        options.option(
            "Rank by this similarity; by default by the model's own.",
            panel="Index",
            values=choices.INDEX_SIMILARITIES,
        ),
    ] = None
    nprobe: options.Nprobe = None
    ef_search: options.EfSearch = None
    bm25: Annotated[
        bool,
        options.option(
            "Count the words of the stored texts too, for --mode bm25 and hybrid of search.",
            "--bm25",
            panel="Index",
        ),
    ] = False
    words: ranking.Words = "unicode"


@index_app.command("build")
def build_command(
    context: typer.Context,
    source: _Source,
    out: Annotated[Path, options.output_option("Write the index into this folder.")],
    more: _More = None,
    *,
    encoder: EncoderOptions,
    metadata: _Metadata = None,
    texts: Annotated[
        bool,
        options.output_option(
            "Store the texts of a file, so that search can print them.", "--texts/--no-texts"
        ),
    ] = True,
    build: _BuildOptions,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Build an index from a file of texts, or from the vectors of embedkit encode.

    Run the command again after it was stopped, and the encoding is resumed.

    Example: [bold]embedkit index build docs.csv --id-column id --metadata year --out
    my-index[/bold]
    """
    from embedkit.files import check_own
    from embedkit.retrieval.storage import MANIFEST
    from embedkit.retrieval.tune import recall_to_reach

    check_own(out, MANIFEST, "an index")
    if (out / MANIFEST).exists():  # not where a build was killed
        output.check_unused(out, "--out", overwrite=overwrite)
    tuned_on = None if build.queries is None else read_queries(build.queries)
    recall_to_reach(build.recall, tuned_on, build.kind, build.nprobe, build.ef_search)
    settings = {**vars(build), "queries": tuned_on}
    columns = _columns(metadata, more)
    folder = vectors_folder(context, source, *_OF_TEXTS)
    if folder is not None:
        from embedkit.retrieval.index import VectorIndex
        from embedkit.vectors.embeddings import Vectors

        vectors = Vectors.open(folder)
        embedder = None if tuned_on is None else vectors.provenance.load()
        index = VectorIndex.build(vectors, embedder=embedder, **settings)
        index.save(out)
    else:
        corpus, devices = encoder.corpus(source), encoder.check_devices()
        from embedkit.retrieval.sync import build_index

        embedder = encoder.load(devices)
        with output.resumable(out), encoder.running(embedder, devices) as pool:
            given = {"metadata": columns, "texts": texts, **encoder.prompts, **settings}
            index = build_index(pool, corpus, out, **given)
    tell_tuning(index)
    _show(index, as_json=as_json)


index_app.command("tune")(tune_command)
index_app.command("export")(export_command)


@index_app.command("sync")
def sync_command(
    context: typer.Context,
    index: options.IndexFolder,
    source: _Source,
    more: _More = None,
    text_column: options.TextColumn = None,
    id_column: options.IdColumn = None,
    encoding: options.Encoding = "utf-8",
    metadata: _Metadata = None,
    model: options.IndexModel = None,
    device: options.Device = None,
    allow_empty: Annotated[
        bool,
        options.option(
            "Accept an INPUT without rows, which removes all rows.", "--allow-empty", panel="Index"
        ),
    ] = False,
    dry_run: Annotated[
        bool, options.option("Only count what would change.", "--dry-run", panel="Index")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Update an index to the rows of INPUT: add, replace and remove rows in one commit.

    Only new and changed texts are encoded. By default the columns of texts, ids and metadata are
    those with which the index was built.

    Example: [bold]embedkit index sync my-index docs.csv[/bold]
    """
    from embedkit.retrieval.sync import sync_index
    from embedkit.vectors.embeddings import Vectors

    opened = _open(index)
    rows: Corpus | Vectors
    folder = vectors_folder(context, source)
    if folder is not None:
        rows = Vectors.open(folder)
    else:
        columns, ids = opened.file_columns or (None, None)
        texts = text_column or (list(columns) if columns else None)
        rows = options.corpus(source, texts, encoding, id_column or ids)
    with output.resumable(index):
        changes = sync_index(
            opened,
            rows,
            metadata=_columns(metadata, more),
            allow_empty=allow_empty,
            dry_run=dry_run,
            model=model,
            device=device,
        )
    if as_json:
        output.print_json({"folder": str(index), **changes._asdict()})
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in changes._asdict().items())
    output.inform(f"{index}: {counts}{'; nothing was changed' if dry_run else ''}")


def _columns(given: list[str] | None, more: list[str] | None) -> list[str] | str | None:
    """The columns that `--metadata` names, or `all`; those behind the first are arguments."""
    if more and not given:
        raise InputError(f"got the argument {more[0]!r} after INPUT; expected one file or folder")
    names = [name.strip() for names in (*(given or ()), *(more or ())) for name in names.split(",")]
    return "all" if names == ["all"] else names or None


@index_app.command("add")
def add_command(
    index: options.IndexFolder,
    vectors: _Vectors,
    update: Annotated[
        bool,
        options.option(
            "Replace the rows of ids that are there already; their metadata stay.",
            "--update",
            panel="Index",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Add the vectors of a corpus, all or none.

    Example: [bold]embedkit index add my-index new-vectors[/bold]
    """
    from embedkit.vectors.embeddings import Vectors

    more = Vectors.open(vectors)
    opened = _open(index)
    if update:
        ids: list[Any] = more.ids.to_pylist()
        kept = {row.id: row.metadata or {} for row in opened.get(ids, missing_ok=True)}
        opened.update(more, metadata=[kept.get(name, {}) for name in ids])
    else:
        opened.add(more)
    _show(opened, as_json=as_json)


@index_app.command("remove")
def remove_command(
    index: options.IndexFolder,
    ids: Annotated[
        list[str] | None, typer.Argument(help="Remove the rows of these ids.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, options.data_option("Read ids from this file, one a line.", "--ids")
    ] = None,
    encoding: options.Encoding = "utf-8",
    as_json: options.Json = False,
) -> None:
    """Remove rows, all or none; compact frees their space.

    Example: [bold]embedkit index remove my-index doc-7 doc-9[/bold]
    """
    from embedkit.data.tables import read_lines

    names = list(ids or [])
    if file is not None:
        names += [text for row in read_lines(file, encoding) if (text := str(row.cells["text"]))]
    if not names:
        raise InputError("got no ids; expected some, as arguments or in a file (--ids)")
    opened = _open(index)
    opened.remove([_as_integer(name) for name in names] if opened.has_integer_ids else names)
    _show(opened, as_json=as_json)


@index_app.command("info")
def info_command(index: options.IndexFolder, as_json: options.Json = False) -> None:
    """Show what an index holds, after checking all of its files.

    Example: [bold]embedkit index info my-index[/bold]
    """
    _show(_open(index), as_json=as_json, to_stdout=True)


@index_app.command("compact")
def compact_command(index: options.IndexFolder, as_json: options.Json = False) -> None:
    """Rewrite an index without its removed rows, as one segment.

    Example: [bold]embedkit index compact my-index[/bold]
    """
    opened = _open(index)
    opened.compact()
    _show(opened, as_json=as_json)


def _open(folder: Path) -> VectorIndex:
    from embedkit.retrieval.index import VectorIndex

    return VectorIndex.open(folder)


def _as_integer(name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise InputError(f"ids: got {name!r}, expected whole numbers as in the index") from None


def _show(index: VectorIndex, *, as_json: bool, to_stdout: bool = False) -> None:
    from embedkit.retrieval.description import facts

    shown = {"kind": index.kind, **facts(index)}
    if as_json:
        output.print_json({"folder": str(index.folder), **index.info})
    elif to_stdout:
        for name, value in shown.items():
            print(printable(f"{name:<12}{value}"))
    else:
        rows = counted(len(index), "row")
        output.inform(f"{index.folder}: {index.kind}, {rows}; model {shown['model']}")
