"""Imports run down the list of rooms only, and the doors open fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import embedkit

PACKAGE = Path(embedkit.__file__).parent

# From the ground up: a package imports from those before it.
ROOMS = (
    ("errors", "version"),
    ("arguments", "similarity"),
    ("progress", "files"),
    ("manifest",),
    ("data",),
    ("tokenization",),
    ("encoders",),
    ("pooling",),
    ("recipes",),
    ("embedder",),
    ("scoring",),
    ("retrieval",),
    ("evaluation",),
    ("benchmark",),
    ("training",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = ("torch", "transformers", "sentence_transformers", "sklearn", "faiss")

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports below a node, nested ones too, but for those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from imports(other)
        else:
            yield from imports(child)


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of each import of embedkit; the room is "" for the package itself."""
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            parts = (node.module or "").split(".")
            names = [alias.name for alias in node.names] if len(parts) == 1 else [parts[1]]
            found = names if parts[0] == "embedkit" else []
        else:
            dotted = [alias.name.split(".") for alias in node.names]
            found = [(*parts, "")[1] for parts in dotted if parts[0] == "embedkit"]
        for name in found:
            yield node.lineno, name


def test_every_file_is_in_a_room() -> None:
    """A new room goes into ROOMS, as low as its imports allow."""
    assert {room_of(path) for path in MODULES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down(path: Path) -> None:
    own = room_of(path)
    upward = [
        f"line {line}: {own} imports {room}"
        for line, room in imported_rooms(path)
        if room != own and FLOOR.get(room, len(ROOMS)) >= FLOOR.get(own, 0)
    ]
    assert upward == []


def imported_modules(path: Path) -> set[str]:
    """Modules of embedkit that a file imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("embedkit."):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= (names & set(BY_NAME)) or {node.module or ""}
    return modules


BY_NAME = {
    ".".join(("embedkit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in MODULES
}


def test_no_module_imports_itself_through_others() -> None:
    TopologicalSorter({name: imported_modules(path) for name, path in BY_NAME.items()}).prepare()


def test_no_file_is_above_450_lines() -> None:
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: n for path, n in lines.items() if n > 450} == {}


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "from embedkit import files, embedder\n"
        "if TYPE_CHECKING:\n"
        "    from embedkit.cli import app\n"
        "def f():\n"
        "    import embedkit.evaluation.compare\n"
        "    try:\n"
        "        from embedkit.encoders.states import TokenBatch\n"
        "    except ImportError:\n"
        "        import embedkit, torch\n"
    )
    assert list(imported_rooms(path)) == [
        (2, "files"),
        (2, "embedder"),
        (6, "evaluation"),
        (8, "encoders"),
        (10, ""),
    ]


OPEN = """
import sys
try:
    {code}
except SystemExit as leaving:
    assert not leaving.code, leaving.code
found = sorted(set({heavy}) & set(sys.modules))
print("heavy:", *found)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import embedkit; embedkit.InputError, embedkit.__version__, dir(embedkit)",
        "from embedkit import Recipe, POOLINGS; Recipe.parse('mean')",
        "from embedkit.cli import main; sys.argv = ['embedkit', '--help']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', '--version']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', 'compare', '--help']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', 'evaluate', '--help']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', 'encode', '--help']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', 'search', '--help']; main()",
        "from embedkit.cli import main; sys.argv = ['embedkit', 'bench', '--help']; main()",
        "from embedkit.cli import main; sys.argv = 'embedkit index build --help'.split(); main()",
    ],
)
def test_the_doors_load_nothing_heavy(code: str) -> None:
    command = [sys.executable, "-c", OPEN.format(code=code, heavy=HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]
