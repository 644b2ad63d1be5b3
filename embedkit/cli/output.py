"""How commands show a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedkit.evaluation.report import Report

_PIPE_WIDTH = 120  # columns where stdout is no terminal


def show(report: Report, *, as_json: bool, out: Path | None) -> None:
    """Print the report on stdout, and write it into `out`."""
    if out is not None:
        report.save(out)
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    report.print(console)
    if out is not None:
        console.print(f"Wrote {out / 'report.json'} and {out / 'report.md'}.", markup=False)
