"""`embedkit duplicates`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli import options, output
from embedkit.cli.encoder_options import EncoderOptions
from embedkit.cli.vectors import vectors_folder
from embedkit.errors import InputError, counted, printable

_CHUNK = 4096  # rows written at a time

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.data.remote import Source
    from embedkit.vectors.embeddings import Vectors


def duplicates_command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help=f"Read the texts of this file: {options.TEXT_FILES}; of a folder, glob or URL of "
            "such files; or a folder of embedkit encode.",
            show_default=False,
        ),
    ],
    threshold: Annotated[
        float,
        options.scoring_option(
            "Treat texts as duplicates if their cosine is at least this, -1 to 1."
        ),
    ] = 0.9,
    out: Annotated[
        Path | None,
        options.output_option(
            "Write the rows that are kept, all their columns, into this file, in the input's "
            "format; of a folder the ids, and the texts if it has them."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    *,
    encoder: EncoderOptions,
    as_json: options.Json = False,
) -> None:
    """Find texts that repeat an earlier one, exactly or nearly, and keep one of each group.

    A group is printed as the row that is kept, then the others with their cosine to it.

    Example: [bold]embedkit duplicates docs.csv --threshold 0.9 --out kept.csv[/bold]
    """
    from embedkit.retrieval.duplicates import check_threshold, find_duplicates

    check_threshold(threshold)
    corpus = None
    if vectors_folder(context, source, *EncoderOptions.__dataclass_fields__) is None:
        corpus = encoder.corpus(source)
    if out is not None:
        _check_out(out, corpus)
        output.check_unused(out, "--out", overwrite=overwrite)
    with _vectors(corpus or source, encoder) as vectors:
        duplicates = find_duplicates(vectors, threshold=threshold)
        kept, groups, rows = duplicates.kept, duplicates.groups, len(vectors)
        members = set(chain.from_iterable(groups))
        shown = {row: cells for row, cells in enumerate(_stored(vectors)) if row in members}
        if out is not None:
            _write_kept(out, corpus or vectors, set(kept.tolist()))

    listed = [
        {
            **shown[leader],
            "duplicates": [{**shown[x], "score": float(duplicates.scores[x])} for x in others],
        }
        for leader, *others in groups
    ]
    counts = {
        "rows": rows,
        "kept": len(kept),
        "exact": duplicates.exact,
        "near": rows - len(kept) - duplicates.exact,
    }
    if as_json:
        output.print_json({"threshold": threshold, **counts, "groups": listed})
        return
    for group in listed:
        print(printable(f"{group['id']}  {group.get('text', '')}".rstrip()))
        for other in group["duplicates"]:
            line = f"  {other['score']:.4f}  {other['id']}  {other.get('text', '')}"
            print(printable(line.rstrip()))
    output.inform(
        f"{source}: {counts['exact']:,} exact and {counts['near']:,} near duplicates in "
        f"{counted(len(groups), 'group')}; {len(kept):,} of {rows:,} rows are kept"
        + (f", in {out}" if out is not None else "")
    )


@contextmanager
def _vectors(source: Corpus | str, encoder: EncoderOptions) -> Iterator[Vectors]:
    """Those of a folder, or of texts in a temporary folder, which needs no memory."""
    from embedkit.vectors.embeddings import Vectors

    if isinstance(source, str):
        yield Vectors.open(source)
        return
    from embedkit.vectors.encode_corpus import encode_corpus

    devices = encoder.check_devices()
    embedder = encoder.load(devices)
    with tempfile.TemporaryDirectory(prefix="embedkit-") as scratch:
        with encoder.running(embedder, devices) as pool:
            encode_corpus(pool, source, scratch, texts=True, **encoder.prompts)
        yield Vectors.open(scratch)


def _check_out(out: Path, corpus: Corpus | None) -> None:
    """Refuse a file that cannot hold the rows as they are, before long work."""
    from embedkit.data.tables import format_of

    if corpus is None:
        format_of(out)
        return
    files = corpus.files
    if _suffix(out) != _suffix(files[0]):
        raise InputError(f"--out is {out}; expected the input's format, {_suffix(files[0])}")
    if out.resolve() in [file.resolve() for file in files if isinstance(file, Path)]:
        raise InputError(f"--out is {out}, the input itself; expected another file")
    if _suffix(out) not in (".txt", ".jsonl"):
        known = [(path, own) for path in files if (own := _columns(path, corpus.encoding))]
        for path, own in known[1:]:
            if own != known[0][1]:
                raise InputError(
                    f"{path}: has other columns than {known[0][0]}; expected the same for one --out"
                )


def _columns(path: Source, encoding: str) -> object:
    """The names of the columns, and in Parquet their types; None where it has no rows."""
    from embedkit.data.tables import read_rows, read_schema

    if _suffix(path) == ".parquet":
        return {field.name: field.type for field in read_schema(path)}
    first = next(read_rows(path, {}, others=True, encoding=encoding), None)
    return first and {*first.cells}


def _suffix(path: Source) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _stored(vectors: Vectors) -> Iterator[dict[str, Any]]:
    """The rows of a folder, without their vectors."""
    for batch in vectors:
        columns = {"id": batch.ids} | ({} if batch.texts is None else {"text": batch.texts})
        for cells in zip(*(column.to_pylist() for column in columns.values()), strict=True):
            yield dict(zip(columns, cells, strict=True))


def _write_kept(out: Path, source: Corpus | Vectors, kept: set[int]) -> None:
    """Write rows of a file with all their columns, or the ids and texts of vectors."""
    from embedkit.data.tables import chunks, format_of, read_lines, read_rows, read_schema
    from embedkit.data.writers import open_writer, output_file
    from embedkit.vectors.embeddings import Vectors

    schema = None
    if isinstance(source, Vectors):
        cells = _stored(source)
    elif _suffix(out) == ".txt":
        lines = (
            row.cells["text"] for path in source.files for row in read_lines(path, source.encoding)
        )
        with output_file(out) as file:
            file.writelines(f"{text}\n".encode() for row, text in enumerate(lines) if row in kept)
        return
    else:
        cells = (
            row.cells
            for path in source.files
            for row in read_rows(path, {}, others=True, encoding=source.encoding)
        )
        schema = read_schema(source.files[0]) if format_of(out) == "parquet" else None
    chosen = (content for row, content in enumerate(cells) if row in kept)
    first = next(chosen)  # the first row is always kept
    with open_writer(out, format_of(out), list(first), schema=schema) as writer:
        for chunk in chunks(chain([first], chosen), _CHUNK):
            writer.write(chunk)
