"""Options that trainings share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from embedkit.errors import InputError
from embedkit.training.arguments import TrainingSettings

Pairs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Sentence pairs to learn from: .tsv, .csv, .jsonl (each also .gz) or .parquet.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[
    Path,
    typer.Option(
        help="Folder for the model. OUT.training beside it holds checkpoints until it is there: "
        "the same command again goes on from the last one.",
        show_default=False,
    ),
]
Dev: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Scored sentence pairs, on which the best checkpoint is chosen.", show_default=False
    ),
]
LabelRange: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Lowest and highest label, such as '0 5'; by default those of the data.",
        show_default=False,
    ),
]
Epochs: TypeAlias = Annotated[float, typer.Option(help="Passes over the training data.")]
BatchSize: TypeAlias = Annotated[int, typer.Option(help="Examples of a forward pass.")]
Accumulate: TypeAlias = Annotated[
    int, typer.Option(help="Forward passes whose gradients make a step together.")
]
LearningRate: TypeAlias = Annotated[
    float, typer.Option(help="Of AdamW at its peak; it rises and falls linearly.")
]
Warmup: TypeAlias = Annotated[float, typer.Option(help="Share of the steps in which it rises.")]
WeightDecay: TypeAlias = Annotated[float, typer.Option(help="Of AdamW.")]
Evaluations: TypeAlias = Annotated[
    int, typer.Option(help="How often a checkpoint is scored and written, in all.")
]
Patience: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Stop after so many evaluations in a row without a better score.", show_default=False
    ),
]
Seed: TypeAlias = Annotated[
    int, typer.Option(help="Of new weights, of the order of the data and of dropout.")
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="cpu or cuda; a GPU is taken where there is one, in bfloat16 where it has that.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")]


_SETTINGS = {
    "epochs": Epochs,
    "batch_size": BatchSize,
    "accumulate": Accumulate,
    "learning_rate": LearningRate,
    "warmup": Warmup,
    "weight_decay": WeightDecay,
    "evaluations": Evaluations,
    "patience": Patience,
    "seed": Seed,
    "device": Device,
}


def with_settings(
    defaults: TrainingSettings,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `TrainingSettings`; it gets them, checked, as `settings`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        for parameter in signature(command, eval_str=True).parameters.values():
            if parameter.name != "settings":
                parameters.append(parameter)
                continue
            parameters += [
                Parameter(
                    name,
                    parameter.kind,
                    default=getattr(defaults, name),
                    annotation=annotation,
                )
                for name, annotation in _SETTINGS.items()
            ]

        @wraps(command)
        def run(**given: Any) -> None:
            settings = TrainingSettings(**{name: given.pop(name) for name in _SETTINGS})
            settings.check_installed()
            command(settings=settings, **given)

        # What Typer reads.
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def warn_of_choice(settings: TrainingSettings) -> None:
    """Say it where one of several checkpoints was chosen on the pairs that score it."""
    if settings.evaluations > 1:
        print("The checkpoint was chosen on these pairs, so its scores on them are optimistic.")


def parse_range(text: str | None) -> tuple[float, float] | None:
    """The lowest and the highest label.

    Raises:
        InputError: no two finite numbers.
    """
    if text is None:
        return None
    try:
        low, high = map(float, text.replace(",", " ").split())
    except ValueError as error:
        raise InputError(
            f"--label-range is {text!r}; expected two numbers such as '0 5'"
        ) from error
    if not math.isfinite(low) or not math.isfinite(high):
        raise InputError(f"--label-range is {text!r}; expected two finite numbers")
    return low, high
