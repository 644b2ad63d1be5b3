"""`embedkit evaluate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from embedkit.cli import options, output
from embedkit.files import DEFAULT_MODEL


def evaluate_command(
    data: options.Data,
    model: options.Model = DEFAULT_MODEL,
    similarity: options.Similarity = None,
    aggregation: options.Aggregation = "all",
    threshold: options.Threshold = None,
    prompt: options.Prompt = None,
    prompt_name: options.PromptName = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    index: options.Index = "flat",
    max_length: options.MaxLength = None,
    device: options.Device = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the encoder: float32, which is the default, bfloat16, float16, or auto; a "
            "head's default and auto are what it was trained in.",
            show_default=False,
        ),
    ] = None,
    revision: options.Revision = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    out: options.Out = None,
    lang: options.Lang = "en",
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Score a model's own recipe on pairs and retrieval sets, or a head or cross-encoder on pairs.

    Example: [bold]embedkit evaluate stsb_test.tsv korsts_test.tsv -m klue/bert-base[/bold]
    """
    output.check_out(out, lang=lang)
    from embedkit.data.datasets import read_sets
    from embedkit.data.pairs import PairColumns

    columns = PairColumns(sentence1, sentence2, score, subset)
    sets = read_sets(data, columns, encoding)
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.scoring.loading import load_model

    def load() -> Any:
        """The model, once all options are checked."""
        return load_model(
            model, max_length=max_length, device=device, precision=precision, revision=revision
        )

    report = evaluate(
        load,
        sets,
        similarities=None if similarity is None else options.names(similarity),
        aggregation=aggregation,
        threshold=threshold,
        prompt=prompt,
        prompt_name=prompt_name,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        index=index,
        seed=seed,
        show_progress=True,
    )
    output.show(report.with_command(output.command()), as_json=as_json, out=out, lang=lang)
