"""`embedkit train bi-encoder`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from embedkit.cli import choices, options
from embedkit.cli.train import training_options
from embedkit.errors import InputError
from embedkit.training.arguments import BI_ENCODER

if TYPE_CHECKING:
    from embedkit.data.pairs import Pairs
    from embedkit.data.positives import Positives


def train_bi_encoder_command(
    data: training_options.Data,
    *,
    out: training_options.Out,
    dev: training_options.Dev,
    start: training_options.Start,
    recipe: options.Recipe = None,
    loss: Annotated[
        str,
        training_options.training_option(
            "Minimise this loss: cosent and cosine (mean squared error) learn from scores; "
            "in-batch from entailment or other positive pairs, with hard negatives if a file has "
            "them; triplet from an anchor, a positive and one negative.",
            values=choices.LOSSES,
        ),
    ] = "cosent",
    matryoshka: Annotated[
        str | None,
        training_options.training_option(
            "Train embeddings that can be truncated to these dimensions, such as 384 256 128 64."
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        options.data_option(
            "With in-batch and triplet: read from this column which pairs are positive, label by "
            "default; if a file has none, all of its pairs are."
        ),
    ] = None,
    positive: Annotated[
        str | None,
        options.data_option(
            "With in-batch and triplet: take the pairs of this label, entailment by default."
        ),
    ] = None,
    label_range: training_options.LabelRange = None,
    only_if_better: Annotated[
        bool,
        options.output_option(
            "Save the model only if it is significantly better on --dev than before training.",
            "--only-if-better",
        ),
    ] = False,
    settings: training_options.Settings = BI_ENCODER,
    prompt: options.Prompt = None,
    shown: training_options.Shown,
    files: options.PairFiles,
    dev_sentence1: Annotated[
        str | None,
        options.data_option(
            "Read the first sentences of --dev from this column, if it differs.",
            "--dev-sentence1-column",
        ),
    ] = None,
    dev_sentence2: Annotated[
        str | None,
        options.data_option(
            "Read the second sentences of --dev from this column, if it differs.",
            "--dev-sentence2-column",
        ),
    ] = None,
) -> None:
    """Fine-tune an encoder with its recipe, on scored pairs or on pairs with the same meaning.

    Files of in-batch and triplet have the columns sentence1 and sentence2, or anchor and positive;
    negative, or negative_1, negative_2, ..., hold hard negatives.

    Example: [bold]embedkit train bi-encoder stsb_train.tsv --dev stsb_dev.tsv --out my-model[/bold]
    """
    started = shown.begin(out)
    from embedkit.data.positives import PositiveColumns, read_positives
    from embedkit.training.bi_encoder import find_loss, train_bi_encoder

    scored = find_loss(loss).scored
    if scored and (label_column is not None or positive is not None):
        raise InputError(f"got a label of positive pairs, but the loss {loss} learns from scores")
    labels = training_options.parse_range(label_range)
    dimensions, paths = training_options.parse_dimensions(matryoshka, data)
    sets: list[Pairs] | list[Positives]
    if scored:
        sets = [files.read(path) for path in paths]
    else:
        columns = PositiveColumns(
            files.sentence1, files.sentence2, label_column or "label", positive or "entailment"
        )
        sets = [read_positives(path, columns, files.encoding) for path in paths]
    named = {"sentence1": dev_sentence1, "sentence2": dev_sentence2}
    held_out = replace(files, **{name: own for name, own in named.items() if own}).read(dev)
    trained = train_bi_encoder(
        sets,
        held_out,
        out,
        recipe=recipe,
        loss=loss,
        matryoshka=dimensions,
        settings=settings,
        labels=labels,
        prompt=prompt,
        only_if_better=only_if_better,
        **vars(start),
    )
    content = {"loss": loss, "recipe": str(trained.recipe)}
    shown.show("model", out, started, content, trained.training)
