"""`embedkit compare`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe


def compare_command(
    data: options.Data,
    *,
    model: options.Model = DEFAULT_MODEL,
    recipes: Annotated[
        str | None,
        options.option(
            "Recipes to compare, separated by spaces or commas, such as 'mean cls@-2 "
            "mean@1,-1/whiten:256'. "
            "By default the poolings that a saved model can have, mean@first-last and the model's "
            "own recipe."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        options.option(
            "Compare the poolings at each of these hidden states: all, or numbers such as '0 6 -1'."
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        options.option(
            "Sentence pairs to choose the best recipe and similarity on, so that the scores on "
            "DATA are not biased by the choice. May be given several times."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        options.option(
            "Recipe to test the others against; by default the model's own, else mean, else the "
            "first one."
        ),
    ] = None,
    fit: options.FitFile,
    fit_on_data: Annotated[
        bool,
        typer.Option(
            "--fit-on-data", help="Fit steps on the scored sentences; the report says so."
        ),
    ] = False,
    head: Annotated[
        str | None,
        options.option("Fit a regression head for each recipe: ridge, mlp or isotonic."),
    ] = None,
    train: Annotated[
        list[str] | None,
        options.option("Sentence pairs to fit the heads on. May be given several times."),
    ] = None,
    scoring: options.Scoring,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    precision: options.Precision = "float32",
    revision: options.Revision = None,
    save_best: Annotated[
        Path | None,
        options.option(
            "Folder to save the model with the best recipe in; sentence-transformers loads it."
        ),
    ] = None,
    report_files: options.ReportFiles,
    files: options.PairFiles,
) -> None:
    """Compare the poolings of a model on sentence pairs and retrieval sets, and save the best.

    Example: [bold]embedkit compare korsts_test.tsv -m klue/bert-base --save-best my-model[/bold]
    """
    output.check_out(report_files, save_best)
    from embedkit.data.datasets import SELECTION, check_names, only_pairs

    sets = files.read_sets(data)
    parsed = None if recipes is None else _parse_recipes(recipes)
    chosen = None if layers is None else _parse_layers(layers)
    selecting = None if select is None else only_pairs(files.read_sets(select), SELECTION)
    check_names([*sets, *(selecting or ())])
    against = None if baseline is None else Recipe.parse(baseline)
    training = None if train is None else files.read_sets(train)
    if fit.fit is not None and fit_on_data:
        raise InputError("got --fit and --fit-on-data; expected one of them")
    corpus = fit.corpus(files.encoding)
    if head is not None and save_best is not None:
        raise InputError(
            "got --head and --save-best; train the winner's head with embedkit train head"
        )
    from embedkit.embedder.embedder import Embedder
    from embedkit.embedder.saving import check_saveable
    from embedkit.evaluation.compare import check_options, check_retrieval, compare
    from embedkit.evaluation.heads import Training, check_heads
    from embedkit.files import check_target

    # compare() checks these too; here they come before the model is loaded, or downloaded.
    similarities = scoring.similarities or ["cosine"]
    check_options(similarities, scoring.aggregation, scoring.seed)
    if parsed is not None and chosen is not None:
        raise InputError("got --recipes and --layers; expected one: a recipe names its layers")
    check_retrieval(sets, scoring.query_prompt, scoring.document_prompt, scoring.index)
    check_heads(head, training, scoring.threshold)
    if training is not None:
        only_pairs(sets)
        Training.of(only_pairs(training), head)
    if save_best is not None:
        check_target(save_best)
    embedder = Embedder.from_pretrained(
        model, max_length=max_length, device=device, precision=precision, revision=revision
    )
    if save_best is not None:
        for recipe in parsed or [embedder.recipe]:
            check_saveable(embedder.encoder, embedder.bind(recipe), embedder.settings)
    report = compare(
        embedder,
        sets,
        parsed,
        select=selecting,
        baseline=against,
        layers=chosen,
        fit="data" if fit_on_data else corpus,
        similarities=similarities,
        head=head,
        train=training,
        show_progress=True,
        **scoring.arguments,
    )

    def save() -> None:
        if save_best is None:
            return
        if report.best is None:
            raise InputError("no recipe has a value on every data set; there is no best to save")
        best = report.fitted.get(str(report.best), report.best)
        embedder.with_recipe(best).save_pretrained(save_best)
        print(f"Saved recipe {report.best} in {save_best}.", file=sys.stderr)

    output.show_report(report, report_files, save)


def _parse_recipes(text: str) -> list[Recipe]:
    """Recipes are separated by spaces or commas; a comma before a number separates layers."""
    parts = re.split(r"\s+|,\s*(?=[a-z])", text.strip())
    return [Recipe.parse(part) for part in parts if part]


def _parse_layers(text: str) -> str | list[int]:
    if text == "all":
        return text
    parts = text.replace(",", " ").split()
    try:
        layers = [int(part) for part in parts]
    except ValueError:
        layers = []
    if not layers:
        raise InputError(f"--layers is {text!r}; expected all, or hidden states such as '0 6 -1'")
    return layers
