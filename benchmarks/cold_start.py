"""How long whole processes take: the import, the help, an evaluation of ten pairs.

    python benchmarks/cold_start.py [--runs 5] [--out results.json]

Median, smallest and largest wall seconds from start to end, with MiniLM, after one run that is not
counted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

from figures import tell
from timing import of_process

from embedkit.data.builtin import SHIPPED


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
        seconds = {name: of_process(command, options.runs) for name, command in commands.items()}
    result = {"machine": platform.processor() or platform.machine(), "seconds": seconds}
    tell(result, options.out)


if __name__ == "__main__":
    main()
