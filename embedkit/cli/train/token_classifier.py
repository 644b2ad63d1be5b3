"""`embedkit train token-classifier`."""

from __future__ import annotations

import time
from typing import Annotated, Any, cast

import typer

from embedkit.cli import options, output
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
    encoding: options.Encoding = "utf-8",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Fine-tune an encoder that finds entities in texts: BertForTokenClassification.

    Example: [bold]embedkit train token-classifier train.conll --dev dev.conll --out my-ner[/bold]
    """
    started = time.perf_counter()
    output.check_model_out(out, overwrite=overwrite)
    from embedkit.data.entity_files import read_entities

    named = cast("Any", unit)
    sets = [read_entities(path, named, encoding) for path in data]
    held_out = read_entities(dev, named, encoding)
    from embedkit.cli import entities
    from embedkit.tagging.entity_scores import evaluate_tagger
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
    report = evaluate_tagger(trained, held_out)
    seconds = time.perf_counter() - started
    notes = dict(trained.notes)
    if as_json:
        content = {"unit": trained.unit, "notes": notes, "dev": entities.as_json([report])}
        output.print_json({**content, "seconds": seconds})
        return
    entities.show_entities(report)
    print(f"F1 of correct tags: {notes['F1 of correct tags']}.")
    if settings.evaluations > 1:
        print("The checkpoint was chosen on these sentences, so its scores are biased upwards.")
    output.inform(f"Saved the token classifier in {out} after {seconds:.1f} s.")
