"""`embedkit info`, and `embedkit bench --calibrate`, which prints the same figures."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from embedkit.cli import options, output
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.embedder.calibration import Measurement
    from embedkit.embedder.embedder import Embedder
    from embedkit.embedder.precision import Choice


def info_command(
    model: options.Model = DEFAULT_MODEL,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: options.Json = False,
) -> None:
    """Show the default precision and engine of a model on this machine, and why.

    Example: [bold]embedkit info -m klue/bert-base[/bold]
    """
    from embedkit.embedder.calibration import kept_openvino
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
    content = {"model": model, "precision": choice.name, "agreement": choice.agreement}
    measured = kept_openvino()
    _show(model, content, choice, measured, as_json=as_json)
    if measured is None and choice.engine == "torch" and find_spec("openvino") is not None:
        output.inform(
            "OpenVINO is installed; auto uses it only after it has been measured: "
            "embedkit bench --calibrate"
        )


def show_calibration(*, as_json: bool) -> None:
    """Measure this CPU again, store the figures and print them."""
    from embedkit.embedder.calibration import FILE, cache_folder, calibrate_openvino
    from embedkit.embedder.precision import cpu_precision

    choice = cpu_precision(anew=True)
    content = {"file": str(cache_folder() / FILE), "precision": choice.name}
    _show("this CPU", content, choice, calibrate_openvino(), as_json=as_json)


def _show(
    what: str,
    content: dict[str, Any],
    choice: Choice,
    openvino: Measurement | None,
    *,
    as_json: bool,
) -> None:
    measured = (choice.measured, openvino)
    if as_json:
        figures = [None if one is None else one.to_json() for one in measured]
        more = {"measured": figures[0], "openvino": figures[1], "reason": choice.reason}
        output.print_json({**content, "engine": choice.engine, **more})
        return
    print(printable(f"{what}: {content['precision']} with {choice.engine} ({choice.reason})"))
    for one in filter(None, measured):
        times = ", ".join(f"{name} {time:,.0f} us" for name, time in one.microseconds.items())
        timed, libraries = "product", f"torch {one.torch}"
        if one.engine != "torch":
            timed, libraries = "layer", f"{one.engine}, {libraries}"
        print(
            printable(
                f"measured: {times} a {timed} on one thread, the shortest of {one.rounds:,}; "
                f"{one.cpu}; {one.cores} cores; {libraries}"
            )
        )
