"""Write the tree of modules in ARCHITECTURE.md: the first docstring line of each module.

python docs/architecture.py           # rewrite the tree
python docs/architecture.py --check   # only exit with 1 where it differs from the package
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "embedkit"
PAGE = ROOT / "ARCHITECTURE.md"

# The packages and modules of embedkit/, from the lowest layer to the highest:
# a layer imports only from the layers before it (tests/unit/test_architecture.py).
LAYERS = (
    ("errors", "version"),
    ("arguments", "similarity", "hub_errors"),
    ("progress", "files", "html_table", "markdown", "dataframe"),
    ("manifest",),
    ("data",),
    ("tokenization",),
    ("encoders",),
    ("pooling",),
    ("recipes",),
    ("embedder", "metadata"),
    ("vectors",),
    ("scoring",),
    ("retrieval",),
    ("evaluation",),
    ("tagging", "masked_lm"),
    ("benchmark",),
    ("training",),
    ("integrations",),
    ("distributed",),
    ("cli",),
    ("__main__",),
)

_TREE = re.compile(r"(<!-- tree: .*? -->\n```text\n).*?(```\n<!-- end -->)", re.DOTALL)


def tree() -> str:
    """One line a package or module: its name and the first line of its docstring."""
    names = ["__init__", *(name for layer in LAYERS for name in layer)]
    paths = [path for name in names for path in (PACKAGE / name, PACKAGE / f"{name}.py")]
    lines = [line for path in paths if path.exists() for line in _lines(path, "  ")]
    return "\n".join(["embedkit/", *lines]) + "\n"


def _lines(path: Path, indent: str) -> Iterator[str]:
    if path.is_file():
        yield f"{indent + path.name:<32}{first_line(path)}"
        return
    yield f"{indent + path.name + '/':<32}{first_line(path / '__init__.py')}"
    for inner in sorted(path.iterdir(), key=lambda inner: (inner.is_dir(), inner.name)):
        if (inner.suffix == ".py" and inner.stem != "__init__") or (inner / "__init__.py").exists():
            yield from _lines(inner, indent + "  ")


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(
            f"{path}: the module has no docstring; expected a line that says what it does"
        )
    return docstring.splitlines()[0]


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    after = _TREE.sub(lambda match: match[1] + tree() + match[2], before)
    if after == before:
        return
    if "--check" in sys.argv[1:]:
        raise SystemExit(f"{PAGE.name} differs from the package: run python docs/architecture.py")
    PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
