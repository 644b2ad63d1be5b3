"""`embedkit quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import choices, options, output
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL


def quantize_command(
    model: options.Model = DEFAULT_MODEL,
    *,
    out: Annotated[Path, options.output_option("Save the model in this folder.")],
    recipe: options.Recipe = None,
    calibrate_on: Annotated[
        Path | None,
        options.data_option(
            "Calibrate on the texts of this file, which are like those that you will encode: "
            f"{options.TEXT_FILES}. By default on texts that come with embedkit."
        ),
    ] = None,
    text_column: options.TextColumn = None,
    certify: Annotated[
        list[str] | None,
        options.data_option(
            "Measure what int8 changes in Spearman's correlation on these sentence pairs, or in "
            "nDCG@10 on this retrieval set. May be given several times.",
            autocompletion=choices.complete_data,
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        options.data_option(
            "Refuse int8 if the 95 % interval of that change begins below minus this value, such "
            "as 0.005. Otherwise int8 becomes the folder's default precision."
        ),
    ] = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    files: options.PairFiles,
) -> None:
    """Calibrate a model for int8 (extra openvino), and save it with a certificate.

    Example: [bold]embedkit quantize -m klue/bert-base --out my-int8 --certify dev.tsv[/bold]
    """
    output.check_model_out(out, overwrite=overwrite)
    texts = None
    if calibrate_on is not None:
        texts = [one.text for one in options.corpus(calibrate_on, text_column, files.encoding)]
    data = None if certify is None else files.read_sets(certify, "certify")
    from embedkit.embedder.certificate import described
    from embedkit.evaluation.quantize import ExcessiveLossError, describe_change, quantize

    try:
        certificate = quantize(
            model,
            out,
            recipe=recipe,
            calibrate_on=texts,
            certify=data,
            max_loss=max_loss,
            max_length=max_length,
            revision=revision,
        )
    except ExcessiveLossError as error:
        output.alert(f"error: {error}")
        raise typer.Exit(1) from error
    if as_json:
        output.print_json({"folder": str(out), **certificate})
        return
    print(printable(f"{out}: {described(certificate)}"))
    for change in certificate.get("changes", ()):
        print(printable(describe_change(change)))
