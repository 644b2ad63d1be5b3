"""`embedkit evaluate`."""

from __future__ import annotations

from typing import Annotated

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
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.scoring.loading import LoadedModel, load_model

    def load() -> LoadedModel:
        """The model, once all options are checked."""
        return load_model(
            model, max_length=max_length, device=device, precision=precision, revision=revision
        )

    report = evaluate(load, sets, similarities=scoring.similarities, **scoring.arguments)
    output.show_report(report, report_files)
