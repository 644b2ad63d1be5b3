"""Print a report on the terminal and write it into a folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from embedkit.errors import InputError, first_line, printable

if TYPE_CHECKING:
    from rich.console import Console

    from embedkit.evaluation.report.report import Report

_PIPE_WIDTH = 120  # columns where stdout is no terminal


def check_out(out: Path | None, save_best: Path | None = None, *, lang: str = "en") -> None:
    """Refuse an unknown language, and a folder that cannot hold the report, before long work."""
    from embedkit.evaluation.report.locale import check_language

    check_language(lang)
    if out is None:
        return
    from embedkit.files import check_writable

    if any(path.exists() and not path.is_dir() for path in (out, *out.parents)):
        raise InputError(f"--out {out} is or lies under a file; expected a folder for the report")
    check_writable(out)
    if save_best is not None and out.resolve() == save_best.resolve():
        raise InputError(f"--out and --save-best are both {out}; expected different folders")


def command() -> str:
    """The command line as it was typed, quoted for a shell."""
    return printable(shlex.join(["embedkit", *sys.argv[1:]]))


def console() -> Console:
    """The console of stdout, as wide as the terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def warn(report: Report) -> None:
    """Print warnings on stderr, about labels on another scale."""
    for warning in report.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)


def show(
    report: Report,
    *,
    as_json: bool,
    out: Path | None,
    lang: str = "en",
    save: Callable[[], None] | None = None,
) -> None:
    """Print the report on stdout, write it into `out`, and save the model.

    A failure does not stop the other outputs: report.json comes first, report.html last.

    Raises:
        InputError: an error that the user can fix.
        typer.Exit: with code 1, after one sentence on what failed.
    """
    from embedkit.evaluation.report.report import FILES

    warn(report)

    def print_report() -> None:
        sys.stdout.write(report.to_json() + "\n") if as_json else report.print(console(), lang)

    writes = {} if out is None else {name: partial(report.write, out, name, lang) for name in FILES}
    results = {FILES[0]: writes.pop(FILES[0])} if writes else {}
    failed: dict[str, Exception] = {}
    for name, do in {**results, "the table": print_report, "the model": save, **writes}.items():
        try:
            if do is not None:
                do()
        except Exception as error:
            failed[name] = error
    broken = {name: e for name, e in failed.items() if not isinstance(e, InputError)}
    if broken:
        problems = (f"{name} ({type(e).__name__}: {first_line(e)})" for name, e in broken.items())
        problem = f"error: failed to make {', '.join(problems)}; the rest is complete"
        print(printable(problem), file=sys.stderr)
        raise typer.Exit(1)
    for wrong_input in failed.values():
        raise wrong_input
    if out is not None and not as_json:
        names = " and ".join(str(out / name) for name in FILES)
        console().print(printable(f"Wrote {names}."), markup=False)
