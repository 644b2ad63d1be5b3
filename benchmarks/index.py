"""What VectorIndex costs beside FAISS itself, and what an approximate index misses.

    python benchmarks/index.py VECTORS [--rows 1000000] [--runs 7] [--keep FOLDER]
        [--out results.json]

VECTORS is a folder of `embedkit encode`. Its vectors are repeated up to --rows, each with Gaussian
noise of half its length added, and so are other ones of them for 1,000 queries. Measured: recall@10
of kind hnsw against exact search; queries a second of VectorIndex.search, ids included, over those
of FAISS's index.search with the same parameters, in batches of 100, and the milliseconds of one
query; one thread, in turn, medians. --keep leaves the index in a folder, or takes the one that is
there.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import faiss
import numpy as np
from figures import tell

from embedkit import VectorIndex, Vectors
from embedkit.benchmark import in_turn
from embedkit.retrieval.faiss_index import new_index

QUERIES = 1000
BATCH = 100
K = 10


def noisy(vectors: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """(rows, dim) float32 of unit length: vectors chosen at random, with noise."""
    generator = np.random.default_rng(seed)
    made = vectors[generator.integers(len(vectors), size=rows)]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    scale = 0.5 / made.shape[1] ** 0.5
    for start in range(0, rows, 10_000):
        part = made[start : start + 10_000]
        part += generator.normal(scale=scale, size=part.shape)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    real = Vectors.open(options.vectors).to_numpy()
    stored, queries = noisy(real, options.rows, 0), noisy(real, QUERIES, 1)
    exact = VectorIndex.build(stored).search(queries, K)
    build = None
    if options.keep is not None and options.keep.exists():
        index = VectorIndex.open(options.keep)
    else:
        started = time.perf_counter()
        index = VectorIndex.build(stored, kind="hnsw", show_progress=True)
        build = time.perf_counter() - started
        if options.keep is not None:
            index.save(options.keep)
    hits = index.search(queries, K)
    found = [len(set(a) & set(b)) / K for a, b in zip(hits.ids, exact.ids, strict=True)]

    (segment,) = index._segments  # FAISS's own index, as it is inside
    raw = segment.index
    fresh = new_index("hnsw", raw.d, "cosine")
    assert (raw.hnsw.efSearch, raw.metric_type) == (fresh.hnsw.efSearch, fresh.metric_type)
    faiss.omp_set_num_threads(1)
    batches = [queries[start : start + BATCH] for start in range(0, QUERIES, BATCH)]
    times = in_turn(
        {
            "FAISS, batches": lambda: [raw.search(batch, K) for batch in batches],
            "embedkit, batches": lambda: [index.search(batch, K).ids for batch in batches],
            "FAISS, one by one": lambda: [raw.search(query[None], K) for query in queries],
            "embedkit, one by one": lambda: [index.search(query[None], K).ids for query in queries],
        },
        options.runs + 1,
        show_progress=True,
    )
    # The first run is not counted.
    seconds = {name: statistics.median(each[1:]) for name, each in times.items()}
    result = {
        "rows": options.rows,
        "dimensions": raw.d,
        "distinct vectors before noise": len(real),
        "machine": platform.processor() or platform.machine(),
        "faiss": faiss.__version__,
        "hnsw": {
            "links": raw.hnsw.nb_neighbors(1),
            "efConstruction": raw.hnsw.efConstruction,
            "efSearch": raw.hnsw.efSearch,
        },
        "build seconds, all threads": build,  # null for an index that was kept
        "recall@10": float(np.mean(found)),
        "queries a second": {name: QUERIES / value for name, value in seconds.items()},
        "batches of 100: embedkit / FAISS": seconds["FAISS, batches"]
        / seconds["embedkit, batches"],
        "one query: embedkit - FAISS, ms": 1000
        * (seconds["embedkit, one by one"] - seconds["FAISS, one by one"])
        / QUERIES,
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
