"""Render report.html, one file that opens offline.

Vega-Lite draws the plots, in SVG: the browser's own fonts draw Korean, and CSS variables colour
them for a light or dark theme, or for paper. vl-convert carries its JavaScript, which goes into the
page (0.9 MB).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.heat_map import heat_map
from embedkit.evaluation.report.locale import catalogue, check_language
from embedkit.evaluation.report.notes import notes_in
from embedkit.evaluation.report.page import legend, metadata_rows, page_data, result_table
from embedkit.evaluation.report.tables import table_of

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: ReportData, language: str = "en") -> str:
    """The page, in English (en) or Korean (ko)."""
    check_language(language)
    words = catalogue(language)["labels"]
    data = page_data(report, language)
    heat_maps = [heat_map(report, dataset, words) for dataset in report.datasets]
    shown = {
        "results": True,
        "comparison": any(len(of_set["scores"]) > 1 for of_set in data["datasets"]),
        "heat": any(heat_maps),
        "notes": True,
        "diagnosis": any(analysis.recipes for analysis in report.error_analyses)
        or any(analysis.recipes for analysis in report.retrieval_error_analyses),
        "metadata": True,
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            language=language,
            words=words,
            report=report,
            title=report.model_names,
            overview=table_of(report, language).html()
            if report.models or len(report.datasets) > 1
            else "",
            verdict=report.verdict.in_words(language),
            notes=notes_in(report, language),
            tables=[result_table(report, dataset, words) for dataset in report.datasets],
            legends=[legend(report, dataset, words) for dataset in report.datasets],
            heat_maps=heat_maps,
            sections=[section for section, has_content in shown.items() if has_content],
            metadata=metadata_rows(report, words),
            data=data,
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
