"""`embedkit bench`."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.info import show_calibration
from embedkit.errors import InputError, printable
from embedkit.files import DEFAULT_MODEL


def bench_command(
    model: options.Model = DEFAULT_MODEL,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Texts to encode: .txt (a text a line), .csv, .tsv, .jsonl (each also .gz) or "
            ".parquet; by default the sentences of first_look, English and Korean.",
            show_default=False,
        ),
    ] = None,
    text_column: options.TextColumn = None,
    encoding: options.Encoding = "utf-8",
    limit: Annotated[int, typer.Option(help="Texts at most, the first ones.")] = 2000,
    rounds: Annotated[int, typer.Option(help="How often all run in turn.")] = 5,
    device: options.Device = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Instead measure anew what --precision auto goes by on this CPU, and keep it.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, not a table.")
    ] = False,
) -> None:
    """Time embedkit beside sentence-transformers and its backends, here, on your texts.

    They run in turn in one process with equal thread counts; the agreement of their vectors stands
    beside the speed.

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

    result = race(model, chosen, rounds=rounds, device=device, show_progress=True)
    if as_json:
        print(json.dumps({"schema": 1, **result.to_dict()}, ensure_ascii=False, indent=2))
        return
    console = output.console()
    left_out = result.grid().print(console)
    threads = result.machine["threads"]
    notes = [
        f"{result.texts:,} distinct texts of {result.tokens:,} tokens, {result.machine['device']}, "
        f"threads: {threads}, rounds: {rounds}; medians. Times and cosines are against the first "
        "one; the bound is the matrix products alone.",
        *(f"{name} did not run: {why}." for name, why in result.absent.items()),
    ]
    if left_out:
        notes.append(f"Too narrow for: {', '.join(left_out)}. --json has them.")
    for note in notes:
        console.print(printable(note), markup=False)


def _texts(path: Path | None, columns: list[str] | None, encoding: str, limit: int) -> list[str]:
    if path is None:
        from embedkit.data.pairs import read_pairs

        pairs = read_pairs("first_look")
        return [*pairs.sentence1, *pairs.sentence2][:limit]
    from embedkit.data.corpus import Corpus

    corpus = Corpus(path, tuple(columns or ["text"]), encoding=encoding)
    return [document.text for document in islice(corpus, limit)]
