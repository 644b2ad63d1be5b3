"""Processes that start at once: forked from a server that has imported all and computed nothing.

A fresh Python process takes seconds to import torch and transformers. OpenMP does not outlive a
fork once it has computed, so the processes of tests are no forks of the test's own process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "embedkit.cli",
        "embedkit.vectors.encode_corpus",
        "embedkit.retrieval.index",
        "embedkit.training.bi_encoder",
        "embedkit.training.cross_encoder",
        "embedkit.training.masked_lm",
    ]
)


def exit_code(log: Path, work: Callable[..., object], *arguments: Any) -> int:
    """Call a function of a module in a process of its own; what it prints goes to `log`.

    Returns:
        The exit code: 0, 1 after an exception, or minus the signal that ended the process.
    """
    process = CONTEXT.Process(target=_call, args=(log, work, *arguments))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _call(log: Path, work: Callable[..., object], *arguments: Any) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    # `workers` blocks Ctrl-C while it starts a process, and perhaps with it the server.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        work(*arguments)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
