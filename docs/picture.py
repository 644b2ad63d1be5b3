"""Draw the picture of the READMEs: what `embedkit compare` prints, by a real run.

python docs/picture.py PAIRS [--out docs/images/compare.svg]
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images/compare.svg")
    options = parser.parse_args()
    command = ["compare", options.pairs.name]
    shown = subprocess.run(  # noqa: S603
        [shutil.which("embedkit", path=str(Path(sys.executable).parent)) or "embedkit", *command],
        cwd=options.pairs.resolve().parent,
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout
    text = Text.from_ansi(f"\x1b[1m$ embedkit {' '.join(command)}\x1b[0m\n{shown.rstrip()}")
    width = max(len(line) for line in text.plain.splitlines())
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(text)
    picture = console.export_svg(title="embedkit", theme=MONOKAI, unique_id="embedkit")
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # no request to a host
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
