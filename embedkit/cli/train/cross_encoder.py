"""`embedkit train cross-encoder`."""

from __future__ import annotations

import time
from typing import Annotated

from embedkit.cli import choices, options
from embedkit.cli.train import training_options
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import CROSS_ENCODER


def train_cross_encoder_command(
    data: training_options.Data,
    *,
    out: training_options.Out,
    dev: training_options.Dev,
    model: options.Model = DEFAULT_MODEL,
    reads: Annotated[
        str,
        options.model_option(
            "Let the classifier read this; pooler-fresh is a pooler with new weights.",
            values=choices.READS,
        ),
    ] = "pooler",
    label_range: training_options.LabelRange = None,
    settings: training_options.Settings = CROSS_ENCODER,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    shown: training_options.Shown,
    files: options.PairFiles,
) -> None:
    """Fine-tune an encoder that reads both sentences of a pair at once, by mean squared error.

    Example: [bold]embedkit train cross-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-ce[/bold]
    """
    started = time.perf_counter()
    shown.check_out(out)
    from embedkit.scoring.cross_encoder_network import check_reads

    check_reads(reads)
    labels = training_options.parse_range(label_range)
    sets = [files.read(path) for path in data]
    held_out = files.read(dev)
    from embedkit.training.cross_encoder import train_cross_encoder

    trained = train_cross_encoder(
        sets,
        held_out,
        out,
        model=model,
        reads=reads,
        settings=settings,
        labels=labels,
        max_length=max_length,
        revision=revision,
    )
    content = {
        "reads": reads,
        "label_range": list(trained.label_range),
        "notes": dict(trained.notes),
    }
    shown.show("cross-encoder", out, started, content, trained.training)
