"""Read texts with entities, and the scores of them that `embedkit evaluate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.cli import options, output
from embedkit.data.entities import TaggedTexts
from embedkit.data.entity_files import read_entities


def read_entity_file(path: str | Path, unit: Any, encoding: str) -> TaggedTexts:
    """A data set; stderr says where tags of another scheme became IOB2."""
    data = read_entities(path, unit, encoding)
    if data.scheme != "IOB2":
        output.inform(f"{path}: its tags are {data.scheme}; they are converted to IOB2, exactly.")
    return data


def evaluate_entities(
    data: Sequence[str],
    model: str,
    unit: Any,
    encoding: str,
    files: options.ReportFiles,
    *,
    seed: int,
    **tagger_options: Any,
) -> None:
    """Score a token classifier."""
    form = files.check_format(("table", "json"))
    sets = [read_entity_file(path, unit, encoding) for path in data]
    from embedkit.tagging.entity_scores import evaluate_tagger
    from embedkit.tagging.tagger import Tagger

    tagger = Tagger.from_pretrained(model, **tagger_options)
    reports = [evaluate_tagger(tagger, one, seed=seed) for one in sets]
    if form == "json":  # the results of all data sets in one list, as in report.json
        sets_json = [report.to_dict() for report in reports]
        results = [row for one in sets_json for row in one.pop("results")]
        output.print_json({"model": tagger.name, "results": results, "data": sets_json})
        return
    for report in reports:
        report.print(output.console(), files.lang)
