"""The parts of model cards that describe a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.data.entities import TaggedTexts
from embedkit.data.pairs import Pairs
from embedkit.data.positives import Positives
from embedkit.embedder.card_metadata import CardScore, add_card_metadata, base_model_metadata
from embedkit.evaluation.report.formatting import interval, number
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.report.report import Report
from embedkit.evaluation.results import Result
from embedkit.files import new_folder
from embedkit.tagging.entity_scores import EntityReport, EntityResult
from embedkit.training.arguments import TrainingSettings
from embedkit.training.outcome import Curve, TrainingOutcome

if TYPE_CHECKING:
    from embedkit.training.run import BestCheckpoint

BI_ENCODER_SECTION = """
## Training

This folder was trained by `embedkit train bi-encoder`.

{notes}"""

MASKED_LM_CARD = """\
---
library_name: transformers
pipeline_tag: fill-mask
tags: [fill-mask, embedkit]
---

# {name}, adapted to other texts

{family}, {layers} layers, whose masked-language-model training went on with {texts:,} texts. \
Saved by embedkit {version}.

- made from: {name}
- perplexity on {held_out:,} held-out texts, with the same masks: {before:.2f} before, {after:.2f} \
after
- masked-LM head: {head}
- pooler: {pooler}
{notes}
```python
from embedkit import Embedder

vectors = Embedder.from_pretrained("path/to/this/folder").encode(["..."])
```

It is a folder of transformers, too: AutoModelForMaskedLM and AutoModel.
"""

_MOST_LOSSES = 10  # of a card


def named_sizes(data: Sequence[Pairs] | Sequence[Positives] | Sequence[TaggedTexts]) -> str:
    """The sets and how large each is."""
    return ", ".join(
        f"{one.name} ({len(one.rows):,} sentences)"
        if isinstance(one, TaggedTexts)
        else f"{one.name} ({len(one.sentence1):,} pairs)"
        for one in data
    )


def training_notes(
    data: Sequence[Pairs] | Sequence[Positives] | Sequence[TaggedTexts],
    dev: Pairs | TaggedTexts,
    best: BestCheckpoint,
    outcome: TrainingOutcome,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """The data, which checkpoint was the best on `dev`, its scores, and how training ran."""
    metric = "Spearman" if isinstance(dev, Pairs) else "F1"
    return {
        "trained on": named_sizes(data),
        "kept": f"the checkpoint of the best {metric} on {dev.name}, after step {best.step}",
        **score_notes(outcome),
        **loss_notes(best.curve),
        **settings.described(),
    }


def loss_notes(curve: Curve) -> dict[str, str]:
    """Training losses on the way, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), _MOST_LOSSES)).astype(int))
    losses = [
        f"{loss:.4f} (step {curve[index]['step']})"
        for index in chosen
        if (loss := curve[index].get("loss")) is not None
    ]
    return {"training loss": ", ".join(losses)} if losses else {}


def score_notes(outcome: TrainingOutcome) -> dict[str, str]:
    """The scores of the trained model by data set, with intervals and those before."""
    origin = catalogue("en")["training"][outcome.origin]
    before = {(one.dataset, one.metric): one.before for one in outcome.deltas}
    notes: dict[str, str] = {}
    for row in _over_all(outcome.report):
        text = f"{row.metric} {number(row.value, row.metric)} {interval(row.ci95, row.metric)}"
        if (old := before.get((row.dataset, row.metric))) is not None:
            text = f"{text} ({number(old, row.metric)} {origin})"
        name = f"on {row.dataset}"
        notes[name] = f"{notes[name]}, {text}" if name in notes else text
    return notes | ({"scores": " ".join(outcome.notes_in("en"))} if outcome.notes else {})


def add_scores(
    folder: Path,
    out: str | Path,
    model: str | Path,
    revision: str | None,
    report: Report | EntityReport | None,
) -> None:
    """Put base model, license and scores into the front matter of the card of what goes to OUT."""
    task = "token-classification" if isinstance(report, EntityReport) else "semantic-similarity"
    scores = []
    for row in _over_all(report):
        metric = row.metric + ("_cosine" if getattr(row, "similarity", "") == "cosine" else "")
        if row.value is not None:
            scores.append(CardScore(task, row.dataset, metric, row.value, row.ci95))
    name = Path(out).absolute().name
    add_card_metadata(folder, name, base_model_metadata(model, revision), scores)


def save_with_scores(
    save: Callable[[Path], object],  # into a folder
    out: str | Path,
    model: str | Path,
    revision: str | None,
    report: Report | EntityReport | None,
) -> None:
    """Save what was trained and its scores to OUT; after a kill, OUT has both or is not there."""
    with new_folder(Path(out)) as new:
        save(new)
        add_scores(new, out, model, revision, report)


def _over_all(report: Report | EntityReport | None) -> Sequence[Result | EntityResult]:
    if isinstance(report, EntityReport):
        return [row for row in report.results if row.label is None]
    return [] if report is None else [row for row in report.results if row.aggregation == "all"]
