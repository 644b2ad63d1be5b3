"""`embedkit compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL


def compare_command(
    data: options.Data,
    model: options.Model = DEFAULT_MODEL,
    recipes: Annotated[
        str | None,
        typer.Option(
            help="Recipes, separated by spaces, such as 'mean cls@-2 mean@1,-1/whiten:256'; by "
            "default the poolings that a saved model can have, mean@first-last and the model's "
            "own.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Cross the poolings with these hidden states: all, or numbers such as '0 6 -1'.",
            show_default=False,
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Sentence pairs to select the best recipe and similarity on, so that the score on "
            "DATA is not biased upwards; may be given several times.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The recipe that the others are compared to; by default the model's own, else "
            "mean, else the first one.",
            show_default=False,
        ),
    ] = None,
    fit: options.Fit = None,
    fit_column: options.FitColumn = None,
    fit_on_data: Annotated[
        bool,
        typer.Option("--fit-on-data", help="Fit on the scored sentences; the report says so."),
    ] = False,
    similarity: options.Similarity = None,
    aggregation: options.Aggregation = "all",
    head: Annotated[
        str | None,
        typer.Option(
            help="Fit each recipe a head of its own: ridge, mlp or isotonic.", show_default=False
        ),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="Sentence pairs to fit the heads on; may be given several times.",
            show_default=False,
        ),
    ] = None,
    threshold: options.Threshold = None,
    prompt: options.Prompt = None,
    prompt_name: options.PromptName = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    index: options.Index = "flat",
    max_length: options.MaxLength = None,
    device: options.Device = None,
    precision: options.Precision = "float32",
    revision: options.Revision = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    out: options.Out = None,
    lang: options.Lang = "en",
    save_best: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the model with the best recipe, which sentence-transformers loads.",
            show_default=False,
        ),
    ] = None,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Compare the poolings of a model on sentence pairs and retrieval sets.

    Example: [bold]embedkit compare korsts_test.tsv -m klue/bert-base --save-best my-model[/bold]
    """
    output.check_out(out, save_best, lang=lang)
    from embedkit.data.datasets import read_sets
    from embedkit.data.pairs import PairColumns

    columns = PairColumns(sentence1, sentence2, score, subset)
    sets = read_sets(data, columns, encoding)
    selecting = None if select is None else read_sets(select, columns, encoding, argument="select")
    training = None if train is None else read_sets(train, columns, encoding, argument="train")
    if fit is not None and fit_on_data:
        raise InputError("got --fit and --fit-on-data; expected one of them")
    corpus = options.fit_corpus(fit, fit_column, encoding)
    if head is not None and save_best is not None:
        raise InputError(
            "got --head and --save-best; train the winner's head with embedkit train head"
        )
    from embedkit.embedder.embedder import Embedder
    from embedkit.embedder.saving import check_saveable
    from embedkit.evaluation.compare import compare
    from embedkit.files import check_target

    named = None if recipes is None else recipes.split()
    loaded: list[Embedder] = []

    def load() -> Embedder:
        """The model, once all options are checked; a recipe that cannot be saved is refused."""
        if save_best is not None:
            check_target(save_best)
        embedder = Embedder.from_pretrained(
            model, max_length=max_length, device=device, precision=precision, revision=revision
        )
        loaded.append(embedder)
        if save_best is not None:
            for recipe in named or [str(embedder.recipe)]:
                check_saveable(embedder.encoder, embedder.bind(recipe), embedder.settings)
        return embedder

    report = compare(
        load,
        sets,
        named,
        select=selecting,
        baseline=baseline,
        layers=None if layers is None else _parse_layers(layers),
        fit="data" if fit_on_data else corpus,
        similarities=options.names(similarity),
        aggregation=aggregation,
        head=head,
        train=training,
        threshold=threshold,
        prompt=prompt,
        prompt_name=prompt_name,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        index=index,
        seed=seed,
        show_progress=True,
    )

    def save() -> None:
        if save_best is None:
            return
        if report.best is None:
            raise InputError("no recipe has a value on every data set; there is no best to save")
        best = report.fitted.get(str(report.best), report.best)
        loaded[0].with_recipe(best).save_pretrained(save_best)
        print(f"Saved recipe {report.best} in {save_best}.", file=sys.stderr)

    report = report.with_command(output.command())
    output.show(report, as_json=as_json, out=out, lang=lang, save=save)


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
