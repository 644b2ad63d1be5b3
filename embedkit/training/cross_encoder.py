"""Fine-tune a cross-encoder on scored pairs: mean squared error on labels scaled to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from embedkit.arguments import check_type
from embedkit.data.labels import label_range, scaled
from embedkit.data.pairs import Pairs
from embedkit.evaluation.evaluate import evaluate
from embedkit.files import DEFAULT_MODEL
from embedkit.scoring.cross_encoder import CrossEncoder
from embedkit.scoring.cross_encoder_network import rescale_output
from embedkit.tokenization.pairs import PairTokens
from embedkit.training.arguments import CROSS_ENCODER, TrainingSettings, check_data
from embedkit.training.cards import save_with_scores, training_notes
from embedkit.training.order import ByLength
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import BestCheckpoint, TrainingRun, data_plan, selection_note, spearman


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

    The other arguments are those of `train_bi_encoder`.

    Args:
        data: sets of scored pairs, learnt from together.
        dev: scored now and then, by Spearman's correlation; the best checkpoint is kept.
        reads: what the classifier reads, a name from the table of readings.
        labels: (lowest, highest) label that is possible; None takes them from `data`.
        max_length: the most tokens of a pair; None for the model's own.

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
    check_data(data, dev, Pairs)
    check_type("settings", settings, TrainingSettings, "TrainingSettings")
    settings.check_installed()
    low, high = label_range(data, labels)
    made = CrossEncoder.untrained(
        model, reads, (low, high), seed=settings.seed, max_length=max_length, revision=revision
    )
    plan = data_plan("cross-encoder", made.fingerprint, data, dev, (low, high), reads=reads)
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        best = _train(run, made, data, dev)
        best.load(made.network)
        rescale_output(made.network, low, high)
        report = evaluate(replace(made), dev, show_progress=show_progress)
        outcome = TrainingOutcome(
            "cross-encoder", report, curve=best.curve, notes=selection_note(settings)
        )
        notes = training_notes(data, dev, best, outcome, settings)
        trained = replace(made, notes=notes, training=outcome)
        save_with_scores(trained.save_pretrained, out, model, revision, report)
    return trained


def _train(
    run: TrainingRun, made: CrossEncoder, data: Sequence[Pairs], dev: Pairs
) -> BestCheckpoint:
    sets = [*data, dev]
    texts = [both for one in sets for both in zip(one.sentence1, one.sentence2, strict=True)]
    tokens = PairTokens.of(made.tokenizer, texts)
    targets = scaled(sets, made.label_range).astype(np.float32)

    def collate(pairs: list[int]) -> dict[str, Tensor]:
        inputs = tokens.inputs(pairs, made.pad_id)
        wanted = {name: inputs[name] for name in made.input_names}
        return {**wanted, "labels": torch.from_numpy(targets[pairs])}

    def score(outputs: EvalPrediction) -> dict[str, float]:
        predictions = np.ravel(outputs.predictions).astype(np.float64)
        return spearman(predictions, np.ravel(outputs.label_ids))

    trained, settings = len(texts) - len(dev.scores), run.settings
    order = ByLength(tokens.lengths, settings.batch_size, settings.seed, trained)
    return run.fine_tune(made.network, order, collate, "eval_spearman", score)
