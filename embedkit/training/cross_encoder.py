"""Fine-tune a cross-encoder on scored pairs: mean squared error on labels scaled to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import EvalPrediction, TrainingArguments

from embedkit.data.labels import label_range, scaled
from embedkit.data.pairs import Pairs
from embedkit.evaluation.evaluate import evaluate
from embedkit.files import DEFAULT_MODEL
from embedkit.scoring.cross_encoder import CrossEncoder
from embedkit.scoring.cross_encoder_network import rescale_output
from embedkit.tokenization.pairs import PairTokens
from embedkit.training.arguments import CROSS_ENCODER, TrainingSettings
from embedkit.training.cards import add_scores, named_sizes, training_notes
from embedkit.training.order import ByLength, ByLengthTrainer
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import BestCheckpoint, TrainingRun, pairs_plan, selection_note, spearman


def train_cross_encoder(
    data: Sequence[Pairs],
    dev: Pairs,
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    reads: str = "pooler",
    settings: TrainingSettings = CROSS_ENCODER,
    labels: tuple[float, float] | None = None,
    max_length: int | None = None,
    revision: str | None = None,
    show_progress: bool | None = None,
) -> CrossEncoder:
    """Train a cross-encoder and save it; a run that was killed is resumed.

    Args:
        data: sets of scored pairs, learnt from together.
        dev: scored now and then, by Spearman's correlation; the best checkpoint is kept.
        out: the folder to write. OUT.training beside it holds the checkpoints until then.
        model: as for `Embedder.from_pretrained`; a name or a folder.
        reads: what the classifier reads, a name from the table of readings.
        settings: of the training.
        labels: (lowest, highest) label that is possible; None takes them from `data`.
        max_length: tokens of a pair at most; None for the model's own.
        revision: of the hub id.
        show_progress: on stderr; None shows it where stderr is a terminal.

    Returns:
        The best checkpoint, as it was saved: it gives scores on the labels' scale. Its attribute
        `training` (`TrainingOutcome`) has the losses and the scores.

    Raises:
        InputError: wrong data, settings or model, before the first step; or no score on `dev`.

    Example:
        >>> from embedkit import Pairs, TrainingSettings, train_cross_encoder
        >>> texts = ["a cat", "a dog", "rain", "a car"]
        >>> pairs = Pairs.from_columns("made", texts, texts[::-1], [0.5, 0.9, 0.1, 0.0])
        >>> once = TrainingSettings(epochs=1, evaluations=1, device="cpu")
        >>> model = train_cross_encoder([pairs], pairs, "my-cross-encoder", settings=once)
        >>> model.predict([("a cat", "a dog")]).shape
        (1,)
    """
    settings.check_installed()
    low, high = label_range(data, labels)
    made = CrossEncoder.untrained(
        model, reads, (low, high), seed=settings.seed, max_length=max_length, revision=revision
    )
    plan = pairs_plan("cross-encoder", made.fingerprint, data, dev, (low, high), reads=reads)
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        best = _train(run, made, data, dev)
        made.network.load_state_dict(load_file(best.folder / "model.safetensors"))
        made.network.eval()
        rescale_output(made.network, low, high)
        report = evaluate(replace(made), dev, show_progress=show_progress)
        outcome = TrainingOutcome(
            "cross-encoder", report, curve=best.curve, notes=selection_note(settings)
        )
        notes = {"trained on": named_sizes(data), **training_notes(best, dev, outcome, settings)}
        trained = replace(made, notes=notes, training=outcome)
        trained.save_pretrained(out)
        add_scores(Path(out), out, model, revision, report)
    return trained


def _train(
    run: TrainingRun, made: CrossEncoder, data: Sequence[Pairs], dev: Pairs
) -> BestCheckpoint:
    settings = run.settings
    sets = [*data, dev]
    texts = [both for one in sets for both in zip(one.sentence1, one.sentence2, strict=True)]
    tokens = PairTokens.of(made.tokenizer, texts)
    targets = scaled(sets, made.label_range).astype(np.float32)
    learnt, held_out = np.split(np.arange(len(texts)), [len(texts) - len(dev.scores)])
    by_length = held_out[np.argsort(tokens.lengths[held_out], kind="stable")]

    def collate(pairs: list[int]) -> dict[str, Tensor]:
        inputs = tokens.inputs(pairs, made.pad_id)
        wanted = {name: inputs[name] for name in made.input_names}
        return {**wanted, "labels": torch.from_numpy(targets[pairs])}

    def score(outputs: EvalPrediction) -> dict[str, float]:
        predictions = np.ravel(outputs.predictions).astype(np.float64)
        return spearman(predictions, np.ravel(outputs.label_ids))

    trainer = ByLengthTrainer(
        order=ByLength(tokens.lengths[learnt], settings.batch_size, settings.seed),
        model=made.network,
        args=run.arguments(TrainingArguments, len(learnt), metric="eval_spearman"),
        train_dataset=learnt.tolist(),
        eval_dataset=by_length.tolist(),
        data_collator=collate,
        compute_metrics=score,
    )
    return run.train(trainer)
