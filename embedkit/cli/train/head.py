"""`embedkit train head`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from embedkit.cli import choices, options
from embedkit.cli.train import training_options
from embedkit.recipes.recipe import Recipe


def train_head_command(
    data: training_options.Data,
    *,
    out: Annotated[Path, options.output_option("Save the head and its embedder in this folder.")],
    start: training_options.Start,
    recipe: options.Recipe = None,
    fit: options.FitFile,
    head: Annotated[
        str, options.head_option("Train a head of this kind.", values=choices.HEADS)
    ] = "ridge",
    features: Annotated[
        str | None,
        options.head_option(
            "Use these features of a pair: some of |u-v| u*v cosine u v, separated by spaces; "
            "by default '|u-v| u*v', and cosine for isotonic."
        ),
    ] = None,
    label_range: training_options.LabelRange = None,
    dev: Annotated[
        str | None,
        options.data_option(
            "Score the head on these sentence pairs; by default it is cross-validated."
        ),
    ] = None,
    seed: Annotated[int, options.head_option("Seed heads that draw random numbers with this.")] = 0,
    prompt: options.Prompt = None,
    device: options.Device = None,
    shown: training_options.Shown,
    files: options.PairFiles,
) -> None:
    """Train a regression head on frozen sentence embeddings, and save it with its embedder.

    Example: [bold]embedkit train head stsb_train.tsv --dev stsb_dev.tsv --out my-head[/bold]
    """
    started = shown.begin(out)
    sets = [files.read(path) for path in data]
    held_out = None if dev is None else files.read(dev)
    parsed = None if recipe is None else Recipe.parse(recipe)
    corpus = fit.corpus(files.encoding)

    import numpy as np

    from embedkit.embedder.embedder import Embedder
    from embedkit.evaluation.fitting import CorpusTexts
    from embedkit.scoring.pair_regressor import PairRegressor
    from embedkit.scoring.regressor_folder import save_head
    from embedkit.training.cards import named_sizes, save_with_scores, score_notes
    from embedkit.training.head import train_head

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
        recipe=parsed, device=device, precision="float32", **vars(start)
    )
    regressor.embedder.check_saveable()
    if corpus is not None:
        regressor.embedder.fit(CorpusTexts(corpus), source=corpus.path.name, prompt=prompt)
    outcome = train_head(regressor, sets, held_out)
    notes = {
        "trained on": named_sizes(sets),
        **({"seed": seed} if head == "mlp" else {}),
        **regressor.described,
        **score_notes(outcome),
    }
    save_with_scores(
        lambda folder: save_head(regressor, folder, notes=notes),
        out,
        start.model,
        start.revision,
        outcome.report,
    )
    content = {
        "head": head,
        "features": list(regressor.features_),
        "recipe": str(regressor.embedder.recipe),
        "notes": notes,
    }
    shown.show("head", out, started, content, outcome, "cross_validation" if dev is None else "dev")
