"""Save a model with its calibration for int8, and certify what int8 costs on labelled data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import as_path
from embedkit.data.datasets import Data
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.precision import INT8
from embedkit.encoders.quantization import Quantization
from embedkit.errors import InputError
from embedkit.evaluation.evaluate import evaluate
from embedkit.evaluation.results import MAIN_METRICS
from embedkit.files import check_target

if TYPE_CHECKING:
    from embedkit.encoders.packed import PackedEncoder


class ExcessiveLossError(InputError):
    """int8 may lose more than the bound."""


def quantize(
    model: str | Path,
    folder: str | Path,
    *,
    recipe: str | None = None,
    calibrate_on: Iterable[str] | None = None,
    certify: Data | None = None,
    max_loss: float | None = None,
    show_progress: bool | None = None,
    **loading: Any,
) -> dict[str, Any]:
    """Calibrate a model for int8 and save it in a folder that loads without doing so again.

    The folder's weights stay float32, so that other tools load it. In embedkit it runs in int8 with
    `precision="int8"`, and by default if it is certified.

    Args:
        model: see `Embedder`.
        folder: for the model; one that embedkit wrote is replaced.
        recipe: None for the model's own.
        calibrate_on: texts like those that will be encoded; None for those that come with embedkit.
        certify: sentence pairs and retrieval sets, see `evaluate`, none of them calibrated on.
        max_loss: refuse int8 where Spearman's correlation or nDCG@10 may be lower by more: where
            the paired 95 % interval of the change, of any of the data, begins below -max_loss.
        show_progress: show bars on stderr; None shows them if stderr is a terminal.
        loading: other options of `Embedder`, such as `max_length`.

    Returns:
        The certificate, which the folder records: `smallest_cosine` and `mean_cosine` to float32 on
        texts that were held out of the calibration, linears that stay float, `kept_float`, and of
        `certify` each `change` with its `ci95`.

    Raises:
        InputError: wrong input; ExcessiveLossError, one of those, for a loss beyond the bound.

    Example:
        >>> texts = [f"{who} {what}." for who in ("A cat", "She", "Rain") for what in
        ...          ("sings", "sleeps", "falls", "stops in the evening")]
        >>> certificate = quantize("minilm", "minilm-int8", calibrate_on=texts)
        >>> certificate["texts"], certificate["held_out"], certificate["mean_cosine"] > 0.98
        (9, 3, True)
    """
    if max_loss is not None:
        if certify is None:
            raise InputError("got max_loss without certify; expected the data that it is about")
        if type(max_loss) not in (int, float) or not 0 < max_loss < math.inf:
            raise InputError(f"max_loss is {max_loss!r}; expected a number above 0, such as 0.005")
    target = as_path("folder", folder)
    check_target(target)
    loading = {"device": "cpu", **loading}
    unquantized = Embedder(model, recipe, precision="float32", **loading)
    unquantized.check_saveable()  # before the calibration, which may take minutes
    unquantized.bound.check_fitted()
    embedder = Embedder(model, recipe, precision=INT8, calibrate_on=calibrate_on, **loading)
    encoder: PackedEncoder = embedder.encoder  # type: ignore[assignment]
    certificate = {} if encoder.int8 is None else dict(encoder.int8.uncertified().certificate)
    if certify is not None:
        changes = certificate["changes"] = _changes(embedder, certify, show_progress)
        if max_loss is not None:
            _check(changes, max_loss)
            certificate["max_loss"] = max_loss
    if encoder.int8 is not None:
        quantization: Quantization = replace(encoder.int8, certificate=certificate)
        embedder = copy.copy(embedder)
        embedder.encoder = encoder.with_int8(quantization)
    embedder.save_pretrained(target)
    return certificate


def _changes(embedder: Embedder, data: Data, show_progress: bool | None) -> list[dict[str, Any]]:
    """The main metric of int8 and of float32 on each data set, and their paired difference."""
    models = [copy.copy(embedder)._settle(precision="float32"), copy.copy(embedder)]
    for one in models:
        one.name = one.precision
    report = evaluate(models, data, cache=False, show_progress=show_progress)
    changes = []
    rows = [
        row for row in report.results if row.metric in MAIN_METRICS and row.aggregation == "all"
    ]
    of_model = ([row for row in rows if row.model == one.name] for one in models)
    for exact, rough in zip(*of_model, strict=True):
        delta = rough.baseline
        values = {"dataset": rough.dataset, "metric": rough.metric, "n": rough.n}
        values |= {"float32": exact.value, "int8": rough.value}
        changes.append({**values, "change": delta and delta.value, "ci95": delta and delta.ci95})
    return changes


def _check(changes: list[dict[str, Any]], max_loss: float) -> None:
    for one in changes:
        if one["ci95"] is None or one["ci95"][0] < -max_loss:
            raise ExcessiveLossError(
                f"int8 is refused: {describe_change(one)}, and the bound (max_loss) is {max_loss}; "
                "calibrate on texts of the kind that you encode, or use float32"
            )


def describe_change(change: dict[str, Any]) -> str:
    """Such as: stsb_test: spearman 0.8201 to 0.8198, -0.0003 [-0.0010, 0.0004]."""
    if change["change"] is None or change["ci95"] is None:
        return f"{change['dataset']}: {change['metric']} has no interval"
    low, high = change["ci95"]
    return (
        f"{change['dataset']}: {change['metric']} {change['float32']:.4f} to {change['int8']:.4f}, "
        f"a change of {change['change']:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
