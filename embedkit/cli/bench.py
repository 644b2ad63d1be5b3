"""`embedkit bench`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

from embedkit.cli import options, output
from embedkit.cli.info import show_calibration
from embedkit.errors import InputError, printable
from embedkit.files import DEFAULT_MODEL


def bench_command(
    model: options.Model = DEFAULT_MODEL,
    texts: Annotated[
        Path | None,
        options.data_option(
            f"Encode the texts of this file: {options.TEXT_FILES}. By default they are the "
            "sentences of first_look, English and Korean."
        ),
    ] = None,
    text_column: options.TextColumn = None,
    encoding: options.Encoding = "utf-8",
    limit: Annotated[int, options.data_option("Encode at most this many texts.")] = 2000,
    rounds: Annotated[
        int, options.option("Run each engine and precision this many times.", panel="Timing")
    ] = 5,
    device: options.Device = None,
    calibrate: Annotated[
        bool,
        options.option(
            "Instead, measure this CPU again for --precision auto and store the result.",
            "--calibrate",
            panel="Timing",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Time every engine and precision on your machine and texts, and recommend one.

    They run beside sentence-transformers, in turn, in one process with the same number of threads.
    The table also shows how well the vectors agree with float32.

    Example: [bold]embedkit bench -m klue/bert-base --texts mine.txt[/bold]
    """
    if calibrate:
        if texts is not None or device is not None:
            raise InputError("got --calibrate with --texts or --device; it times the CPU alone")
        show_calibration(as_json=as_json)
        return
    if limit < 1:
        raise InputError(f"--limit is {limit}; expected at least 1")
    chosen = _texts(texts, text_column, encoding, limit)
    from embedkit.benchmark import race

    result = race(model, chosen, rounds=rounds, device=device)
    if as_json:
        output.print_json(result.to_dict())
        return
    console = output.console()
    omitted = result.grid().print(console)
    threads = result.machine["threads"]
    notes = [
        f"{result.texts:,} distinct texts of {result.tokens:,} tokens, {result.machine['device']}, "
        f"threads: {threads}, rounds: {rounds}; medians. Times and cosines are relative to the "
        "first one; the bound is the time of the matrix products alone; auto is what embedkit "
        "takes by itself.",
        *(f"{name} did not run: {reason}." for name, reason in result.absent.items()),
    ]
    if omitted:
        notes.append(f"The terminal is too narrow for: {', '.join(omitted)}. --json prints them.")
    if result.command:
        notes.append(f"The fastest that agrees with float32 is {result.best}: {result.command}")
    for note in notes:
        console.print(printable(note), markup=False)


def _texts(path: Path | None, columns: list[str] | None, encoding: str, limit: int) -> list[str]:
    if path is None:
        from embedkit.data.pairs import read_pairs

        pairs = read_pairs("first_look")
        return [*pairs.sentence1, *pairs.sentence2][:limit]
    return [document.text for document in islice(options.corpus(path, columns, encoding), limit)]
