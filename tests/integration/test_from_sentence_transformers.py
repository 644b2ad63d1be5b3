"""The page "Coming from sentence-transformers": both columns of each line give the same values."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from helpers.paths import ROOT
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

from embedkit import Embedder, Pairs, evaluate

PAGE = ROOT / "docs" / "guides" / "from-sentence-transformers.md"
LINE = re.compile(r"^\| `(.*?)` \| `(.*?)` \|$", re.MULTILINE)
FIRST, *LINES = LINE.findall(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the expressions of the two columns see."""
    path = tmp_path_factory.mktemp("page")
    bert = tiny.make_bert(path / "bert", seed=5)
    folder = str(path / "model")
    prompts = {"query": "query: ", "document": "the "}
    SentenceTransformer(str(bert), prompts=prompts, device="cpu").save_pretrained(folder)
    texts = list(tiny.TEXTS)[:6]
    shared: dict[str, Any] = {"folder": folder, "texts": texts}
    shared |= {"one": texts[:5], "two": texts[1:], "scores": [0.1, 0.9, 0.4, 0.6, 0.2]}
    columns = [
        {**shared, "SentenceTransformer": lambda name: SentenceTransformer(name, device="cpu")},
        {**shared, "Embedder": lambda name: Embedder(name, device="cpu", precision="float32")},
    ]
    columns[0]["EmbeddingSimilarityEvaluator"] = EmbeddingSimilarityEvaluator
    columns[1] |= {"evaluate": evaluate, "Pairs": Pairs}
    for column, statement in zip(columns, FIRST, strict=True):
        exec(statement, column)  # noqa: S102
        column["a"], column["b"] = (column["model"].encode(shared[x]) for x in ("one", "two"))
    return columns


@pytest.mark.parametrize(("theirs", "ours"), LINES, ids=[ours for _, ours in LINES])
def test_both_columns_give_the_same(theirs: str, ours: str, names: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their older names
        want, got = (eval(line, names[i]) for i, line in enumerate((theirs, ours)))  # noqa: S307
    assert isinstance(got, type(want)) or not isinstance(want, np.ndarray)
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=0, atol=1e-5)


def test_the_table_has_its_lines() -> None:
    assert len(LINES) >= 12
