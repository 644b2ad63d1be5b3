"""`embedkit train bi-encoder`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.errors import InputError, printable
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe
from embedkit.training.arguments import BI_ENCODER, TrainingSettings

if TYPE_CHECKING:
    from embedkit.data.pairs import Pairs
    from embedkit.data.positives import Positives


@training_options.with_settings(BI_ENCODER)
def train_bi_encoder_command(
    data: training_options.Pairs,
    out: training_options.Out,
    dev: training_options.Dev,
    model: options.Model = DEFAULT_MODEL,
    recipe: options.Recipe = None,
    loss: Annotated[
        str,
        typer.Option(
            help="cosent or cosine (mean squared error), which learn from scores; or in-batch, "
            "which learns from entailment or other positive pairs."
        ),
    ] = "cosent",
    label_column: Annotated[
        str | None,
        typer.Option(
            help="With in-batch: column that tells the positive pairs, label by default; without "
            "one, all are.",
            show_default=False,
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(
            help="With in-batch: the label of positive pairs, entailment by default.",
            show_default=False,
        ),
    ] = None,
    label_range: training_options.LabelRange = None,
    settings: TrainingSettings = BI_ENCODER,
    prompt: options.Prompt = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    as_json: training_options.Json = False,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
    dev_sentence1: Annotated[
        str | None,
        typer.Option(
            "--dev-sentence1-column",
            help="Column of the first sentence in --dev, where it is another one.",
            show_default=False,
        ),
    ] = None,
    dev_sentence2: Annotated[
        str | None,
        typer.Option(
            "--dev-sentence2-column",
            help="Column of the second sentence in --dev, where it is another one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fine-tune an encoder with its recipe, on scored pairs or on pairs that mean the same.

    Example: [bold]embedkit train bi-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-model[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.pairs import PairColumns, read_pairs
    from embedkit.data.positives import PositiveColumns, read_positives
    from embedkit.training.bi_encoder import find_loss, train_bi_encoder

    scored = find_loss(loss).scored
    if scored and (label_column is not None or positive is not None):
        raise InputError(f"got a label of positive pairs, but the loss {loss} learns from scores")
    labels = training_options.parse_range(label_range)
    parsed = None if recipe is None else Recipe.parse(recipe)
    columns = PairColumns(sentence1, sentence2, score, subset)
    sets: list[Pairs] | list[Positives]
    if scored:
        sets = [read_pairs(path, columns, encoding) for path in data]
    else:
        positives = PositiveColumns(
            sentence1, sentence2, label_column or "label", positive or "entailment"
        )
        sets = [read_positives(path, positives, encoding) for path in data]
    held_out = read_pairs(
        dev,
        PairColumns(dev_sentence1 or sentence1, dev_sentence2 or sentence2, score, subset),
        encoding,
    )
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.evaluation.metric_delta import metric_deltas

    trained = train_bi_encoder(
        sets,
        held_out,
        out,
        model=model,
        recipe=parsed,
        loss=loss,
        settings=settings,
        labels=labels,
        prompt=prompt,
        max_length=max_length,
        revision=revision,
        show_progress=True,
    )
    report = evaluate(trained, held_out, prompt=prompt, show_progress=True)
    before = Embedder.from_pretrained(
        model,
        parsed,
        revision=revision,
        max_length=max_length,
        device=settings.device,
        precision="float32",
    )
    found = metric_deltas(evaluate(before, held_out, prompt=prompt, show_progress=True), report)
    seconds = time.perf_counter() - started
    if as_json:
        said = {
            "schema": 1,
            "loss": loss,
            "recipe": str(trained.recipe),
            "gain": [asdict(gain) for gain in found],
            "seconds": seconds,
            "dev": report.to_dict(),
        }
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    output.show(report, as_json=False, out=None)
    for gain in found:
        print(printable(f"{gain}"))
    training_options.warn_of_choice(settings)
    print(f"Saved the model in {out} after {seconds:.1f} s.", file=sys.stderr)
