"""A terminal as stderr, and the tables that people read in one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import tqdm.auto


@contextmanager
def as_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """stderr is a pseudo-terminal of 80 columns; yields a function that reads what it shows.

    Bars come at once, as of work over a second, and then at their end: a slow machine prints no
    more, which could fill the terminal.
    """
    bar = tqdm.auto.tqdm
    times = {"delay": 0, "mininterval": 1e9}
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **options: bar(**options | times))
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read() -> str:
        sys.stderr.flush()
        shown = b""
        while select.select([leader], [], [], 0)[0]:
            shown += os.read(leader, 4096)
        return shown.decode()

    with os.fdopen(follower, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield read
    os.close(leader)


def rows_of(text: str) -> list[list[str]]:
    """The cells of the lines around the rule of a table, header first; empty cells are left out."""
    lines = text.splitlines()
    rule = next(at for at, line in enumerate(lines) if line and set(line) == {"─"})
    return [re.split("  +", line.strip()) for line in (lines[rule - 1], *lines[rule + 1 :])]
