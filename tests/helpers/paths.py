"""Where things are."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
DATA = Path(os.environ.get("EMBEDKIT_DATA") or ROOT.parent / "shared" / "data")
MODELS = Path(os.environ.get("EMBEDKIT_MODELS") or ROOT.parent / "shared" / "models")
