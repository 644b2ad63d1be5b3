"""Workers of one thread each against one process of as many threads, on the same texts.

    python benchmarks/workers.py TEXTS [--model MODEL] [--texts 4096] [--workers 2] [--rounds 5]

Measured: texts a second of `encode`, the median of the rounds, which alternate; the seconds that
the workers took to start; and the smallest cosine between the vectors of both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from figures import tell
from texts import shuffled

from embedkit import Embedder
from embedkit.benchmark import in_turn
from embedkit.embedder.precision import smallest_cosine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, metavar="TEXTS")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=int, default=4096, dest="count")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = shuffled(options.texts)[: options.count]
    torch.set_num_threads(options.workers)
    embedder = Embedder(options.model, device="cpu")
    started = time.perf_counter()
    with embedder.workers(options.workers) as pool:
        start = time.perf_counter() - started
        agreement = smallest_cosine(pool.encode(texts), embedder.encode(texts))
        jobs = {
            "workers": lambda: pool.encode(texts),
            "one process": lambda: embedder.encode(texts),
        }
        seconds = in_turn(jobs, options.rounds, show_progress=True)
    rates = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    result = {"texts": len(texts), "workers": options.workers, "precision": embedder.precision}
    tell(
        {**result, "texts a second": rates, "start": start, "smallest cosine": agreement},
        options.out,
    )


if __name__ == "__main__":
    main()
