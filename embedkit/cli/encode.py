"""`embedkit encode`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli import choices, options, output
from embedkit.cli.app import ADDRESS
from embedkit.cli.encoder_options import EncoderOptions
from embedkit.errors import InputError, counted
from embedkit.files import disk_errors

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder

_STDIN = "-"
_STDIN_FORMATS = ("txt", "csv", "tsv", "jsonl")


def encode_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help=f"Encode the texts of this file: {options.TEXT_FILES}; or those of a folder or "
            "a glob of such files, or of a URL such as s3://; - is stdin, see --format.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        options.output_option(
            "Write the vectors into this folder, or to the URL of one. If it has some already, the "
            "work is resumed.",
            metavar="PATH",
        ),
    ],
    *,
    encoder: EncoderOptions,
    reproducible: Annotated[
        bool,
        options.model_option(
            "Make embeddings bit-identical, whatever else is encoded with them; this is slower.",
            "--reproducible",
        ),
    ] = False,
    batch_tokens: Annotated[
        int | None,
        options.model_option(
            "Run at most this many tokens at once; a longer text runs alone. By default 4,096, or "
            "2,048 per thread, on a CPU, and 65,536 on a GPU. Fewer need less memory."
        ),
    ] = None,
    dtype: Annotated[
        str, options.output_option("Store the vectors in this data type.", values=choices.DTYPES)
    ] = "float32",
    texts: Annotated[
        bool,
        options.output_option("Store the texts too, so that search can print them.", "--texts"),
    ] = False,
    shard: Annotated[
        str | None,
        options.data_option(
            "Encode only the documents whose ids hash to shard I of N, such as 2/16; embedkit "
            "vectors merge makes one folder of all N. Needs a --precision.",
            metavar="I/N",
        ),
    ] = None,
    work: Annotated[
        Path | None,
        options.output_option(
            "Encode in this folder before the upload to a URL; by default in a temporary one."
        ),
    ] = None,
    input_format: Annotated[
        str, options.data_option("Read stdin in this format.", "--format", values=_STDIN_FORMATS)
    ] = "txt",
    ray: Annotated[
        str | None,
        options.model_option(
            "Encode on the cluster of Ray whose head has this HOST:PORT; without ADDRESS on one "
            "that this command starts. Needs a --precision other than auto.",
            "--ray",
            metavar=ADDRESS,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Encode a corpus into a folder of Parquet shards.

    Run the command again after it was stopped, and it resumes. Run it again after INPUT changed,
    and it encodes what is new or changed and drops what is gone.

    Example: [bold]embedkit encode docs.csv --id-column id --texts --out vectors[/bold]
    """
    with _file(source, input_format) as path, ExitStack() as cluster:
        corpus = encoder.corpus(path)
        from embedkit.embedder.prompts import described
        from embedkit.vectors.corpus_shard import check_shard
        from embedkit.vectors.encode_corpus import check_encoding, encode_corpus

        check_encoding(dtype, batch_tokens, reproducible=reproducible)
        check_shard(shard, encoder.precision)
        devices = encoder.check_devices()
        if ray is not None:
            distribute = cluster.enter_context(_on_ray(ray, encoder.precision, devices))
            devices = ["cpu"]  # of this process, which encodes nothing
        embedder = encoder.load(devices, reproducible=reproducible)
        with output.resumable(out):
            if ray is None:
                embedder = cluster.enter_context(encoder.running(embedder, devices))
            else:
                embedder = distribute(embedder)
            summary = encode_corpus(
                embedder,
                corpus,
                out,
                **encoder.prompts,
                dtype=dtype,
                texts=texts,
                batch_tokens=batch_tokens,
                shard=shard,
                work=work,
            )
    choice = summary.precision
    output.inform(f"precision: {choice}")
    output.inform(f"prompt: {described(summary.prompt, embedder.settings.prompts)}")
    if as_json:
        precisions = {
            "precision": choice.name,
            "agreement": choice.agreement,
            "engine": choice.engine,
        }
        output.print_json({"folder": str(out), **asdict(summary), **precisions})
        return
    truncated = f", {summary.truncated:,} of them cut to {embedder.tokenizer.max_length} tokens"
    output.inform(
        f"{out}: {counted(summary.rows, 'vector')} of {embedder.dimension} numbers; "
        f"{summary.encoded:,} encoded{truncated if summary.truncated else ''}, "
        f"{summary.kept:,} kept, {summary.dropped:,} dropped, {summary.seconds:.1f} s"
    )


@contextmanager
def _on_ray(
    address: str, precision: str, devices: list[str]
) -> Iterator[Callable[[Embedder], Embedder]]:
    """A connection to a cluster; yields what makes an embedder one that runs there."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray prints on stdout where it likes
    try:
        from embedkit.distributed import ray
        from embedkit.embedder.precision import check_not_auto
    except ImportError as error:
        raise InputError(error) from None
    check_not_auto(precision)
    if devices:
        raise InputError(
            "got --ray and --device, --devices or --workers; Ray gives its actors their devices"
        )
    with ray.connected(address or None) as where:
        output.inform(f"ray: {where}")
        yield ray.ClusterEmbedder


@contextmanager
def _file(source: str, input_format: str) -> Iterator[str | Path]:
    """The input as a file: stdin is copied to one, because it is read twice."""
    if source != _STDIN:
        yield source
        return
    if input_format not in _STDIN_FORMATS:
        raise InputError(
            f"--format is {input_format!r}; expected one of {', '.join(_STDIN_FORMATS)}"
        )
    with tempfile.TemporaryDirectory(prefix="embedkit-") as scratch:
        path = Path(scratch) / f"stdin.{input_format}"
        with disk_errors("the temporary folder (TMPDIR)"), path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), "stdin")) from None
