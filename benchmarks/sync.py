"""What `embedkit index build` of a file and `index sync` after an edit cost: seconds and memory.

    python benchmarks/sync.py TEXTS.txt[.gz] [--rows 200951] [--kind flat] [--out results.json]

A CSV file of TEXTS with ids and a number is indexed by all-MiniLM-L6-v2. Then it is synced: as it
is; after one number in a hundred changed, which encodes nothing; and after one row in a hundred
was changed, one removed and one added. Each is a process of its own: wall seconds, from the shell
to the end, and peak resident memory.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from figures import tell

from embedkit import Corpus

MEASURE = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "seconds": round(time.perf_counter() - started, 1),
    "peak MiB": usage.ru_maxrss // 1024,
    "result": json.loads(done.stdout),
}))
"""


def write(path: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "text", "number"), *rows])


def measured(*arguments: object) -> dict[str, Any]:
    """A command of embedkit, in a process of a process, whose only child it is."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "embedkit"]
    done = subprocess.run(  # noqa: S603
        [*command, *map(str, arguments), "--json"], check=True, stdout=subprocess.PIPE
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    for name in ("schema", "folder"):
        figures["result"].pop(name)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rows", type=int, default=200_951)
    parser.add_argument("--kind", default="flat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = [document.text for document in islice(Corpus(options.texts), options.rows)]
    rows = [(f"r{n}", text, n % 1000) for n, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as scratch:
        path, index = Path(scratch) / "docs.csv", Path(scratch) / "index"
        write(path, rows)
        build = ("index", "build", path, "--id-column", "id", "--metadata", "number")
        figures = {"build": measured(*build, "--kind", options.kind, "--out", index)}
        figures["build"]["result"] = {"bytes": figures["build"]["result"]["bytes"]}
        figures["sync, nothing changed"] = measured("index", "sync", index, path)
        numbers = [(x, text, n + (at % 100 == 0)) for at, (x, text, n) in enumerate(rows)]
        write(path, numbers)
        figures["sync, 1 % of the numbers"] = measured("index", "sync", index, path)
        edited = [
            (x, f"{text} Again." if at % 100 == 1 else text, n)
            for at, (x, text, n) in enumerate(numbers)
            if at % 100 != 2
        ]
        edited += [(f"s{n}", f"{text} Added.", n) for n, text in enumerate(texts[::100])]
        write(path, edited)
        figures["sync, 3 % of the rows"] = measured("index", "sync", index, path)
    tell({"rows": len(rows), "kind": options.kind, **figures}, options.out)


if __name__ == "__main__":
    main()
