"""Run a trainer of transformers: resumed where it was killed, with progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from embedkit.data.entities import TaggedTexts
from embedkit.data.pairs import Pairs
from embedkit.data.positives import Positives
from embedkit.encoders.loading import without_bars
from embedkit.errors import InputError
from embedkit.evaluation.correlation import measure
from embedkit.evaluation.run_metadata import data_fingerprint
from embedkit.progress import is_quiet, is_shown, progress
from embedkit.training.arguments import TrainingSettings
from embedkit.training.checkpoints import Checkpoints, commit
from embedkit.training.order import ByLength, ByLengthTrainer
from embedkit.training.outcome import Curve


class BestCheckpoint(NamedTuple):
    """The checkpoint of the best score, and losses and scores on the way."""

    folder: Path
    step: int
    curve: Curve

    def load(self, network: nn.Module) -> None:
        """Give the network the weights of the checkpoint."""
        network.load_state_dict(load_file(self.folder / "model.safetensors"))
        network.eval()


@dataclass(frozen=True)
class TrainingRun:
    """One training under way, which can be killed and resumed."""

    settings: TrainingSettings
    checkpoints: Checkpoints
    show_progress: bool | None  # on stderr; None shows it where stderr is a terminal

    @classmethod
    @contextmanager
    def begin(
        cls,
        out: str | Path,
        settings: TrainingSettings,
        show_progress: bool | None,
        plan: Mapping[str, Any],
    ) -> Iterator[TrainingRun]:
        """A run to the folder `out`, new or of the same plan and settings.

        The plan is what else makes the training what it is, as JSON values. The checkpoints go when
        all went well. For errors see `Checkpoints.beside`.
        """
        whole_plan = {**plan, **settings.described()}
        with Checkpoints.beside(Path(out), whole_plan) as checkpoints, without_bars():
            yield cls(settings, checkpoints, show_progress)

    def arguments(self, kind: Any, examples: int, metric: str) -> Any:
        """The settings as TrainingArguments, or as that class of sentence-transformers (`kind`).

        The `metric`, by the trainer's name for it, decides which checkpoint is the best.
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
            greater_is_better=metric != "eval_loss",
            logging_strategy="no",  # `_Progress` asks for the loss at each evaluation
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            restore_callback_states_from_checkpoint=True,  # evaluations without a better score
            seed=settings.seed,
            bf16=settings.bfloat16,
            use_cpu=settings.device == "cpu",
            dataloader_pin_memory=settings.device != "cpu" and gpu,
        )

    def fine_tune(
        self,
        network: Any,
        order: ByLength,
        collate: Callable[[list[int]], dict[str, Tensor]],
        metric: str,
        score: Callable[[EvalPrediction], dict[str, float]] | None = None,
        *,
        logits: Callable[[Tensor, Tensor], Tensor] | None = None,
        eval_batch: int | None = None,
    ) -> BestCheckpoint:
        """Train a network of transformers, whose loss is a mean, on examples known by indices.

        `score` is of the outputs for `order.held_out`; None where the loss decides. `logits` says
        what of the outputs of a batch to keep, and `eval_batch` how many examples that has.
        """
        options = self.arguments(TrainingArguments, len(order), metric)
        options.per_device_eval_batch_size = eval_batch or options.per_device_eval_batch_size
        options.prediction_loss_only = score is None
        network.accepts_loss_kwargs = False  # transformers would not divide by `accumulate`
        trainer = ByLengthTrainer(
            order=order,
            model=network,
            args=options,
            train_dataset=list(range(len(order))),
            eval_dataset=order.held_out,
            data_collator=collate,
            compute_metrics=score,
            preprocess_logits_for_metrics=logits,
        )
        best = self.train(trainer)
        # accelerate left its forward pass in bfloat16.
        trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        return best

    def train(self, trainer: Trainer) -> BestCheckpoint:
        """Train to the end, from the last whole checkpoint if there is one."""
        last, metric = self.checkpoints.last(), str(trainer.args.metric_for_best_model)
        if last is None or not last.stopped:
            trainer.remove_callback(PrinterCallback)
            if self.settings.patience is not None:
                trainer.add_callback(EarlyStoppingCallback(self.settings.patience))
            trainer.add_callback(_Committing())
            trainer.add_callback(_Progress(metric, self.show_progress))
            trainer.train(resume_from_checkpoint=None if last is None else str(last.folder))
            last = self.checkpoints.last()
        if last is None:
            raise RuntimeError(f"{self.checkpoints.folder}: training ended without a checkpoint")
        state = json.loads((last.folder / "trainer_state.json").read_text(encoding="utf-8"))
        best = state["best_global_step"]
        if not best:
            self.checkpoints.remove()  # else they refuse a run with other settings
            raise InputError(
                "no evaluation had a score, because predictions were all the same or no longer "
                f"finite; expected a lower learning rate than {trainer.args.learning_rate:g}, or "
                "other data"
            )
        folder = self.checkpoints.folder / f"checkpoint-{best}"
        return BestCheckpoint(folder, best, _curve(state["log_history"], metric))


