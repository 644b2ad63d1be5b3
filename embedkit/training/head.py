"""Train a regression head on frozen embeddings, and score it: held out or cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from embedkit.data.pairs import Pairs
from embedkit.errors import InputError
from embedkit.evaluation.error_analysis import PairPredictions
from embedkit.evaluation.evaluate import evaluate
from embedkit.evaluation.metric_delta import mean_delta
from embedkit.evaluation.model_predictions import PairScorer, predict_by_embeddings
from embedkit.evaluation.models import ModelSettings
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.pair_scores import similarities_of
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run import report_of
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.recipes.steps import Float32Array
from embedkit.scoring.pair_regressor import PairRegressor
from embedkit.training.outcome import TrainingOutcome

FOLDS = 5


def train_head(
    head: PairRegressor,
    sets: Sequence[Pairs],
    dev: Pairs | None = None,
    *,
    show_progress: bool | None = None,
) -> TrainingOutcome:
    """Fit a head, which has an embedder, on the pairs of all sets; score it, and the cosine.

    It is scored on `dev`, or by cross-validation without one. The texts are encoded once; the folds
    are made of their embeddings. An InputError says which labels the head cannot learn.
    """
    if head.embedder is None:
        raise ValueError("the head has no embedder")
    embedder, pairs = head.embedder, sets[0] if len(sets) == 1 else _joined(sets)
    embedder.bound.check_fitted()
    options, bounds = Options(prompt=head.prompt), [embedder.bound]
    embeddings = SetEmbeddings.of(
        embedder, [pairs], bounds, options.prompts_of(embedder), show_progress=show_progress
    )
    vectors = embeddings.pairs(0, 0)
    head.fit(vectors, pairs.scores)
    if dev is not None:
        report = evaluate(head, dev, show_progress=show_progress)
        prompt = report.run_metadata.prompt
        cosine = evaluate(embedder, dev, prompt=prompt, show_progress=show_progress)
        return _outcome(cosine.pair_predictions, report)
    parts, grouped = folds(embeddings.rows[0]["sentence"].reshape(2, -1), head.seed)
    try:
        predictions = cross_validated(head, vectors, pairs.scores, parts)
    except InputError as error:  # too few pairs, or labels all the same, without one of the parts
        return TrainingOutcome("head", None, notes=(("not_validated", {"reason": str(error)}),))
    scorers = [PairScorer("head", options.head_metrics, lambda _: predictions)]
    named = replace(pairs, name=f"{pairs.name} (cross-validated)")
    scored = EvaluationSets([named], [], [])
    predicted = predict_by_embeddings(
        embeddings,
        bounds,
        [scorers],
        scored,
        options,
        similarities=("head",),
        decided_by="head",
        settings=ModelSettings(embedder),
    )
    trained = replace(predicted, head=head.head, label_range=head.range_)
    report = report_of(trained, scored, options)
    cosines = similarities_of("cosine", vectors[:, 0], vectors[:, 1])
    before = [PairPredictions(named, {"cosine": cosines})]
    note = ("by_sentence" if grouped else "by_pair", {"folds": FOLDS})
    return replace(_outcome(before, report), notes=(note,))


def folds(
    sentences: NDArray[np.int64], seed: int
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], bool]:
    """Rows to train on and rows to predict, and whether no sentence is on both sides.

    Pairs that share sentences (2, n), directly or through other pairs, stay together. Where that
    would put more than half of them into one part, pairs are drawn at random.
    """
    n = sentences.shape[1]
    size = int(sentences.max()) + 1
    graph = coo_array((np.ones(n), tuple(sentences)), shape=(size, size))
    groups = connected_components(graph, directed=False)[1][sentences[0]]
    sizes = np.unique(groups, return_counts=True)[1]
    grouped = len(sizes) >= FOLDS and bool(sizes.max() <= n / 2)
    if grouped:
        return list(GroupKFold(FOLDS).split(np.zeros(n), groups=groups)), True
    return list(KFold(FOLDS, shuffle=True, random_state=seed).split(np.zeros(n))), False


def cross_validated(
    head: PairRegressor,
    vectors: Float32Array,
    scores: NDArray[np.float64],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.float64]:
    """Predictions (n,) of pairs (n, 2, dim), each by a head that was trained on other parts."""
    own = PairRegressor(**{**head.get_params(deep=False), "embedder": None, "prompt": None})
    for learnt, _ in parts:
        own.check(scores[learnt])
    predictions: NDArray[np.float64] = cross_val_predict(own, vectors, scores, cv=parts)
    return predictions


def _joined(sets: Sequence[Pairs]) -> Pairs:
    return Pairs.from_columns(
        ", ".join(pairs.name for pairs in sets),
        [text for pairs in sets for text in pairs.sentence1],
        [text for pairs in sets for text in pairs.sentence2],
        np.concatenate([pairs.scores for pairs in sets]),
    )


def _outcome(before: Sequence[PairPredictions], report: Report) -> TrainingOutcome:
    delta = mean_delta(before, report.pair_predictions, report.run_metadata.seed)
    return TrainingOutcome("head", report, (delta,))
