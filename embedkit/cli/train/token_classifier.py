"""`embedkit train token-classifier`."""

from __future__ import annotations

import time
from typing import Annotated, Any, cast

import typer

from embedkit.cli import options
from embedkit.cli.train import training_options
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import TOKEN_CLASSIFIER

_FILES = "CoNLL files, or .jsonl with text and spans; or one of these as .gz"


def train_token_classifier_command(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help=f"Train on these texts with entities: {_FILES}.",
            show_default=False,
        ),
    ],
    *,
    out: training_options.Out,
    dev: Annotated[
        str, options.data_option("Choose the best checkpoint on these texts with entities.")
    ],
    model: options.Model = DEFAULT_MODEL,
    unit: options.Unit = None,
    settings: training_options.Settings = TOKEN_CLASSIFIER,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    shown: training_options.Shown,
    encoding: options.Encoding = "utf-8",
) -> None:
    """Fine-tune an encoder that finds entities in texts: BertForTokenClassification.

    Example: [bold]embedkit train token-classifier train.conll --dev dev.conll --out my-ner[/bold]
    """
    started = time.perf_counter()
    shown.check_out(out)
    from embedkit.data.entity_files import read_entities

    named = cast("Any", unit)
    sets = [read_entities(path, named, encoding) for path in data]
    held_out = read_entities(dev, named, encoding)
    from embedkit.training.token_classifier import train_token_classifier

    trained = train_token_classifier(
        sets,
        held_out,
        out,
        model=model,
        settings=settings,
        max_length=max_length,
        revision=revision,
    )
    content = {"unit": trained.unit, "notes": dict(trained.notes)}
    shown.show("token classifier", out, started, content, trained.training)
