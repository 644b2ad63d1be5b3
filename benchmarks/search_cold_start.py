"""How long `embedkit search` takes from the shell to the printed result, and where it goes.

    python benchmarks/search_cold_start.py INDEX [--runs 5] [--out results.json]

INDEX is a folder of `embedkit index build`. Wall seconds of whole processes, after one that is not
counted; then the parts, measured once in one process in the order in which the command does them.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

from figures import tell
from timing import of_process

QUERY = "a dog runs in the park"
PARTS = f"""
import json, sys, time
parts, before = {{}}, time.perf_counter()
def part(name):
    global before
    now = time.perf_counter()
    parts[name], before = now - before, now
import embedkit.cli
part("import the command line")
import torch
part("import torch")
import faiss
part("import faiss")
import pyarrow
from embedkit.embedder.embedder import Embedder
from embedkit.retrieval.index import VectorIndex
part("import the rest")
index = VectorIndex.open(sys.argv[1])
part("read and check the index")
index.embedder = index.provenance.load()
part("load and check the model")
hits = index.search([{QUERY!r}])
hits[0]
part("encode the query and search")
print(json.dumps(parts))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    command = [sys.executable, "-m", "embedkit", "search", str(options.index), QUERY]
    seconds = of_process(command, options.runs)
    parts = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PARTS, str(options.index)], check=True, capture_output=True
    )
    info = subprocess.run(  # noqa: S603
        [*command[:3], "index", "info", str(options.index), "--json"],
        check=True,
        capture_output=True,
    )
    said = json.loads(info.stdout)
    result = {
        "index": {name: said[name] for name in ("rows", "dimension", "kind", "bytes", "texts")},
        "machine": platform.processor() or platform.machine(),
        "seconds": seconds,
        "parts": json.loads(parts.stdout),
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
