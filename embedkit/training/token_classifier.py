"""Fine-tune a token classifier on texts with entities, by cross-entropy on IOB2 tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import EvalPrediction, TrainingArguments

from embedkit.data.entities import TaggedTexts
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.tagging.alignment import spans_of, window_tags, windows_of
from embedkit.tagging.entity_scores import entity_f1
from embedkit.tagging.tagger import Tagger
from embedkit.tokenization.batching import padded
from embedkit.training.arguments import TOKEN_CLASSIFIER, TrainingSettings
from embedkit.training.order import ByLength, ByLengthTrainer
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import BestCheckpoint, TrainingRun

_NO_LABEL = -100  # of a token that is not learnt from, as torch's loss knows it


def train_token_classifier(
    data: Sequence[TaggedTexts],
    dev: TaggedTexts,
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    settings: TrainingSettings = TOKEN_CLASSIFIER,
    max_length: int | None = None,
    revision: str | None = None,
    show_progress: bool | None = None,
) -> Tagger:
    """Train a token classifier and save it; a run that was killed is resumed.

    Only the first token of each word or character has a label. Texts over the maximum length are
    cut into overlapping windows.

    Args:
        data: texts with entities, learnt from together.
        dev: scored now and then, by the F1 of entities; the best checkpoint is kept.
        out: the folder to write. OUT.training beside it holds the checkpoints until then.
        model: as for `Embedder.from_pretrained`; a name or a folder.
        settings: of the training.
        max_length: tokens of a window at most; None for the model's own.
        revision: of the hub id.
        show_progress: on stderr; None shows it where stderr is a terminal.

    Returns:
        The best checkpoint, as it was saved. Its notes say the F1 on `dev` of the correct tag for
        every token: tokens that cross the borders of entities cannot reach 1.

    Raises:
        InputError: wrong data, settings or model, before the first step.

    Example:
        >>> from embedkit import Span, TaggedText, TaggedTexts, TrainingSettings
        >>> rows = [TaggedText(f"{x} is far", (Span(0, 5, "LC"),)) for x in ("Seoul", "Busan")]
        >>> cities = TaggedTexts("cities", "character", tuple(rows))
        >>> once = TrainingSettings(epochs=1, evaluations=1, device="cpu")
        >>> train_token_classifier([cities], cities, "my-tagger", settings=once).labels
        ['O', 'B-LC', 'I-LC']
    """
    settings.check_installed()
    for one in data:
        if one.unit != dev.unit:
            raise InputError(
                f"{one.name} has the unit {one.unit}, {dev.name} has {dev.unit}; expected one unit"
            )
    types = sorted({kind for one in data for kind in one.types})
    if not types or not dev.types:
        raise InputError(
            f"got {len(types)} types of entities to learn and {len(dev.types)} in {dev.name}; "
            "expected at least one of each"
        )
    tagger = Tagger.untrained(
        model, types, dev.unit, seed=settings.seed, max_length=max_length, revision=revision
    )
    plan = {
        "training": "token-classifier",
        "model": tagger.fingerprint,
        "data": [one.sha256 for one in data],
        "dev": dev.sha256,
        "unit": dev.unit,
    }
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        best, highest = _train(run, tagger, data, dev)
        tagger.network.load_state_dict(load_file(best.folder / "model.safetensors"))
        notes = {
            "trained on": ", ".join(f"{one.name} ({len(one.rows):,} sentences)" for one in data),
            "kept": f"the checkpoint of the best F1 on {dev.name}, after step {best.step}",
            "F1 of correct tags": f"{highest:.4f} on {dev.name}, the most with these tokens",
            **settings.described(),
        }
        outcome = TrainingOutcome("token-classifier", None, curve=best.curve)
        trained = replace(tagger, notes=notes, training=outcome)
        trained.save_pretrained(out)
    return trained


def _train(
    run: TrainingRun, tagger: Tagger, data: Sequence[TaggedTexts], dev: TaggedTexts
) -> tuple[BestCheckpoint, float]:
    """The best checkpoint, and the highest F1 that the tokens of `dev` allow."""
    settings, names = run.settings, tagger.labels
    learnt = [row for one in data for row in one.rows]
    windows = [list(windows_of(tagger.tokenizer, rows)) for rows in (learnt, dev.rows)]
    tags = [window_tags(*both) for both in zip(windows, (learnt, dev.rows), strict=True)]
    examples = [*windows[0], *windows[1]]
    targets: list[NDArray[np.int64]] = []
    # A type that only `dev` has cannot be learnt: its tokens have no tag there.
    known = {name: index for index, name in enumerate(names)}
    for window, own in zip(examples, [*tags[0], *tags[1]], strict=True):
        row = np.full(len(window.token_ids), _NO_LABEL)
        row[window.labelled] = [known.get(tag, _NO_LABEL) for tag in own]
        targets.append(row)
    lengths = np.array([len(row) for row in targets])
    trained, held_out = np.split(np.arange(len(examples)), [len(windows[0])])
    by_length = held_out[np.argsort(lengths[held_out], kind="stable")]

    def collate(rows: list[int]) -> dict[str, Tensor]:
        labels = torch.from_numpy(padded([targets[row] for row in rows], _NO_LABEL))
        return {**tagger.inputs([examples[row] for row in rows], "cpu"), "labels": labels}

    def score(outputs: EvalPrediction) -> dict[str, float]:
        own = [examples[index] for index in by_length]
        found = [
            [names[label] for label in row[window.labelled]]
            for window, row in zip(own, cast("Any", outputs.predictions), strict=True)
        ]
        order = np.argsort(by_length)  # that of the texts
        spans = spans_of(windows[1], [found[index] for index in order], len(dev.rows))
        return {"entity_f1": entity_f1(dev.rows, spans)}

    cast("Any", tagger.network).accepts_loss_kwargs = False  # the loss is a mean
    trainer = ByLengthTrainer(
        order=ByLength(lengths[trained], settings.batch_size, settings.seed),
        model=tagger.network,
        args=run.arguments(TrainingArguments, len(trained), metric="eval_entity_f1"),
        train_dataset=trained.tolist(),
        eval_dataset=by_length.tolist(),
        data_collator=collate,
        compute_metrics=score,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    perfect = spans_of(windows[1], tags[1], len(dev.rows))
    return run.train(trainer), entity_f1(dev.rows, perfect)
