"""`embedkit train cross-encoder`."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import CROSS_ENCODER, TrainingSettings


@training_options.with_settings(CROSS_ENCODER)
def train_cross_encoder_command(
    data: training_options.Pairs,
    out: training_options.Out,
    dev: training_options.Dev,
    model: options.Model = DEFAULT_MODEL,
    reads: Annotated[
        str,
        typer.Option(
            help="What the classifier sits on: pooler, pooler-fresh (with new weights), cls, mean "
            "or max."
        ),
    ] = "pooler",
    label_range: training_options.LabelRange = None,
    settings: TrainingSettings = CROSS_ENCODER,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    as_json: training_options.Json = False,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Fine-tune an encoder that reads both sentences of a pair at once, by mean squared error.

    Example: [bold]embedkit train cross-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-ce[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.pairs import PairColumns, read_pairs
    from embedkit.scoring.cross_encoder_network import check_reads

    check_reads(reads)
    labels = training_options.parse_range(label_range)
    columns = PairColumns(sentence1, sentence2, score, subset)
    sets = [read_pairs(path, columns, encoding) for path in data]
    held_out = read_pairs(dev, columns, encoding)
    from embedkit.evaluation.evaluate import evaluate
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
        show_progress=True,
    )
    report = evaluate(trained, held_out, show_progress=True)
    seconds = time.perf_counter() - started
    if as_json:
        output.warn(report)
        said = {
            "schema": 1,
            "reads": reads,
            "label_range": list(trained.label_range),
            "notes": dict(trained.notes),
            "seconds": seconds,
            "dev": report.to_dict(),
        }
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    output.show(report, as_json=False, out=None)
    training_options.warn_of_choice(settings)
    print(f"Saved the cross-encoder in {out} after {seconds:.1f} s.", file=sys.stderr)
