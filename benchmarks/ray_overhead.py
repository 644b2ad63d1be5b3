"""What Ray costs: two nodes of one CPU each against one local process of two cores.

    python benchmarks/ray_overhead.py TEXTS --work DIR [--rows 200000] [--rounds 1] [--model minilm]
        [--out FILE] [--markdown]

TEXTS has a text a line (.txt, .txt.gz); its first --rows texts are encoded in float32, in turn by
`encode_corpus` in this process with two threads of torch, and by `encode_corpus` of a
`ClusterEmbedder` on a cluster of a head without CPUs and two nodes of one CPU, all on this machine.
The times are from the call to the complete folder: the start of Ray is told apart, the start of the
actors (which load the model) is part of the job. Every round compares all vectors of the two
folders. Run it on a quiet machine, with rows for five minutes or more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
import torch
from figures import tell
from ray.cluster_utils import Cluster

from embedkit import Corpus, Embedder, Vectors, encode_corpus
from embedkit.distributed.ray import ClusterEmbedder, connected

_STORE = 200 << 20  # bytes of each node's object store


def cut(texts: Path, rows: int, out: Path) -> int:
    """Write the first rows into a file; returns how many there were."""
    count = 0
    with out.open("w", encoding="utf-8") as file:
        for document in islice(Corpus(texts), rows):
            file.write(document.text + "\n")
            count += 1
    return count


def timed(embedder: Embedder, corpus: Corpus, folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    encode_corpus(embedder, corpus, folder)
    return time.perf_counter() - started


def smallest_cosine(a: Path, b: Path) -> float:
    left, right = (Vectors.open(folder).to_numpy().astype(np.float64) for folder in (a, b))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())


def cluster() -> Any:
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=_STORE)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--markdown", action="store_true", help="print a table too")
    options = parser.parse_args()

    torch.set_num_threads(2)
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "texts.txt"
    rows = cut(options.texts, options.rows, path)
    corpus = Corpus(path)
    embedder = Embedder.from_pretrained(options.model, precision="float32", device="cpu")
    embedder.encode(["rain"])  # what is loaded once

    started = time.perf_counter()
    made = cluster()
    local, distributed = options.work / "local", options.work / "ray"
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    cosines = []
    with connected(made.address):
        start = time.perf_counter() - started
        on_ray = ClusterEmbedder(embedder)
        runs: list[Callable[[], None]] = [
            lambda: seconds["local"].append(timed(embedder, corpus, local)),
            lambda: seconds["ray"].append(timed(on_ray, corpus, distributed)),
        ]
        for number in range(options.rounds):
            for run in runs[:: 1 if number % 2 == 0 else -1]:
                run()
            cosines.append(smallest_cosine(local, distributed))
    made.shutdown()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    tell(
        {
            "command": f"python benchmarks/ray_overhead.py TEXTS --work DIR --rows {options.rows} "
            f"--rounds {options.rounds} --model {options.model}",
            "rows": rows,
            "seconds": seconds,
            "rows_a_second": {name: rows / time_ for name, time_ in medians.items()},
            "overhead": medians["ray"] / medians["local"] - 1,
            "start_of_ray_seconds": start,
            "smallest_cosine": min(cosines),
            "ray": ray.__version__,
            "torch": torch.__version__,
        },
        options.out,
    )
    if options.markdown:
        print("\n| | seconds | rows/s |\n| --- | --- | --- |")
        names = {"local": "one process, two threads", "ray": "Ray, two nodes of one CPU"}
        for name, text in names.items():
            print(f"| {text} | {medians[name]:.1f} | {rows / medians[name]:.0f} |")


if __name__ == "__main__":
    main()
