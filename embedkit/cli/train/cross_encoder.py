"""`embedkit train cross-encoder`."""

from __future__ import annotations

from typing import Annotated

from embedkit.cli import choices, options
from embedkit.cli.train import training_options
from embedkit.training.arguments import CROSS_ENCODER


def train_cross_encoder_command(
    data: training_options.Data,
    *,
    out: training_options.Out,
    dev: training_options.Dev,
    start: training_options.Start,
    reads: Annotated[
        str,
        options.model_option(
            "Put the classifier on this; pooler-fresh is a pooler with new weights.",
            values=choices.READS,
        ),
    ] = "pooler",
    label_range: training_options.LabelRange = None,
    settings: training_options.Settings = CROSS_ENCODER,
    shown: training_options.Shown,
    files: options.PairFiles,
) -> None:
    """Fine-tune an encoder that reads both sentences of a pair at once, by mean squared error.

    Example: [bold]embedkit train cross-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-ce[/bold]
    """
    started = shown.begin(out)
    labels = training_options.parse_range(label_range)
    sets, held_out = [files.read(path) for path in data], files.read(dev)
    from embedkit.training.cross_encoder import train_cross_encoder

    trained = train_cross_encoder(
        sets, held_out, out, reads=reads, settings=settings, labels=labels, **vars(start)
    )
    content = {
        "reads": reads,
        "label_range": list(trained.label_range),
        "notes": dict(trained.notes),
    }
    shown.show("cross-encoder", out, started, content, trained.training)
