"""`embedkit tag`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from embedkit.cli import options, output
from embedkit.cli.options import output_option
from embedkit.errors import InputError, counted


def tag_command(
    texts: Annotated[
        Path,
        typer.Argument(
            help=f"Texts: {options.TEXT_FILES}; or a CoNLL file (.conll, .bio), whose tags are "
            "replaced."
        ),
    ],
    *,
    model: options.Model,
    out: Annotated[
        Path | None,
        output_option(
            "Write this file, CoNLL if it ends in .conll or .bio, else JSONL; by default stdout.",
            "--out",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    conll: Annotated[
        bool, output_option("Print CoNLL with IOB2 tags instead of JSONL.", "--conll")
    ] = False,
    unit: options.Unit = None,
    text_column: options.TextColumn = None,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    revision: options.Revision = None,
    encoding: options.Encoding = "utf-8",
    as_json: Annotated[
        bool, output_option("Print a JSON object a line, which is the default.", "--json")
    ] = False,
) -> None:
    """Find entities in texts: one JSON object per text, with start, end, label and score.

    Example: [bold]embedkit tag notes.txt -m my-ner --out entities.jsonl[/bold]
    """
    from embedkit.cli.entities import read_entity_file
    from embedkit.data.entities import TaggedTexts
    from embedkit.data.entity_files import check_conll, is_conll, write_entities
    from embedkit.files import check_writable

    if as_json + conll + (out is not None) > 1:
        raise InputError("got more than one of --json, --conll and --out; expected one")
    conll = conll or (out is not None and is_conll(out))
    if out is not None:
        output.check_unused(out, "--out", overwrite=overwrite)
        if not out.absolute().parent.is_dir():
            raise InputError(f"--out: there is no folder {out.parent} for {out.name}")
        check_writable(out.parent)
    named = cast("Any", unit)
    known = read_entity_file(texts, named, encoding) if is_conll(texts) else None
    if known is None:
        corpus = options.corpus(texts, text_column, encoding)
        read = [document.text for document in corpus]
    elif text_column is not None:
        raise InputError("got --text-column for a CoNLL file, which has no such column")
    from embedkit.tagging.tagger import Tagger

    tagger = Tagger.from_pretrained(
        model, unit=named, max_length=max_length, device=device, revision=revision
    )
    data = known or TaggedTexts.untagged(read, tagger.unit)
    if conll:
        check_conll(data)
    found = tagger.predict(data.rows)
    rows = tuple(replace(row, spans=own) for row, own in zip(data.rows, found, strict=True))
    write_entities(replace(data, rows=rows), out, conll=conll)
    if out is not None:
        output.inform(f"Tagged {counted(len(rows), 'text')} in {out}.")
