"""Fine-tune a token classifier on texts with entities, by cross-entropy on IOB2 tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from embedkit.arguments import check_type
from embedkit.data.entities import TaggedTexts
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.tagging.alignment import spans_of, window_tags, windows_of
from embedkit.tagging.entity_scores import EntityReport, entity_f1, f1_delta
from embedkit.tagging.lookup import look_up
from embedkit.tagging.tagger import Tagger
from embedkit.tokenization.batching import padded
from embedkit.training.arguments import TOKEN_CLASSIFIER, TrainingSettings, check_data
from embedkit.training.cards import save_with_scores, training_notes
from embedkit.training.order import ByLength
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import BestCheckpoint, TrainingRun, data_plan, selection_note

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
    cut into overlapping windows. The other arguments are those of `train_bi_encoder`.

    Args:
        data: texts with entities, learnt from together.
        dev: scored now and then, by the F1 of entities; the best checkpoint is kept.
        max_length: the most tokens of a window; None for the model's own.

    Returns:
        The best checkpoint, as it was saved. Its attribute `training` (`TrainingOutcome`) has the
        scores, and the verdict against looking up the entities of the training data. Its notes
        say the F1 on `dev` of the correct tag for every token: tokens that cross the borders of
        entities cannot reach 1.

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
    check_data(data, dev, TaggedTexts)
    check_type("settings", settings, TrainingSettings, "TrainingSettings")
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
    plan = data_plan("token-classifier", tagger.fingerprint, data, dev, unit=dev.unit)
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        best, highest = _train(run, tagger, data, dev)
        best.load(tagger.network)
        predicted = tagger.predict(dev.rows, show_progress=show_progress)
        outcome = TrainingOutcome(
            "token-classifier",
            EntityReport.of(tagger.name, dev, predicted),
            (f1_delta(dev, look_up(data, dev.rows), predicted, "lookup"),),
            curve=best.curve,
            notes=(("highest", {"highest": 100 * highest}), *selection_note(settings)),
        )
        notes = {
            **training_notes(data, dev, best, outcome, settings),
            "F1 of correct tags": f"{highest:.4f} on {dev.name}, the most with these tokens",
        }
        trained = replace(tagger, notes=notes, training=outcome)
        save_with_scores(trained.save_pretrained, out, model, revision, outcome.report)
    return trained


def _train(
    run: TrainingRun, tagger: Tagger, data: Sequence[TaggedTexts], dev: TaggedTexts
) -> tuple[BestCheckpoint, float]:
    """The best checkpoint, and the highest F1 that the tokens of `dev` allow."""
    names, settings = tagger.labels, run.settings
    learnt = [row for one in data for row in one.rows]
    to_train, held_out = (list(windows_of(tagger.tokenizer, rows)) for rows in (learnt, dev.rows))
    windows = [*to_train, *held_out]
    correct = window_tags(held_out, dev.rows)
    # A type that only `dev` has cannot be learnt: its tokens have no tag there.
    known = {name: index for index, name in enumerate(names)}
    targets = [np.full(len(window.token_ids), _NO_LABEL) for window in windows]
    tags = [*window_tags(to_train, learnt), *correct]
    for row, window, own in zip(targets, windows, tags, strict=True):
        row[window.labelled] = [known.get(tag, _NO_LABEL) for tag in own]
    lengths = np.array([len(row) for row in targets])
    order = ByLength(lengths, settings.batch_size, settings.seed, len(to_train))

    def collate(rows: list[int]) -> dict[str, Tensor]:
        labels = torch.from_numpy(padded([targets[row] for row in rows], _NO_LABEL))
        return {**tagger.inputs([windows[row] for row in rows], "cpu"), "labels": labels}

    def f1(tags: Iterable[Sequence[str]]) -> float:
        return entity_f1(dev.rows, spans_of(held_out, tags, len(dev.rows)))

    def score(outputs: EvalPrediction) -> dict[str, float]:
        labels = cast("Any", outputs.predictions)[np.argsort(order.held_out)]
        by_window = zip(held_out, labels, strict=True)
        return {"entity_f1": f1([names[i] for i in row[own.labelled]] for own, row in by_window)}

    best = run.fine_tune(
        tagger.network, order, collate, "eval_entity_f1", score, logits=lambda x, _: x.argmax(-1)
    )
    return best, f1(correct)
