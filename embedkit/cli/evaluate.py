"""`embedkit evaluate`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from embedkit.cli import choices, options, output
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL


def evaluate_command(
    data: options.Data,
    *,
    model: options.Model = DEFAULT_MODEL,
    scoring: options.Scoring,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    precision: Annotated[
        str | None,
        options.model_option(
            "Run the encoder in this precision, float32 by default. A head's default and auto are "
            "the precision that it was trained in.",
            values=choices.PRECISIONS,
        ),
    ] = None,
    revision: options.Revision = None,
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
    report_files: options.ReportFiles,
    files: options.PairFiles,
    unit: options.Unit = None,
) -> None:
    """Score a model's own recipe on pairs and retrieval sets, or a head or cross-encoder on pairs.

    A token classifier is scored on CoNLL files (.conll, .bio) and JSONL with spans.

    Example: [bold]embedkit evaluate stsb_test.tsv korsts_test.tsv -m klue/bert-base[/bold]
    """
    output.check_out(report_files)
    from embedkit.data.entity_files import holds_entities

    if any(map(holds_entities, data)):
        from embedkit.cli.entities import evaluate_entities

        others = {"out": report_files.out, "precision": precision, **vars(scoring)}
        tagger = {"max_length": max_length, "device": device, "revision": revision}
        evaluate_entities(data, model, unit, files.encoding, others, report_files, **tagger)
        return
    if unit is not None:
        raise InputError("got --unit for sentence pairs; it is for texts with entities")
    sets = files.read_sets(data)
    if reproduce or published is not None:
        from embedkit.evaluation.published import check_published

        check_published(model, [of_name.name for of_name in sets], published)
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.scoring.loading import LoadedModel, load_model

    def load() -> LoadedModel:
        """The model, once all options are checked."""
        return load_model(
            model, max_length=max_length, device=device, precision=precision, revision=revision
        )

    report = evaluate(load, sets, similarities=scoring.similarities, **scoring.arguments)
    if reproduce:
        from embedkit.evaluation.reproduce import reproduce as explain

        report = explain(report, sets, lambda _: load(), published)
    elif published is not None:
        from embedkit.evaluation.published import compare_with_published

        report = replace(report, comparisons=compare_with_published(report, published))
    output.show_report(report, report_files)
    if reproduce and not all(one.is_explained for one in report.published):
        raise typer.Exit(1)
