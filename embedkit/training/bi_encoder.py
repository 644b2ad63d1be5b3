"""Fine-tune an encoder with its recipe, by sentence-transformers' trainer and losses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from embedkit.arguments import check_count, check_list, check_type
from embedkit.data.labels import label_range, scaled
from embedkit.data.pairs import Pairs
from embedkit.data.positives import Positives
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.model_card import add_section, noted
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.error_analysis import PairPredictions
from embedkit.evaluation.evaluate import evaluate
from embedkit.evaluation.metric_delta import MetricDelta, mean_delta, metric_deltas
from embedkit.evaluation.pair_scores import similarities_of
from embedkit.files import DEFAULT_MODEL, new_folder
from embedkit.recipes.recipe import Recipe
from embedkit.training.arguments import BI_ENCODER, TrainingSettings, check_data
from embedkit.training.cards import BI_ENCODER_SECTION, add_scores, training_notes
from embedkit.training.outcome import TrainingOutcome
from embedkit.training.run import BestCheckpoint, TrainingRun, data_plan, selection_note, spearman


class Loss(NamedTuple):
    """A row of the table."""

    name: str  # what `--loss` says
    kind: str  # its class in sentence_transformers.losses
    scored: bool  # whether it learns from scores; else from positive pairs
    note: str  # what it asks for
    negatives: int | None = None  # how many of each pair it needs


_COSENT = "of two pairs of a batch, the higher score has the higher cosine (Su 2022)"
_COSINE = "the cosine is the score, scaled to 0 to 1, by mean squared error (Reimers et al. 2019)"
_IN_BATCH = (
    "the positive is nearer to the first sentence than hard negatives and the sentences of the "
    "other pairs of the batch (Henderson et al. 2017)"
)
_TRIPLET = "the positive is nearer to the anchor than the negative, by 5 (Hermans et al. 2017)"
_ROWS = (
    Loss("cosent", "CoSENTLoss", True, _COSENT),
    Loss("cosine", "CosineSimilarityLoss", True, _COSINE),
    Loss("in-batch", "MultipleNegativesRankingLoss", False, _IN_BATCH),
    Loss("triplet", "TripletLoss", False, _TRIPLET, negatives=1),
)

# Of attention and mix, times that of the encoder, whose steps would leave them where they begin.
_POOLING_RATES = {"query": 10, "mix": 50}

LOSSES: dict[str, Loss] = {row.name: row for row in _ROWS}


def find_loss(name: str) -> Loss:
    """The row of this name."""
    if name not in LOSSES:
        raise InputError(f"unknown loss {name!r}; choose from {', '.join(LOSSES)}")
    return LOSSES[name]


def train_bi_encoder(
    data: Sequence[Pairs] | Sequence[Positives],
    dev: Pairs,
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    recipe: str | Recipe | None = None,
    loss: str = "cosent",
    matryoshka: Sequence[int] | None = None,
    settings: TrainingSettings = BI_ENCODER,
    labels: tuple[float, float] | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    revision: str | None = None,
    only_if_better: bool = False,
    show_progress: bool | None = None,
) -> Embedder:
    """Train an embedder and save it; a run that was killed is resumed.

    The weights of Dense layers train too, a pooler's among them, and so the recipe `pooler` becomes
    `cls/dense`; so do `attention` and `mix`, at 10 and 50 times the learning rate. The average of
    layers stays one.

    Args:
        data: sets to learn from together: `Pairs` for a loss on scores, `Positives` for the others.
        dev: scored now and then, by Spearman's correlation of the cosine; the best checkpoint is
            kept.
        out: the folder to write. OUT.training beside it holds the checkpoints until then.
        model: as for `Embedder.from_pretrained`; a name or a folder.
        recipe: None for the model's own, or `mean`; its steps must be fitted.
        loss: a name from the table of losses.
        matryoshka: dimensions, for each of which the first numbers of the embeddings learn to be
            embeddings, too (Kusupati et al. 2022); None trains whole ones alone.
        settings: of the training.
        labels: (lowest, highest) label that is possible; None takes them from `data`.
        prompt: text to put in front of each text; None for the model's default one.
        max_length: the most tokens of a text; None for the model's own.
        revision: the revision on the hub: a branch, tag or commit.
        only_if_better: save it only if it is significantly better on `dev` than before.
        show_progress: on stderr; None shows it where stderr is a terminal.

    Returns:
        The best checkpoint. Its attribute `training` (`TrainingOutcome`) has the verdict, the
        losses and the scores.

    Raises:
        InputError: wrong data, settings or model, before the first step; or no score on `dev`.

    Example:
        >>> from embedkit import Pairs, TrainingSettings, train_bi_encoder
        >>> texts = ["a cat", "a dog", "rain", "a car"]
        >>> pairs = Pairs.from_columns("made", texts, texts[::-1], [0.5, 0.9, 0.1, 0.0])
        >>> once = TrainingSettings(epochs=1, evaluations=1, device="cpu")
        >>> trained = train_bi_encoder([pairs], pairs, "my-model", settings=once)
        >>> trained.encode(texts).shape, trained.training.saved
        ((4, 384), True)
    """
    check_data(data, dev, Pairs, Positives)
    check_type("settings", settings, TrainingSettings, "TrainingSettings")
    settings.check_installed()
    row = find_loss(loss)
    columns, limits = _columns(data, row, labels)
    exact: dict[str, Any] = {"precision": "float32", "device": settings.device}
    embedder = Embedder.from_pretrained(
        model, recipe, revision=revision, max_length=max_length, **exact
    ).with_initial_weights()
    embedder.bound.check_fitted()
    embedder.check_saveable()
    dimensions = [] if matryoshka is None else _checked(matryoshka, embedder.dimension)
    prefix = embedder.prompt_text(prompt)
    more = {"loss": loss, "prompt": prefix, "matryoshka": dimensions or None}
    plan = data_plan("bi-encoder", embedder.fingerprint, data, dev, limits, **more)
    with TrainingRun.begin(out, settings, show_progress, plan) as run:
        best = _train(run, embedder, columns, dev, row, prefix, dimensions)
        trained = Embedder.from_pretrained(best.folder, **exact)
        trained.name = str(model)
        own = embedder.settings  # sentence-transformers adds prompts to those that there were
        trained.settings = replace(
            trained.settings, prompts=own.prompts, default_prompt_name=own.default_prompt_name
        )
        before, after = (
            evaluate(one, dev, prompt=prefix, show_progress=show_progress)
            for one in (embedder, trained)
        )
        deltas = tuple(metric_deltas(before, after))
        trained.training = outcome = TrainingOutcome(
            "bi-encoder",
            after,
            deltas,
            saved=deltas[0].decision == "improved" or not only_if_better,
            curve=best.curve,
            notes=selection_note(settings),
            matryoshka=_truncated_deltas((embedder, trained), dev, prefix, dimensions),
        )
        if outcome.saved:
            notes = {
                "loss": f"{loss}, {row.note}",
                "recipe before training": embedder.recipe,
                "prompt": json.dumps(prefix, ensure_ascii=False),
                **training_notes(data, dev, best, outcome, settings),
            }
            with new_folder(Path(out)) as new:
                trained.write(new)
                section = BI_ENCODER_SECTION.format(notes=noted(notes))
                if outcome.matryoshka:
                    section += f"\n{outcome.matryoshka_grid().markdown()}\n"
                add_section(new, section)
                add_scores(new, out, model, revision, after)
    return trained


def _columns(
    data: Sequence[Pairs] | Sequence[Positives], row: Loss, labels: tuple[float, float] | None
) -> tuple[dict[str, Any], tuple[float, float] | None]:
    """What the loss reads, and the range of labels if it reads them."""
    if not data:
        raise InputError("got no data to learn from; expected at least one set of pairs")
    expected = Pairs if row.scored else Positives
    for one in data:
        if not isinstance(one, expected):
            raise InputError(
                f"{one.name} is {type(one).__name__}; the loss {row.name} learns from "
                f"{expected.__name__}"
            )
    sets = [(one.sentence1, one.sentence2, *getattr(one, "negatives", ())) for one in data]
    first = data[0].name, len(sets[0]) - 2
    other, wanted = first if row.negatives is None else (f"the loss {row.name}", row.negatives)
    for name, count in zip([one.name for one in data], map(len, sets), strict=True):
        if count - 2 != wanted:
            raise InputError(
                f"{name} has {count - 2} columns of negatives; expected {wanted}, as {other} has"
            )
    joined = (list(chain(*parts)) for parts in zip(*sets, strict=True))
    columns: dict[str, Any] = {f"text{index}": column for index, column in enumerate(joined)}
    if row.scored:
        pairs = cast("Sequence[Pairs]", data)
        limits = label_range(pairs, labels)
        return {**columns, "label": scaled(pairs, limits).tolist()}, limits
    if labels is not None:
        raise InputError(f"got a label range, but the loss {row.name} has no labels")
    return columns, None


def _checked(matryoshka: Sequence[int], dim: int) -> list[int]:
    check_list("matryoshka", matryoshka, "a list of dimensions")
    dimensions = [check_count("matryoshka", one, 0) for one in matryoshka]
    different = sorted({*dimensions}) == sorted(dimensions)
    if not dimensions or not different or not 0 < min(dimensions) <= max(dimensions) <= dim:
        raise InputError(
            f"matryoshka is {dimensions}; expected different whole numbers from 1 to {dim}, the "
            "dimensions of the embeddings"
        )
    return dimensions


def _truncated_deltas(
    embedders: Sequence[Embedder], dev: Pairs, prefix: str, dimensions: Sequence[int]
) -> dict[int, MetricDelta]:
    """Spearman's correlation of the first dimensions, before and after, as `truncate:N` has it."""
    texts = [*dev.sentence1, *dev.sentence2]
    vectors = [np.split(one.encode(texts, prompt=prefix), 2) for one in embedders if dimensions]
    deltas = {}
    for size in dimensions:
        cosines = (similarities_of("cosine", x[:, :size], y[:, :size]) for x, y in vectors)
        before, after = ([PairPredictions(dev, {str(size): values})] for values in cosines)
        deltas[size] = mean_delta(before, after, SEED)
    return deltas


