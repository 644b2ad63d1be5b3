"""Run a trainer of transformers: resumed where it was killed, with progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
)

from embedkit.encoders.loading import without_bars
from embedkit.errors import InputError
from embedkit.evaluation.correlation import measure
from embedkit.progress import is_shown, progress
from embedkit.training.arguments import TrainingSettings
from embedkit.training.checkpoints import Checkpoints, commit


@dataclass(frozen=True)
class TrainingRun:
    """One training under way, which can be killed and resumed.

    Attributes:
        settings: of the training.
        checkpoints: beside the folder that the model goes to.
        show_progress: on stderr; None shows it where stderr is a terminal.
    """

    settings: TrainingSettings
    checkpoints: Checkpoints
    show_progress: bool | None

    @classmethod
    @contextmanager
    def begin(
        cls,
        out: str | Path,
        settings: TrainingSettings,
        show_progress: bool | None,
        plan: Mapping[str, Any],
    ) -> Iterator[TrainingRun]:
        """A run, new or of the same plan and settings; its checkpoints go when all went well.

        Args:
            out: the folder that the model goes to.
            settings: of the training.
            show_progress: see the attribute.
            plan: what else makes the training what it is, as JSON values.

        Raises:
            InputError: see `Checkpoints.beside`.
        """
        whole_plan = {**plan, **settings.described()}
        with Checkpoints.beside(Path(out), whole_plan) as checkpoints, without_bars():
            yield cls(settings, checkpoints, show_progress)

    def arguments(self, kind: Any, examples: int, *, metric: str, greater: bool = True) -> Any:
        """The settings as transformers' TrainingArguments.

        Args:
            kind: the class, `TrainingArguments` or one of sentence-transformers.
            examples: in the training data.
            metric: that decides which checkpoint is the best, as the trainer calls it.
            greater: whether more of it is better.
        """
        settings, gpu = self.settings, torch.cuda.is_available()
        total = settings.steps(examples)
        every = max(1, math.ceil(total / settings.evaluations))
        return kind(
            output_dir=str(self.checkpoints.folder),
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=4 * settings.batch_size,
            gradient_accumulation_steps=settings.accumulate,
            learning_rate=settings.learning_rate,
            warmup_steps=math.ceil(settings.warmup * total),
            weight_decay=settings.weight_decay,
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            metric_for_best_model=metric,
            greater_is_better=greater,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            restore_callback_states_from_checkpoint=True,  # evaluations without a better score
            seed=settings.seed,
            bf16=settings.bfloat16,
            use_cpu=settings.device == "cpu",
            dataloader_pin_memory=settings.device != "cpu" and gpu,
        )

    def train(self, trainer: Trainer) -> Path:
        """Train to the end, from the last whole checkpoint if there is one.

        Returns:
            The folder of the checkpoint of the best score.

        Raises:
            InputError: no evaluation had a score.
        """
        last = self.checkpoints.last()
        if last is None or not last.stopped:
            for callback in (ProgressCallback, PrinterCallback):
                trainer.remove_callback(callback)
            if self.settings.patience is not None:
                trainer.add_callback(EarlyStoppingCallback(self.settings.patience))
            trainer.add_callback(_Committing())
            metric = str(trainer.args.metric_for_best_model)
            trainer.add_callback(_Progress(metric, self.show_progress))
            trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
            last = self.checkpoints.last()
        if last is None:
            raise RuntimeError(
                f"{self.checkpoints.folder}: the training ended without a checkpoint"
            )
        state = json.loads((last.folder / "trainer_state.json").read_text(encoding="utf-8"))
        best = state["best_global_step"]
        if not best:
            raise InputError(
                "no evaluation had a score, because predictions were all the same or no longer "
                f"finite; expected a lower learning rate than {trainer.args.learning_rate:g}, or "
                "other data"
            )
        return self.checkpoints.folder / f"checkpoint-{best}"


def spearman(predictions: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, float]:
    """The score that trainers compare checkpoints by; NaN is never the best."""
    value, _ = measure("spearman", predictions, scores)
    return {"spearman": math.nan if value is None else value}


class _Committing(TrainerCallback):
    """Marks each checkpoint as whole once it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        commit(folder, stopped=control.should_training_stop)


class _Progress(TrainerCallback):
    """A bar of steps, and a line an evaluation."""

    def __init__(self, metric: str, show: bool | None) -> None:
        self._metric = metric
        self._show = is_shown(show)
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
            from tqdm.auto import tqdm

            name = self._metric.removeprefix("eval_").replace("_", " ")
            step = f"step {state.global_step:,} of {state.max_steps:,}"
            score = kwargs["metrics"][self._metric]
            tqdm.write(f"{step}: {name} {score:.4f}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._open.close()
