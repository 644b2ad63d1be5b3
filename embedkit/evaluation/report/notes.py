"""The notes below a report: what a reader must know beside the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from embedkit.data.named_sets import NAMED_SETS
from embedkit.evaluation.bootstrap import FEW_QUERIES, FEWEST
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.locale import note
from embedkit.evaluation.results import CROSS_ENCODER, MAIN_METRICS, PAIRS, RETRIEVAL, TASKS
from embedkit.evaluation.run_metadata import ModelRun, RetrievalUsed
from embedkit.evaluation.significance import significant
from embedkit.retrieval.bm25 import K1, B
from embedkit.retrieval.fusion import BM25, HYBRID, RRF

Notes: TypeAlias = Iterator[tuple[str, dict[str, Any]]]  # keys of the texts, and their values

_OFF_SCALE = 0.25  # of the wider range: labels whose ends differ by more may have another scale
_REPEATED = 0.01  # a share of the pairs; with more of them, intervals are too narrow
# How the keys of notes end that differ by what was scored.
_ENDS = {(PAIRS,): "", (RETRIEVAL,): "_queries", (PAIRS, RETRIEVAL): "_both"}


def notes_in(report: ReportData, language: str) -> list[str]:
    """All notes in English (en) or Korean (ko)."""
    return [note(key, language, kind=report.kind, **values) for key, values in notes_of(report)]


def notes_of(report: ReportData) -> Notes:
    """All notes of a report."""
    metadata, rows = report.run_metadata, report.deciding(*MAIN_METRICS)
    yield from _encoding_notes(report)
    yield from _search_notes(report)
    if report.aggregation != "all" and any(row.aggregation != "all" for row in rows):
        yield "aggregation", {"aggregation": report.aggregation}
    lacking: dict[tuple[str, str, str], dict[str, None]] = {}  # candidates by note, set and reason
    for row in rows:
        if row.reason:
            kind = "no_value" if row.value is None else "no_interval"
            of_set = f"{row.dataset}: " if len(report.datasets) > 1 else ""
            lacking.setdefault((kind, of_set, row.reason), {})[row.candidate] = None
    for (kind, of_set, reason), candidates in lacking.items():
        yield kind, {"dataset": of_set, "recipe": ", ".join(candidates), "reason": reason}
    yield from _fit_notes(report.fit)
    yield from label_notes(report)
    if report.has_heads:
        yield "lines", {}
    if metadata.trained_pairs:
        yield "trained_pairs", {"count": metadata.trained_pairs}
    yield from _mean_label_notes(report)
    if any(row.ci95 for row in rows):
        values = {"resamples": metadata.resamples, "seed": metadata.seed}
        values["strata"] = any(row.subsets for row in rows)
        yield f"intervals{_ENDS[tuple(report.tasks)]}", values
        yield from _optimistic_notes(report)
    if report.baseline is not None:
        alone = report.selection is not None and report.selection.is_independent
        yield "baseline_alone" if alone else "baseline", {"baseline": report.baseline}
        if len(report.datasets) > 1 and any(significant(row.baseline) for row in rows):
            yield "significant", {"baseline": report.baseline}
    if len(report.datasets) > 1:
        for suite in dict.fromkeys(row.dataset for row in report.averages):
            n = next(row.n for row in report.averages if row.dataset == suite)
            yield "averages", {"suite": suite, "n": n}
    if report.equal:
        yield "equal", {}
    yield from _selection_notes(report)
    yield from _public_set_notes(report)


def _optimistic_notes(report: ReportData) -> Notes:
    """Why intervals are narrower and p-values lower than the data allow."""
    pairs = [
        frozenset(both)
        for data in (of_set.pairs for of_set in report.pair_predictions)
        for both in zip(data.sentence1, data.sentence2, strict=True)
    ]
    repeated = len(pairs) - len(set(pairs))
    if repeated > max(1, _REPEATED * len(pairs)):
        yield "repeated", {"count": repeated, "pairs": len(pairs)}
    for used in report.run_metadata.data:
        if (
            isinstance(used, RetrievalUsed)
            and used.role == "scored"
            and FEWEST <= used.queries < FEW_QUERIES
        ):
            yield "few_queries", {"dataset": used.name, "count": used.queries}


def _encoding_notes(report: ReportData) -> Notes:
    """What each model encoded."""
    key = "encoded" if report.run_metadata.search is None else "encoded_texts"
    if report.decided_by == CROSS_ENCODER:
        key = "read_together"
    models: dict[str, ReportData | ModelRun] = {f"{x}: ": run for x, run in report.models.items()}
    for prefix, run in (models or {"": report}).items():
        settings = run.used if isinstance(run, ModelRun) else run.run_metadata
        if run.forward_passes == 0:  # BM25 encodes nothing
            continue
        yield (
            key,
            {
                "prefix": prefix,
                "distinct": run.forward_passes,
                "sentences": run.sentences,
                "truncated": run.truncated,
                "share": 100 * run.truncated / run.forward_passes,
                "max_length": settings.max_length,
                "cached": run.cached,
            },
        )


def _mean_label_notes(report: ReportData) -> Notes:
    """What the MSE of heads is compared with: always predicting the mean of the labels."""
    labels = {of_set.pairs.name: of_set.pairs.scores for of_set in report.pair_predictions}
    for row in report.deciding("mse") if len(report.compared) == 1 else ():
        if row.value is not None and row.similarity != "line" and row.dataset in labels:
            value = float(labels[row.dataset].var())
            key = "mean_label" if row.value < value else "mean_label_worse"
            change = 100 * (1 - row.value / value) if value else 0.0
            yield key, {"dataset": row.dataset, "value": value, "change": change}


def label_notes(report: ReportData) -> Notes:
    """Labels that may have another scale than those of the training."""
    if (trained := report.run_metadata.label_range) is None:
        return
    for pairs in (of_set.pairs for of_set in report.pair_predictions):
        labels = float(pairs.scores.min()), float(pairs.scores.max())
        gap = max(abs(a - b) for a, b in zip(labels, trained, strict=True))
        if gap > _OFF_SCALE * max(high - low for low, high in (labels, trained)):
            (low, high), (first, last) = labels, trained
            values = {"low": low, "high": high, "trained_low": first, "trained_high": last}
            yield "label_ranges", {"dataset": pairs.name, **values}


def _public_set_notes(report: ReportData) -> Notes:
    """Public sets that lack rows, and published values beside the measured ones."""
    for used in report.run_metadata.data:
        if (known := NAMED_SETS.get(used.name)) is None:
            continue
        rows = used.queries if isinstance(used, RetrievalUsed) else used.pairs
        if rows != known.rows:
            yield "size", {"dataset": used.name, "rows": rows, "expected": known.rows}
    several_models = len({one.model for one in report.published}) > 1
    several_recipes = len({one.recipe for one in report.published}) > 1
    for one in report.published:
        names = [one.model] * several_models + [one.recipe] * several_recipes
        values = {
            "dataset": " ".join([*names, one.dataset]),
            "measured": 100 * one.measured,
            "published": 100 * one.published,
            "difference": 100 * one.difference,
            "source": one.source,
            "explanation": one.explanation,
            "tried": ", ".join(
                f"{protocol} {'-' if value is None else f'{100 * (value - one.published):+.2f}'}"
                for protocol, value in (one.tried or {}).items()
            ),
        }
        if one.published_dataset != one.dataset:
            values["source"] = f"{one.published_dataset}, {one.source}"
        yield f"published_{one.verdict}", values


def _search_notes(report: ReportData) -> Notes:
    search = report.run_metadata.search
    if search is None:
        return
    for used in report.run_metadata.data:
        if not isinstance(used, RetrievalUsed):
            continue
        values = {"dataset": used.name, "documents": used.documents}
        key = "exact" if search.index == EXACT or search.modes == (BM25,) else "approximate"
        yield key, {**values, "index": search.index, "depth": search.depth}
        for key in ("left_out", "missing_documents", "queries_without_relevant"):
            if count := getattr(used, key):
                yield key, {"count": count, "dataset": used.name}
    if search.words is not None:
        yield "bm25", {"k1": K1, "b": B, "words": search.words}
    if HYBRID in search.modes:
        if search.weights is None:
            yield "hybrid", {"k": RRF}
        else:
            yield "weighted", dict(zip(("dense", "bm25"), search.weights, strict=True))
    if search.reranker is not None:
        yield "rerank", {"reranker": search.reranker, "depth": search.rerank_depth}
    if search.query_prompt or search.document_prompt:
        yield "prompts", {"query": search.query_prompt, "document": search.document_prompt}


def _fit_notes(fit: dict[str, Any] | None) -> Notes:
    if fit is None:
        return
    values = {"recipes": ", ".join(fit["recipes"]), "texts": fit["texts"], "source": fit["source"]}
    yield "fitted_on_data" if fit["on_data"] else "fitted", values
    for recipe, notes in fit["recipes"].items():
        for remark in notes:
            yield "fit_note", {"recipe": recipe, "note": remark}


def _selection_notes(report: ReportData) -> Notes:
    """How the best recipe was selected."""
    selection = report.selection
    if selection is None:
        if len(report.compared) > 1:
            if len(winners := report.winners()) > 1:
                named = (f"{dataset} {recipe}" for dataset, recipe in winners.items())
                yield "winners", {"winners": ", ".join(named)}
            if report.kind != "model" and report.best_name is not None:
                yield "optimistic", {}
        return
    values = {"datasets": ", ".join(selection.datasets)}
    if selection.value is None:
        yield "selected_none", values
        return
    values |= {"recipe": str(selection.recipe), "similarity": selection.similarity}
    metrics = {row.metric for row in selection.results}
    tasks = tuple(task for task in TASKS if task.main in metrics)
    yield f"selected{_ENDS[tasks]}", {**values, "value": 100 * selection.value}
    for key in ("shared_pairs", "shared_queries"):
        if count := getattr(selection, key):
            yield key, {"count": count}
