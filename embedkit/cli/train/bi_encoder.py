"""`embedkit train bi-encoder`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli import options
from embedkit.cli.options import option
from embedkit.cli.train import training_options
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe
from embedkit.training.arguments import BI_ENCODER

if TYPE_CHECKING:
    from embedkit.data.pairs import Pairs
    from embedkit.data.positives import Positives


def train_bi_encoder_command(
    data: training_options.Data,
    *,
    out: training_options.Out,
    dev: training_options.Dev,
    model: options.Model = DEFAULT_MODEL,
    recipe: options.Recipe = None,
    loss: Annotated[
        str,
        typer.Option(
            help="Loss: cosent or cosine (mean squared error), which learn from scores, or "
            "in-batch, which learns from entailment or other positive pairs."
        ),
    ] = "cosent",
    label_column: Annotated[
        str | None,
        option(
            "With in-batch: column that tells which pairs are positive, label by default; if a "
            "file has none, all of its pairs are."
        ),
    ] = None,
    positive: Annotated[
        str | None, option("With in-batch: label of the positive pairs, entailment by default.")
    ] = None,
    label_range: training_options.LabelRange = None,
    only_if_better: Annotated[
        bool,
        typer.Option(
            "--only-if-better",
            help="Save the model only if it is significantly better on --dev than before training.",
        ),
    ] = False,
    settings: training_options.Settings = BI_ENCODER,
    prompt: options.Prompt = None,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    shown: training_options.Shown,
    files: options.PairFiles,
    dev_sentence1: Annotated[
        str | None,
        option("Column of the first sentence in --dev, if it differs.", "--dev-sentence1-column"),
    ] = None,
    dev_sentence2: Annotated[
        str | None,
        option("Column of the second sentence in --dev, if it differs.", "--dev-sentence2-column"),
    ] = None,
) -> None:
    """Fine-tune an encoder with its recipe, on scored pairs or on pairs with the same meaning.

    Example: [bold]embedkit train bi-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-model[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.positives import PositiveColumns, read_positives
    from embedkit.training.bi_encoder import find_loss, train_bi_encoder

    scored = find_loss(loss).scored
    if scored and (label_column is not None or positive is not None):
        raise InputError(f"got a label of positive pairs, but the loss {loss} learns from scores")
    labels = training_options.parse_range(label_range)
    parsed = None if recipe is None else Recipe.parse(recipe)
    sets: list[Pairs] | list[Positives]
    if scored:
        sets = [files.read(path) for path in data]
    else:
        columns = PositiveColumns(
            files.sentence1, files.sentence2, label_column or "label", positive or "entailment"
        )
        sets = [read_positives(path, columns, files.encoding) for path in data]
    dev_files = replace(
        files,
        sentence1=dev_sentence1 or files.sentence1,
        sentence2=dev_sentence2 or files.sentence2,
    )
    held_out = dev_files.read(dev)
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
        only_if_better=only_if_better,
    )
    content = {"loss": loss, "recipe": str(trained.recipe)}
    shown.show("model", out, started, content, trained.training)
