"""What commands print: JSON, reports, and where reports are written."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embedkit.errors import InputError, first_line, printable
from embedkit.progress import is_quiet

if TYPE_CHECKING:
    from rich.console import Console

    from embedkit.cli.options import ReportFiles
    from embedkit.evaluation.report.report import Report
    from embedkit.tagging.entity_scores import EntityReport

_PIPE_WIDTH = 120  # columns where stdout is no terminal


def print_json(content: Mapping[str, Any]) -> None:
    """Print an object with its schema on stdout."""
    print(json.dumps({"schema": 1, **content}, ensure_ascii=False, indent=2))


def inform(message: object) -> None:
    """Print a line on stderr, except with --quiet."""
    if not is_quiet():
        alert(message)


def alert(message: object) -> None:
    """Print a warning or an error on stderr."""
    print(printable(str(message)), file=sys.stderr)


@contextmanager
def resumable(out: object) -> Iterator[None]:
    """Stop at Ctrl-C, and say how to resume the encoding."""
    try:
        yield
    except KeyboardInterrupt:
        alert(f"interrupted: what was encoded is in {out}; run the same command to resume")
        raise typer.Exit(1) from None


def check_out(files: ReportFiles, models: Mapping[str, Path] | None = None) -> None:
    """Refuse places that cannot hold the report or a model, before long work.

    `models` are folders of models by their options. An unknown language is refused, too.
    """
    from embedkit.evaluation.report.locale import check_language
    from embedkit.evaluation.report.report import FILES
    from embedkit.files import check_folder, check_writable

    check_language(files.lang)
    files.check_format()
    folders = {} if files.out is None else {"--out": files.out}
    for option, folder in (models or {}).items():
        for other, taken in folders.items():
            if taken.resolve() == folder.resolve():
                raise InputError(f"{other} and {option} are both {folder}; expected two folders")
        folders[option] = folder
        check_model_out(folder, option, overwrite=files.overwrite)
    if files.out is not None:
        check_folder(files.out, "for the report")
        check_writable(files.out)
        for name in FILES:
            check_unused(files.out / name, "--out", overwrite=files.overwrite)


def check_model_out(folder: Path, option: str = "--out", *, overwrite: bool) -> None:
    """Refuse to save a model over files of others, or over a model unless the user asks for it."""
    from embedkit.files import check_target

    check_target(folder)
    check_unused(folder, option, overwrite=overwrite)


def check_unused(path: Path, option: str, *, overwrite: bool) -> None:
    """Refuse to replace a file, or what is in a folder, unless the user asks for it."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() and not overwrite:
        raise InputError(
            f"{option}: {path} exists; expected a new path, or --overwrite to replace it"
        )


def console() -> Console:
    """The console of stdout, as wide as the terminal or $COLUMNS; it works on without a reader."""
    from rich.console import Console

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    made = Console(width=None if sized else _PIPE_WIDTH, highlight=False)

    def on_broken_pipe() -> None:  # rich would exit, before the model is saved
        made.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    made.on_broken_pipe = on_broken_pipe  # type: ignore[method-assign]
    return made


def warn(report: Report | EntityReport) -> None:
    """Print the warnings of a report on stderr, such as labels on another scale."""
    for warning in report.warnings:
        alert(f"warning: {warning}")


def show_report(
    report: Report,
    files: ReportFiles,
    save: Callable[[Report], None] | None = None,
    describe: Callable[[Report], None] | None = None,
) -> None:
    """Print the report on stdout, write its files, save models, and describe them in their cards.

    A failure does not stop the other outputs: report.json comes first, what is drawn last.
    """
    from embedkit.evaluation.report.report import FILES

    warn(report)
    report = report.with_command(printable(shlex.join(["embedkit", *sys.argv[1:]])))

    def show() -> None:
        name = files.check_format()
        if name == "table":
            report.print(console(), files.lang)
        else:
            print(report.to_format(name, files.lang).rstrip("\n"))

    tasks: dict[str, Callable[[], object]] = {"the table": show}
    if save is not None:
        tasks["the model"] = partial(save, report)
    if files.out is not None:
        results, *drawn = (
            (name, partial(report.write, files.out, name, files.lang)) for name in FILES
        )
        tasks = dict([results, *tasks.items(), *drawn])
    if describe is not None:
        tasks["the model card"] = partial(describe, report)
    failed: dict[str, Exception] = {}
    for name, task in tasks.items():
        try:
            task()
        except Exception as error:
            failed[name] = error
    told = (InputError, BrokenPipeError)  # typer ends quietly where nobody reads stdout any more
    broken = {name: e for name, e in failed.items() if not isinstance(e, told)}
    if broken:
        problems = (f"{name} ({type(e).__name__}: {first_line(e)})" for name, e in broken.items())
        alert(f"error: failed to make {', '.join(problems)}; the rest is complete")
        raise typer.Exit(1)
    for problem in failed.values():
        raise problem
    if files.out is not None:
        inform(f"Wrote {' and '.join(str(files.out / name) for name in FILES)}.")
