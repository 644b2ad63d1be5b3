"""What a comparison takes, report and all, and what its bootstrap takes.

    python benchmarks/comparison.py STSB_TEST.tsv [--runs 3] [--out results.json]

Three things, in turn, medians of the runs: `embedkit compare` of the default recipes, and of all
layers, as whole processes that write report.json, report.md and report.html; and 10,000 resamples
of the predictions of 50 recipes, which are the labels with noise here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from embedkit import read_pairs
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.sts import Predictions, score_predictions

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
        Predictions(f"recipe {number}", "cosine", pairs.scores + noisy)
        for number, noisy in enumerate(noise)
    ]
    jobs: dict[str, Callable[[], object]] = {
        "compare": lambda: _compare(options.pairs),
        "compare --layers all": lambda: _compare(options.pairs, "--layers", "all"),
        f"bootstrap of {RECIPES} recipes": lambda: score_predictions(pairs, predictions),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(options.runs):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            seconds[name].append(round(time.perf_counter() - started, 2))
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
    results = {
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
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def _compare(pairs: Path, *arguments: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "embedkit", "compare", str(pairs), "--out", folder]
        subprocess.run([*command, *arguments], check=True, capture_output=True)  # noqa: S603
        if not (Path(folder) / "report.html").is_file():
            raise FileNotFoundError("embedkit compare wrote no report.html")


if __name__ == "__main__":
    main()
