"""`embedkit index`: build, change and describe an index of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli import choices, options, output
from embedkit.cli.app import App
from embedkit.errors import InputError, printable

if TYPE_CHECKING:
    from embedkit.retrieval.index import VectorIndex

index_app = App(
    help="Make and change an index of vectors.", no_args_is_help=True, rich_markup_mode="rich"
)

_Vectors = Annotated[
    Path,
    typer.Argument(
        help="Read the vectors that embedkit encode wrote into this folder.", show_default=False
    ),
]


@index_app.command("build")
def build_command(
    vectors: _Vectors,
    out: Annotated[Path, options.output_option("Write the index into this folder.")],
    kind: Annotated[
        str,
        options.option(
            "Make an index of this kind: flat, which is exact, hnsw, or a factory string of FAISS "
            "such as IVF256,Flat.",
            panel="Index",
            values=choices.INDEX_KINDS,
            metavar=choices.INDEX_METAVAR,
        ),
    ] = "flat",
    similarity: Annotated[
        str | None,
        options.option(
            "Rank by this similarity; by default by the model's own.",
            panel="Index",
            values=choices.INDEX_SIMILARITIES,
        ),
    ] = None,
    nprobe: options.Nprobe = None,
    ef_search: options.EfSearch = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Build an index from the vectors of a corpus.

    Example: [bold]embedkit index build vectors --out my-index --kind hnsw[/bold]
    """
    from embedkit.files import check_own
    from embedkit.retrieval.embeddings import Vectors
    from embedkit.retrieval.index import VectorIndex
    from embedkit.retrieval.storage import MANIFEST

    check_own(out, MANIFEST, "an index")
    if (out / MANIFEST).exists():  # not where a build was killed
        output.check_unused(out, "--out", overwrite=overwrite)
    index = VectorIndex.build(
        Vectors.open(vectors),
        kind=kind,
        similarity=similarity,
        nprobe=nprobe,
        ef_search=ef_search,
    )
    index.save(out)
    _show(index, as_json=as_json)


@index_app.command("add")
def add_command(
    index: options.IndexFolder,
    vectors: _Vectors,
    update: Annotated[
        bool,
        options.option(
            "Replace the rows of ids that are there already.", "--update", panel="Index"
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Add the vectors of a corpus, all or none.

    Example: [bold]embedkit index add my-index new-vectors[/bold]
    """
    from embedkit.retrieval.embeddings import Vectors
    from embedkit.retrieval.index import VectorIndex

    more = Vectors.open(vectors)
    opened = VectorIndex.open(index)
    change = opened.update if update else opened.add
    change(more)
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
    """Remove rows, all or none; their place is freed by compact.

    Example: [bold]embedkit index remove my-index doc-7 doc-9[/bold]
    """
    from embedkit.data.tables import read_lines
    from embedkit.retrieval.index import VectorIndex

    names = list(ids or [])
    if file is not None:
        names += [text for row in read_lines(file, encoding) if (text := str(row.cells["text"]))]
    if not names:
        raise InputError("got no ids; expected some, as arguments or in a file (--ids)")
    opened = VectorIndex.open(index)
    opened.remove([_as_integer(name) for name in names] if opened.has_integer_ids else names)
    _show(opened, as_json=as_json)


@index_app.command("info")
def info_command(index: options.IndexFolder, as_json: options.Json = False) -> None:
    """Say what an index holds, after checking all of its files.

    Example: [bold]embedkit index info my-index[/bold]
    """
    from embedkit.retrieval.index import VectorIndex

    _show(VectorIndex.open(index), as_json=as_json, to_stdout=True)


@index_app.command("compact")
def compact_command(index: options.IndexFolder, as_json: options.Json = False) -> None:
    """Rewrite an index without its removed rows, as one segment.

    Example: [bold]embedkit index compact my-index[/bold]
    """
    from embedkit.retrieval.index import VectorIndex

    opened = VectorIndex.open(index)
    opened.compact()
    _show(opened, as_json=as_json)


def _as_integer(name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise InputError(f"ids: got {name!r}, expected whole numbers as in the index") from None


def _show(index: VectorIndex, *, as_json: bool, to_stdout: bool = False) -> None:
    info = index.info
    if as_json:
        output.print_json({"folder": str(index.folder), **info})
        return
    model = "an unknown model"
    if index.provenance is not None:
        model = f"{index.provenance.model} (recipe {index.provenance.recipe})"
        prompts = {"": index.provenance.prompt, "query ": index.provenance.query_prompt}
        model += "".join(f", {role}prompt {text!r}" for role, text in prompts.items() if text)
    sentence = (
        f"{index.folder}: {info['rows']:,} rows of {info['dimension']} numbers by {model}; "
        f"{info['kind']}, {info['similarity']}, {info['segments']} segments, "
        f"{info['removed']:,} rows removed, {info['bytes'] / 1e6:,.1f} MB, "
        f"{'with' if info['texts'] else 'without'} texts"
    )
    show = print if to_stdout else output.inform
    show(printable(sentence))
