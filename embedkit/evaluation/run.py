"""The one flow of an evaluation: predictions of a model, their scores, a report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from embedkit.data.pairs import Pairs
from embedkit.data.retrieval_set import RetrievalSet
from embedkit.evaluation.bootstrap import seed_of
from embedkit.evaluation.equal_recipes import equal_recipes
from embedkit.evaluation.error_analysis import PairPredictions, analyse_errors
from embedkit.evaluation.heads import with_line_differences
from embedkit.evaluation.model_predictions import ModelPredictions
from embedkit.evaluation.options import EvaluationSets, Options
from embedkit.evaluation.pair_scores import measured, score_predictions
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import RETRIEVAL, TASKS, Result, Scored, mean_scores
from embedkit.evaluation.retrieval import DEPTH
from embedkit.evaluation.retrieval_errors import analyse_retrieval_errors
from embedkit.evaluation.run_metadata import (
    ModelRun,
    RunMetadata,
    Search,
    data_used,
    library_versions,
)
from embedkit.evaluation.selection import Selection, select_best, shared_with
from embedkit.evaluation.significance import against_baseline
from embedkit.evaluation.verdict import decide
from embedkit.retrieval.fusion import DENSE

_NO_POOLER = "the checkpoint has no pooler weights"


def report_of(
    predictions: ModelPredictions,
    sets: EvaluationSets,
    options: Options,
    *,
    baseline: str | None = None,
    convention: bool = False,
) -> Report:
    """The report of the predictions of a model, or of several that are joined.

    The `baseline` is a candidate; `convention` says that nobody named it.
    """
    started = time.perf_counter()
    candidates = predictions.recipes | predictions.missing
    scored = with_line_differences([*_scored(predictions, sets, options)])
    against = baseline or next(iter(candidates))
    # Equal candidates are one row: of a model's own recipe, the baseline's before others, or else
    # of the baseline.
    preferred = [*sorted(predictions.own, key=lambda name: name != against), against]
    equal = equal_recipes(predictions.samples, preferred)
    selection = _selection(predictions, sets, options) if sets.selecting else None
    decided_by = predictions.decided_by if selection is None else selection.similarity
    deciding = {
        dataset: PairPredictions(
            data, {x.recipe: x.values for x in of_set if x.similarity == decided_by}
        )
        for dataset, of_set in predictions.of_pairs.items()
        if dataset < len(sets.scored) and isinstance(data := sets.scored[dataset], Pairs)
    }
    several = len(candidates) > 1

    def results(scored: Sequence[Scored]) -> tuple[Result, ...]:
        rows = against_baseline(scored, against, equal) if several else [x.result for x in scored]
        named = ((row, candidates[row.candidate]) for row in rows)
        return tuple(replace(row, model=x.model, recipe=x.shown) for row, x in named)

    mean_of = partial(mean_scores, scored, candidates, decided_by, options.aggregation)
    suites = sets.suites or {"all": tuple(data.name for data in sets.scored)}
    averages = [x for name, of in suites.items() for x in mean_of(suite=name, datasets=of).values()]
    metrics = {one.result.metric for one in scored}
    runs, used = predictions.models, predictions.models[candidates[against].model]
    return Report(
        model=used.described,
        models={} if predictions.kind == "recipe" else runs,
        results=results(scored),
        averages=results(averages),
        compared={name: one.recipe for name, one in candidates.items()},
        fitted=predictions.fitted,
        decided_by=decided_by,
        run_metadata=_metadata(predictions, sets, options, used),
        sentences=sum(run.sentences for run in runs.values()),
        forward_passes=sum(run.forward_passes for run in runs.values()),
        truncated=sum(run.truncated for run in runs.values()),
        cached=sum(run.cached for run in runs.values()),
        pair_predictions=tuple(deciding.values()),
        error_analyses=tuple(
            analyse_errors(
                of_set,
                predictions.geometries[dataset],
                against,
                seed=seed_of(options.seed, dataset),
            )
            for dataset, of_set in deciding.items()
        ),
        retrieval_error_analyses=tuple(
            analyse_retrieval_errors(
                qrels,
                [one for one in rankings if one.similarity == decided_by],
                seed=seed_of(options.seed, dataset),
            )
            for dataset, (qrels, rankings) in predictions.of_retrieval.items()
            if dataset < len(sets.scored)
        ),
        baseline=against if several else None,
        equal=equal,
        own=frozenset(predictions.own),
        verdict=decide(
            mean_of(),
            metrics=tuple(task.title for task in TASKS if task.main in metrics),
            baseline=against,
            convention=convention and used.described["recipe"] is None,
            equal=equal,
            selection=selection,
            kind=predictions.kind,
            queries=min((x.n for x, _ in scored if x.metric == RETRIEVAL.main), default=None),
        ),
        selection=selection,
        seconds={
            "encode": sum(run.seconds for run in runs.values()),
            "score": predictions.score_seconds + time.perf_counter() - started,
        },
    )


def _scored(
    predictions: ModelPredictions, sets: EvaluationSets, options: Options
) -> Iterator[Scored]:
    """The results of every data set, with those of recipes that the model does not have."""
    for dataset, data in enumerate(sets.scored):
        seed = seed_of(options.seed, dataset)
        resampling: dict[str, Any] = {"resamples": predictions.resamples, "seed": seed}
        if isinstance(data, RetrievalSet):
            qrels, rankings = predictions.of_retrieval[dataset]
            scored = [row for one in rankings for row in qrels.score(one, **resampling)]
        else:
            predicted = predictions.of_pairs[dataset]
            scored = score_predictions(data, predicted, threshold=options.threshold, **resampling)
        yield from scored
        of_first = [x for x, _ in scored if x.recipe == scored[0].result.recipe]
        for name in predictions.missing:
            for x in of_first:
                if x.similarity in options.similarities:
                    of_x = (x.dataset, x.n, x.similarity, x.metric, x.aggregation)
                    yield Scored(Result(name, *of_x, None, reason=_NO_POOLER), None)


def _selection(predictions: ModelPredictions, sets: EvaluationSets, options: Options) -> Selection:
    results: list[Result] = []
    for dataset, data in enumerate(sets.selecting, start=len(sets.scored)):
        if isinstance(data, RetrievalSet):
            qrels, rankings = predictions.of_retrieval[dataset]
            results += [row for one in rankings for row in qrels.results(one)]
        else:
            predicted = predictions.of_pairs[dataset]
            results += [row for one in predicted for row in measured(data, one)]
    return select_best(
        results,
        sets.selecting,
        sets.scored,
        similarities=["head"] if predictions.decided_by == "head" else options.similarities,
        aggregation=options.aggregation,
        own=predictions.own,
    )


def _metadata(
    predictions: ModelPredictions, sets: EvaluationSets, options: Options, run: ModelRun
) -> RunMetadata:
    prompts, model = run.prompts, run.used
    search = None
    if any(isinstance(data, RetrievalSet) for data in sets.all):
        search = Search(
            options.index,
            DEPTH,
            prompts["query"],
            prompts["document"],
            tuple(options.modes),
            None if options.modes == (DENSE,) else options.words,
            *options.reranked,
            None if options.weights is None else tuple(map(float, options.weights)),
        )
    return RunMetadata(
        prompt=prompts["sentence"],
        similarities=predictions.similarities,
        aggregation=options.aggregation,
        threshold=options.threshold,
        resamples=predictions.resamples,
        seed=options.seed,
        device=model.device,
        precision=model.precision,
        max_length=model.max_length,
        model_sha256=model.sha256,
        data=tuple(map(data_used, sets.all, sets.roles, predictions.truncated)),
        search=search,
        versions=library_versions(),
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        head=None if predictions.head is None else str(predictions.head),
        label_range=predictions.label_range,
        trained_pairs=shared_with(sets.training, sets.scored)[0],
    )
