"""What training brought: one recipe before and after, on the same resamples of the pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedkit.embedder import Embedder
from embedkit.evaluation.bootstrap import SEED
from embedkit.evaluation.data import Pairs
from embedkit.evaluation.significance import difference
from embedkit.evaluation.sts import Difference, predict, score_predictions


@dataclass(frozen=True)
class Gain:
    """One metric of the cosine.

    Attributes:
        dataset: name of the pairs.
        metric: spearman or pearson.
        before: None where it is undefined.
        after: likewise.
        difference: with its paired interval.
    """

    dataset: str
    metric: str
    before: float | None
    after: float | None
    difference: Difference

    def __str__(self) -> str:
        if self.before is None or self.after is None or self.difference.value is None:
            return f"{self.dataset}: no {self.metric}, because {self.difference.reason}"
        text = (
            f"{self.dataset}: {self.metric} {100 * self.before:.2f} before, "
            f"{100 * self.after:.2f} after, {100 * self.difference.value:+.2f}"
        )
        if self.difference.ci95 is None:
            return text
        low, high = self.difference.ci95
        return f"{text} [{100 * low:+.2f}, {100 * high:+.2f}] (95 %, paired)"


def gains(
    before: Embedder, after: Embedder, pairs: Pairs, *, prompt: str | None = None, seed: int = SEED
) -> list[Gain]:
    """Both correlations of both embedders' cosines with the scores.

    Args:
        before: with its own recipe.
        after: likewise.
        pairs: n of them.
        prompt: put in front of each text; None for each embedder's default one.
        seed: of the resamples.
    """
    predictions = []
    for name, embedder in (("before", before), ("after", after)):
        vectors = embedder.encode([*pairs.sentence1, *pairs.sentence2], prompt=prompt)
        both = np.stack(np.split(vectors, 2), axis=1)
        predictions += predict(name, both, ["cosine"])
    scored = score_predictions(pairs, predictions, seed=seed)
    half = len(scored) // 2
    return [
        Gain(
            pairs.name,
            new.result.metric,
            old.result.value,
            new.result.value,
            difference(new, old, "before"),
        )
        for old, new in zip(scored[:half], scored[half:], strict=True)
        if new.result.aggregation == "all"
    ]
