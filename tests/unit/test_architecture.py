"""Layers of the package: imports run one way, files stay short, and `import embedkit` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import architecture
import pytest
from architecture import LAYERS, PACKAGE

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = ("torch", "transformers", "sentence_transformers", "sklearn", "faiss")

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit_of(path: Path) -> str:
    """The package, or module beside the packages, that a file belongs to."""
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


def imported_units(path: Path) -> Iterator[tuple[int, str]]:
    """Line and unit of each import of embedkit; the unit is "" for embedkit itself."""
    for node in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            parts = (node.module or "").split(".")
            names = [alias.name for alias in node.names] if len(parts) == 1 else [parts[1]]
            units = names if parts[0] == "embedkit" else []
        else:
            dotted = [alias.name.split(".") for alias in node.names]
            units = [(*parts, "")[1] for parts in dotted if parts[0] == "embedkit"]
        for unit in units:
            yield node.lineno, unit


def test_every_file_is_in_a_layer() -> None:
    """A new package goes into LAYERS of docs/architecture.py, as low as its imports allow."""
    assert {unit_of(path) for path in MODULES} == set(LEVEL)


def test_imports_run_down() -> None:
    upward = [
        f"{path}:{line} imports {unit}"
        for path in MODULES
        for line, unit in imported_units(path)
        if unit != unit_of(path) and LEVEL.get(unit, len(LAYERS)) >= LEVEL.get(unit_of(path), 0)
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
    assert list(imported_units(path)) == [
        (2, "files"),
        (2, "embedder"),
        (6, "evaluation"),
        (8, "encoders"),
        (10, ""),
    ]


LIGHT = """
import contextlib, io, sys
import embedkit
from embedkit.cli import main

def check(what):
    heavy = sorted({heavy} & set(sys.modules))
    if heavy:
        sys.exit(f"{what} loads {heavy}")

check("import embedkit")
embedkit.InputError, embedkit.__version__, dir(embedkit)
check("a light name of embedkit")
embedkit.Recipe.parse("mean"), embedkit.POOLINGS
check("parsing a recipe")
for options in {commands}:
    sys.argv = ["embedkit", *options.split()]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as end:
            assert not end.code, end.code
    assert len(out.getvalue()) > 5, options
    check(f"embedkit {options}")
"""
COMMANDS = ["compare", "evaluate", "encode", "search", "bench", "index build"]


@pytest.mark.process
def test_importing_embedkit_and_its_help_are_light() -> None:
    options = ["--help", "--version", *(f"{command} --help" for command in COMMANDS)]
    heavy = {*HEAVY, "numpy"}
    code = LIGHT.replace("{heavy}", str(heavy)).replace("{commands}", str(options))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_tree_in_architecture_md_names_every_module() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    tree = architecture.tree()
    assert tree in page, "run python docs/architecture.py"
    listed = [line.split()[0] for line in tree.splitlines()[2:]]
    names = [path.parent.name + "/" if path.stem == "__init__" else path.name for path in MODULES]
    assert sorted(listed) == sorted(names)
