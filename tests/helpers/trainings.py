"""Data of trainings, and trainings from the command line that are killed on their way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from embedkit import Pairs

_SECONDS = 120


def write_pairs(folder: Path, pairs: Pairs) -> Path:
    """NAME.tsv."""
    rows = zip(pairs.sentence1, pairs.sentence2, pairs.scores, strict=True)
    lines = ["sentence1\tsentence2\tscore", *("\t".join(map(str, row)) for row in rows)]
    file = folder / f"{pairs.name}.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def kill_after(arguments: list[object], out: Path, *, checkpoints: int) -> None:
    """Run `embedkit` and send SIGKILL once so many checkpoints were written."""
    command = [sys.executable, "-m", "embedkit", *map(str, arguments), "--out", str(out)]
    folder = out.parent / f"{out.name}.training"
    seen: set[Path] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        started = time.monotonic()
        while len(seen) < checkpoints and time.monotonic() < started + _SECONDS:
            seen.update(folder.glob("checkpoint-*/files.json"))
            if process.poll() is not None:
                raise AssertionError(f"it ended: {process.communicate()}")
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(seen) == checkpoints
    assert not out.exists()
    assert folder.is_dir()
