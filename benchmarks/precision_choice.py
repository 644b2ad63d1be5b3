"""Whether `auto` chooses the same precision on an idle machine and on a busy one.

    python benchmarks/precision_choice.py [--processes 20] [--loops 1] [--out results.json]

Starts fresh processes one after another, each with an empty cache: the first half as the machine
is, the others beside so many busy loops on each core. Prints what each measured and chose.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import tell

_CHOOSE = """
import json, time
from embedkit.embedder.precision import cpu_precision
started = time.perf_counter()
choice = cpu_precision()
measured = choice.measured
print(json.dumps({
    "chosen": choice.name,
    "gain": None if measured is None else round(measured.gain, 3),
    "microseconds": None if measured is None else measured.microseconds,
    "rounds": None if measured is None else measured.rounds,
    "seconds": round(time.perf_counter() - started, 2),
    "reason": choice.reason,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--loops", type=int, default=1, help="busy loops on each core")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    half = options.processes // 2
    before = os.getloadavg()[0]
    idle = [choose() for _ in range(half)]
    with busy(options.loops * (os.cpu_count() or 1)):
        beside_loops = [choose() for _ in range(options.processes - half)]
    everything = [*idle, *beside_loops]
    gains = [one["gain"] for one in everything if one["gain"] is not None]
    result = {
        "load before": before,
        "cores": os.cpu_count(),
        "loops": options.loops * (os.cpu_count() or 1),
        "chosen": sorted({one["chosen"] for one in everything}),
        "smallest gain": min(gains, default=None),
        "largest gain": max(gains, default=None),
        "as the machine is": idle,
        "beside busy loops": beside_loops,
    }
    tell(result, options.out)


def choose() -> dict[str, object]:
    """What a fresh process with an empty cache chooses."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _CHOOSE],
            env={**os.environ, "EMBEDKIT_CACHE": cache},
            check=True,
            capture_output=True,
            text=True,
        )
    return dict(json.loads(done.stdout))


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that only compute, for a `with` block."""
    command = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(command) for _ in range(loops)]  # noqa: S603
    try:
        time.sleep(1)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
