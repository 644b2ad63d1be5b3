"""How long whole processes take: the import, the help, an evaluation of ten pairs.

    python benchmarks/cold_start.py [--runs 5] [--out results.json]

Median, smallest and largest wall seconds from start to end, with MiniLM, after one run that is not
counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from embedkit.datasets import SHIPPED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ten = Path(folder) / "ten.tsv"
        lines = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines(keepends=True)
        ten.write_text("".join(lines[:11]), encoding="utf-8")
        python = sys.executable
        commands = {
            "import embedkit": [python, "-c", "import embedkit"],
            "embedkit --help": [python, "-m", "embedkit", "--help"],
            "embedkit evaluate, ten pairs": [python, "-m", "embedkit", "evaluate", str(ten)],
        }
        seconds: dict[str, dict[str, float]] = {}
        for name, command in commands.items():
            times = []
            for number in range(options.runs + 1):
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)  # noqa: S603
                if number:
                    times.append(time.perf_counter() - started)
            seconds[name] = {
                "median": statistics.median(times),
                "min": min(times),
                "max": max(times),
            }
    result = {"machine": platform.processor() or platform.machine(), "seconds": seconds}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
