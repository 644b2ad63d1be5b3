"""Options that the train commands share, and how these commands end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedkit.arguments import as_label_range
from embedkit.cli import options, output
from embedkit.cli.options import option
from embedkit.errors import InputError, printable
from embedkit.training.arguments import TrainingSettings

if TYPE_CHECKING:
    from embedkit.training.outcome import TrainingOutcome

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


@dataclass(frozen=True)
class Shown:
    """What a train command prints when it ends."""

    as_json: options.Json = False
    lang: Annotated[str, typer.Option(help="Language of verdict and table: en or ko.")] = "en"

    def __post_init__(self) -> None:
        from embedkit.evaluation.report.locale import check_language

        check_language(self.lang)

    def show(
        self,
        what: str,
        out: Path,
        started: float,
        content: Mapping[str, Any],
        outcome: TrainingOutcome | None,
        scored: str = "dev",
    ) -> None:
        """Print JSON with the report as `scored`, or verdict, report and notes."""
        if outcome is None:
            raise ValueError("the model was not trained")
        seconds, report = time.perf_counter() - started, outcome.report
        if self.as_json:
            if report is not None:
                output.warn(report)
            scores = {"dev": None, scored: None if report is None else report.to_dict()}
            output.print_json({**content, "seconds": seconds, **outcome.to_dict(), **scores})
            return
        if report is not None:
            self.verdict(outcome.in_words(self.lang))
            output.show_report(report, options.ReportFiles(lang=self.lang))
        deltas = [delta.in_words(self.lang) for delta in outcome.deltas[1:]]
        for note in [*deltas, *outcome.notes_in(self.lang)]:
            print(printable(note))
        end = f"Saved the {what} in" if outcome.saved else f"The {what} was not saved in"
        output.inform(f"{end} {out} after {seconds:.1f} s.")

    def verdict(self, text: str) -> None:
        """Print the first line."""
        output.console().print(printable(text), style="bold", markup=False)

    def words(self, key: str) -> str:
        """A text on trainings in the language."""
        from embedkit.evaluation.report.locale import catalogue

        return catalogue(self.lang)["training"][key]
