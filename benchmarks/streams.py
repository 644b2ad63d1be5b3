"""How fast 1 to 16 cores encode, as streams x threads, beside sentence-transformers.

    python benchmarks/streams.py TEXTS [--cores 1 2] [--precisions float32 bfloat16] [--rounds 3]
        [--out results.json]

Each number of cores is a process that may use only those (Linux), with as many threads. It encodes
1,000 distinct sentences a core of TEXTS (a text a line; shuffled, seed 0) with MiniLM: interleaved
rounds, medians; times are the median of the rounds' ratios to sentence-transformers in float32. The
row in bold is what embedkit chooses. Numbers of cores that the machine lacks are named and left
out. 1 and 2 cores take about three minutes; two threads of one core count as two cores here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from figures import tell
from texts import shuffled

from embedkit import Embedder
from embedkit.benchmark import CONTESTANTS, PEER, in_turn
from embedkit.embedder import one_pass
from embedkit.embedder.precision import smallest_cosine
from embedkit.embedder.streams import streams_for
from embedkit.encoders.hub import find_folder

CORES = (1, 2, 4, 8, 16)
TEXTS = 1000
QUERIES = 20


@contextmanager
def fixed(streams: int, threads: int) -> Iterator[None]:
    """Passes that run so, whatever the work."""
    rule = one_pass._streams
    one_pass._streams = lambda *_: (streams, threads)
    try:
        yield
    finally:
        one_pass._streams = rule


def measure(texts: list[str], precisions: list[str], rounds: int) -> dict[str, Any]:
    """The rows of the threads that this process has."""
    cores = torch.get_num_threads()
    folder = find_folder("minilm")
    peer = CONTESTANTS[PEER](folder, "cpu").encode
    ours = {name: Embedder.from_pretrained(folder, precision=name) for name in precisions}
    divisors = [n for n in range(1, cores + 1) if cores % n == 0]

    def encode(embedder: Embedder, streams: int) -> Any:
        with fixed(streams, cores // streams):
            return embedder.encode(texts, show_progress=False)

    jobs: dict[tuple[str, int | None], Callable[[], Any]] = {(PEER, None): partial(peer, texts)}
    for name, embedder in ours.items():
        jobs |= {(name, streams): partial(encode, embedder, streams) for streams in divisors}
        embedder.encode(texts[:64], show_progress=False)
    peer(texts[:64])
    vectors: dict[tuple[str, int | None], Any] = {}

    def kept(key: tuple[str, int | None]) -> None:
        vectors[key] = jobs[key]()

    timed = {json.dumps(key): partial(kept, key) for key in jobs}
    singles: dict[str, Callable[[], Any]] = {
        name: lambda e=embedder: [e.encode(t, show_progress=False) for t in texts[:QUERIES]]
        for name, embedder in ours.items()
    } | {PEER: lambda: [peer([text]) for text in texts[:QUERIES]]}
    seconds = in_turn(timed, rounds, show_progress=True)
    single = in_turn(singles, rounds, show_progress=False)
    base = seconds[json.dumps((PEER, None))]
    rows = [
        {
            "name": name,
            "streams": streams,
            "threads": None if streams is None else cores // streams,
            "chosen": streams == streams_for(cores, len(texts))[0],
            "texts per second": len(texts) / statistics.median(times),
            "times": statistics.median(a / b for a, b in zip(base, times, strict=True)),
            "seconds": times,
            "one text, ms": 1000 * statistics.median(single[name]) / QUERIES,
            "smallest cosine": smallest_cosine(vectors[PEER, None], vectors[name, streams]),
        }
        for (name, streams), times in zip(jobs, seconds.values(), strict=True)
    ]
    return {"cores": cores, "texts": len(texts), "rows": rows}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| cores | | streams x threads | texts/s | times | one text, ms | smallest cosine |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        for row in result["rows"]:
            shape = "" if row["streams"] is None else f"{row['streams']} x {row['threads']}"
            cells = (
                *(f"{result['cores']}", row["name"], f"**{shape}**" if row["chosen"] else shape),
                *(f"{row['texts per second']:,.0f}", f"{row['times']:.2f}"),
                *(f"{row['one text, ms']:.1f}", f"{row['smallest cosine']:.5f}"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def child(cores: list[int]) -> dict[str, Any]:
    """The same command in a process of these cores alone."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, *sys.argv, "--child"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(len(cores))},
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=CORES)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--texts-per-core", type=int, default=TEXTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        texts = shuffled(options.texts)[: options.texts_per_core * torch.get_num_threads()]
        print(json.dumps(measure(texts, options.precisions, options.rounds)))
        return
    here = sorted(os.sched_getaffinity(0))
    results = []
    for count in options.cores:
        if count > len(here):
            print(f"{count} cores: this machine has {len(here)}", file=sys.stderr)
            continue
        print(f"{count} cores", file=sys.stderr)
        results.append(child(here[:count]))
    tell({"torch": torch.__version__, "results": results}, options.out)
    print(table(results))


if __name__ == "__main__":
    main()
