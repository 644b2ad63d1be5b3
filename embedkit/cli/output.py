"""How commands show a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from embedkit.evaluation.report import Report

_PIPE_WIDTH = 120  # columns where stdout is no terminal


def check_out(out: Path | None, save_best: Path | None = None, *, lang: str = "en") -> None:
    """Refuse places that cannot hold the report, before long work.

    Raises:
        InputError: a file, or the folder that the model goes to; an unknown language.
    """
    from embedkit.evaluation.messages import check_language

    check_language(lang)
    if out is None:
        return
    from embedkit.interop.folder import check_writable

    if any(path.exists() and not path.is_dir() for path in (out, *out.parents)):
        raise InputError(f"--out {out} is or lies under a file; expected a folder for the report")
    check_writable(out)
    if save_best is not None and out.resolve() == save_best.resolve():
        raise InputError(f"--out and --save-best are both {out}; expected different folders")


def command() -> str:
    """What was typed, as a shell takes it."""
    return printable(shlex.join(["embedkit", *sys.argv[1:]]))


def console() -> Console:
    """Of stdout, as wide as the terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def show(report: Report, *, as_json: bool, out: Path | None, lang: str = "en") -> None:
    """Print the report on stdout, and write it into `out`."""
    if out is not None:
        report.save(out, lang)
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
        return
    stdout = console()
    report.print(stdout)
    if out is not None:
        names = " and ".join(str(out / f"report.{kind}") for kind in ("json", "md", "html"))
        stdout.print(printable(f"Wrote {names}."), markup=False)
