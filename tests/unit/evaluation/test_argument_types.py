"""Wrong types of arguments of evaluation and heads: one error that names the argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny

from embedkit import (
    Embedder,
    InputError,
    PairRegressor,
    Pairs,
    compare,
    evaluate,
    load_head,
    read_pairs,
    save_head,
)

N = 24
PAIRS = Pairs.from_columns(
    "d", [f"a {i}" for i in range(N)], [f"b {i % 3}" for i in range(N)], [i % 5.0 for i in range(N)]
)
TEXTS = list(zip(PAIRS.sentence1, PAIRS.sentence2, strict=True))
VECTORS = np.random.default_rng(0).normal(size=(N, 2, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    return Embedder.from_pretrained(folder, precision="float32")


@pytest.fixture(scope="module")
def head(embedder: Embedder) -> PairRegressor:
    return PairRegressor(embedder).fit(TEXTS, PAIRS.scores)


@pytest.fixture(scope="module")
def folder(head: PairRegressor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head") / "head"
    save_head(head, path)
    return path


Call = Callable[..., Any]
THING, LAMBDA = object(), print
NO_PATH = (None, 5, 1.5, True, b"x", THING, ["x"], {"a": 1}, np.array(3), LAMBDA)
NO_LIST = (5, 1.5, True, b"x", THING, "x y", [5], np.array(3), LAMBDA)
NO_NAME = (5, 1.5, True, b"x", THING, ["x", 5], {"a": 1}, [], np.array(3), LAMBDA)
NO_NUMBER = (True, b"x", THING, "x", ["x"], {"a": 1}, [], (), np.array([3]), LAMBDA)
NO_HEAD = (5, 1.5, True, b"x", THING, "x", ["x"], {"a": 1}, np.array(3), LAMBDA)
WRONG: dict[str, tuple[Any, ...]] = {
    "data": (None, 5, 1.5, True, b"x", THING, [5], [None], {"a": 1}, np.array(3), LAMBDA),
    "recipes": NO_LIST,
    "select": (5, 1.5, True, b"x", THING, [5], np.array(3), LAMBDA),
    "baseline": NO_NAME,
    "layers": (5, 1.5, True, b"x", THING, "x", ["x"], {"a": 1}, np.array(3), LAMBDA),
    "fit": (5, 1.5, True, b"x", THING, np.array(3), LAMBDA),
    "similarities": NO_LIST,
    "aggregation": (None, *NO_NAME),
    "head": NO_HEAD,
    "train": (5, 1.5, True, b"x", THING, [5], np.array(3), LAMBDA),
    "threshold": NO_NUMBER,
    "prompt": NO_NAME,
    "prompt_name": NO_NAME,
    "index": (None, *NO_NAME),
    "seed": (None, 1.5, *NO_NUMBER),
}
MORE: dict[str, dict[str, Any]] = {
    "head": {"train": PAIRS},
    "train": {"head": "ridge"},
    "threshold": {"head": "ridge", "train": PAIRS},
    "fit": {"recipes": ["mean/whiten:2"]},
    "layers": {"recipes": None},
}


def names_it(name: str, call: Callable[[], object]) -> None:
    """The error is one of the two kinds, and says which argument."""
    with pytest.raises((InputError, TypeError)) as error:
        call()
    words = {
        "recipes": "recipe",
        "baseline": "recipe",
        "similarities": "similarit",
        "features": "feature",
    }
    assert re.search(rf"\b{words.get(name, name)}", str(error.value))


@pytest.mark.parametrize(("name", "value"), [(name, x) for name in WRONG for x in WRONG[name]])
def test_wrong_types_compare(name: str, value: Any, embedder: Embedder) -> None:
    options = {"recipes": ["mean", "cls"], "show_progress": False, **MORE.get(name, {})}
    names_it(name, lambda: compare(embedder, **{"data": PAIRS, **options, name: value}))


EVALUATED = ("data", "similarities", "aggregation", "prompt", "prompt_name", "index", "seed")


@pytest.mark.parametrize(("name", "value"), [(name, x) for name in EVALUATED for x in WRONG[name]])
def test_wrong_types_evaluate(name: str, value: Any, embedder: Embedder) -> None:
    names_it(name, lambda: evaluate(embedder, **{"data": PAIRS, name: value}))


@pytest.mark.parametrize("value", NO_NUMBER)
def test_wrong_types_threshold_of_a_head(value: Any, head: PairRegressor) -> None:
    names_it("threshold", lambda: evaluate(head, PAIRS, threshold=value, show_progress=False))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("embedder", x) for x in NO_HEAD),
        *(("head", x) for x in NO_HEAD),
        *(("features", x) for x in (*NO_LIST, [])),
        *(("label_range", x) for x in (*NO_LIST, [], [1, "x"])),
        *(("prompt", x) for x in NO_NAME),
        *(("seed", x) for x in (None, 1.5, *NO_NUMBER)),
    ],
)
def test_wrong_types_head(name: str, value: Any, embedder: Embedder) -> None:
    regressor = PairRegressor(**{"embedder": embedder, name: value})
    names_it(name, lambda: regressor.fit(TEXTS, PAIRS.scores))


@pytest.mark.parametrize("value", [*NO_LIST, {"a": 1}, {"ab": 1}, None, [None], [("a",)], ["ab"]])
def test_wrong_types_pairs_of_a_head(value: Any, head: PairRegressor) -> None:
    names_it("pairs", lambda: PairRegressor(head.embedder).fit(value, PAIRS.scores))
    names_it("pairs", lambda: head.predict(value))


@pytest.mark.parametrize("value", NO_PATH)
def test_wrong_types_folders(
    value: Any, head: PairRegressor, folder: Path, embedder: Embedder
) -> None:
    report = evaluate(embedder, PAIRS, show_progress=False)
    names_it("folder", lambda: report.save(value))
    names_it("folder", lambda: save_head(head, value))
    names_it("folder", lambda: load_head(value))
    names_it("path", lambda: read_pairs(value))
    names_it("language", lambda: report.to_html(value))
    names_it("regressor", lambda: save_head(value, folder))
    if value is not None:
        names_it("embedder", lambda: load_head(folder, value))


def test_pairs_of_a_head_may_be_any_iterable(head: PairRegressor) -> None:
    expected = head.predict(TEXTS)
    for pairs in (iter(TEXTS), tuple(TEXTS), np.array(TEXTS), dict.fromkeys(TEXTS).keys()):
        np.testing.assert_array_equal(head.predict(pairs), expected)
