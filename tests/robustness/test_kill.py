"""A short form of kill.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedkit import VectorIndex
from robustness import kill


def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    found = kill.run(2, seed=1, scratch=tmp_path)
    assert [states.total() - states[kill.MISSED] for states in found.values()] == [2, 2]


@pytest.mark.parametrize("change", [kill.update, kill.compact, kill.replace])
def test_a_kill_at_any_point_of_a_change_leaves_one_state_and_no_garbage(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    """Before and after the commit: the manifest is replaced in between."""
    source, whole = tmp_path / "source", tmp_path / "whole"
    index = VectorIndex.build(np.random.default_rng(0).normal(size=(20, 8)))
    index.save(source)
    index.remove([2, 3])
    states = [(index.info["removed"], sorted(index.ids.to_pylist()))]
    index.save(whole)
    change(whole)
    after = VectorIndex.open(whole)
    states.append((after.info["removed"], sorted(after.ids.to_pylist())))
    seen = []
    for _ in kill.points(change, source, tmp_path / "killed"):
        left = VectorIndex.open(tmp_path / "killed")
        seen.append(states.index((left.info["removed"], sorted(left.ids.to_pylist()))))
        left.add(np.eye(8)[:1], ids=[1000])
        named = {entry.name for entry in left._state.entries}
        kept = {path.name for path in (tmp_path / "killed").iterdir()}
        assert kept == {*named, "index.json", ".index.json.lock"}
    assert seen == sorted(seen)  # before, then after
    assert seen.count(0) >= 2
    assert seen.count(1) >= 3
