"""`embedkit evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

from embedkit.cli import options, output
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
        options.option(
            "Precision of the encoder: float32 (the default), bfloat16, float16, or auto. A head's "
            "default and auto are the precision that it was trained in."
        ),
    ] = None,
    revision: options.Revision = None,
    report_files: options.ReportFiles,
    files: options.PairFiles,
) -> None:
    """Score a model's own recipe on pairs and retrieval sets, or a head or cross-encoder on pairs.

    Example: [bold]embedkit evaluate stsb_test.tsv korsts_test.tsv -m klue/bert-base[/bold]
    """
    output.check_out(report_files)
    sets = files.read_sets(data)
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.compare import check_options, check_retrieval, evaluate
    from embedkit.scoring.loading import find_cross_encoder, find_head

    # evaluate() checks these too; here they come before the model is loaded, or downloaded.
    similarities = scoring.similarities
    check_options(similarities or ["cosine"], scoring.aggregation, scoring.seed)
    check_retrieval(sets, scoring.query_prompt, scoring.document_prompt, scoring.index)
    settings: dict[str, Any] = {
        "max_length": max_length,
        "device": device,
        "revision": revision,
    } | ({} if precision is None else {"precision": precision})
    found = (
        find_cross_encoder(model, **settings)
        or find_head(model, **settings)
        or Embedder.from_pretrained(model, **{"precision": "float32", **settings})
    )
    report = evaluate(
        found, sets, similarities=similarities, show_progress=True, **scoring.arguments
    )
    output.show_report(report, report_files)
