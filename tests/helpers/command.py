"""Runs of the command line, for the tests of its commands."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import typer

from embedkit.cli import app, main


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Run: TypeAlias = Callable[..., Done]
COMMAND = typer.main.get_command(app)


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process; whatever main() does not catch fails the test."""
    # Typer would build all commands anew in every run.
    monkeypatch.setattr(typer.main, "get_command", lambda _: COMMAND)

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["embedkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return Done(int(exit_.value.code or 0), out, err)

    return call


def script_runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A Python script in this process, as `python SCRIPT ARGUMENTS` runs it."""

    def call(script: Path, *arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", list(map(str, (script, *arguments))))
        code: object = None
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        if isinstance(code, str):  # a message: Python prints it and exits with 1
            return Done(1, out, f"{err}{code}\n")
        return Done(int(str(code or 0)), out, err)

    return call


def replaced(command: list[object], options: list[str]) -> list[object]:
    """The command with options in place of its own of the same names."""
    kept = list(command)
    for option in options:
        for name in (option, {"--model": "-m"}.get(option)):
            if name in kept and str(name).startswith("-"):
                place = kept.index(name)
                del kept[place : place + 2]
    return [*kept, *options]


def refused(done: Done) -> str:
    """The sentence of an error by the user."""
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1
    return done.err.removeprefix("error: ").rstrip("\n")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands under a group, with what to type for each."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


LEAVES = dict(leaves(COMMAND))
