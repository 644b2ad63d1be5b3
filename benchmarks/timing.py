"""How the benchmarks time whole processes; jobs in turn are `embedkit.benchmark.in_turn`."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence


def of_process(command: Sequence[str], runs: int) -> dict[str, float]:
    """Median, smallest and largest seconds of a process, after one run that is not counted."""
    times = []
    for number in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        if number:
            times.append(time.perf_counter() - started)
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}
