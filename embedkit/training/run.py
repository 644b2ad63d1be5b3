"""Running a trainer of transformers: taken up where it was killed, with progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
)

from embedkit.errors import InputError
from embedkit.evaluation.correlation import measure
from embedkit.progress import progress
from embedkit.training.checkpoints import Checkpoints, commit


def train(
    trainer: Trainer,
    checkpoints: Checkpoints,
    *,
    patience: int | None,
    show_progress: bool | None = None,
) -> Path:
    """Train to the end, from the last whole checkpoint if there is one.

    Returns:
        The folder of the checkpoint of the best score.

    Raises:
        InputError: no evaluation had a score.
    """
    checkpoints.sweep()
    last = checkpoints.last()
    if last is None or not last.stopped:
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
        if patience is not None:
            trainer.add_callback(EarlyStoppingCallback(patience))
        trainer.add_callback(_Committing())
        trainer.add_callback(_Progress(str(trainer.args.metric_for_best_model), show_progress))
        trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
        last = checkpoints.last()
    if last is None:
        raise RuntimeError(f"{checkpoints.folder}: the training ended without a checkpoint")
    state = json.loads((last.folder / "trainer_state.json").read_text(encoding="utf-8"))
    best = state["best_global_step"]
    if not best:
        raise InputError(
            "no evaluation had a score, because predictions were all the same or no longer finite; "
            f"expected a lower learning rate than {trainer.args.learning_rate:g}, or other data"
        )
    return checkpoints.folder / f"checkpoint-{best}"


def spearman(predictions: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, float]:
    """The score that trainers compare checkpoints by; NaN, which is never the best, for none."""
    value, _ = measure("spearman", predictions, scores)
    return {"spearman": math.nan if value is None else value}


class _Committing(TrainerCallback):
    """Tells whole checkpoints from those that a kill cut short."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        commit(folder, stopped=control.should_training_stop)


class _Progress(TrainerCallback):
    """A bar of steps, and a line an evaluation."""

    def __init__(self, metric: str, show: bool | None) -> None:
        self._metric = metric
        self._show = sys.stderr.isatty() if show is None else show
        self._open = ExitStack()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance = self._open.enter_context(
            progress(state.max_steps, "steps", show=self._show)
        )
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._advance(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._show:
            from tqdm import tqdm

            name = self._metric.removeprefix("eval_").replace("_", " ")
            said = f"step {state.global_step:,} of {state.max_steps:,}: {name} "
            tqdm.write(f"{said}{kwargs['metrics'][self._metric]:.4f}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._open.close()
