"""What removed rows cost a search, and whether searches beside changes see one state.

    python benchmarks/index_changes.py VECTORS [--rows 200000] [--searches 10000] [--out FILE]
        [--kind flat --kind hnsw --kind IVF64,Flat --kind IVF64,PQ16]

VECTORS is a folder of `embedkit encode`; rows and queries are made of it as in index.py. For each
kind (any of FAISS's factory strings; the defaults train in little time on two cores) and part of
the rows removed at random: recall@10 against exact search among the rows left, the fewest hits of a
query, and queries a second in batches of 100 on one thread. Then threads search an index while
others add, remove and compact, and each hit's score is compared with the vector behind its id.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from pathlib import Path

import faiss
import numpy as np
from figures import tell
from index import BATCH, QUERIES, K, noisy

from embedkit import VectorIndex, Vectors

KINDS = ["flat", "hnsw", "IVF64,Flat", "IVF64,PQ16"]
REMOVED = (0, 0.5, 0.95, 0.995)


def removals(
    stored: np.ndarray, queries: np.ndarray, kinds: list[str]
) -> dict[str, dict[str, object]]:
    order = np.random.default_rng(2).permutation(len(stored))
    batches = [queries[start : start + BATCH] for start in range(0, len(queries), BATCH)]
    table: dict[str, dict[str, object]] = {}
    for kind in kinds:
        index = VectorIndex.build(stored, kind=kind)
        removed = 0
        for part in REMOVED:
            count = round(part * len(stored))
            index.remove(order[removed:count])
            removed = count
            kept = np.sort(order[removed:])
            exact = VectorIndex.build(stored[kept], ids=kept).search(queries, K).ids
            faiss.omp_set_num_threads(1)
            times = []
            for _ in range(4):
                started = time.perf_counter()
                found = [ids for batch in batches for ids in index.search(batch, K).ids]
                times.append(time.perf_counter() - started)
            table[f"{kind}, {part:.1%} removed"] = {
                "recall@10": statistics.mean(
                    [len(set(a) & set(b)) / K for a, b in zip(found, exact, strict=True)]
                ),
                "fewest hits": min(map(len, found)),
                "queries a second": len(queries) / statistics.median(times[1:]),
            }
            print(kind, part, table[f"{kind}, {part:.1%} removed"], file=sys.stderr)
    return table


def beside_changes(stored: np.ndarray, queries: np.ndarray, searches: int) -> dict[str, int]:
    index = VectorIndex.build(stored[:2000], similarity="dot")
    counts = {"searches": 0, "wrong": 0, "errors": 0, "changes": 0}
    lock = threading.Lock()

    def search() -> None:
        while counts["searches"] < searches:
            outcome = ""
            try:
                hits = index.search(queries[:10], K)
                for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=False):
                    # Ids repeat the rows of `stored` with each round.
                    rows = np.array(ids) % len(stored)
                    if np.abs(stored[rows] @ query - scores[: len(ids)]).max() > 1e-4:
                        outcome = "wrong"
            except Exception:
                outcome = "errors"
            with lock:
                counts["searches"] += 1
                if outcome:
                    counts[outcome] += 1

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    first = len(stored)
    while any(thread.is_alive() for thread in threads):
        ids = np.arange(first, first + 400)
        index.add(stored[ids % len(stored)], ids=ids)
        index.remove(ids[:390])
        if (first // 400) % 5 == 0:
            index.compact()
        first += 400
        counts["changes"] += 2
    for thread in threads:
        thread.join()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kind", action="append", help=f"once or more; by default {KINDS}")
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    real = Vectors.open(options.vectors).to_numpy()
    stored, queries = noisy(real, options.rows, 0), noisy(real, QUERIES, 1)
    result = {
        "rows": options.rows,
        "removals": removals(stored, queries, options.kind or KINDS),
        "searches beside changes": beside_changes(stored, queries, options.searches),
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
