"""`embedkit compare`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from embedkit.cli import choices, options, output, ranking
from embedkit.errors import InputError

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.report.report import Report


def compare_command(
    data: options.Data,
    *,
    models: options.ModelsToCompare,
    recipes: Annotated[
        str | None,
        options.recipe_option(
            "Compare these recipes, separated by spaces or commas, such as 'mean cls@-2 "
            "mean@1,-1/whiten:256'; by default the poolings that a saved model can have, "
            "mean@first-last and the model's own recipe.",
            autocompletion=choices.complete_recipes,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        options.recipe_option(
            "Compare the poolings at each of these hidden states: all, or numbers such as '0 6 -1'."
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        options.recipe_option(
            "Select the best recipe and similarity on these pairs or this retrieval set, so that "
            "the scores on DATA are not biased upwards. May be given several times.",
            autocompletion=choices.complete_data,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        options.recipe_option(
            "Compare the others to this recipe; by default the model's own, else mean, else "
            "the first one. Of several models it is the name of one, a recipe of the first one, or "
            "both as in 'minilm mean'.",
            autocompletion=choices.complete_recipes,
        ),
    ] = None,
    fit: options.FitFile,
    fit_on_data: Annotated[
        bool,
        options.recipe_option(
            "Fit steps on the scored sentences; the report says so.", "--fit-on-data"
        ),
    ] = False,
    head: Annotated[
        str | None,
        options.head_option(
            "Fit a regression head of this kind for each recipe.", values=choices.HEADS
        ),
    ] = None,
    train: Annotated[
        list[str] | None,
        options.head_option(
            "Fit the heads on these sentence pairs. May be given several times.",
            autocompletion=choices.complete_data,
        ),
    ] = None,
    scoring: options.Scoring,
    precision: options.Precision = "float32",
    save_best: Annotated[
        Path | None,
        options.output_option(
            "Save the model in this folder with the recipe of the verdict: the best one if it is "
            "significantly better than the baseline, else the baseline. sentence-transformers "
            "loads it."
        ),
    ] = None,
    save: Annotated[
        tuple[str, Path] | None,
        options.output_option(
            "Save the model in DIR with RECIPE, one of those compared, whatever the verdict.",
            metavar="RECIPE DIR",
        ),
    ] = None,
    ranked: ranking.Ranking,
    report_files: options.ReportFiles,
    files: options.PairFiles,
) -> None:
    """Compare the poolings of a model on sentence pairs and retrieval sets.

    Example: [bold]embedkit compare korsts_test.tsv -m klue/bert-base --save-best my-model[/bold]
    """
    folders = {} if save_best is None else {"--save-best": save_best}
    if save is not None:
        folders["--save"] = save[1]
    output.check_out(report_files, folders)
    sets = files.read_sets(data)
    selecting = None if select is None else files.read_sets(select, "select")
    training = None if train is None else files.read_sets(train, "train")
    if fit.fit is not None and fit_on_data:
        raise InputError("got --fit and --fit-on-data; expected one of them")
    corpus = fit.corpus(files.encoding)
    if folders and (ranked.mode != "dense" or ranked.rerank is not None):
        raise InputError(
            f"got {next(iter(folders))} with --mode or --rerank, of which a saved model has none"
        )
    settings = models.read(precision)
    for option in folders:
        if head is not None:
            raise InputError(
                f"got --head and {option}; train a recipe's head with embedkit train head"
            )
        if len(settings) > 1:
            raise InputError(f"got {option} and several models; compare the one to save alone")
    from embedkit.data.named_sets import expand
    from embedkit.embedder.saving import check_saveable
    from embedkit.evaluation.candidates import Candidates, parse_recipes
    from embedkit.evaluation.compare import compare
    from embedkit.evaluation.save_model import add_comparison, save_model
    from embedkit.recipes.recipe import Recipe

    named = None if recipes is None else _split_recipes(recipes)
    by_layer = None if layers is None else _parse_layers(layers)
    loaded: list[Embedder] = []

    def load() -> Embedder:
        """The model, once all options are checked; a recipe that cannot be saved is refused."""
        embedder = cast("Embedder", settings[0].load(embedder=True))
        loaded.append(embedder)
        saved = [] if save_best is None else named or [str(embedder.recipe)]
        if save is not None:
            recipe = embedder.bind(save[0]).recipe
            against = None if baseline is None else Recipe.of(baseline)
            compared = Candidates.of(embedder, parse_recipes(named, by_layer), by_layer, against)
            if recipe not in {bound.recipe for bound in compared.bounds}:
                raise InputError(f"--save: recipe {save[0]!r} is not compared; add it to --recipes")
            saved = [*saved, str(recipe)]
        for name in saved:
            check_saveable(embedder.encoder, embedder.bind(name), embedder.settings)
        return embedder

    report = compare(
        load if folders else settings,
        sets,
        named,
        select=selecting,
        baseline=baseline,
        layers=by_layer,
        fit="data" if fit_on_data else corpus,
        similarities=scoring.similarities or ["cosine"],
        head=head,
        train=training,
        suites=expand(data).suites,
        cache=models.cache,
        **scoring.arguments,
        **ranked.arguments(models.device),
    )

    saved: dict[Path, str] = {}

    def save_models(report: Report) -> None:
        """The recipe that the user insists on first: the verdict may have none."""
        for recipe, folder in [*([] if save is None else [save]), (None, save_best)]:
            if folder is None:
                continue
            name = None if recipe is None else str(loaded[0].bind(recipe).recipe)
            saved[folder] = save_model(report, loaded[0], folder, name)
            best = report.best_name
            kept = name is None and best not in (None, saved[folder])
            reason = f"; {best} is not significantly better" if kept else ""
            output.inform(f"Saved recipe {saved[folder]} in {folder}{reason}.")

    def write_cards(report: Report) -> None:
        for folder, recipe in saved.items():
            add_comparison(report, folder, recipe, revision=models.revision)

    output.show_report(report, report_files, save_models, write_cards)


def _split_recipes(text: str) -> list[str]:
    """Recipes are separated by spaces or commas; a comma before a number separates layers."""
    return [part for part in re.split(r"\s+|,\s*(?=[a-z])", text) if part]


def _parse_layers(text: str) -> str | list[int]:
    try:
        layers = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        layers = []
    if not layers and text != "all":
        raise InputError(f"--layers is {text!r}; expected all, or hidden states such as '0 6 -1'")
    return layers or text
