"""Save a compared recipe as a model whose card shows the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.embedder.card_metadata import CardScore, add_card_metadata, base_model_metadata
from embedkit.embedder.model_card import add_section
from embedkit.errors import InputError
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.report.page import metadata_rows
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import PAIRS
from embedkit.retrieval.fusion import BM25, HYBRID

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


def save_model(
    report: Report, embedder: Embedder, folder: str | Path, recipe: str | None = None
) -> str:
    """Save the embedder that was compared with one of the recipes, by default the verdict's.

    A model folder of embedkit is replaced. Returns the recipe, for `add_comparison`.
    """
    name = report.verdict.recipe if recipe is None else recipe
    if name is None:
        raise InputError("no recipe has a value on every data set; there is none to save")
    if name not in report.compared:
        raise InputError(
            f"recipe is {name!r}; expected one that was compared: {', '.join(report.compared)}"
        )
    own = report.compared[name]
    if name == BM25 or name.endswith((f" {HYBRID}", " rerank")):
        expected = "none: BM25 has no model" if own is None else f"a recipe alone, such as {own}"
        raise InputError(
            f"recipe is {name!r}, a way to search, which no model folder records; expected "
            f"{expected}"
        )
    embedder.with_recipe(report.fitted.get(name, name)).save_pretrained(folder)
    return name


def add_comparison(
    report: Report, folder: str | Path, recipe: str, *, revision: str | None = None
) -> None:
    """Add the comparison to the model card of a folder that `save_model` wrote.

    It gets the verdict, the table and how it was measured, and the scores of the recipe as
    `model-index`, which the hub reads. `revision` is of the model there, whose card says the
    license.
    """
    measured = metadata_rows(report, catalogue("en")["labels"])
    verdict, body = report.markdown_parts(more=[f"{name}: {value}" for name, value in measured])
    add_section(Path(folder), f"\n## Comparison\n\n{verdict}\n\n{body}")
    model = report.model["name"]
    metadata = base_model_metadata(model, revision)
    add_card_metadata(
        Path(folder), f"{Path(model).name} {recipe}", metadata, _scores(report, recipe)
    )


def _scores(report: Report, recipe: str) -> Iterator[CardScore]:
    for row in (report.scores(dataset).get(recipe) for dataset in report.datasets):
        if row is None or row.value is None:
            continue
        if row.metric == PAIRS.main:
            task, metric = "semantic-similarity", f"{row.metric}_{row.similarity}"
        else:
            task, metric = "information-retrieval", f"{row.similarity}_{row.metric}"
        yield CardScore(task, row.dataset, metric, row.value, row.ci95)
