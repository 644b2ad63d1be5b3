"""Public functions called with wrong containers and wrong types: one error, which names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from embedkit import (
    Corpus,
    CrossEncoder,
    Embedder,
    InputError,
    PairRegressor,
    Pairs,
    Recipe,
    VectorIndex,
    build_index,
    compare,
    encode_corpus,
    evaluate,
    find_duplicates,
    load_head,
    mine_paraphrases,
    read_pairs,
    save_head,
)

TEXTS = ["a man plays guitar", "그는 책을 읽고 있다", "rain", "the cat reads"]
PAIRS = [(f"the cat {index}", f"a dog {index % 3}") for index in range(12)]
SCORES = [float(index % 5) for index in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return Embedder.from_pretrained(folder, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def cross_encoder(folder: Path) -> CrossEncoder:
    return CrossEncoder.untrained(folder, "mean", (0, 5))


@pytest.fixture(scope="module")
def regressor(embedder: Embedder) -> PairRegressor:
    return PairRegressor(embedder).fit(PAIRS, SCORES)


# Containers

LISTED: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "array of str": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "Series": pd.Series,
    "Series with an index": lambda texts: pd.Series(texts, index=range(5, 5 + len(texts))),
    "column": lambda texts: pd.DataFrame({"text": texts})["text"],
    "categories": lambda texts: pd.Series(texts, dtype="category"),
    "generator": lambda texts: (text for text in texts),
    "values of a dict": lambda texts: dict(enumerate(texts)).values(),
}
NO_LISTS: dict[str, Any] = {
    "DataFrame": pd.DataFrame({"text": TEXTS}),
    "dict": {"a": "b"},
    "set": {"a", "b"},
    "frozenset": frozenset(TEXTS),
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "str": "abc",
    "2-D": np.array([TEXTS, TEXTS]),
    "2-D of objects": np.array([TEXTS], dtype=object),
    "0-D": np.array("abc"),
}


@pytest.mark.parametrize("kind", LISTED)
def test_every_list_of_texts_is_taken_at_every_door(embedder: Embedder, kind: str) -> None:
    make, want = LISTED[kind], embedder.encode(TEXTS)
    np.testing.assert_array_equal(embedder.encode(make(TEXTS)), want)
    encoded = embedder.encode_recipes(make(TEXTS), [embedder.bound])
    np.testing.assert_array_equal(encoded.vectors[0][encoded.distinct.inverse], want)
    cosines = embedder.similarity(TEXTS, want)
    np.testing.assert_array_equal(embedder.similarity(make(TEXTS), make(TEXTS)), cosines)
    fitted = embedder.with_recipe("mean/center").fit(make(TEXTS))
    np.testing.assert_allclose(
        fitted.encode(make(TEXTS)), want - want.mean(0), atol=1e-5 * abs(want).max()
    )
    first, second = zip(*PAIRS, strict=True)
    pairs = Pairs.from_columns("set", make(list(first)), make(list(second)), SCORES)
    assert (pairs.sentence1, pairs.sentence2) == (first, second)


@pytest.mark.parametrize("kind", NO_LISTS)
def test_what_is_no_list_of_texts_is_refused_at_every_door(embedder: Embedder, kind: str) -> None:
    values = NO_LISTS[kind]
    doors: list[tuple[str, Callable[[Any], Any]]] = [
        ("texts", lambda texts: embedder.encode_recipes(texts, [embedder.bound])),
        ("texts", embedder.with_recipe("mean/center").fit),
        ("sentence1", lambda texts: Pairs.from_columns("x", texts, TEXTS[:3], [1, 2, 3])),
        ("sentence2", lambda texts: Pairs.from_columns("x", TEXTS[:3], texts, [1, 2, 3])),
    ]
    if kind != "str":  # one text
        doors += [
            ("texts", embedder.encode),
            ("a", lambda texts: embedder.similarity(texts, TEXTS)),
            ("b", lambda texts: embedder.similarity(TEXTS, texts)),
        ]
    hint = r' \(of a table one column, such as df\["text"\]\)'
    for name, door in doors:
        with pytest.raises(InputError, match=rf"^{name} is one {type(values).__name__}; ") as error:
            door(values)
        if kind in ("DataFrame", "dict") or "-D" in kind:
            assert error.match(hint)


PAIRED: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
    "tuples": list,
    "lists": lambda pairs: [list(pair) for pair in pairs],
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda pairs: np.array(pairs, dtype=object),
    "arrays": lambda pairs: [np.array(pair) for pair in pairs],
    "values of a table": lambda pairs: pd.DataFrame(pairs, columns=["a", "b"]).to_numpy(),
    "keys of a dict": lambda pairs: dict.fromkeys(pairs).keys(),
    "iterator": iter,
    "zip": lambda pairs: zip(*map(pd.Series, zip(*pairs, strict=True)), strict=True),
}


@pytest.mark.parametrize("kind", PAIRED)
def test_every_list_of_pairs_is_taken_at_every_door(
    embedder: Embedder, regressor: PairRegressor, cross_encoder: CrossEncoder, kind: str
) -> None:
    make = PAIRED[kind]
    want = regressor.predict(PAIRS)
    np.testing.assert_array_equal(regressor.predict(make(PAIRS)), want)
    again = PairRegressor(embedder).fit(make(PAIRS), pd.Series(SCORES))
    np.testing.assert_array_equal(again.predict(make(PAIRS)), want)
    assert regressor.score(make(PAIRS), np.array(SCORES)) == regressor.score(PAIRS, SCORES)
    scores = cross_encoder.predict(PAIRS)
    np.testing.assert_array_equal(cross_encoder.predict(make(PAIRS)), scores)


@pytest.mark.parametrize(
    "pairs",
    [
        pd.DataFrame(PAIRS, columns=["sentence1", "sentence2"]),
        {"sentence1": ["a"], "sentence2": ["b"]},
        {("a", "b")},
        np.array([[["a", "b"]]]),
        b"ab",
        "ab",
        ["ab", "cd"],
        [{"a": 1, "b": 2}],
        [("a", "b", "c")],
        [("a", 1)],
        [("a", "\ud800")],
        *([], None, 5, 1.5, True, object(), [5], [None], np.array(3), print, [("a",)]),
    ],
    ids=lambda pairs: type(pairs).__name__,
)
def test_what_is_no_list_of_pairs_is_refused_at_every_door(
    embedder: Embedder, regressor: PairRegressor, cross_encoder: CrossEncoder, pairs: Any
) -> None:
    for door in (
        lambda pairs: PairRegressor(embedder).fit(pairs, SCORES),
        regressor.predict,
        lambda pairs: regressor.score(pairs, SCORES),
        cross_encoder.predict,
    ):
        with pytest.raises(InputError, match=r"^(pairs|(first|second) texts of pairs)\b"):
            door(pairs)


def test_r_squared_is_that_of_scikit_learn(regressor: PairRegressor) -> None:
    from sklearn.metrics import r2_score

    shifted = [score + 1 for score in SCORES]
    assert regressor.score(PAIRS, shifted) == r2_score(shifted, regressor.predict(PAIRS))
    with pytest.raises(InputError, match="got 12 pairs and 3 scores; expected as many"):
        regressor.score(PAIRS, SCORES[:3])


VECTORS: dict[str, Callable[[Any], Any]] = {
    "float32": lambda x: x,
    "float64": lambda x: x.astype(np.float64),
    "lists": lambda x: x.tolist(),
    "rows": list,
    "tensor": torch.from_numpy,
    "tensors": lambda x: list(torch.from_numpy(x)),
    "that needs a gradient": lambda x: torch.from_numpy(x).requires_grad_(),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_similarity_takes_vectors_in_every_form(embedder: Embedder, kind: str) -> None:
    vectors = embedder.encode(TEXTS)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    got = embedder.similarity(VECTORS[kind](vectors), TEXTS)
    np.testing.assert_allclose(got, unit @ unit.T, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0], [3.0]], r"^a has rows of different lengths; expected texts or \(n, dim\)$"),
        ([[1.0], [[2.0]]], "^a has rows of different lengths"),
        ([["1", "2"]], "^a has rows that are not numbers"),
        ([[None, 1.0]], "^a has rows that are not numbers"),
        ([{"a": 1.0}], "^a has rows that are not numbers"),
        ([[10**400]], "^a has rows that are not numbers"),
        ([[]], r"^a has shape \(1, 0\)"),
        (np.zeros((2, 2, 2)), r"^a has shape \(2, 2, 2\); expected texts or \(n, dim\)$"),
        ([[float("nan")] * 32], "^a has numbers that are not finite"),
        (torch.full((2, 32), float("inf")), "^a has numbers that are not finite"),
        (np.zeros((2, 32), dtype=complex), "^a is one ndarray; expected a list of str"),
        (np.zeros(3, dtype=bool), r"^a\[0\]: got False, expected a str"),
        ([1.0, 2.0], r"^a\[0\]: got 1\.0, expected a str"),
    ],
)
def test_similarity_of_ragged_and_odd_arrays_is_one_error(
    embedder: Embedder, values: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        embedder.similarity(values, TEXTS)


@pytest.mark.filterwarnings("error")
def test_similarities_of_huge_vectors_are_numbers_or_one_error(
    embedder: Embedder, folder: Path, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 32))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for scale in (1e30, 1e200, 1e307):
        got = embedder.similarity(vectors * scale, vectors)
        np.testing.assert_allclose(got, unit @ unit.T, atol=1e-6)
    SentenceTransformer(str(folder), similarity_fn_name="dot").save_pretrained(str(tmp_path))
    dot = Embedder.from_pretrained(tmp_path, precision="float32")
    with pytest.raises(InputError, match="expected vectors whose similarity float32 can hold"):
        dot.similarity(vectors * 1e30, vectors * 1e30)


def test_embedkit_does_not_import_pandas() -> None:
    import embedkit

    package = Path(embedkit.__file__).parent
    sources = (path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert not any(re.search("^(import|from) pandas", text, re.MULTILINE) for text in sources)


# Types

WRONG: tuple[Any, ...] = (
    *(None, 1, -1, 0, 1.5, True, b"x", object(), [], {}, {"a": 1}, set(), [None], [1], [b"x"]),
    *([[1, 2], [3]], [["a"], ["b"]], float("nan"), float("inf"), -(10**400), 10**400, 1e308),
    *("", "\0", "\ud800", "5", "a" * 5000, print, Path("x"), range(3), slice(1), type, ("a", 1)),
    *(np.array([b"x"]), np.zeros(3), np.zeros((2, 2, 2)), np.array([["a", "b"]]), np.float16(2)),
    *(np.array(object()), np.array([1j]), np.array([], dtype=str), np.datetime64("2020")),
)
OF_LOADING = "recipe revision device precision reproducible max_length prompts local_files_only"
OF_FITTING = "texts source prompt prompt_name"
OF_TRAINING = "model reads label_range seed max_length revision local_files_only"
OF_HEADS = "embedder head features label_range prompt seed"


@pytest.fixture(scope="module")
def doors(
    folder: Path,
    embedder: Embedder,
    cross_encoder: CrossEncoder,
    regressor: PairRegressor,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Callable[[Any], Any]]:
    """Every argument of every public function: what is called with a value for it."""
    scratch = tmp_path_factory.mktemp("saved")
    cross_encoder.save_pretrained(scratch / "cross-encoder")
    save_head(regressor, scratch / "head")

    def fit(**options: Any) -> Any:
        texts = options.pop("texts", TEXTS)
        return embedder.with_recipe("mean/center").fit(texts, **options)

    def load(**options: Any) -> Any:
        return Embedder.from_pretrained(**{"model": folder, "device": "cpu", **options})

    def train(**options: Any) -> Any:
        usual = {"model": folder, "reads": "mean", "label_range": (0, 5)}
        return CrossEncoder.untrained(**{**usual, **options})

    def head(**options: Any) -> Any:
        return PairRegressor(**{"embedder": embedder, **options}).fit(PAIRS, SCORES)

    def named(call: Callable[..., Any], name: str) -> Callable[[Any], Any]:
        return lambda value: call(**{name: value})

    return {
        "from_pretrained model": lambda x: Embedder.from_pretrained(x, local_files_only=True),
        **{f"from_pretrained {name}": named(load, name) for name in OF_LOADING.split()},
        "encode texts": embedder.encode,
        "encode prompt": lambda x: embedder.encode(TEXTS, prompt=x),
        "encode prompt_name": lambda x: embedder.encode(TEXTS, prompt_name=x),
        "encode show_progress": lambda x: embedder.encode(TEXTS, show_progress=x),
        "similarity a": lambda x: embedder.similarity(x, TEXTS),
        "similarity b": lambda x: embedder.similarity(TEXTS, x),
        **{f"fit {name}": named(fit, name) for name in OF_FITTING.split()},
        "with_recipe recipe": embedder.with_recipe,
        "bind recipe": embedder.bind,
        "save_pretrained folder": embedder.save_pretrained,
        "Recipe poolings": Recipe,
        "Recipe layers": lambda x: Recipe(("mean",), x),
        "Recipe steps": lambda x: Recipe(("mean",), steps=x),
        "Recipe.parse text": Recipe.parse,
        "Recipe.resolve num_layers": lambda x: Recipe(("mean",)).resolve(x),
        **{f"PairRegressor {name}": named(head, name) for name in OF_HEADS.split()},
        "PairRegressor.fit pairs": lambda x: PairRegressor(embedder).fit(x, SCORES),
        "PairRegressor.fit scores": lambda x: PairRegressor(embedder).fit(PAIRS, x),
        "PairRegressor.predict pairs": regressor.predict,
        "PairRegressor.score pairs": lambda x: regressor.score(x, SCORES),
        "PairRegressor.score scores": lambda x: regressor.score(PAIRS, x),
        "load_head folder": load_head,
        "load_head embedder": lambda x: load_head(scratch / "head", x),
        "save_head regressor": lambda x: save_head(x, scratch / "new"),
        "save_head folder": lambda x: save_head(regressor, x),
        "save_head notes": lambda x: save_head(regressor, scratch / "new", notes=x),
        **{f"untrained {name}": named(train, name) for name in OF_TRAINING.split()},
        "predict pairs": cross_encoder.predict,
        "CrossEncoder.from_pretrained folder": CrossEncoder.from_pretrained,
        "CrossEncoder.from_pretrained device": lambda x: CrossEncoder.from_pretrained(
            scratch / "cross-encoder", device=x
        ),
        "CrossEncoder.save_pretrained folder": cross_encoder.save_pretrained,
    }


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_wrong_types_raise_input_errors_and_nothing_raw(
    doors: dict[str, Callable[[Any], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused = dict.fromkeys(doors, 0)
    for name, door in doors.items():
        for value in WRONG:
            try:
                door(value)
            except InputError as error:
                refused[name] += str(error).isprintable()
            except Exception as error:
                raise AssertionError(f"{name} = {value!r}") from error
    few = {name: count for name, count in refused.items() if count < len(WRONG) - 8}
    assert few == {}, "so many values are of the right type at most"


@settings(max_examples=50)
@given(st.data(), st.sampled_from([None, 1, b"x", [], float("nan"), {}]))
def test_a_list_with_one_wrong_text_names_its_index(
    embedder: Embedder, data: st.DataObject, wrong: Any
) -> None:
    texts: list[Any] = ["a"] * data.draw(st.integers(1, 50))
    index = data.draw(st.integers(0, len(texts) - 1))
    texts[index] = wrong
    for values in (texts, tuple(texts), iter(texts)):
        with pytest.raises(InputError, match=rf"^texts\[{index}\]: got .*, expected a str$"):
            embedder.encode(values)


# The message names the argument

SET = Pairs.from_columns("d", *zip(*(PAIRS * 2), strict=True), SCORES * 2)
THING, LAMBDA = object(), print
NO_PATH = (None, 5, 1.5, True, b"x", THING, ["x"], {"a": 1}, np.array(3), LAMBDA)
NO_LIST = (5, 1.5, True, b"x", THING, "x y", [5], np.array(3), LAMBDA)
NO_NAME = (5, 1.5, True, b"x", THING, ["x", 5], {"a": 1}, [], np.array(3), LAMBDA)
NO_NUMBER = (True, b"x", THING, "x", ["x"], {"a": 1}, [], (), np.array([3]), LAMBDA)
NO_HEAD = (5, 1.5, True, b"x", THING, "x", ["x"], {"a": 1}, np.array(3), LAMBDA)
WRONG_OF: dict[str, tuple[Any, ...]] = {
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
    "head": {"train": SET},
    "train": {"head": "ridge"},
    "threshold": {"head": "ridge", "train": SET},
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


@pytest.mark.parametrize(
    ("name", "value"), [(name, x) for name in WRONG_OF for x in WRONG_OF[name]]
)
def test_wrong_types_compare(name: str, value: Any, embedder: Embedder) -> None:
    options = {"recipes": ["mean", "cls"], "show_progress": False, **MORE.get(name, {})}
    names_it(name, lambda: compare(embedder, **{"data": SET, **options, name: value}))


EVALUATED = ("data", "similarities", "aggregation", "prompt", "prompt_name", "index", "seed")


@pytest.mark.parametrize(
    ("name", "value"), [(name, x) for name in EVALUATED for x in WRONG_OF[name]]
)
def test_wrong_types_evaluate(name: str, value: Any, embedder: Embedder) -> None:
    names_it(name, lambda: evaluate(embedder, **{"data": SET, name: value}))


@pytest.mark.parametrize("value", NO_NUMBER)
def test_wrong_types_threshold_of_a_head(value: Any, regressor: PairRegressor) -> None:
    names_it("threshold", lambda: evaluate(regressor, SET, threshold=value, show_progress=False))


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
    names_it(name, lambda: PairRegressor(**{"embedder": embedder, name: value}).fit(PAIRS, SCORES))


@pytest.mark.parametrize("value", NO_PATH)
def test_wrong_types_folders(
    value: Any, regressor: PairRegressor, embedder: Embedder, tmp_path: Path
) -> None:
    save_head(regressor, tmp_path / "head")
    report = evaluate(embedder, SET, show_progress=False)
    names_it("folder", lambda: report.save(value))
    names_it("folder", lambda: save_head(regressor, value))
    names_it("folder", lambda: load_head(value))
    names_it("path", lambda: read_pairs(value))
    names_it("language", lambda: report.to_html(value))
    names_it("regressor", lambda: save_head(value, tmp_path / "head"))
    if value is not None:
        names_it("embedder", lambda: load_head(tmp_path / "head", value))


@pytest.mark.parametrize(
    "call",
    [
        lambda model, path: encode_corpus(model, Corpus(path), path.parent / "vectors"),
        lambda model, path: build_index(model, Corpus(path), path.parent / "index"),
        lambda model, _: VectorIndex.build(np.eye(3), embedder=model),
        lambda model, _: find_duplicates(TEXTS, model),
        lambda model, _: mine_paraphrases(TEXTS, model),
    ],
)
def test_the_name_of_a_model_in_the_place_of_an_embedder(
    call: Callable[[Any, Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("rain\n")
    names_it("embedder", lambda: call("minilm", path))
    assert [*tmp_path.iterdir()] == [path]
