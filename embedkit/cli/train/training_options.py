"""Options that the train commands share, and how these commands end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

import typer

from embedkit.arguments import as_label_range
from embedkit.cli import options, output
from embedkit.errors import InputError, printable
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import TrainingSettings

if TYPE_CHECKING:
    from embedkit.training.outcome import TrainingOutcome

training_option = partial(options.option, panel="Training")
data_argument = partial(typer.Argument, metavar="DATA...", show_default=False)

Data: TypeAlias = Annotated[
    list[str],
    data_argument(help=f"Train on these files of sentence pairs: {options.PAIR_FILES}."),
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
        "Set the lowest and the highest possible label, such as '0 5'; by default those of the "
        "data."
    ),
]
_TYPES = get_type_hints(TrainingSettings)
_HELP = {
    "epochs": "Make this many passes over the training data.",
    "batch_size": "Use this many examples in a forward pass.",
    "accumulate": "Accumulate the gradients of this many forward passes for a step.",
    "learning_rate": "Set AdamW's peak learning rate; it rises to it and falls linearly.",
    "warmup": "Raise the learning rate during this fraction of the steps.",
    "weight_decay": "Set AdamW's weight decay.",
    "evaluations": "Score and write a checkpoint this many times in all.",
    "patience": "Stop after this many evaluations in a row without a better score.",
    "seed": "Seed new weights, the order of the data and dropout with this.",
    "device": "Train on this device, cpu or cuda. By default a GPU if there is one, in bfloat16 if "
    "it supports that.",
}
_OPTIONS = {name: Annotated[_TYPES[name], training_option(text)] for name, text in _HELP.items()}
Settings: TypeAlias = Annotated[TrainingSettings, _OPTIONS]


@dataclass(frozen=True)
class Start:
    """The model that training starts from; `vars` of it are arguments of every training."""

    model: options.Model = DEFAULT_MODEL
    max_length: options.MaxLength = None
    revision: options.Revision = None


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


def parse_dimensions(
    text: str | None, data: Sequence[str]
) -> tuple[list[int] | None, Sequence[str]]:
    """The whole numbers of --matryoshka, and the files of DATA, which got the numbers after it."""
    if text is None:
        return None, data
    more = [part for part in data if part.isdecimal() and not Path(part).exists()]
    try:
        numbers = [int(part) for part in [*text.replace(",", " ").split(), *more]]
    except ValueError:
        raise InputError(
            f"--matryoshka is {text!r}; expected whole numbers such as '384 256 128 64'"
        ) from None
    files = [part for part in data if part not in more]
    if not files:
        raise InputError(f"got --matryoshka {' '.join(map(str, numbers))} and no data file")
    return numbers, files


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

    def begin(self, out: Path) -> float:
        """Refuse an unknown language, or to replace a model unasked; when the command began."""
        from embedkit.evaluation.report.locale import check_language

        check_language(self.lang)
        output.check_model_out(out, overwrite=self.overwrite)
        return time.perf_counter()

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
        if report is not None:
            output.warn(report)
        if self.as_json:
            scores = {"dev": None, scored: None if report is None else report.to_dict()}
            output.print_json({**content, "seconds": seconds, **outcome.to_dict(), **scores})
            return
        if report is not None:
            if outcome.deltas:
                self.verdict(outcome.in_words(self.lang))
            console = output.console()
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
