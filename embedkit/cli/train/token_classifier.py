"""`embedkit train token-classifier`."""

from __future__ import annotations

from typing import Annotated

from embedkit.cli import options
from embedkit.cli.train import training_options
from embedkit.training.arguments import TOKEN_CLASSIFIER

_FILES = "CoNLL files, or .jsonl with text and spans; or one of these as .gz"


def train_token_classifier_command(
    data: Annotated[
        list[str],
        training_options.data_argument(help=f"Train on these texts with entities: {_FILES}."),
    ],
    *,
    out: training_options.Out,
    dev: Annotated[
        str, options.data_option("Choose the best checkpoint on these texts with entities.")
    ],
    start: training_options.Start,
    unit: options.Unit = None,
    settings: training_options.Settings = TOKEN_CLASSIFIER,
    shown: training_options.Shown,
    encoding: options.Encoding = "utf-8",
) -> None:
    """Fine-tune an encoder that finds entities in texts: BertForTokenClassification.

    Example: [bold]embedkit train token-classifier train.conll --dev dev.conll --out my-ner[/bold]
    """
    started = shown.begin(out)
    from embedkit.cli.entities import read_entity_file

    *sets, held_out = (read_entity_file(path, unit, encoding) for path in [*data, dev])
    from embedkit.training.token_classifier import train_token_classifier

    trained = train_token_classifier(sets, held_out, out, settings=settings, **vars(start))
    content = {"unit": trained.unit, "notes": dict(trained.notes)}
    shown.show("token classifier", out, started, content, trained.training)
