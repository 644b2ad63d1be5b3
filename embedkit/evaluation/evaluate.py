"""Evaluate models: embedders by their own recipes, regression heads or cross-encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from embedkit.data.datasets import Data
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.models import Models, read_models
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.published import check_published, compare_with_published
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.reproduce import explain_differences
from embedkit.evaluation.run_models import Work
from embedkit.retrieval.fusion import DENSE
from embedkit.retrieval.words import UNICODE
from embedkit.scoring.loading import LoadedModel

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


def evaluate(
    model: Models | None,
    data: Data,
    *,
    baseline: str | None = None,
    suites: Mapping[str, Sequence[str]] | None = None,
    similarities: Sequence[str] | None = None,
    aggregation: str = "all",
    threshold: float | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    index: str = EXACT,
    modes: Sequence[str] = (DENSE,),
    words: str = UNICODE,
    weights: Sequence[float] | None = None,
    rerank: str | Path | LoadedModel | None = None,
    rerank_depth: int = 100,
    seed: int = SEED,
    reproduce: bool = False,
    published: str | None = None,
    cache: bool | str | Path | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Score a model, or each of several, by its own recipe on pairs and retrieval sets.

    A head (a `PairRegressor`, or its folder) and a cross-encoder (likewise) are scored on pairs by
    their predictions, with MSE beside the correlations and, with `threshold`, F1. `similarities`
    (None for the cosine) and prompts are for embedders. Other arguments are those of `compare`.

    Args:
        model: a model; or a list of them, for paired differences between models. An item may be a
            dict with `name` (of the model) and `recipe`, `prompt`, `query_prompt`,
            `document_prompt` or `precision` for it alone. They are loaded one at a time.
            None for `modes=["bm25"]` alone.
        data: see `compare`.
        baseline: the model that the others are compared with, as `model` or the table names it;
            by default the first one.
        reproduce: look for the reason where a value differs from the published one (see
            `report.published`), with the embeddings of `cache`, which is then True by default.
        published: compare with the published values of this model, such as
            "intfloat/multilingual-e5-small"; None if the hub id of the model says which.

    Raises:
        InputError: wrong input, or no value is published for these models and data, before the
            model runs.

    Example:
        >>> report = evaluate("minilm", "first_look", show_progress=False)
        >>> [(row.metric, row.n) for row in report.deciding("spearman", "pearson")]
        [('spearman', 240), ('pearson', 240)]
    """
    sets, options = EvaluationSets.read(data, suites=suites), Options.of(locals())
    prompted = prompt is not None or prompt_name is not None
    given = ["similarity"] * (similarities is not None) + ["prompt"] * prompted
    models = []
    if model is not None:
        models = read_models(model, embedders=False, crossed=False, named=options.ranks)
    if published is not None and len(models) > 1:
        raise InputError("got published and several models; expected one model")
    if reproduce or published is not None:
        for one in models:
            check_published(published or one.source, [data.name for data in sets.scored])
    if cache is None:
        cache = reproduce or len(models) > 1
    work = Work(sets, options, given=given, show_progress=show_progress)
    report = work.report(models, baseline, cache)
    if not reproduce:
        comparisons = compare_with_published(report, published, any_recipe=published is not None)
        return replace(report, comparisons=comparisons)
    by_name = {one.name: one for one in models}
    return explain_differences(
        report,
        sets.scored,
        lambda name: cast("Embedder", by_name.get(name, models[0]).load(embedder=True)),
        published,
        cache=cache,
        show_progress=show_progress,
    )
