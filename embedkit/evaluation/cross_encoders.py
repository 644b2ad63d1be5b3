"""Cross-encoders in evaluations: they score pairs, and have no vectors."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.checkpoint import CROSS_ENCODER_FILE, holds
from embedkit.errors import InputError
from embedkit.evaluation.data import Pairs
from embedkit.evaluation.diagnosis import Evidence, diagnose
from embedkit.evaluation.heads import head_metrics
from embedkit.evaluation.protocol import ModelUsed, Protocol, data_used
from embedkit.evaluation.report import Report
from embedkit.evaluation.search import EXACT
from embedkit.evaluation.sts import CROSS_ENCODER, Predictions, score_predictions
from embedkit.recipe import Recipe

if TYPE_CHECKING:
    from embedkit.cross_encoder.model import CrossEncoder

# Why retrieval sets are refused.
CROSS_ENCODERS = "a cross-encoder scores sentence pairs"


def find_cross_encoder(
    model: object, *, device: str | None = None, **options: Any
) -> CrossEncoder | None:
    """The cross-encoder that `model` is, or that its folder holds.

    Args:
        model: a cross-encoder, a folder, or anything else, which is none.
        device: see `CrossEncoder.from_pretrained`.
        options: for embedders; a cross-encoder takes none but the precision float32, or auto.

    Raises:
        InputError: an option was given for a cross-encoder.
    """
    if isinstance(model, str | Path):
        if not holds(model, CROSS_ENCODER_FILE):  # before transformers is loaded
            return None
        for name, value in options.items():
            if value is not None and not (name == "precision" and value in ("float32", "auto")):
                raise InputError(f"got a {name} for a cross-encoder; it has its own")
        from embedkit.cross_encoder.model import CrossEncoder

        return CrossEncoder.from_pretrained(model, device=device)
    if "embedkit.cross_encoder.model" not in sys.modules:
        return None  # whoever has one has loaded it
    from embedkit.cross_encoder.model import CrossEncoder

    return model if isinstance(model, CrossEncoder) else None


def evaluate_cross_encoder(
    model: CrossEncoder,
    sets: Sequence[Pairs],
    *,
    aggregation: str,
    threshold: float | None,
    seed: int,
    show_progress: bool | None = None,
) -> Report:
    """Score its predictions; see `evaluate`."""
    from embedkit.cross_encoder.pairs import PairTokens

    begun = time.perf_counter()
    recipe = str(model.described["recipe"])
    results, evidence, diagnoses, used = [], [], [], []
    seconds, cut = 0.0, 0
    for pairs in sets:
        started = time.perf_counter()
        both = list(zip(pairs.sentence1, pairs.sentence2, strict=True))
        tokens = PairTokens.of(model.tokenizer, both)
        values = model.predict_tokens(tokens, show_progress=show_progress)
        seconds += time.perf_counter() - started
        cut += int(tokens.truncated.sum())
        predictions = Predictions(recipe, CROSS_ENCODER, values, head_metrics(threshold))
        scored = score_predictions(pairs, [predictions], threshold=threshold, seed=seed)
        results += [one.result for one in scored]
        evidence.append(Evidence(pairs, {recipe: values}))
        diagnoses.append(diagnose(pairs, {recipe: values}, {}, recipe))
        distinct = len({*pairs.sentence1, *pairs.sentence2})
        used.append(data_used(pairs, "scored", tokens.truncated, distinct))
    total = sum(len(pairs.scores) for pairs in sets)
    protocol = Protocol.of(
        ModelUsed(str(model.device), "float32", model.tokenizer.max_length, model.fingerprint),
        {"sentence": ""},
        tuple(used),
        index=EXACT,
        similarities=(CROSS_ENCODER,),
        aggregation=aggregation,
        head=None,
        threshold=threshold,
        seed=seed,
        label_range=model.label_range,
    )
    return Report(
        model=model.described,
        results=tuple(results),
        compared={recipe: Recipe((recipe,))},
        fitted={},
        decided_by=CROSS_ENCODER,
        protocol=protocol,
        sentences=2 * total,
        forward_passes=total,
        truncated=cut,
        seconds={"encode": seconds, "score": time.perf_counter() - begun - seconds},
        evidence=tuple(evidence),
        diagnoses=tuple(diagnoses),
    )
