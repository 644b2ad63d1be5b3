"""`embedkit info`, and what `embedkit bench --calibrate` prints."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli import options
from embedkit.encoders.hub import CROSS_ENCODER_FILE
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL, holds

if TYPE_CHECKING:
    from embedkit.embedder.calibration import Measurement

_ENGINE = "torch"


def info_command(
    model: options.Model = DEFAULT_MODEL,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON on stdout.")] = False,
) -> None:
    """Say in which precision a model runs here by default, and why.

    Example: [bold]embedkit info -m klue/bert-base[/bold]
    """
    from embedkit.embedder.embedder import Embedder
    from embedkit.embedder.precision import Choice
    from embedkit.scoring.loading import find_head

    if holds(model, CROSS_ENCODER_FILE):
        choice = Choice("float32", None, "cross-encoders always do")
    else:
        head = find_head(model, device=device, revision=revision)
        embedder = None if head is None else head.embedder
        if embedder is None:
            embedder = Embedder.from_pretrained(model, device=device, revision=revision)
        choice = embedder.precision_choice
        if head is not None:
            choice = replace(choice, reason="the head was trained in it")
    said = {"model": model, "precision": choice.name, "agreement": choice.agreement}
    _show(model, said, choice.reason, choice.measured, as_json=as_json)


def show_calibration(*, as_json: bool) -> None:
    """Measure this CPU anew, keep the figures and print them."""
    from embedkit.embedder.calibration import FILE, cache_folder
    from embedkit.embedder.precision import cpu_precision

    name, reason, measured = cpu_precision(anew=True)
    said = {"file": str(cache_folder() / FILE), "precision": name or "float32"}
    _show("this CPU", said, reason, measured, as_json=as_json)


def _show(
    what: str, said: dict[str, Any], reason: str, measured: Measurement | None, *, as_json: bool
) -> None:
    if as_json:
        figures = None if measured is None else measured.to_json()
        said |= {"engine": _ENGINE, "measured": figures, "reason": reason}
        print(json.dumps({"schema": 1, **said}, ensure_ascii=False))
        return
    print(printable(f"{what}: {said['precision']} with {_ENGINE} ({reason})"))
    if measured is not None:
        times = ", ".join(f"{name} {time:,.0f} us" for name, time in measured.microseconds.items())
        print(
            printable(
                f"measured: {times} a product on one thread, the shortest of {measured.rounds:,}; "
                f"{measured.cpu}; {measured.cores} cores; torch {measured.torch}"
            )
        )
