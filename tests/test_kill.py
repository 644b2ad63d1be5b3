"""A short form of kill.py."""

from __future__ import annotations

from pathlib import Path

import kill


def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    found = kill.run(2, seed=1, scratch=tmp_path)
    assert [states.total() - states[kill.MISSED] for states in found.values()] == [2, 2]
