"""The entity scores that `embedkit evaluate` and `embedkit train token-classifier` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedkit.cli import options, output
from embedkit.data.entity_files import read_entities
from embedkit.errors import InputError

if TYPE_CHECKING:
    from embedkit.tagging.entity_scores import EntityReport


def evaluate_entities(
    data: Sequence[str],
    model: str,
    unit: Any,
    encoding: str,
    others: Mapping[str, Any],
    files: options.ReportFiles,
    **tagger_options: Any,
) -> None:
    """Score a token classifier; `others` are options of which only the seed has a meaning here."""
    plain = {"out": None, "precision": None, **vars(options.Scoring())}
    for name, value in others.items():
        if name != "seed" and value != plain[name]:
            raise InputError(
                f"got --{name.replace('_', '-')} for entities, which have no such option"
            )
    sets = [read_entities(path, unit, encoding) for path in data]
    from embedkit.tagging.entity_scores import evaluate_tagger
    from embedkit.tagging.tagger import Tagger

    tagger = Tagger.from_pretrained(model, **tagger_options)
    reports = [evaluate_tagger(tagger, one, seed=others["seed"]) for one in sets]
    if files.check_format(("table", "json")) == "json":
        output.print_json(as_json(reports))
        return
    for report in reports:
        show_entities(report, files.lang)


def as_json(reports: Sequence[EntityReport]) -> dict[str, Any]:
    """The results of all data sets in one list, as in report.json."""
    sets = [report.to_dict() for report in reports]
    results = [row for one in sets for row in one.pop("results")]
    return {"model": reports[0].model, "results": results, "data": sets}


def show_entities(report: EntityReport, lang: str = "en") -> None:
    """Print the table, and what was scored."""
    report.grid(lang).print(output.console())
    print(report.caption(lang))
