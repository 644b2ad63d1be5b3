"""`embedkit vectors merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.app import App
from embedkit.errors import counted

vectors_app = App(
    help="Merge folders of vectors that embedkit encode wrote.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@vectors_app.callback()
def _options() -> None:
    """Make merge a command of its own, though it is the only one."""


@vectors_app.command("merge")
def merge_command(
    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARD...",
            help="The folders of all shards of embedkit encode --shard I/N, or their URLs.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        options.output_option(
            "Write the vectors into this folder, or to the URL of one.", metavar="PATH"
        ),
    ],
    work: Annotated[
        Path | None,
        options.output_option(
            "Merge in this folder before the upload to a URL; by default in a temporary one."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Merge the shards of a corpus into one folder of vectors.

    The folder is complete or empty: no row is missing or duplicated. If the command was stopped,
    run it again.

    Example: [bold]embedkit vectors merge part-*/ --out vectors[/bold]
    """
    from embedkit.vectors.merge import merge_vectors

    merged = merge_vectors(shards, out, work=work)
    if as_json:
        output.print_json({"folder": out, **merged._asdict()})
        return
    output.inform(f"{out}: {counted(merged.rows, 'vector')} of {counted(merged.shards, 'shard')}")


def vectors_folder(context: typer.Context, source: str, *names: str) -> Path | None:
    """A folder of vectors, beside which options of texts are refused; None for files of texts."""
    from embedkit.embedder.folder_kind import folder_kind

    folder = Path(source)
    kind = folder_kind(folder)
    if kind == "vectors":
        reason = f"and {folder}, a folder of vectors; expected a file of texts"
        options.refuse(context, [*options.FILE_OPTIONS, *names], reason)
    return None if kind is None else folder
