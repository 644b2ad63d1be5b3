"""Texts that the benchmarks read: a text a line, .txt or .txt.gz."""

from __future__ import annotations

import random
from pathlib import Path

from embedkit.data.corpus import Corpus


def read(path: Path) -> list[str]:
    """All, as they stand."""
    return [document.text for document in Corpus(path)]


def shuffled(path: Path) -> list[str]:
    """The distinct ones, always in the same order (seed 0)."""
    texts = list(dict.fromkeys(read(path)))
    random.Random(0).shuffle(texts)  # noqa: S311
    return texts
