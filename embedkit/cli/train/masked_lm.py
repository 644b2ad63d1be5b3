"""`embedkit train mlm`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import MASKED_LM, TrainingSettings


@training_options.with_settings(MASKED_LM)
def train_masked_lm_command(
    texts: Annotated[
        Path,
        typer.Option(
            help="Texts of the domain: .txt (a text a line), .csv, .tsv, .jsonl (each also .gz) or "
            ".parquet.",
            show_default=False,
        ),
    ],
    out: training_options.Out,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA...]",
            help="Sentence pairs or retrieval sets on which the recipes are compared before and "
            "after; by default first_look, which comes with embedkit.",
            show_default=False,
        ),
    ] = None,
    text_column: options.TextColumn = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Other texts, for perplexity; by default every 20th of --texts.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    new_head: Annotated[
        bool,
        typer.Option("--new-head", help="Begin with a random head where the checkpoint has none."),
    ] = False,
    settings: TrainingSettings = MASKED_LM,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    as_json: training_options.Json = False,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Adapt an encoder to a domain: its masked-language-model training goes on with your texts.

    Example: [bold]embedkit train mlm --texts notes.txt -m klue/bert-base --out my-bert[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.corpus import Corpus
    from embedkit.data.datasets import read_sets
    from embedkit.data.pairs import PairColumns

    columns = PairColumns(sentence1, sentence2, score, subset)
    sets = read_sets(data or ["first_look"], columns, encoding)
    named = tuple(text_column or ["text"])
    learnt = [document.text for document in Corpus(texts, named, encoding=encoding)]
    others = None
    if held_out is not None:
        others = [document.text for document in Corpus(held_out, named, encoding=encoding)]
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.compare import compare
    from embedkit.training.masked_lm import train_masked_lm

    result = train_masked_lm(
        learnt,
        out,
        held_out=others,
        model=model,
        new_head=new_head,
        settings=settings,
        max_length=max_length,
        revision=revision,
        show_progress=True,
    )
    reports = {}
    for when, name, of_hub in (("before", model, revision), ("after", str(out), None)):
        embedder = Embedder.from_pretrained(
            name,
            revision=of_hub,
            max_length=max_length,
            device=settings.device,
            precision="float32",
        )
        reports[when] = compare(embedder, sets, show_progress=True)
    seconds = time.perf_counter() - started
    if as_json:
        said = {
            "schema": 1,
            **asdict(result),
            "seconds": seconds,
            "compare": {when: report.to_dict() for when, report in reports.items()},
        }
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    console = output.console()
    for when, report in reports.items():
        console.print(f"{when.capitalize()} training", style="bold")
        report.print(console)
        console.print()
    of_head = ", with a head that was drawn at random" if result.new_head else ""
    console.print(
        printable(
            f"Perplexity on {result.held_out:,} held-out texts: {result.before:.2f} before"
            f"{of_head}, {result.after:.2f} after {result.texts:,} texts."
        )
    )
    if result.left_out:
        console.print(f"{result.left_out:,} texts were repeated or empty, and left out.")
    if result.truncated:
        console.print(f"{result.truncated:,} texts were cut to the maximum length.")
    console.print(
        "The pooler's weights are those from before: masked-LM training does not change a pooler."
        if result.pooler
        else "The model has no pooler."
    )
    print(f"Saved the model in {out} after {seconds:.1f} s.", file=sys.stderr)
