"""Options that the train commands share, and how these commands end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedkit.arguments import as_label_range
from embedkit.cli import options, output
from embedkit.cli.options import option
from embedkit.errors import InputError, printable
from embedkit.training.arguments import TrainingSettings

if TYPE_CHECKING:
    from embedkit.evaluation.report.report import Report

Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help=f"Files of sentence pairs to train on: {options.PAIR_FILES}.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[
    Path,
    option(
        "Folder for the model. Until it is complete, OUT.training beside it holds checkpoints: run "
        "the same command again to resume from the last one."
    ),
]
Dev: TypeAlias = Annotated[str, option("Scored sentence pairs to choose the best checkpoint on.")]
LabelRange: TypeAlias = Annotated[
    str | None,
    option("Lowest and highest possible label, such as '0 5'; by default those of the data."),
]
Settings: TypeAlias = Annotated[
    TrainingSettings,
    {
        "epochs": Annotated[float, typer.Option(help="Passes over the training data.")],
        "batch_size": Annotated[int, typer.Option(help="Examples per forward pass.")],
        "accumulate": Annotated[
            int, typer.Option(help="Forward passes whose gradients are accumulated for a step.")
        ],
        "learning_rate": Annotated[
            float,
            typer.Option(help="Peak learning rate of AdamW; it rises and falls linearly."),
        ],
        "warmup": Annotated[
            float, typer.Option(help="Fraction of the steps in which the learning rate rises.")
        ],
        "weight_decay": Annotated[float, typer.Option(help="Weight decay of AdamW.")],
        "evaluations": Annotated[
            int, typer.Option(help="Total number of times a checkpoint is scored and written.")
        ],
        "patience": Annotated[
            int | None,
            option("Stop after this many evaluations in a row without a better score."),
        ],
        "seed": Annotated[
            int, typer.Option(help="Seed of new weights, of the order of the data and of dropout.")
        ],
        "device": Annotated[
            str | None,
            option(
                "Device to train on: cpu or cuda. By default a GPU if there is one, in bfloat16 "
                "if it supports that."
            ),
        ],
    },
]


def parse_range(text: str | None) -> tuple[float, float] | None:
    """The lowest and the highest label that the user named."""
    if text is None:
        return None
    try:
        return as_label_range(text.replace(",", " ").split())
    except InputError:
        raise InputError(
            f"--label-range is {text!r}; expected two numbers such as '0 5', the lower one first"
        ) from None


def show_trained(
    what: str,
    out: Path,
    started: float,
    content: Mapping[str, Any],
    *,
    report: Report | None = None,
    notes: Iterable[object] = (),
    as_json: bool,
) -> None:
    """Print the content as JSON, or the report and the notes; and where the model was saved."""
    seconds = time.perf_counter() - started
    if as_json:
        if report is not None:
            output.warn(report)
        dev = None if report is None else report.to_dict()
        output.print_json({**content, "seconds": seconds, "dev": dev})
        return
    if report is not None:
        output.show_report(report, options.ReportFiles())
    for note in notes:
        print(printable(str(note)))
    output.inform(f"Saved the {what} in {out} after {seconds:.1f} s.")


def choice_notes(settings: TrainingSettings) -> list[str]:
    """A note, if one of several checkpoints was chosen on the pairs that score it."""
    if settings.evaluations == 1:
        return []
    return [
        "The checkpoint was chosen on these pairs, so its scores on them are biased upwards.",
    ]
