"""`embedkit encode`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options
from embedkit.errors import InputError, printable
from embedkit.files import DEFAULT_MODEL, disk_errors

_STDIN = "-"


def encode_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Texts: .txt (a text a line), .csv, .tsv, .jsonl (each also .gz) or .parquet; "
            "- is stdin, see --format.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder for the vectors; one that has some goes on.", show_default=False),
    ],
    model: options.Model = DEFAULT_MODEL,
    text_column: options.TextColumn = None,
    id_column: options.IdColumn = None,
    encoding: options.Encoding = "utf-8",
    recipe: options.Recipe = None,
    prompt: options.OwnDocumentPrompt = None,
    prompt_name: options.PromptName = None,
    max_length: options.MaxLength = None,
    precision: options.Precision = "auto",
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible",
            help="The same bits for the same text, whatever else is encoded; it takes longer.",
        ),
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the stored vectors: float32 or float16.")] = (
        "float32"
    ),
    texts: Annotated[
        bool, typer.Option("--texts", help="Store the texts too, for search to show.")
    ] = False,
    input_format: Annotated[
        str, typer.Option("--format", help="Of stdin: txt, csv, tsv or jsonl.")
    ] = "txt",
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary for machines on stdout.")
    ] = False,
) -> None:
    """Encode a corpus into a folder of Parquet shards.

    Run it again after a stop, and it goes on; after a change of INPUT, and it encodes what is new
    or changed and drops what is gone.

    Example: [bold]embedkit encode docs.csv --id-column id --texts --out vectors[/bold]
    """
    with _file(source, input_format) as path:
        from embedkit.data.corpus import Corpus

        corpus = Corpus(path, tuple(text_column or ["text"]), id_column, encoding)
        next(iter(corpus), None)  # a wrong column shows before the model is loaded
        from embedkit.embedder.embedder import Embedder
        from embedkit.embedder.prompts import described
        from embedkit.retrieval.encode_corpus import encode_corpus

        embedder = Embedder.from_pretrained(
            model,
            recipe,
            max_length=max_length,
            precision=precision,
            reproducible=reproducible,
            device=device,
            revision=revision,
        )
        try:
            done = encode_corpus(
                embedder,
                corpus,
                out,
                prompt=prompt,
                prompt_name=prompt_name,
                dtype=dtype,
                texts=texts,
                show_progress=True,
            )
        except KeyboardInterrupt:
            print(
                f"interrupted: what was encoded is in {out}; run the same command to go on",
                file=sys.stderr,
            )
            raise typer.Exit(1) from None
    choice = done.precision
    print(f"precision: {choice}", file=sys.stderr)
    prompt = described(done.prompt, embedder.settings.prompts)
    print(f"prompt: {printable(prompt)}", file=sys.stderr)
    if as_json:
        said = {
            "schema": 1,
            "folder": str(out),
            **asdict(done),
            "precision": choice.name,
            "agreement": choice.agreement,
        }
        print(json.dumps(said, ensure_ascii=False))
        return
    cut = f", {done.truncated:,} of them cut to {embedder.tokenizer.max_length} tokens"
    print(
        f"{out}: {done.rows:,} vectors of {embedder.dimension} numbers; {done.encoded:,} encoded"
        f"{cut if done.truncated else ''}, {done.kept:,} kept, {done.dropped:,} dropped, "
        f"{done.seconds:.1f} s",
        file=sys.stderr,
    )


@contextmanager
def _file(source: str, input_format: str) -> Iterator[Path]:
    """The input as a file: stdin is kept in one, for it is read twice."""
    if source != _STDIN:
        yield Path(source)
        return
    known = ("txt", "csv", "tsv", "jsonl")
    if input_format not in known:
        raise InputError(f"--format is {input_format!r}; expected one of {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="embedkit-") as scratch:
        path = Path(scratch) / f"stdin.{input_format}"
        with disk_errors("the temporary folder (TMPDIR)"), path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path