def data_plan(
    training: str,
    model: str,
    data: Sequence[Pairs] | Sequence[Positives] | Sequence[TaggedTexts],
    dev: Pairs | TaggedTexts,
    label_range: tuple[float, float] | None = None,
    **more: object,
) -> dict[str, Any]:
    """The plan of a training on data sets, of a model with this fingerprint."""
    digests = [x.sha256 if not isinstance(x, Pairs) else data_fingerprint(x) for x in (*data, dev)]
    return {
        "training": training,
        **more,  # before the model, whose fingerprint says less when it is another one
        "model": model,
        "data": digests[:-1],
        "dev": digests[-1],
        "label_range": None if label_range is None else list(label_range),
    }


def selection_note(settings: TrainingSettings) -> tuple[tuple[str, dict[str, Any]], ...]:
    """That the scores are biased, if they chose one of several checkpoints."""
    return (("chosen", {}),) if settings.evaluations > 1 else ()


def spearman(predictions: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, float]:
    """The score that trainers compare checkpoints by; NaN is never the best."""
    value, _ = measure("spearman", predictions, scores)
    return {"spearman": math.nan if value is None else value}


def _curve(history: Sequence[Mapping[str, float]], metric: str) -> Curve:
    """A row for each evaluation; None in place of what is not finite."""
    score = "held_out_loss" if metric == "eval_loss" else metric.removeprefix("eval_")
    rows: dict[float, dict[str, float | None]] = {}
    for entry in history:
        row = rows.setdefault(entry["step"], {"step": entry["step"]})
        for name, logged in (("loss", "loss"), (score, metric)):
            if logged in entry:
                row[name] = entry[logged] if math.isfinite(entry[logged]) else None
    return tuple(row for row in rows.values() if score in row)


class _Committing(TrainerCallback):
    """Marks each checkpoint as whole once it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        commit(folder, stopped=control.should_training_stop)


class _Progress(TrainerCallback):
    """A bar of steps, and at each evaluation a line with the loss and the score."""

    def __init__(self, metric: str, show: bool | None) -> None:
        self._metric = metric
        self._show = is_shown(show)
        self._lines = self._show or (show is None and not is_quiet())
        self._open = ExitStack()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        bar = progress(state.max_steps, "steps", show=self._show)
        self._advance = self._open.enter_context(bar)
        self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_log = control.should_evaluate
        self._advance(1)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._lines:
            from tqdm.auto import tqdm

            row = dict(_curve(state.log_history, self._metric)[-1])
            step = f"step {row.pop('step'):,} of {state.max_steps:,}"
            values = [
                f"{name.replace('_', ' ')} {math.nan if value is None else value:.4f}"
                for name, value in row.items()
            ]
            tqdm.write(f"{step}: {', '.join(values)}", file=sys.stderr)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._open.close()
