"""The notes below a report: what a reader must know beside the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from embedkit.data.named_sets import NAMED_SETS
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.results import CROSS_ENCODER, MAIN_METRICS, PAIRS, RETRIEVAL, TASKS
from embedkit.evaluation.run_metadata import RetrievalUsed
from embedkit.evaluation.significance import LEVEL

Notes: TypeAlias = Iterator[tuple[str, dict[str, Any]]]  # keys of the texts, and their values

_OFF_SCALE = 0.25  # of the wider range: labels whose ends differ by more may have another scale
_INTERVALS = {
    (PAIRS,): "intervals",
    (RETRIEVAL,): "intervals_queries",
    (PAIRS, RETRIEVAL): "intervals_both",
}
_SELECTED = {
    (PAIRS,): "selected",
    (RETRIEVAL,): "selected_queries",
    (PAIRS, RETRIEVAL): "selected_both",
}


def notes_of(report: ReportData) -> Notes:
    """All notes of a report."""
    metadata, rows = report.run_metadata, report.deciding(*MAIN_METRICS)
    encoded = "encoded" if metadata.search is None else "encoded_texts"
    yield (
        "read_together" if report.decided_by == CROSS_ENCODER else encoded,
        {
            "distinct": report.forward_passes,
            "sentences": report.sentences,
            "truncated": report.truncated,
            "share": 100 * report.truncated / report.forward_passes,
            "max_length": metadata.max_length,
        },
    )
    yield from _search_notes(report)
    if report.aggregation != "all" and any(row.aggregation != "all" for row in rows):
        yield "aggregation", {"aggregation": report.aggregation}
    for key, recipe, reason in dict.fromkeys(
        ("no_value" if row.value is None else "no_interval", row.recipe, row.reason)
        for row in rows
        if row.reason
    ):
        yield key, {"recipe": recipe, "reason": reason}
    yield from _fit_notes(report.fit)
    yield from label_notes(report)
    if report.has_heads:
        yield "lines", {}
    if any(row.ci95 for row in rows):
        values = {"resamples": metadata.resamples, "seed": metadata.seed}
        yield _INTERVALS[tuple(report.tasks)], values
    if report.baseline is not None:
        yield "baseline", {"baseline": report.baseline}
        tested = [row.baseline.p_holm for row in rows if row.baseline and row.baseline.ci95]
        if tested and all(p is not None and p >= LEVEL for p in tested):
            yield "same", {"baseline": report.baseline}
    if report.equal:
        yield "equal", {}
    yield from _selection_notes(report)
    yield from _public_set_notes(report)


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
        key = "exact" if search.index == EXACT else "approximate"
        yield key, {**values, "index": search.index, "depth": search.depth}
        for key in ("left_out", "missing_documents", "queries_without_relevant"):
            if count := getattr(used, key):
                yield key, {"count": count, "dataset": used.name}
    if search.query_prompt or search.document_prompt:
        yield "prompts", {"query": search.query_prompt, "document": search.document_prompt}


def _fit_notes(fit: dict[str, Any] | None) -> Notes:
    if fit is None:
        return
    values = {"recipes": ", ".join(fit["recipes"]), "texts": fit["texts"], "source": fit["source"]}
    yield "fitted_on_data" if fit["on_data"] else "fitted", values
    for recipe, notes in fit["recipes"].items():
        for note in notes:
            yield "fit_note", {"recipe": recipe, "note": note}


def _selection_notes(report: ReportData) -> Notes:
    """How the best recipe was selected."""
    selection = report.selection
    if selection is None:
        if len(report.compared) > 1:
            if len(winners := report.winners()) > 1:
                named = (f"{dataset} {recipe}" for dataset, recipe in winners.items())
                yield "winners", {"winners": ", ".join(named)}
            yield "optimistic", {}
        return
    values = {"datasets": ", ".join(selection.datasets)}
    if selection.value is None:
        yield "selected_none", values
        return
    values |= {"recipe": str(selection.recipe), "similarity": selection.similarity}
    metrics = {row.metric for row in selection.results}
    tasks = tuple(task for task in TASKS if task.main in metrics)
    yield _SELECTED[tasks], {**values, "value": 100 * selection.value}
    for key in ("shared_pairs", "shared_queries"):
        if count := getattr(selection, key):
            yield key, {"count": count}
