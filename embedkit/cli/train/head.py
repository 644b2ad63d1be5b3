"""`embedkit train head`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli import options, output
from embedkit.cli.train import training_options
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe


def train_head_command(
    data: options.Data,
    out: Annotated[
        Path, typer.Option(help="Folder for the head and its embedder.", show_default=False)
    ],
    model: options.Model = DEFAULT_MODEL,
    recipe: options.Recipe = None,
    fit: options.Fit = None,
    fit_column: options.FitColumn = None,
    head: Annotated[str, typer.Option(help="ridge, mlp or isotonic.")] = "ridge",
    features: Annotated[
        str | None,
        typer.Option(
            help="Some of |u-v| u*v cosine u v, separated by spaces; by default '|u-v| u*v', and "
            "cosine for isotonic.",
            show_default=False,
        ),
    ] = None,
    label_range: training_options.LabelRange = None,
    dev: Annotated[
        Path | None, typer.Option(help="Sentence pairs to score the head on.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of heads that draw random numbers.")] = 0,
    prompt: options.Prompt = None,
    max_length: options.MaxLength = None,
    device: options.Device = None,
    revision: options.Revision = None,
    as_json: options.Json = False,
    sentence1: options.Sentence1 = "sentence1",
    sentence2: options.Sentence2 = "sentence2",
    score: options.Score = "score",
    subset: options.Subset = "subset",
    encoding: options.Encoding = "utf-8",
) -> None:
    """Train a regression head on frozen sentence vectors, and save it with its embedder.

    Example: [bold]embedkit train head stsb_train.tsv --dev stsb_dev.tsv --out my-head[/bold]
    """
    started = time.perf_counter()
    from embedkit.data.pairs import PairColumns, read_pairs

    columns = PairColumns(sentence1, sentence2, score, subset)
    sets = [read_pairs(path, columns, encoding) for path in data]
    held_out = None if dev is None else read_pairs(dev, columns, encoding)
    parsed = None if recipe is None else Recipe.parse(recipe)
    corpus = options.fit_corpus(fit, fit_column, encoding)

    import numpy as np

    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.evaluate import evaluate
    from embedkit.evaluation.fitting import CorpusTexts
    from embedkit.evaluation.heads import train_head
    from embedkit.files import check_target
    from embedkit.scoring.pair_regressor import PairRegressor
    from embedkit.scoring.regressor_folder import save_head
    from embedkit.training.cards import named_sizes

    check_target(out)
    regressor = PairRegressor(
        head=head,
        features=None if features is None else features.split(),
        label_range=training_options.parse_range(label_range),
        prompt=prompt,
        seed=seed,
    )
    if regressor.label_range is not None:
        for pairs in sets:
            pairs.check_range(*regressor.label_range)
    regressor.check(np.concatenate([pairs.scores for pairs in sets]))
    regressor.embedder = Embedder.from_pretrained(
        model,
        parsed,
        max_length=max_length,
        device=device,
        precision="float32",
        revision=revision,
    )
    regressor.embedder.check_saveable()
    if corpus is not None:
        regressor.embedder.fit(
            CorpusTexts(corpus), source=corpus.path.name, prompt=prompt, show_progress=True
        )
    train_head(regressor, sets, show_progress=True)
    report = None if held_out is None else evaluate(regressor, held_out, show_progress=True)
    notes = {
        "trained on": named_sizes(sets),
        **({"seed": seed} if head == "mlp" else {}),
        **regressor.described,
    }
    if report is not None:
        found = (f"{row.metric} {row.value:.4f}" for row in report.results if row.value is not None)
        notes[f"on {report.results[0].dataset}"] = ", ".join(found)
    save_head(regressor, out, notes=notes)
    seconds = time.perf_counter() - started
    if as_json:
        if report is not None:
            output.warn(report)
        said = {
            "schema": 1,
            "head": head,
            "features": list(regressor.features_),
            "recipe": str(regressor.embedder.recipe),
            "notes": notes,
            "seconds": seconds,
            "dev": None if report is None else report.to_dict(),
        }
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    if report is not None:
        output.show(report, as_json=False, out=None)
    print(f"Saved the head in {out} after {seconds:.1f} s.", file=sys.stderr)
