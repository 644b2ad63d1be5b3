"""`embedkit score`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.errors import InputError, counted
from embedkit.files import DEFAULT_MODEL

PREDICTION = "prediction"
_CHUNK = 4096  # pairs encoded at a time


def score_command(
    pairs: Annotated[
        Path, typer.Argument(help=f"Score the sentence pairs of this file: {options.PAIR_FILES}.")
    ],
    model: options.Model = DEFAULT_MODEL,
    out: Annotated[
        Path | None,
        options.output_option(
            "Write this file, in the format of its suffix; by default stdout, in the input's "
            "format."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    prompt: options.Prompt = None,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: Annotated[
        bool,
        options.output_option("Print a JSON object a line, whatever the input's format.", "--json"),
    ] = False,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Score sentence pairs with a head, a cross-encoder, or the cosine of a plain model.

    Files of any size are streamed. The columns of the input are kept, and `prediction` is added.

    Example: [bold]embedkit score pairs.csv -m my-head --out scored.csv[/bold]
    """
    if out is not None and as_json:
        raise InputError("got --json and --out; --json is for stdout, use a file name in .jsonl")
    if out is not None:
        output.check_unused(out, "--out", overwrite=overwrite)
    from embedkit.data.tables import chunks, format_of, read_rows, read_schema
    from embedkit.data.texts import check_text

    source = format_of(pairs)
    target = format_of(out) if out is not None else "jsonl" if as_json else source
    if target == "parquet" and out is None:
        raise InputError("Parquet cannot be printed; name a file with --out, or use --json")
    columns = dict.fromkeys((sentence1, sentence2), check_text)
    rows = read_rows(pairs, columns, others=True, encoding=encoding)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{pairs}: has no rows, expected sentence pairs")
    # Everything is read once before the model is loaded: a wrong row is found before long work.
    total = 0
    for row in chain([first], rows):
        if PREDICTION in row.cells:
            raise InputError(f"{row.location}: has a {PREDICTION!r} already, which would be lost")
        if target != "jsonl" and row.cells.keys() != first.cells.keys():
            got, expected = (", ".join(map(repr, one.cells)) for one in (row, first))
            raise InputError(
                f"{row.location}: got columns {got}; expected {expected}, as in the first row, or "
                "JSONL to write"
            )
        for name, cell in row.cells.items():
            if target == "tsv" and isinstance(cell, str) and ("\t" in cell or "\n" in cell):
                raise InputError(
                    f"{row.location}, column {name!r}: holds a tab or a line break, which TSV "
                    "cannot; write another format"
                )
        total += 1

    from embedkit.data.writers import open_writer
    from embedkit.progress import progress
    from embedkit.scoring.loading import load_scorer

    scorer = load_scorer(
        model, prompt=prompt, max_length=max_length, device=device, revision=revision
    )
    schema = read_schema(pairs) if source == target == "parquet" else None
    with (
        open_writer(out, target, [*first.cells, PREDICTION], schema=schema) as writer,
        progress(total, "pairs", show=None) as advance,
    ):
        rows = read_rows(pairs, columns, others=True, encoding=encoding)
        for chunk in chunks(rows, _CHUNK):
            predictions = scorer([(row.cells[sentence1], row.cells[sentence2]) for row in chunk])
            writer.write(
                {**row.cells, PREDICTION: prediction}
                for row, prediction in zip(chunk, predictions.tolist(), strict=True)
            )
            advance(len(chunk))
    if out is not None:
        output.inform(f"Scored {counted(total, 'pair')} in {out}.")
