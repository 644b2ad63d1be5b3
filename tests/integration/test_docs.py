"""The READMEs and the pages of the documentation are run as they stand."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.command import COMMAND, Run
from helpers.paths import ROOT
from sentence_transformers import SentenceTransformer

from embedkit.data.builtin import SHIPPED

ENGLISH = [
    ROOT / "README.md",
    *(path for path in sorted(ROOT.glob("docs/**/*.md")) if not path.name.endswith(".ko.md")),
]
KOREAN = [ROOT / "README.ko.md", *sorted(ROOT.glob("docs/**/*.ko.md"))]
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
SHELL = re.compile(r"```(?:sh|bash)\n(.*?)```", re.DOTALL)
LIBRARIES = {  # modules of embedkit.integrations, and the package of each
    "mteb": "mteb",
    "langchain": "langchain_core",
    "llama_index": "llama_index",
    "haystack": "haystack",
}
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def name(path: object) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else ""


@pytest.mark.parametrize(
    ("page", "code", "printed"),
    [
        pytest.param(page, *match.groups(), id=f"{name(page)}-{number}")
        for page in ENGLISH
        for number, match in enumerate(EXAMPLE.finditer(page.read_text(encoding="utf-8")))
    ],
)
def test_examples_print_what_the_page_says(page: Path, code: str, printed: str | None) -> None:
    for library, package in LIBRARIES.items():
        if f"integrations.{library}" in code and find_spec(package) is None:
            pytest.skip(f"not installed: {package}")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, page, "exec"), {})  # noqa: S102
    assert out.getvalue() == (printed or "")


@pytest.mark.parametrize("page", KOREAN, ids=name)
def test_korean_pages_show_the_code_and_figures_of_the_english_ones(page: Path) -> None:
    english = page.with_name(page.name.replace(".ko.md", ".md"))

    def blocks(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        # A comment of the shell is in the language of the page, and so is a question.
        shell = [re.sub(r' *#.*|"[^"\n]*"', "", block) for block in SHELL.findall(text)]
        tables = re.findall(r"<!-- .*? -->|^\|(?: `[^`]+` \|)+$", text, re.MULTILINE)
        return re.findall(r"```(?:python|text)\n.*?```", text, re.DOTALL) + shell + tables

    def figures(path: Path) -> set[str]:
        return set(re.findall(r"[-+]?\d[\d,]*\.\d+", path.read_text(encoding="utf-8")))

    assert blocks(page) == blocks(english)
    assert figures(page) == figures(english)


KOREAN_TEXTS = [
    *KOREAN,
    *ROOT.glob("examples/*.ko.ipynb"),
    ROOT / "embedkit/evaluation/report/locale/ko.json",
]


@pytest.mark.parametrize("path", KOREAN_TEXTS, ids=name)
def test_korean_texts_have_one_term_for_each_idea(path: Path) -> None:
    """Such as Spearman, Holm, pooler, 학습 (fitted), 마스크 언어 모델, 신뢰구간, 하위 집합."""
    others = "스피어만|피어슨|홀름|풀러|피팅|마스크드|신뢰 구간|부분집합|파이썬"
    assert re.findall(others, path.read_text(encoding="utf-8")) == []


def commands(text: str) -> list[str]:
    lines = "".join(SHELL.findall(text)).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(embedkit [a-z]+ [^`\n]*)`", text)
    return [line for line in lines + inline if line.startswith("embedkit ")]


@pytest.mark.parametrize("page", [*ENGLISH, *KOREAN], ids=name)
def test_commands_have_the_options_that_pages_name(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        command: Any = COMMAND
        words = shlex.split(line, comments=True)[1:]
        while getattr(command, "commands", {}).keys() & words[:1]:
            command = command.commands[words.pop(0)]
        context = typer.Context(command, resilient_parsing=True)
        command.make_parser(context).parse_args(words)  # raises for an unknown option


@pytest.mark.parametrize("page", sorted({*ENGLISH, *KOREAN, *ROOT.glob("*.md")}), ids=name)
def test_links_lead_to_files(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
        if page.name == "README.ko.md" and re.fullmatch(r"docs/[^.]+\.md", link):
            assert not (page.parent / link).with_suffix(".ko.md").exists(), link


def test_benchmark_commands_have_the_arguments_that_pages_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ParsedError(Exception):
        pass

    parse = argparse.ArgumentParser.parse_args

    def parse_only(*arguments: Any, **options: Any) -> None:
        parsed = parse(*arguments, **options)  # exits for a missing or unknown argument
        assert getattr(parsed, "documents", True) is not None  # encode.py checks it afterwards
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    texts = [page.read_text(encoding="utf-8") for page in [*ENGLISH, *KOREAN]]
    texts += [path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/results/*.md")]
    found = set(re.findall(r"`(python\s+benchmarks/[^`]+)`", "\n".join(texts)))
    assert len({line.split()[1] for line in found}) >= 10
    for line in sorted(found):
        script, *words = line.split()[1:]
        monkeypatch.setattr("sys.argv", [script, *words])
        with pytest.raises(ParsedError):
            runpy.run_path(str(ROOT / script), run_name="__main__")


def test_a_newcomer_saves_a_model_of_their_own_pairs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = SHELL.findall(ENGLISH[0].read_text(encoding="utf-8"))
    (typed,) = (block.splitlines() for block in blocks if "venv" in block)
    assert len(typed) < 10
    monkeypatch.chdir(tmp_path)
    rows = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines(keepends=True)
    Path("pairs.tsv").write_text("".join(rows[:41]), encoding="utf-8")
    compare, python = (shlex.split(line, comments=True) for line in typed[2:])
    assert compare[0] == "embedkit"
    assert run(*compare[1:]).code == 0
    assert Path("report/report.html").exists()
    assert python[:2] == ["python", "-c"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(python[2], {})  # noqa: S102
    assert out.getvalue() == "(384,)\n"
    assert SentenceTransformer("my-model", device="cpu").encode("A dog runs.").shape == (384,)


def test_readmes_are_short() -> None:
    for page in (ENGLISH[0], KOREAN[0]):
        assert len(page.read_text(encoding="utf-8").splitlines()) <= 150
