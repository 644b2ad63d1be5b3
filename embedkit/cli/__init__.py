"""The command line: `embedkit COMMAND`."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable

import typer

from embedkit.cli.app import App
from embedkit.cli.bench import bench_command
from embedkit.cli.cache import cache_app
from embedkit.cli.compare import compare_command
from embedkit.cli.datasets import datasets_app
from embedkit.cli.duplicates import duplicates_command
from embedkit.cli.encode import encode_command
from embedkit.cli.evaluate import evaluate_command
from embedkit.cli.fill_mask import fill_mask_command
from embedkit.cli.index import index_app
from embedkit.cli.info import info_command
from embedkit.cli.quantize import quantize_command
from embedkit.cli.score import score_command
from embedkit.cli.search import search_command
from embedkit.cli.tag import tag_command
from embedkit.cli.train import train_app
from embedkit.cli.vectors import vectors_app
from embedkit.errors import InputError, printable
from embedkit.version import __version__

_INTERRUPTED = 130  # what typer makes of Ctrl-C

app = App(
    name="embedkit",
    help="Choose a pooling for sentence embeddings, test whether it matters, and save the model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


app.command("compare")(compare_command)
app.command("evaluate")(evaluate_command)
app.command("encode")(encode_command)
app.command("search")(search_command)
app.command("duplicates")(duplicates_command)
app.command("score")(score_command)
app.command("tag")(tag_command)
app.command("quantize")(quantize_command)
app.command("fill-mask")(fill_mask_command)
app.command("info")(info_command)
app.command("bench")(bench_command)
app.add_typer(cache_app, name="cache")
app.add_typer(datasets_app, name="datasets")
app.add_typer(index_app, name="index")
app.add_typer(train_app, name="train")
app.add_typer(vectors_app, name="vectors")


def main() -> None:
    """Exit 0, 1 where the work failed, 2 where the input is wrong; errors are one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or pipe of another encoding must not lose a report in Korean.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # transformers' remarks would quote a folder's files.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.showwarning = _print_once(set())
    try:
        app()
    except InputError as error:
        _fail(error, 2)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _fail("interrupted", 1)
        raise
    except OSError as error:
        _fail(error, 1)
    except MemoryError as error:
        _fail(f"out of memory ({error})" if str(error) else "out of memory", 1)
    except RuntimeError as error:
        # torch's, on a GPU and on a CPU; torch may not be loaded.
        if type(error).__name__ != "OutOfMemoryError" and "CPUAllocator" not in str(error):
            raise
        _fail(str(error).splitlines()[0], 1)


def _print_once(shown: set[str]) -> Callable[..., None]:
    """A warning is one line, and printed once though a file is read twice."""

    def show(message: Warning | str, *_: object) -> None:
        line = f"warning: {printable(str(message))}"
        if line not in shown:
            print(line, file=sys.stderr)
        shown.add(line)

    return show


def _fail(problem: object, code: int) -> None:
    print(f"error: {printable(str(problem))}", file=sys.stderr)
    sys.exit(code)
