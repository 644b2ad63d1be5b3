"""What a model card says of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.data.pairs import Pairs
from embedkit.data.positives import Positives
from embedkit.training.arguments import TrainingSettings
from embedkit.training.checkpoints import step_of


def named_sizes(data: Sequence[Pairs] | Sequence[Positives]) -> str:
    """The sets and how many pairs each has."""
    return ", ".join(f"{one.name} ({len(one.sentence1):,} pairs)" for one in data)


def kept(best: Path, dev: Pairs, settings: TrainingSettings) -> dict[str, Any]:
    """Which checkpoint was the best on `dev`, and how training ran."""
    return {
        "kept": f"the checkpoint of the best Spearman on {dev.name}, after step {step_of(best)}",
        **settings.described(),
    }
