"""`embedkit datasets`: list the data sets that have names, and download some."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from embedkit.cli import choices, options, output
from embedkit.cli.app import App
from embedkit.errors import InputError

datasets_app = App(invoke_without_command=True)


@datasets_app.callback()
def list_command(
    context: typer.Context,
    as_json: options.Json = False,
) -> None:
    """List the public data sets and suites that DATA can name, or download some.

    Example: [bold]embedkit datasets --json[/bold]
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise InputError("got --json and get; --json is for the list of data sets")
        return
    from embedkit.data.named_files import find_files
    from embedkit.data.named_sets import NAMED_SETS, SUITES
    from embedkit.evaluation.report.grid import Grid

    stored = {}
    for name in NAMED_SETS:
        files = find_files(name)
        stored[name] = "no" if files is None else "own" if files.own else "cached"
    if as_json:
        rows = [{**asdict(known), "stored": stored[name]} for name, known in NAMED_SETS.items()]
        output.print_json({"datasets": rows, "suites": SUITES})
        return
    documents = {name: f"{x.documents:,}" if x.documents else "" for name, x in NAMED_SETS.items()}
    cells = tuple(
        (name, f"{x.rows:,}", documents[name], x.languages, x.licence, stored[name])
        for name, x in NAMED_SETS.items()
    )
    headings = ("Name", "Rows", "Documents", "Language", "Licence", "Stored")
    console = output.console()
    Grid(headings, cells, texts=frozenset({0, 3, 4, 5}), expendable=((2,), (4,))).print(console)
    console.print()
    for suite, names in SUITES.items():
        console.print(f"{suite}: {', '.join(names)}", markup=False)


@datasets_app.command("get")
def get_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Fetch these data sets, or those of these suites.",
            show_default=False,
            autocompletion=choices.complete_data,
        ),
    ],
) -> None:
    """Download public data sets into the hub's cache, and check them.

    Example: [bold]embedkit datasets get stsb mteb-sts-ko[/bold]
    """
    from embedkit.data.datasets import read_named_sets

    for data in read_named_sets(names):
        output.inform(f"{data.name}: complete")
