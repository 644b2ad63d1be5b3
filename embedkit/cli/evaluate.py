"""`embedkit evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from embedkit.cli import choices, options, output, ranking
from embedkit.errors import InputError

_NOT_OF_ENTITIES = {
    *("out", "models", "baseline", "recipe", "precision", "engine", "cache", "reproduce"),
    *("published", *vars(options.Scoring()), *vars(ranking.Ranking())),
} - {"seed"}
_WORDS_ALONE = "for bm25 alone, which has no model; expected none, or dense or hybrid too"
_OF_EMBEDDERS = {"recipe", "precision", "engine", "max_length", "device", "revision", "cache"}


def evaluate_command(
    context: typer.Context,
    data: options.Data,
    *,
    models: options.ModelsToCompare,
    baseline: Annotated[
        str | None,
        options.model_option(
            "Compare the other models to this one, as -m or the table names it; by default the "
            "first one."
        ),
    ] = None,
    recipe: options.Recipe = None,
    scoring: options.Scoring,
    precision: Annotated[
        str | None,
        options.model_option(
            "Run the encoder in this precision, float32 by default. A head's default and auto are "
            "the precision that it was trained in.",
            values=choices.PRECISIONS,
        ),
    ] = None,
    reproduce: Annotated[
        bool,
        options.scoring_option(
            "Look for the reason where a value differs from the published one, and exit with 1 if "
            "one is neither reproduced nor explained.",
            "--reproduce",
        ),
    ] = False,
    published: Annotated[
        str | None,
        options.scoring_option(
            "Compare with the published values of this model, such as "
            "intfloat/multilingual-e5-small; by default the model's hub id says which."
        ),
    ] = None,
    ranked: ranking.Ranking,
    report_files: options.ReportFiles,
    files: options.PairFiles,
    unit: options.Unit = None,
) -> None:
    """Score an embedding model on pairs and retrieval sets, or a head or cross-encoder on pairs.

    Several models make one table, with averages and paired differences. A token classifier is
    scored on CoNLL files (.conll, .bio) and JSONL with spans.

    Example: [bold]embedkit evaluate stsb_test.tsv korsts_test.tsv -m klue/bert-base[/bold]
    """
    output.check_out(report_files)
    from embedkit.data.entity_files import holds_entities

    if any(map(holds_entities, data)):
        from embedkit.cli.entities import evaluate_entities

        options.refuse(context, _NOT_OF_ENTITIES, "for entities, which have no such option")
        model, *others = models.sources
        if others:
            raise InputError("got several models for entities; expected one model")
        evaluate_entities(
            data,
            model,
            unit,
            files.encoding,
            report_files,
            seed=scoring.seed,
            max_length=models.max_length,
            device=models.device,
            revision=models.revision,
        )
        return
    if unit is not None:
        raise InputError("got --unit for sentence pairs; it is for texts with entities")
    settings = []
    if models.model is None and models.models is None and {*ranked.modes} == {"bm25"}:
        read = {"device"} if ranked.rerank else {}
        options.refuse(context, _OF_EMBEDDERS.difference(read), _WORDS_ALONE)
    else:
        settings = models.read(precision, recipe)
    from embedkit.data.named_sets import expand
    from embedkit.evaluation.evaluate import evaluate

    report = evaluate(
        settings or None,
        files.read_sets(data),
        baseline=baseline,
        suites=expand(data).suites,
        similarities=scoring.similarities,
        reproduce=reproduce,
        published=published,
        cache=models.cache,
        **scoring.arguments,
        **ranked.arguments(models.device),
    )
    output.show_report(report, report_files)
    if reproduce and not report.published:
        output.alert("nothing was compared: no value is published for this recipe and similarity")
    if reproduce and not (report.published and all(x.is_explained for x in report.published)):
        raise typer.Exit(1)