def _train(
    run: TrainingRun,
    embedder: Embedder,
    columns: dict[str, Any],
    dev: Pairs,
    loss: Loss,
    prefix: str,
    dimensions: list[int],
) -> BestCheckpoint:
    """The best checkpoint, which is a folder of sentence-transformers."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.evaluation import BaseEvaluator
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer import losses

    from embedkit.embedder.recipe_pooling import load_trainable

    class DevSpearman(BaseEvaluator):
        def __call__(self, model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            texts, size = [*dev.sentence1, *dev.sentence2], 4 * run.settings.batch_size
            vectors = model.encode(texts, prompt=prefix, batch_size=size, show_progress_bar=False)
            return spearman(similarities_of("cosine", *np.split(vectors, 2)), dev.scores)

    class TrainerWithoutCard(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Ours does not quote the training data."""

    model, examples = load_trainable(embedder, run.settings.device), len(columns["text0"])
    arguments = run.arguments(SentenceTransformerTrainingArguments, examples, "eval_spearman")
    arguments.learning_rate_mapping = {
        rf"\.pooling\.{name}$": times * run.settings.learning_rate
        for name, times in _POOLING_RATES.items()
        if any(part.endswith(f".pooling.{name}") for part, _ in model.named_parameters())
    }
    if prefix:
        arguments.prompts = prefix
    if loss.name == "in-batch":
        # Another pair with the same sentence would be a negative that is none.
        arguments.batch_sampler = BatchSamplers.NO_DUPLICATES
    objective = getattr(losses, loss.kind)(model)
    if dimensions:
        objective = losses.MatryoshkaLoss(model, objective, dimensions)
    trainer = TrainerWithoutCard(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=objective,
        evaluator=DevSpearman(),  # type: ignore[no-untyped-call]
    )
    return run.train(trainer)
