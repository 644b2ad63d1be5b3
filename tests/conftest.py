from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Run, runner

from embedkit import Embedder
from embedkit.encoder.packed import PackedEncoder

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


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process."""
    return runner(monkeypatch, capsys)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be loaded."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(Embedder, "from_pretrained", fail)


@pytest.fixture
def no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text may be encoded."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("the encoder ran")

    monkeypatch.setattr(PackedEncoder, "__call__", fail)
