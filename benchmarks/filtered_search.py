"""What an index finds under filters, from half of its rows down to one in 2,000.

    python benchmarks/filtered_search.py VECTORS [--rows 100000] [--out results.json]

VECTORS is a folder of `embedkit encode`. Its vectors are repeated up to --rows, with noise, as in
benchmarks/index.py, which also makes 200 queries. Each row gets a random number, and `n < ...`
chooses a part of them. Measured: recall@10 against exact search among the chosen rows; and
milliseconds of one query, one thread, the condition's mask computed before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import faiss
import numpy as np
from figures import tell
from index import noisy

from embedkit import VectorIndex, Vectors

KINDS = ("flat", "hnsw", "IVF316,Flat", "SQ8", "IVF316,PQ48")
PARTS = (1, 0.5, 0.05, 0.005, 0.0005)
QUERIES, K = 200, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    real = Vectors.open(options.vectors).to_numpy()
    stored, queries = noisy(real, options.rows, 0), noisy(real, QUERIES, 1)
    numbers = np.random.default_rng(2).permutation(options.rows)
    scores = queries @ stored.T
    figures: dict[str, object] = {"rows": options.rows, "dimension": stored.shape[1]}
    for kind in KINDS:
        index = VectorIndex.build(stored, kind=kind, metadata={"n": numbers}, show_progress=True)
        for part in PARTS:
            limit = round(part * options.rows)
            wanted = np.argsort(np.where(numbers < limit, -scores, np.inf), axis=1)[:, :K]
            where = f"n < {limit}" if part < 1 else None
            index.count(where)
            found, seconds = [], []
            for query in queries:
                started = time.perf_counter()
                found += index.search(query[None], K, where=where).ids
                seconds.append(time.perf_counter() - started)
            recall = np.mean(
                [len({*a} & {*b.tolist()}) / K for a, b in zip(found, wanted, strict=True)]
            )
            figures[f"{kind}, {part:.2%}"] = {
                "recall": round(float(recall), 4),
                "milliseconds": round(1000 * statistics.median(seconds), 3),
            }
    tell(figures, options.out)


if __name__ == "__main__":
    main()
