"""How long finding duplicates and pairs takes, without encoding.

    python benchmarks/duplicates.py [VECTORS] [--rows 200951] [--threshold 0.9] [--out FILE]

VECTORS is a folder of `embedkit encode`; without it, random unit vectors of 384 numbers, among
which no row repeats another: every pair is compared, which takes longest. One run of each, all
threads.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from figures import tell

from embedkit import Vectors, find_duplicates, mine_paraphrases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=200_951)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.vectors is None:
        generator = np.random.default_rng(0)
        rows = generator.standard_normal((options.rows, 384), dtype=np.float32)
    else:
        rows = Vectors.open(options.vectors)
    result: dict[str, object] = {"rows": len(rows), "threshold": options.threshold}
    started = time.perf_counter()
    duplicates = find_duplicates(rows, threshold=options.threshold, show_progress=True)
    result["find_duplicates, seconds"] = time.perf_counter() - started
    result["kept"], result["exact"] = len(duplicates.kept), duplicates.exact
    started = time.perf_counter()
    pairs = mine_paraphrases(rows, threshold=options.threshold, show_progress=True)
    result["mine_paraphrases, seconds"] = time.perf_counter() - started
    result["pairs"] = len(pairs)
    result["peak memory, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell(result, options.out)


if __name__ == "__main__":
    main()
