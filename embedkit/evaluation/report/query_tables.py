"""The error analysis of retrieval sets as tables: nDCG@10 by length, and the worst queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import interval, number
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.results import RETRIEVAL
from embedkit.evaluation.retrieval_errors import QueryErrors, RecipeQueryErrors

_METRIC = RETRIEVAL.main


def query_tables(report: ReportData, language: str, count: int) -> Iterator[tuple[str, Grid]]:
    """Headings and tables of the best recipe, or of the only one; `count` queries at most."""
    words = catalogue(language)["table"]
    recipe = report.best_name or next(iter(report.compared))
    for analysis in report.retrieval_error_analyses:
        about = {"dataset": analysis.dataset, "recipe": recipe}
        texts = {quoted.id: quoted.text for quoted in analysis.queries}
        for one in (one for one in analysis.recipes if one.recipe == recipe):
            yield words["queries_by_length"].format(**about), _by_length(one, words)
            if one.worst:
                counts = {"relevant": one.relevant, "missed": one.missed}
                heading = words["worst_queries"].format(**counts, **about)
                yield heading, _worst(one.worst[:count], texts, words)


def _by_length(errors: RecipeQueryErrors, words: dict[str, str]) -> Grid:
    rows = tuple(
        (
            f"{own.low:g}" if own.low == own.high else f"{own.low:g}–{own.high:g}",
            f"{own.n:,}",
            number(own.value, _METRIC),
            interval(own.ci95, _METRIC),
        )
        for own in errors.by_length
    )
    headings = (words["words"], words["queries"], words[_METRIC], words["interval"])
    return Grid(headings, rows, texts=frozenset())


def _worst(worst: Sequence[QueryErrors], texts: dict[str, str], words: dict[str, str]) -> Grid:
    rows = tuple(
        (texts[own.query], number(own.value, _METRIC), _rank(own.first_relevant), _missed(own))
        for own in worst
    )
    headings = tuple(words[name] for name in ("query", _METRIC, "first_relevant", "missed"))
    return Grid(headings, rows, texts=frozenset({0, 3}))


def _rank(rank: int | None) -> str:
    """A rank; `-` beyond the depth of the rankings."""
    return "-" if rank is None else f"{rank:,}"


def _missed(errors: QueryErrors) -> str:
    """The ids of missed documents, each with its rank."""
    listed = [f"{document.document} ({_rank(document.rank)})" for document in errors.documents]
    more = errors.missed - len(listed)
    return ", ".join([*listed, *[f"+{more}"] * bool(more)])
