"""The slices of training sets that the benchmarks learn from."""

from __future__ import annotations

import numpy as np

from embedkit import Pairs


def first(pairs: Pairs, count: int) -> Pairs:
    """So many pairs, in an order of seed 0."""
    chosen = np.random.default_rng(0).permutation(len(pairs.scores))[:count]
    sentence1, sentence2 = (
        tuple(texts[number] for number in chosen) for texts in (pairs.sentence1, pairs.sentence2)
    )
    return Pairs(pairs.name, sentence1, sentence2, pairs.scores[chosen])
