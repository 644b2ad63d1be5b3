from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EMBEDKIT_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a file in the shared data folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"needs {name} in the data folder ($EMBEDKIT_DATA or ../shared/data)")
        return path

    return find
