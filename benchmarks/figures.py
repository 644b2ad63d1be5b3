"""How the benchmarks give their figures."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")


def tell(result: Mapping[str, Any], out: Path | None) -> None:
    """Print the result and the CPU as JSON, and write it where a file is named."""
    text = json.dumps({"cpu": cpu(), **result}, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def cpu() -> str:
    """The model of the CPU, its cores, and which of the fast bfloat16 units it has."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    lines = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    units = [
        unit for unit in ("avx512_bf16", "amx_bf16") if unit in fields.get("flags", "").split()
    ]
    name = fields.get("model name") or platform.machine()
    return ", ".join([name, f"{os.cpu_count()} cores", *units])
