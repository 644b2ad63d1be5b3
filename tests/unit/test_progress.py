"""Progress is shown in terminals and notebooks, in whole numbers, unless --quiet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import typer
from helpers import tiny
from helpers.command import Run, refused
from helpers.notebooks import execute
from helpers.terminal import as_stderr
from huggingface_hub.utils import are_progress_bars_disabled

from embedkit.cli import app, output
from embedkit.progress import is_shown, progress, quiet

TEXTS = "".join(f"{text}\n" for text in tiny.TEXTS if text)


def shown(monkeypatch: pytest.MonkeyPatch, total: int | None, show: bool | None) -> str:
    """What a terminal shows of 12,345 texts."""
    with as_stderr(monkeypatch) as read:
        with progress(total, "texts", show=show) as advance:
            advance(12_345)
        return read()


def test_a_terminal_shows_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 20_000, None)
    assert re.search(r"62%\|.*\| 12,345/20,000 texts \[\d\d:\d\d<\d\d:\d\d, .* texts/s\]", text)
    assert "k/" not in text


def test_a_total_may_be_unknown_or_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "12,345 texts [" in shown(monkeypatch, None, None)
    assert "12,345/9 texts [" in shown(monkeypatch, 9, None)
    assert "12,345/0 texts [" in shown(monkeypatch, 0, None)


def test_nothing_is_shown_where_nobody_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(monkeypatch, 20_000, False) == ""
    with progress(20_000, "texts", show=None) as advance:  # a pipe
        advance(12_345)
    assert capsys.readouterr().err == ""
    with progress(20_000, "texts", show=True) as advance:
        advance(12_345)
    assert "12,345/20,000 texts" in capsys.readouterr().err


def test_quiet_hides_what_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # helpers.tiny hides all bars.
    monkeypatch.setattr(sys.modules["huggingface_hub.utils.tqdm"], "progress_bar_states", {})
    assert not are_progress_bars_disabled()
    with quiet():
        assert are_progress_bars_disabled()
        assert shown(monkeypatch, 20_000, None) == ""
        assert "12,345/20,000" in shown(monkeypatch, 20_000, True)
    assert not are_progress_bars_disabled()
    assert "12,345/20,000" in shown(monkeypatch, 20_000, None)


def test_a_notebook_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_shown(None)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", ModuleType("ipykernel.zmqshell"))
    assert is_shown(None)
    with quiet():
        assert not is_shown(None)


# Commands


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text(TEXTS, encoding="utf-8")
    return path


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app), "embedkit"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_can_be_quiet(path: str) -> None:
    names = [name for parameter in COMMANDS[path].params for name in parameter.opts]
    assert "--quiet" in names
    assert names.count("-q") == 1


def test_quiet_commands_print_results_only(
    run: Run, model: Path, texts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vectors, index = tmp_path / "vectors", tmp_path / "index"
    encode = ("encode", texts, "-m", model, "--out", vectors)
    build = ("index", "build", vectors, "--out", index, "--overwrite")
    search = ("search", index, "a dog", "-k", 1)
    compare = ("compare", "first_look", "-m", model, "--recipes", "mean cls")
    for command in (encode, build, search, compare):
        with as_stderr(monkeypatch) as read:
            assert run(*command).code == 0
            loud = read()
        with as_stderr(monkeypatch) as read:
            done = run(*command, "-q")
            assert (done.code, read()) == (0, "")
        assert loud
        assert bool(done.out) == (command in (search, compare))
        if command in (build, compare):
            assert re.search(r"100%\|.*\| [\d,]+/[\d,]+ (vectors|tokens) \[", loud)


def test_quiet_keeps_warnings_and_errors(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        output.inform("saved")
        output.alert("warning: another scale")
    assert capsys.readouterr().err == "warning: another scale\n"
    assert "nowhere.txt" in refused(run("encode", "nowhere.txt", "--out", "x", "-q"))
    output.inform("saved")
    assert capsys.readouterr().err == "saved\n"


# Notebooks

CELL = """
import time
import warnings
filters = list(warnings.filters)
from embedkit.progress import progress
import huggingface_hub.utils
assert warnings.filters == filters
with progress(20_000, "texts", show=None) as advance:
    advance(1)
    time.sleep(1.1)
    advance(12_344)
"""
NO_WIDGETS = 'import sys; sys.modules["ipywidgets"] = None'


def executed(folder: Path, *cells: str) -> Any:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute(notebook, folder)
    return notebook


@pytest.mark.process
def test_a_notebook_shows_a_widget(tmp_path: Path) -> None:
    if find_spec("ipywidgets") is None:
        pytest.skip("not installed: ipywidgets")
    notebook = executed(tmp_path, CELL)
    (shown,) = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    widgets = json.dumps(notebook.metadata.widgets, ensure_ascii=False)
    assert "12,345/20,000\\u2007texts" in widgets or "12,345/20,000\u2007texts" in widgets


@pytest.mark.process
def test_a_notebook_without_widgets_shows_a_line_and_no_warning(tmp_path: Path) -> None:
    outputs = executed(tmp_path, NO_WIDGETS, CELL).cells[1].outputs
    assert {shown.output_type for shown in outputs} == {"stream"}
    text = "".join(shown.text for shown in outputs)
    assert "12,345/20,000 texts" in text
    assert "Warning" not in text
