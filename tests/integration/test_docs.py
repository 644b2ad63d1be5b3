"""READMEs, docstrings and examples are run as they stand."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers.families import encoder_table
from helpers.paths import ROOT

from embedkit.pooling import pooling_table
from embedkit.recipes.steps import step_table

READMES = {"en": ROOT / "README.md", "ko": ROOT / "README.ko.md"}
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("language", READMES)
def test_readme_examples_print_what_the_readme_says(language: str) -> None:
    examples = EXAMPLE.findall(READMES[language].read_text(encoding="utf-8"))
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


def test_both_readmes_show_the_same_code_and_figures() -> None:
    blocks = [
        re.findall(r"```(?:python|text)\n.*?```", text, re.DOTALL)
        + re.findall(r"^\| [a-z_@,/0-9-]+ \|.* \d.*$", text, re.MULTILINE)
        for text in (path.read_text(encoding="utf-8") for path in READMES.values())
    ]
    assert blocks[0] == blocks[1]


def test_cls_or_pooler_answers_in_ten_lines() -> None:
    script = ROOT / "examples" / "cls_or_pooler.py"
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, encoding="utf-8", check=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) <= 10
    assert "cls    (480, 384)" in run.stdout
    assert "the same? False" in run.stdout
    assert "is the pooler tanh(W cls + b)? True" in run.stdout


def test_cls_or_pooler_says_when_there_is_no_such_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["cls_or_pooler.py", "./nowhere"])
    with pytest.raises(SystemExit, match=r"error: model './nowhere': there is no such folder"):
        runpy.run_path(str(ROOT / "examples" / "cls_or_pooler.py"), run_name="__main__")
