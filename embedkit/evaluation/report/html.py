"""Render report.html, one file that opens offline.

Vega-Lite draws the plots, in SVG, so that the browser's own fonts draw Korean and its variables
follow a dark theme; vl-convert carries its JavaScript, which goes into the page (0.9 MB).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.locale import catalogue, check_language, note
from embedkit.evaluation.report.notes import notes_of
from embedkit.evaluation.report.page import metadata_rows, page_data, result_table

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: ReportData, language: str = "en") -> str:
    """The page, in English (en) or Korean (ko).

    Raises:
        InputError: another language.
    """
    check_language(language)
    words = catalogue(language)["labels"]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            language=language,
            words=words,
            report=report,
            title=report.model["name"],
            verdict=report.verdict.in_words(language),
            notes=[note(key, language, **values) for key, values in notes_of(report)],
            tables=[result_table(report, dataset, words) for dataset in report.datasets],
            metadata=metadata_rows(report, words),
            data=page_data(report, language),
            style=_read("report.css"),
            script=_read("report.js"),
            library=_library(),
        )
    )
    # A path that is no Unicode must not keep the page from being written.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("embedkit.evaluation.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script; bundling them takes a second or two."""
    from vl_convert import javascript_bundle

    # Nothing in a script may look like its end.
    return javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
