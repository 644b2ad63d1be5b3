"""`embedkit evaluate`."""

from __future__ import annotations

from typing import Any

from embedkit.checkpoint import DEFAULT_MODEL
from embedkit.cli import options, output


def evaluate_command(
    data: options.Data,
    model: options.Model = DEFAULT_MODEL,
    similarity: options.Similarity = None,
    aggregation: options.Aggregation = "all",
    threshold: options.Threshold = None,
    prompt: options.Prompt = None,
    prompt_name: options.PromptName = None,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: options.Json = False,
    out: options.Out = None,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
) -> None:
    """Score a model's own recipe, or a regression head, on sentence pairs.

    Example: [bold]embedkit evaluate stsb_test.tsv korsts_test.tsv -m klue/bert-base[/bold]
    """
    output.check_out(out)
    from embedkit.evaluation.data import PairColumns, read_pairs

    columns = PairColumns(sentence1, sentence2, score, subset)
    pairs = [read_pairs(path, columns) for path in data]
    from embedkit.embedder import Embedder
    from embedkit.evaluation.compare import check_options, evaluate
    from embedkit.evaluation.heads import find_head

    check_options(options.names(similarity), aggregation)
    settings: dict[str, Any] = {"max_length": max_length, "device": device, "revision": revision}
    found = find_head(model, **settings) or Embedder.from_pretrained(model, **settings)
    report = evaluate(
        found,
        pairs,
        similarities=None if similarity is None else options.names(similarity),
        aggregation=aggregation,
        threshold=threshold,
        prompt=prompt,
        prompt_name=prompt_name,
        show_progress=True,
    )
    output.show(report, as_json=as_json, out=out)
