"""What a comparison takes, report and all, and what its bootstrap takes.

    python benchmarks/comparison.py STSB_TEST.tsv [--runs 3] [--out results.json]

Three things, in turn, medians of the runs: `embedkit compare` of the default recipes, and of all
layers, as whole processes that write report.json, report.md and report.html; and 10,000 resamples
of the predictions of 50 recipes, which are the labels with noise here, at most the highest label:
ties, such as the cosines of equal sentences, cost time.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from figures import tell

from embedkit import read_pairs
from embedkit.benchmark import in_turn
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.pair_scores import Predictions, score_predictions

RECIPES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    pairs = read_pairs(options.pairs)
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(RECIPES, len(pairs.scores)))
    predictions = [
        Predictions(f"recipe {number}", "cosine", values)
        for number, values in enumerate(np.minimum(pairs.scores + noise, pairs.scores.max()))
    ]
    jobs: dict[str, Callable[[], object]] = {
        "compare": lambda: _compare(options.pairs),
        "compare --layers all": lambda: _compare(options.pairs, "--layers", "all"),
        f"bootstrap of {RECIPES} recipes": lambda: score_predictions(pairs, predictions),
    }
    seconds = in_turn(jobs, options.runs, show_progress=True)
    result = {
        "pairs": pairs.name,
        "n": len(pairs.scores),
        "resamples": RESAMPLES,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "median seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "all seconds": seconds,
    }
    tell(result, options.out)


def _compare(pairs: Path, *arguments: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "embedkit", "compare", str(pairs), "--out", folder]
        subprocess.run([*command, *arguments], check=True, capture_output=True)  # noqa: S603
        if not (Path(folder) / "report.html").is_file():
            raise FileNotFoundError("embedkit compare wrote no report.html")


if __name__ == "__main__":
    main()
