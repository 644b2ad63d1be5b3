"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from helpers.notebooks import execute
from helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    execute(nbformat.read(path, as_version=4), tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_korean_notebooks_have_the_code_of_the_english_ones() -> None:
    for path in NOTEBOOKS:
        if path.name.endswith(".ko.ipynb"):
            english = path.with_name(path.name.replace(".ko.", "."))
            korean, original = (
                [
                    "".join(line.split("  #")[0] for line in cell.source.splitlines())
                    for cell in nbformat.read(one, 4).cells
                    if cell.cell_type == "code"
                ]
                for one in (path, english)
            )
            assert korean == original
