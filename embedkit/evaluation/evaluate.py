"""Evaluate one model: an embedder's own recipe, a regression head or a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from embedkit.data.datasets import Data, only_pairs
from embedkit.embedder.embedder import Embedder
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.exact_search import EXACT, check_index
from embedkit.evaluation.model_predictions import (
    PairScorer,
    predict_by_cross_encoder,
    predict_by_embeddings,
    similarity_scorers,
)
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run import report_of
from embedkit.evaluation.set_embeddings import SetEmbeddings
from embedkit.scoring.loading import load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.pair_regressor import PairRegressor

Model: TypeAlias = (
    "Embedder | str | Path | PreTrainedModel | SentenceTransformer | Callable[[], Embedder]"
)
AnyModel: TypeAlias = "Model | PairRegressor | CrossEncoder | Callable[[], Any]"


def evaluate(
    model: AnyModel,
    data: Data,
    *,
    similarities: Sequence[str] | None = None,
    aggregation: str = "all",
    threshold: float | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    index: str = EXACT,
    seed: int = SEED,
    show_progress: bool | None = None,
) -> Report:
    """Score a model's own recipe on sentence pairs and retrieval sets, or a head on pairs.

    A head (a `PairRegressor`, or its folder) and a cross-encoder (likewise) are scored by their
    predictions, with MSE beside the correlations and, with `threshold`, F1. `similarities` (None
    for the cosine) and prompts are for embedders. The other arguments are those of `compare`.

    Raises:
        InputError: wrong input, before the model runs.

    Example:
        >>> report = evaluate("minilm", "first_look", show_progress=False)
        >>> [(row.metric, row.n) for row in report.deciding("spearman", "pearson")]
        [('spearman', 240), ('pearson', 240)]
    """
    sets = EvaluationSets.read(data)
    options = Options(
        ("cosine",) if similarities is None else similarities,
        aggregation,
        threshold,
        prompt,
        prompt_name,
        query_prompt,
        document_prompt,
        index,
        seed,
    )
    options.check_data(sets.scored)
    loaded: Any = load_model(model() if isfunction(model) else cast("str", model))
    if loaded.kind == "cross-encoder":
        pairs = only_pairs(sets.scored, "a cross-encoder scores sentence pairs")
        if similarities is not None or prompt is not None or prompt_name is not None:
            raise InputError("got a similarity or a prompt for a cross-encoder; it has neither")
        predictions = predict_by_cross_encoder(loaded, pairs, options.head_metrics, show_progress)
        return report_of(predictions, sets, options, label_range=loaded.label_range)
    head = loaded if loaded.kind == "head" else None
    if head is None:
        options.check_no_threshold()
        embedder, names = loaded, tuple(options.similarities)
        scorers, prompts = similarity_scorers(names), options.prompts_of(embedder)
    else:
        only_pairs(sets.scored)
        if similarities is not None:
            raise InputError("got a similarity for a head; a head is scored by its predictions")
        if prompt is not None or prompt_name is not None:
            raise InputError("got a prompt for a head; it uses the one that it was trained with")
        if head.embedder is None:
            raise InputError("the head has no embedder; expected one that can read texts")
        embedder, names = head.embedder, ("head",)
        scorers = [PairScorer("head", options.head_metrics, head.predict)]
        prompts = Options(prompt=head.prompt).prompts_of(embedder)
    check_index(options.index, options.similarities, [embedder.dimension])
    bound = embedder.bound
    embeddings = SetEmbeddings.of(
        embedder, sets.scored, [bound], prompts, show_progress=show_progress
    )
    predictions = predict_by_embeddings(
        embeddings, [bound], [scorers], sets, options, similarities=names, decided_by=names[0]
    )
    return report_of(
        predictions,
        sets,
        options,
        head=None if head is None else head.head,
        label_range=None if head is None else head.range_,
    )


def load_embedder(model: Model) -> Embedder:
    """The embedder that `compare` is given or names; it runs in float32 unless it is loaded."""
    if isfunction(model):
        model = model()
    if isinstance(model, Embedder):
        return model
    return Embedder.from_pretrained(cast("str", model), precision="float32")
