"""Evaluate models: embedders by their own recipes, regression heads or cross-encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from embedkit.data.datasets import Data
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.models import Models, read_models
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.run_models import Work


def evaluate(
    model: Models,
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
    seed: int = SEED,
    cache: bool | str | Path | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Score the own recipe of a model, or of each of several, on pairs and retrieval sets.

    A head (a `PairRegressor`, or its folder) and a cross-encoder (likewise) are scored on pairs by
    their predictions, with MSE beside the correlations and, with `threshold`, F1. `similarities`
    (None for the cosine) and prompts are for embedders. Other arguments are those of `compare`.

    Args:
        model: a model; or a list of them, for paired differences between models. An item may be a
            dict with `name` (of the model) and `recipe`, `prompt`, `query_prompt`,
            `document_prompt` or `precision` for it alone. They are loaded one at a time.
        data: see `compare`.
        baseline: the model that the others are compared with, as `model` or the table names it;
            by default the first one.

    Raises:
        InputError: wrong input, before the model runs.

    Example:
        >>> report = evaluate("minilm", "first_look", show_progress=False)
        >>> [(row.metric, row.n) for row in report.deciding("spearman", "pearson")]
        [('spearman', 240), ('pearson', 240)]
    """
    sets, options = EvaluationSets.read(data, suites=suites), Options.of(locals())
    prompted = prompt is not None or prompt_name is not None
    given = ["similarity"] * (similarities is not None) + ["prompt"] * prompted
    models = read_models(model, embedders=False, crossed=False)
    return Work(sets, options, given=given, show_progress=show_progress).report(
        models, baseline, cache
    )
