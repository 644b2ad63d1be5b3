"""How often the bootstrap's 95 % interval holds the true correlation.

    python benchmarks/coverage.py [--out results.json]

1,000 draws of 300 pairs of a bivariate normal with correlation 0.8, 1,000 resamples each, seeded.
Spearman's correlation of such pairs is 6/pi asin(0.8/2) in the population (Pearson 1907).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from figures import tell
from numpy.typing import NDArray

from embedkit import Pairs
from embedkit.evaluation.bootstrap import Resamples, bootstrap, interval

RHO, PAIRS, DRAWS, RESAMPLES, SEED = 0.8, 300, 1000, 1000, 0
METRICS = ("spearman", "pearson")
TRUE = {"spearman": 6 / math.pi * math.asin(RHO / 2), "pearson": RHO}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    generator = np.random.default_rng(SEED)
    held = dict.fromkeys(METRICS, 0)
    texts = [str(number) for number in range(PAIRS)]
    for draw in range(DRAWS):
        x, y = generator.multivariate_normal([0, 0], [[1, RHO], [RHO, 1]], PAIRS).T
        pairs = Pairs.from_columns("drawn", texts, texts, y.tolist())
        values = bootstrap(pairs, lambda block, x=x: _correlations(block, x), RESAMPLES, draw)
        for metric, resampled in zip(METRICS, values, strict=True):
            ends = interval(resampled)
            assert ends is not None
            held[metric] += ends[0] <= TRUE[metric] <= ends[1]
    result = {
        "rho": RHO,
        "pairs": PAIRS,
        "draws": DRAWS,
        "resamples": RESAMPLES,
        "seed": SEED,
        "true": TRUE,
        "coverage": {metric: count / DRAWS for metric, count in held.items()},
    }
    tell(result, options.out)


def _correlations(block: Resamples, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([block.values(metric, x[None]) for metric in METRICS])


if __name__ == "__main__":
    main()
