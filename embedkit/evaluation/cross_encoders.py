"""Cross-encoders in evaluations: they score pairs, and have no vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedkit.data.pairs import Pairs
from embedkit.evaluation.error_analysis import Evidence, diagnose
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.heads import head_metrics
from embedkit.evaluation.pairs import Predictions, score_predictions
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import CROSS_ENCODER
from embedkit.evaluation.run_metadata import ModelUsed, Protocol, data_used
from embedkit.recipes.recipe import Recipe

if TYPE_CHECKING:
    from embedkit.scoring.cross_encoder import CrossEncoder


# Why retrieval sets are refused.
CROSS_ENCODERS = "a cross-encoder scores sentence pairs"


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
    from embedkit.tokenization.pairs import PairTokens

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
