"""The READMEs: their code is run, and their tables are generated."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.families import encoder_table
from helpers.paths import ROOT

from embedkit.pooling import pooling_table
from embedkit.recipes.steps import step_table

READMES = {"en": ROOT / "README.md", "ko": ROOT / "README.ko.md"}
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_readme_examples_print_what_the_readme_says() -> None:
    """Both READMEs show the same code, which another test holds."""
    examples = EXAMPLE.findall(READMES["en"].read_text(encoding="utf-8"))
    assert len(examples) == 3
    for code, printed in examples:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README", "exec"), {})  # noqa: S102
        assert out.getvalue() == printed


@pytest.mark.parametrize(
    ("name", "table"),
    [("poolings", pooling_table), ("steps", step_table), ("encoders", encoder_table)],
)
@pytest.mark.parametrize("language", READMES)
def test_readme_tables_are_the_code_s(
    name: str, table: Callable[[str], str], language: str
) -> None:
    text = READMES[language].read_text(encoding="utf-8")
    inside = re.search(rf"<!-- {name}: [^\n]*-->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert inside is not None
    assert inside.group(1).strip() == table(language)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: str(path.name))
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8"))
    absent = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert absent == []


def test_both_readmes_show_the_same_code_and_figures() -> None:
    blocks = [
        re.findall(r"```(?:python|text)\n.*?```", text, re.DOTALL)
        + re.findall(r"^\| [a-z_@,/0-9-]+ \|.* \d.*$", text, re.MULTILINE)
        for text in (path.read_text(encoding="utf-8") for path in READMES.values())
    ]
    assert blocks[0] == blocks[1]
