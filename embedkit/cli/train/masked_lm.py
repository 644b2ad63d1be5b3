"""`embedkit train mlm`."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.errors import printable
from embedkit.training.arguments import MASKED_LM


def train_masked_lm_command(
    data: Annotated[
        list[str] | None,
        training_options.data_argument(
            metavar="[DATA...]",
            help="Compare the recipes on these sentence pairs or retrieval sets, before and after; "
            "by default on first_look, which comes with embedkit.",
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
    start: training_options.Start,
    new_head: Annotated[
        bool,
        options.model_option("Start from a random head if the checkpoint has none.", "--new-head"),
    ] = False,
    settings: training_options.Settings = MASKED_LM,
    shown: training_options.Shown,
    files: options.PairFiles,
) -> None:
    """Adapt an encoder to a domain: continue its masked-language-model training on your texts.

    Example: [bold]embedkit train mlm --texts notes.txt -m klue/bert-base --out my-bert[/bold]
    """
    started = shown.begin(out)
    from embedkit.data.corpus import Corpus

    sets = files.read_sets(data or ["first_look"])

    def read(path: Path) -> list[str]:
        named = tuple(text_column or ["text"])
        return [document.text for document in Corpus(path, named, encoding=files.encoding)]

    learnt, others = read(texts), None if held_out is None else read(held_out)
    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.compare import compare
    from embedkit.evaluation.metric_delta import recipe_deltas
    from embedkit.evaluation.report.locale import LANGUAGES, catalogue
    from embedkit.training.masked_lm import train_masked_lm
    from embedkit.training.outcome import TrainingOutcome

    result = train_masked_lm(
        learnt, out, held_out=others, new_head=new_head, settings=settings, **vars(start)
    )
    reports = {}
    for when, one in (("before", start), ("after", replace(start, model=str(out), revision=None))):
        embedder = Embedder.from_pretrained(
            device=settings.device, precision="float32", **vars(one)
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
        console.print(catalogue(shown.lang)["training"][when], style="bold")
        report.print(console, shown.lang)
        console.print()
    for note in result.notes_in(shown.lang):
        print(printable(note))
    output.inform(f"Saved the model in {out} after {seconds:.1f} s.")
