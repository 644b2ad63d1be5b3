"""`embedkit train mlm`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.options import option
from embedkit.cli.train import training_options
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import MASKED_LM

if TYPE_CHECKING:
    from embedkit.training.masked_lm import Adaptation


def train_masked_lm_command(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA...]",
            help="Sentence pairs or retrieval sets to compare the recipes on, before and after; by "
            "default first_look, which comes with embedkit.",
            show_default=False,
        ),
    ] = None,
    *,
    texts: Annotated[Path, option(f"Texts of the domain: {options.TEXT_FILES}.")],
    out: training_options.Out,
    text_column: options.TextColumn = None,
    held_out: Annotated[
        Path | None,
        option("Other texts, for the perplexity; by default every 20th text of --texts."),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    new_head: Annotated[
        bool,
        typer.Option("--new-head", help="Start from a random head if the checkpoint has none."),
    ] = False,
    settings: training_options.Settings = MASKED_LM,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    as_json: options.Json = False,
    files: options.PairFiles,
) -> None:
    """Adapt an encoder to a domain: continue its masked-language-model training on your texts.

    Example: [bold]embedkit train mlm --texts notes.txt -m klue/bert-base --out my-bert[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.corpus import Corpus

    sets = files.read_sets(data or ["first_look"])
    named = tuple(text_column or ["text"])
    learnt = [document.text for document in Corpus(texts, named, encoding=files.encoding)]
    others = None
    if held_out is not None:
        others = [document.text for document in Corpus(held_out, named, encoding=files.encoding)]
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
        reports[when] = compare(embedder, sets)
    seconds = time.perf_counter() - started
    if as_json:
        compared = {when: report.to_dict() for when, report in reports.items()}
        output.print_json({**asdict(result), "seconds": seconds, "compare": compared})
        return
    console = output.console()
    for when, report in reports.items():
        console.print(f"{when.capitalize()} training", style="bold")
        report.print(console)
        console.print()
    for note in _notes(result):
        console.print(printable(note))
    output.inform(f"Saved the model in {out} after {seconds:.1f} s.")


def _notes(result: Adaptation) -> list[str]:
    of_head = ", with a head that was drawn at random" if result.new_head else ""
    notes = [
        f"Perplexity on {result.held_out:,} held-out texts: {result.before:.2f} before{of_head}, "
        f"{result.after:.2f} after {result.texts:,} texts."
    ]
    if result.left_out:
        notes.append(f"{result.left_out:,} texts were repeated or empty, and left out.")
    if result.truncated:
        notes.append(f"{result.truncated:,} texts were cut to the maximum length.")
    if result.pooler:
        notes.append(
            "The pooler's weights are those from before: masked-LM training does not change a "
            "pooler."
        )
    else:
        notes.append("The model has no pooler.")
    return notes
