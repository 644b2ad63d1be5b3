"""`embedkit info`, and what `embedkit bench --calibrate` prints."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from embedkit.cli import options
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.embedder.calibration import Measurement
    from embedkit.embedder.embedder import Embedder

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
    from embedkit.embedder.precision import Choice
    from embedkit.scoring.loading import load_model

    loaded = load_model(model, device=device, revision=revision, precision="auto")
    if loaded.kind == "cross-encoder":
        choice = Choice("float32", None, "cross-encoders always do")
    elif loaded.kind == "model":
        choice = loaded.precision_choice
    else:
        reason = "the head was trained in it"
        choice = replace(cast("Embedder", loaded.embedder).precision_choice, reason=reason)
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
