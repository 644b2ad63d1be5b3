"""What an export to PostgreSQL costs beside its COPY alone, and what HNSW finds there, how fast.

    python benchmarks/pgvector_load.py [--rows 1000000] [--dimension 64] [--queries 500]
        [--runs 3] [--halfvec] [--to postgresql://...] [--out results.json]

Rows and queries are drawn around 1,000 random centres. Measured: the rows a second of an export
without HNSW, its primary key, statistics and commit included, and those of COPY alone: the same
rows as bytes that are in memory already, into a table without a key, committed too; in turn,
medians of --runs. Then the time that HNSW takes to build, and by ef_search the recall@10 against
exact search and the milliseconds of one query. Without --to a server of its own is started, which
writes to disk as usual. (Named `pgvector.py`, this file would be imported for the package.)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psycopg
from figures import tell

from embedkit import VectorIndex
from embedkit.integrations.pgvector import PgVectorIndex
from embedkit.integrations.pgvector_table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers.postgres import postgres

EFFORTS = (10, 40, 100, 200, 400)
K = 10
SETTINGS = "shared_buffers=1GB max_wal_size=8GB maintenance_work_mem=2GB"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def drop(url: str, table: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {table}, {table}_embedkit")


def rows_as_bytes(url: str, table: str) -> list[bytes]:
    statement = f"COPY {table} TO STDOUT WITH (FORMAT BINARY)"
    with psycopg.connect(url) as connection, connection.cursor().copy(statement) as copy:
        small = [bytes(part) for part in copy]
    step = 1000
    return [b"".join(small[at : at + step]) for at in range(0, len(small), step)]


def copy_alone(url: str, columns: str, parts: list[bytes]) -> float:
    drop(url, "alone")

    def work() -> None:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE alone ({columns})")
            with cursor.copy("COPY alone FROM STDIN WITH (FORMAT BINARY)") as copy:
                for part in parts:
                    copy.write(part)

    return seconds(work)


def export(index: VectorIndex, url: str, **options: Any) -> tuple[PgVectorIndex, dict[str, float]]:
    """A new export, and the seconds of all of it and of two of its parts."""
    times: dict[str, float] = {}

    def timed(name: str) -> Any:
        method = getattr(Table, name)

        def call(*arguments: Any) -> None:
            times[name] = seconds(lambda: method(*arguments))

        return patch.object(Table, name, call)

    drop(url, "exported")
    with timed("load"), timed("build"):
        started = time.perf_counter()
        new = PgVectorIndex.export(index, url, table="exported", show_progress=False, **options)
        times["all"] = time.perf_counter() - started
    return new, times


def measured(options: argparse.Namespace, url: str) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1000, options.dimension)).astype(np.float32)

    def draw(n: int) -> np.ndarray:
        noise = generator.standard_normal((n, options.dimension), np.float32)
        return centres[generator.integers(1000, size=n)] + noise

    index, queries = VectorIndex.build(draw(options.rows)), draw(options.queries)
    kind = "halfvec" if options.halfvec else "vector"
    table, _ = export(index, url, hnsw=False, halfvec=options.halfvec)
    parts = rows_as_bytes(url, "exported")
    columns = f"id bigint, embedding {kind}({options.dimension}) NOT NULL"
    alone, whole, copied = [], [], []
    for _ in range(options.runs):
        alone.append(copy_alone(url, columns, parts))
        times = export(index, url, hnsw=False, halfvec=options.halfvec)[1]
        whole.append(times["all"])
        copied.append(times["load"])
    rates = {
        name: options.rows / statistics.median(values)
        for name, values in (("alone", alone), ("export", whole), ("copy_of_export", copied))
    }
    table, times = export(index, url, halfvec=options.halfvec)
    with psycopg.connect(url) as connection:
        version = connection.execute(
            "SELECT version(), extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()
        size = connection.execute(
            "SELECT pg_table_size('exported'), pg_relation_size('exported_embedding_idx')"
        ).fetchone()
    wanted = index.search(queries, K).ids
    by_effort = []
    for effort in EFFORTS:
        table.search(queries[:20], K, ef_search=effort)  # warm
        found, milliseconds = [], []
        for query in queries:
            started = time.perf_counter()
            found += table.search(query[None], K, ef_search=effort).ids
            milliseconds.append(1000 * (time.perf_counter() - started))
        recall = np.mean([len({*a} & {*b}) / K for a, b in zip(found, wanted, strict=True)])
        by_effort.append(
            {
                "ef_search": effort,
                "recall": round(float(recall), 4),
                "ms_median": round(statistics.median(milliseconds), 3),
                "ms_p95": round(float(np.quantile(milliseconds, 0.95)), 3),
            }
        )
    few = queries[:10]
    exact = seconds(lambda: table.search(few, K, exact=True)) / len(few)
    return {
        "versions": version,
        "rows": options.rows,
        "dimension": options.dimension,
        "type": kind,
        "rows_per_second": {name: round(rate) for name, rate in rates.items()},
        "seconds": {"alone": alone, "export": whole, "copy_of_export": copied},
        "export_over_copy_alone": round(rates["export"] / rates["alone"], 3),
        "key_hnsw_and_statistics_seconds": round(times["build"], 2),
        "bytes": {"table": size and size[0], "hnsw": size and size[1]},
        "hnsw": by_effort,
        "exact_ms": round(1000 * exact, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--halfvec", action="store_true")
    parser.add_argument("--to")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with nullcontext(options.to) if options.to else postgres(SETTINGS) as url:
        result = measured(options, url)
    tell(result, options.out)
    print(
        "\n| ef_search | recall@10 | ms a query | ms, 95th percentile |\n| --- | --- | --- | --- |"
    )
    for row in result["hnsw"]:
        print("| {ef_search} | {recall:.3f} | {ms_median:.2f} | {ms_p95:.2f} |".format(**row))
    print(f"| exact | 1.000 | {result['exact_ms']:.2f} | |")


if __name__ == "__main__":
    main()
