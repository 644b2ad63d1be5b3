"""How the benchmarks time: jobs in turn in one process, and whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def in_turn(jobs: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each job; every round runs all of them once."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(runs):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - started)
        print(f"run {number + 1} of {runs}", file=sys.stderr)
    return seconds


def of_process(command: Sequence[str], runs: int) -> dict[str, float]:
    """Median, smallest and largest seconds of a process, after one run that is not counted."""
    times = []
    for number in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        if number:
            times.append(time.perf_counter() - started)
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}
