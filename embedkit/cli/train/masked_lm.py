"""`embedkit train mlm`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.errors import printable
from embedkit.files import DEFAULT_MODEL
from embedkit.training.arguments import MASKED_LM


def train_masked_lm_command(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DATA...]",
            help="Compare the recipes on these sentence pairs or retrieval sets, before and after; "
            "by default on first_look, which comes with embedkit.",
            show_default=False,
        ),
    ] = None,
    *,
    texts: Annotated[
        Path, options.data_option(f"Train on these texts of the domain: {options.TEXT_FILES}.")
    ],
    out: training_options.Out,
    text_column: options.TextColumn = None,
    held_out: Annotated[
        Path | None,
        options.data_option(
            "Measure the perplexity on these texts; by default on every 20th text of --texts."
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    new_head: Annotated[
        bool,
        options.model_option("Start from a random head if the checkpoint has none.", "--new-head"),
    ] = False,
    settings: training_options.Settings = MASKED_LM,
    max_length: options.MaxLength = None,
    revision: options.Revision = None,
    shown: training_options.Shown,
    files: options.PairFiles,
) -> None:
    """Adapt an encoder to a domain: continue its masked-language-model training on your texts.

    Example: [bold]embedkit train mlm --texts notes.txt -m klue/bert-base --out my-bert[/bold]
    """
    started = time.perf_counter()
    shown.check_out(out)
    from embedkit.data.corpus import Corpus

    sets = files.read_sets(data or ["first_look"])
    named = tuple(text_column or ["text"])
    learnt = [document.text for document in Corpus(texts, named, encoding=files.encoding)]
    others = None
    if held_out is not None:
        others = [document.text for document in Corpus(held_out, named, encoding=files.encoding)]
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.compare import compare
    from embedkit.evaluation.metric_delta import recipe_deltas
    from embedkit.evaluation.report.locale import LANGUAGES
    from embedkit.training.masked_lm import train_masked_lm
    from embedkit.training.outcome import TrainingOutcome

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
    deltas = recipe_deltas(*reports.values())
    baseline = reports["before"].row_of(str(reports["before"].baseline))
    changes = tuple(delta for recipe, delta in deltas.items() if recipe == baseline)
    outcome = TrainingOutcome(baseline, None, changes)
    text = {
        language: f"{result.in_words(language)} {outcome.in_words(language)}".strip()
        for language in LANGUAGES
    }
    seconds = time.perf_counter() - started
    if shown.as_json:
        verdict = outcome.to_dict()["verdict"] or {"decision": outcome.decision}
        compared = {when: report.to_dict() for when, report in reports.items()}
        gain = [{"recipe": recipe, **asdict(delta)} for recipe, delta in deltas.items()]
        content = {**asdict(result), "verdict": {**verdict, "text": text}, "gain": gain}
        output.print_json({**content, "seconds": seconds, "compare": compared})
        return
    shown.verdict(text[shown.lang])
    console = output.console()
    for when, report in reports.items():
        console.print(shown.words(when), style="bold")
        report.print(console, shown.lang)
        console.print()
    for note in result.notes_in(shown.lang):
        print(printable(note))
    output.inform(f"Saved the model in {out} after {seconds:.1f} s.")
