"""How the benchmarks give their figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tell(result: Mapping[str, Any], out: Path | None) -> None:
    """Print the result as JSON, and write it where a file is named."""
    text = json.dumps(result, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
