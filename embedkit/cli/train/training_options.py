"""Options that the train commands share, and how these commands end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from embedkit.arguments import as_label_range
from embedkit.cli import options, output
from embedkit.errors import InputError, printable
from embedkit.training.arguments import TrainingSettings

if TYPE_CHECKING:
    from embedkit.training.outcome import TrainingOutcome

training_option = partial(options.option, panel="Training")

Data: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help=f"Train on these files of sentence pairs: {options.PAIR_FILES}.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[
    Path,
    options.output_option(
        "Save the model in this folder. Until it is complete, OUT.training beside it holds "
        "checkpoints: run the same command again to resume from the last one."
    ),
]
Dev: TypeAlias = Annotated[
    str, options.data_option("Choose the best checkpoint on these scored sentence pairs.")
]
LabelRange: TypeAlias = Annotated[
    str | None,
    options.data_option(
        "Take these as the lowest and the highest possible label, such as '0 5'; by default those "
        "of the data."
    ),
]
Settings: TypeAlias = Annotated[
    TrainingSettings,
    {
        "epochs": Annotated[
            float, training_option("Make this many passes over the training data.")
        ],
        "batch_size": Annotated[
            int, training_option("Take this many examples into a forward pass.")
        ],
        "accumulate": Annotated[
            int, training_option("Accumulate the gradients of this many forward passes for a step.")
        ],
        "learning_rate": Annotated[
            float,
            training_option("Let AdamW's learning rate rise to this and fall again, linearly."),
        ],
        "warmup": Annotated[
            float, training_option("Let the learning rate rise in this fraction of the steps.")
        ],
        "weight_decay": Annotated[float, training_option("Set AdamW's weight decay.")],
        "evaluations": Annotated[
            int, training_option("Score and write a checkpoint this many times in all.")
        ],
        "patience": Annotated[
            int | None,
            training_option("Stop after this many evaluations in a row without a better score."),
        ],
        "seed": Annotated[
            int, training_option("Seed new weights, the order of the data and dropout with this.")
        ],
        "device": Annotated[
            str | None,
            training_option(
                "Train on this device, cpu or cuda. By default a GPU if there is one, in bfloat16 "
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


def parse_dimensions(text: str) -> list[int]:
    """The whole numbers of --matryoshka."""
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(
            f"--matryoshka is {text!r}; expected whole numbers such as '384 256 128 64'"
        ) from None


@dataclass(frozen=True)
class Shown:
    """What a train command prints when it ends."""

    as_json: options.Json = False
    lang: Annotated[
        str,
        options.output_option(
            "Print the verdict and the table in this language.", values=options.LANGUAGES
        ),
    ] = "en"
    overwrite: options.Overwrite = False

    def __post_init__(self) -> None:
        from embedkit.evaluation.report.locale import check_language

        check_language(self.lang)

    def check_out(self, out: Path) -> None:
        """Refuse to replace a model, before long work, unless the user asks for it."""
        output.check_model_out(out, overwrite=self.overwrite)

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
            console = output.console()
            if outcome.deltas:
                self.verdict(outcome.in_words(self.lang))
            output.warn(report)
            report.print(console, self.lang)
            if outcome.matryoshka:
                outcome.matryoshka_grid(self.lang).print(console)
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
