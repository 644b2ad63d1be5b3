"""The regression head: against scikit-learn by hand, as its estimator, and as a folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import skops.io
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Lasso, LinearRegression, RidgeCV
from sklearn.metrics import f1_score, mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks

from embedkit import Embedder, InputError, PairRegressor, Pairs, evaluate, load_head, save_head
from embedkit.scoring.features import FEATURES, pair_features

Vectors = NDArray[np.float32]
Labels = NDArray[np.float64]

SYMMETRIC = ("|u-v|", "u*v", "cosine")
TEXT_PAIRS = [
    (f"{first} {verb}", f"{second} {verb} slowly")
    for first in ("a man", "the cat", "two birds", "she", "he")
    for second in ("a woman", "the dog", "rain")
    for verb in ("runs", "eats")
]
TEXT_LABELS = np.random.default_rng(5).uniform(0, 5, len(TEXT_PAIRS)).round(1)


class NoEmbedder:
    """Fails the test where it is asked for vectors."""

    def encode(self, *_: object, **__: object) -> None:
        pytest.fail("a text was encoded")

    def __sklearn_clone__(self) -> NoEmbedder:
        return self


def draw(n: int = 60, dim: int = 6, seed: int = 0) -> tuple[Vectors, Labels]:
    """Vector pairs (n, 2, dim), and labels from 0 to 5 that grow with their cosine."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, 2, dim)).astype(np.float32)
    noisy = cosines(vectors) + 0.2 * generator.normal(size=n)
    return vectors, np.clip(2.5 + 2.5 * noisy, 0, 5)


def cosines(vectors: Vectors) -> Labels:
    u, v = vectors[:, 0].astype(float), vectors[:, 1].astype(float)
    values: Labels = (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    return values


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16, seed=4)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder.from_pretrained(bert, device="cpu")


def vectors_of(embedder: Embedder, pairs: list[tuple[str, str]]) -> Vectors:
    return np.stack([embedder.encode([pair[side] for pair in pairs]) for side in (0, 1)], axis=1)


# Features


def test_features_by_hand() -> None:
    vectors = np.array([[[3, 4], [4, -3]], [[1, 0], [-2, 0]]], dtype=np.float32)
    expected = {
        "|u-v|": [[1, 7], [3, 0]],
        "u*v": [[12, -12], [-2, 0]],
        "cosine": [[0], [-1]],
        "u": [[3, 4], [1, 0]],
        "v": [[4, -3], [-2, 0]],
    }
    assert expected.keys() == FEATURES.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(pair_features(vectors, [name]), values, atol=1e-15)
    joined = np.hstack(list(expected.values()))
    np.testing.assert_allclose(pair_features(vectors, list(expected)), joined, atol=1e-15)
    np.testing.assert_array_equal(
        pair_features(vectors, ["u", "|u-v|"]), pair_features(vectors, ["|u-v|", "u"])
    )


def test_features_are_computed_in_float64() -> None:
    vectors = np.array([[[1.0], [1 + 2**-23]]], dtype=np.float32)
    np.testing.assert_array_equal(pair_features(vectors, ["u*v"]), [[1 + 2**-23]])
    squared = np.array([[[1 + 2**-23], [1 + 2**-23]]], dtype=np.float32)
    np.testing.assert_array_equal(pair_features(squared, ["u*v"]), [[(1 + 2**-23) ** 2]])


def test_the_cosine_of_a_zero_vector_is_zero() -> None:
    vectors = np.array([[[0, 0], [1, 2]]], dtype=np.float32)
    np.testing.assert_array_equal(pair_features(vectors, ["cosine"]), [[0]])


@pytest.mark.parametrize("name", FEATURES)
def test_all_features_but_single_vectors_are_symmetric(name: str) -> None:
    vectors, _ = draw()
    swapped = vectors[:, ::-1]
    same = np.array_equal(pair_features(vectors, [name]), pair_features(swapped, [name]))
    assert same == (name in SYMMETRIC)


# Predictions


@pytest.mark.thorough
@settings(max_examples=10, deadline=None)
@given(
    st.sets(st.sampled_from(SYMMETRIC), min_size=1),
    st.integers(0, 99),
    st.sampled_from(["ridge", "mlp"]),
)
def test_symmetric_features_give_symmetric_predictions(
    features: set[str], seed: int, head: str
) -> None:
    vectors, labels = draw(30, seed=seed)
    regressor = PairRegressor(head=head, features=sorted(features)).fit(vectors, labels)
    new = draw(30, seed=seed + 1)[0]
    swapped = np.ascontiguousarray(new[:, ::-1])
    np.testing.assert_array_equal(regressor.predict(new), regressor.predict(swapped))


def test_symmetric_features_give_symmetric_predictions_of_texts(bert: Path) -> None:
    embedder = Embedder.from_pretrained(bert, device="cpu", reproducible=True)
    regressor = PairRegressor(embedder).fit(TEXT_PAIRS, TEXT_LABELS)
    swapped = [(second, first) for first, second in TEXT_PAIRS]
    np.testing.assert_array_equal(regressor.predict(TEXT_PAIRS), regressor.predict(swapped))


@pytest.mark.parametrize("features", [("u",), ("v",), ("|u-v|", "u"), ("u", "v")])
def test_unsymmetric_features_do_not(features: tuple[str, ...]) -> None:
    vectors, labels = draw()
    regressor = PairRegressor(features=features).fit(vectors, labels)
    assert (regressor.predict(vectors) != regressor.predict(vectors[:, ::-1])).any()


def test_ridge_is_scikit_learns() -> None:
    (train, labels), (new, _) = draw(), draw(seed=1)

    def features(x: Vectors) -> NDArray[np.float64]:
        u, v = x[:, 0].astype(float), x[:, 1].astype(float)
        return np.hstack([abs(u - v), u * v])

    scaler = StandardScaler().fit(features(train))
    ridge = RidgeCV(10.0 ** np.arange(-1, 6.5, 0.5)).fit(scaler.transform(features(train)), labels)
    expected = ridge.predict(scaler.transform(features(new)))
    found = PairRegressor().fit(train, labels).predict(new)
    np.testing.assert_allclose(found, expected.clip(labels.min(), labels.max()), rtol=1e-12)


def test_isotonic_is_scikit_learns_on_the_cosine() -> None:
    (train, labels), (new, _) = draw(), draw(seed=1)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(cosines(train), labels)
    regressor = PairRegressor(head="isotonic").fit(train, labels)
    assert regressor.features_ == ("cosine",)
    np.testing.assert_allclose(regressor.predict(new), isotonic.predict(cosines(new)), rtol=1e-9)


@pytest.mark.thorough
def test_the_seed_decides_an_mlp() -> None:
    vectors, labels = draw()

    def predicted(seed: int) -> Labels:
        return PairRegressor(head="mlp", seed=seed).fit(vectors, labels).predict(vectors)

    np.testing.assert_array_equal(predicted(3), predicted(3))
    assert (predicted(3) != predicted(4)).any()


def test_any_regressor_serves_and_stays_unfitted() -> None:
    vectors, labels = draw()
    given_ = LinearRegression()
    regressor = PairRegressor(head=given_, features=("u", "cosine")).fit(vectors, labels)
    features = np.hstack([vectors[:, 0].astype(float), cosines(vectors)[:, None]])
    expected = LinearRegression().fit(features, labels).predict(features)
    np.testing.assert_allclose(
        regressor.predict(vectors), expected.clip(labels.min(), labels.max()), rtol=1e-9
    )
    assert not hasattr(given_, "coef_")


class Wild(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts -100, 0, 100, -100, ..."""

    def fit(self, x: Any, y: Any) -> Wild:
        self.fitted_ = True
        return self

    def predict(self, x: Any) -> Labels:
        return np.resize([-100.0, 0.0, 100.0], len(x))


def test_predictions_are_clipped_to_the_labels() -> None:
    vectors, _ = draw(12)
    labels = np.linspace(-1, 4, 12)
    regressor = PairRegressor(head=Wild()).fit(vectors, labels)
    assert regressor.predict(vectors[:3]).tolist() == [-1, 0, 4]
    for declared in ((-2, 5), np.array([-2, 5]), ("-2", "5")):
        regressor = PairRegressor(head=Wild(), label_range=declared).fit(vectors, labels)  # type: ignore[arg-type]
        assert regressor.predict(vectors[:3]).tolist() == [-2, 0, 5]
        assert regressor.range_ == (-2.0, 5.0)


def test_texts_are_their_vectors(embedder: Embedder) -> None:
    vectors = vectors_of(embedder, TEXT_PAIRS)
    of_texts = PairRegressor(embedder).fit(TEXT_PAIRS, TEXT_LABELS)
    of_vectors = PairRegressor().fit(vectors, TEXT_LABELS)
    np.testing.assert_allclose(of_texts.predict(TEXT_PAIRS), of_vectors.predict(vectors), atol=1e-5)


def test_the_prompt_is_put_in_front(embedder: Embedder) -> None:
    prompted = [(f"query: {a}", f"query: {b}") for a, b in TEXT_PAIRS]
    with_prompt = PairRegressor(embedder, prompt="query: ").fit(TEXT_PAIRS, TEXT_LABELS)
    by_hand = PairRegressor(embedder).fit(prompted, TEXT_LABELS)
    np.testing.assert_allclose(
        with_prompt.predict(TEXT_PAIRS), by_hand.predict(prompted), atol=1e-5
    )


# scikit-learn's habits


CHECKS: tuple[Callable[[str, Any], None], ...] = (
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_valid_tag_types,
    estimator_checks.check_mixin_order,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_check(check: Callable[[str, Any], None]) -> None:
    check("PairRegressor", PairRegressor())


def test_predict_changes_nothing_and_fit_no_parameter() -> None:
    vectors, labels = draw()
    regressor = PairRegressor(features=["u*v", "|u-v|"])
    before = regressor.get_params()
    regressor.fit(vectors, labels)
    assert regressor.get_params() == before
    assert regressor.features_ == ("|u-v|", "u*v")
    fitted = dict(regressor.__dict__)
    regressor.predict(vectors)
    assert regressor.__dict__ == fitted


def test_an_unfitted_head_does_not_predict() -> None:
    with pytest.raises(NotFittedError):
        PairRegressor().predict(draw()[0])


def test_clone_keeps_the_embedder(embedder: Embedder) -> None:
    regressor = PairRegressor(embedder, head=Lasso(), label_range=(0.0, 5.0), seed=7)
    regressor.fit(TEXT_PAIRS, TEXT_LABELS)
    copy = clone(regressor)
    assert copy.embedder is embedder
    assert copy.head is not regressor.head
    assert (copy.label_range, copy.seed) == ((0.0, 5.0), 7)
    assert not hasattr(copy, "regressor_")
    assert copy.set_params(head__alpha=9.0).head.alpha == 9
    assert regressor.head.alpha == 1


def test_cross_validation(embedder: Embedder) -> None:
    folds = KFold(3)
    found = cross_val_score(PairRegressor(embedder), TEXT_PAIRS, TEXT_LABELS, cv=folds)
    expected = []
    for train, test in folds.split(TEXT_PAIRS):
        regressor = PairRegressor(embedder)
        regressor.fit([TEXT_PAIRS[i] for i in train], TEXT_LABELS[train])
        predictions = regressor.predict([TEXT_PAIRS[i] for i in test])
        expected.append(r2_score(TEXT_LABELS[test], predictions))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_in_a_pipeline() -> None:
    vectors, labels = draw()
    pipeline = make_pipeline(FunctionTransformer(np.negative), PairRegressor(features=("u",)))
    found = pipeline.fit(vectors, labels).predict(vectors)
    expected = PairRegressor(features=("u",)).fit(-vectors, labels).predict(-vectors)
    np.testing.assert_array_equal(found, expected)


# Refusals


GOOD = list(range(12))


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ({}, [0, 1, float("nan"), *range(9)], r"scores\[2\] is nan; expected a finite number"),
        ({}, [0, 1, 2, float("inf"), *range(8)], r"scores\[3\] is inf"),
        ({}, [2.5] * 12, "all 12 scores are 2.5; expected different ones"),
        ({}, [1, 2, 3], r"got 3 scored pairs; this head needs at least 10"),
        ({}, [[1], [2]], r"got scores of shape \(2, 1\)"),
        ({}, ["high"] * 12, "scores are not all numbers"),
        ({"label_range": (0, 5)}, GOOD, r"scores\[6\] is 6; expected 0 to 5, the declared range"),
        ({"label_range": (5, 0)}, GOOD, r"label_range is \(5, 0\); expected the lower number"),
        ({"head": "rigde"}, GOOD, "unknown head 'rigde'; choose from ridge, mlp, isotonic"),
        ({"features": ("u-v",)}, GOOD, r"unknown feature 'u-v'; choose from \|u-v\|, u\*v, cos"),
        ({"features": ("u", "u")}, GOOD, "feature 'u' is given twice; expected it once"),
        ({"features": ()}, GOOD, r"features is \(\); expected some of"),
        ({"features": "cosine"}, GOOD, "features is 'cosine'; expected some of"),
        ({"head": "isotonic", "features": ("u*v",)}, GOOD, "an isotonic head calibrates the cos"),
        ({}, range(11), "got 12 pairs and 11 scores; expected as many"),
    ],
)
def test_refused_before_anything_is_encoded(
    options: dict[str, Any], labels: Any, message: str
) -> None:
    regressor = PairRegressor(NoEmbedder(), **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        regressor.fit(TEXT_PAIRS[:12], list(labels))
    assert not hasattr(regressor, "regressor_")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([*TEXT_PAIRS[:11], "text"], r"pairs\[11\]: got 'text', expected two texts"),
        ([("a", "b", "c"), *TEXT_PAIRS[:11]], r"pairs\[0\]: got .*, expected two texts"),
        ([("a", None), *TEXT_PAIRS[:11]], r"pairs\[0\]: got \(.a., None\), expected two texts"),
        (np.zeros((12, 3, 4)), r"pairs have shape \(12, 3, 4\); expected vectors \(n, 2, dim\)"),
        (np.zeros((12, 4)), r"pairs have shape \(12, 4\)"),
        (np.full((12, 2, 4), np.nan), "not finite"),
    ],
)
def test_pairs_that_are_none(pairs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PairRegressor(NoEmbedder()).fit(pairs, GOOD)  # type: ignore[arg-type]


def test_texts_need_an_embedder() -> None:
    with pytest.raises(InputError, match="no embedder; expected one, or vectors"):
        PairRegressor().fit(TEXT_PAIRS[:12], GOOD)


# Folders


HEADS: dict[str, Any] = {
    "ridge": "ridge",
    "mlp": "mlp",
    "isotonic": "isotonic",
    "lasso": Lasso(alpha=0.01),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "ridge"
    regressor = PairRegressor(embedder, prompt="a ").fit(TEXT_PAIRS, TEXT_LABELS)
    save_head(regressor, folder, notes={"trained on": "thirty pairs"})
    return folder


def copied(folder: Path, target: Path, **changed: bytes | None) -> Path:
    """A copy of a folder where `head_json` or `head_skops` is other bytes, or absent.

    head.json describes the other bytes: whoever forges one file can forge both.
    """
    target.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    for name, content in changed.items():
        path = target / name.replace("_", ".")
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        if name == "head_skops" and content is not None:
            said = json.loads((target / "head.json").read_text("utf-8"))
            said["estimator"] = hashlib.sha256(content).hexdigest()
            (target / "head.json").write_text(json.dumps(said), encoding="utf-8")
    return target


def test_the_estimator_of_another_head_is_refused(
    saved: Path, embedder: Embedder, tmp_path: Path
) -> None:
    save_head(PairRegressor(embedder, head="isotonic").fit(TEXT_PAIRS, TEXT_LABELS), tmp_path / "b")
    folder = copied(saved, tmp_path / "copy")
    (folder / "head.skops").write_bytes((tmp_path / "b" / "head.skops").read_bytes())
    with pytest.raises(
        InputError, match=r"head\.skops: is not the estimator that head\.json describ"
    ):
        load_head(folder, embedder)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("recipe", ["mean", "mean@1", "pooler", "cls+mean@0,1/normalize"])
def test_a_loaded_head_predicts_the_same(
    name: str, recipe: str, embedder: Embedder, tmp_path: Path
) -> None:
    other = embedder.with_recipe(recipe)
    regressor = PairRegressor(other, head=HEADS[name]).fit(TEXT_PAIRS, TEXT_LABELS)
    save_head(regressor, tmp_path / "head")
    loaded = load_head(tmp_path / "head", device="cpu")
    np.testing.assert_array_equal(loaded.predict(TEXT_PAIRS), regressor.predict(TEXT_PAIRS))
    given_ = load_head(tmp_path / "head", other)
    assert given_.embedder is other
    np.testing.assert_array_equal(given_.predict(TEXT_PAIRS), regressor.predict(TEXT_PAIRS))


def test_a_loaded_head_knows_its_options(saved: Path, embedder: Embedder) -> None:
    loaded = load_head(saved, embedder)
    assert loaded.prompt == "a "
    assert loaded.features_ == ("|u-v|", "u*v")
    assert loaded.range_ == (TEXT_LABELS.min(), TEXT_LABELS.max())
    again = clone(loaded).fit(TEXT_PAIRS, TEXT_LABELS)
    np.testing.assert_array_equal(again.predict(TEXT_PAIRS), loaded.predict(TEXT_PAIRS))


def test_the_folder_holds_no_pickle(saved: Path) -> None:
    with zipfile.ZipFile(saved / "head.skops") as file:
        suffixes = {Path(name).suffix for name in file.namelist()}
        assert "schema.json" in file.namelist()
        assert suffixes <= {".json", ".npy"}
        for name in file.namelist():
            if name.endswith(".npy"):
                with file.open(name) as array:
                    np.lib.format.read_array(array, allow_pickle=False)
    for path in saved.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".md", ".safetensors", ".skops", ".txt")
            with pytest.raises(Exception):  # noqa: B017, PT011
                pickle.loads(path.read_bytes())  # noqa: S301


def test_the_folder_is_sentence_transformers_too(saved: Path, embedder: Embedder) -> None:
    model = SentenceTransformer(str(saved), device="cpu")
    np.testing.assert_allclose(
        model.encode(list(tiny.TEXTS)), embedder.encode(tiny.TEXTS), atol=1e-5
    )


def test_the_folder_says_what_it_holds(saved: Path, embedder: Embedder) -> None:
    said = json.loads((saved / "head.json").read_text())
    assert said["fingerprint"] == embedder.fingerprint
    assert said["notes"] == {"trained on": "thirty pairs"}
    card = (saved / "README.md").read_text()
    assert "- head: ridge\n" in card
    assert "- features: `|u-v|`, `u*v`\n" in card
    assert "- trained on: thirty pairs\n" in card


def test_saving_replaces_only_what_embedkit_wrote(embedder: Embedder, tmp_path: Path) -> None:
    regressor = PairRegressor(embedder).fit(TEXT_PAIRS, TEXT_LABELS)
    save_head(regressor, tmp_path / "head")
    save_head(regressor, tmp_path / "head")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match="embedkit did not write"):
        save_head(regressor, tmp_path / "mine")


def test_a_head_of_vectors_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the head has no embedder"):
        save_head(PairRegressor().fit(*draw()), tmp_path / "head")
    assert not (tmp_path / "head").exists()


@pytest.mark.parametrize("recipe", ["cls", "mean@1", "mean/normalize"])
def test_another_embedder_is_refused(saved: Path, embedder: Embedder, recipe: str) -> None:
    other = embedder.with_recipe(recipe)
    message = f"another embedder .*{embedder.fingerprint[:12]}, got {other.fingerprint[:12]}"
    with pytest.raises(InputError, match=message):
        load_head(saved, other)


def test_a_folder_without_a_head(saved: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a model; expected a regression head, a folder of"):
        load_head(bert)
    with pytest.raises(InputError, match=r"is a model; expected a regression head"):
        load_head(copied(saved, tmp_path / "copy", head_json=None))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"{}", b'{"fingerprint": FINGERPRINT}', b"\xff\xfe"]
)
def test_a_damaged_head_json(
    content: bytes, saved: Path, embedder: Embedder, tmp_path: Path
) -> None:
    content = content.replace(b"FINGERPRINT", f'"{embedder.fingerprint}"'.encode())
    with pytest.raises(InputError):
        load_head(copied(saved, tmp_path / "copy", head_json=content), embedder)


def test_a_damaged_estimator(saved: Path, embedder: Embedder, tmp_path: Path) -> None:
    whole = (saved / "head.skops").read_bytes()
    flipped = bytearray(whole)
    with zipfile.ZipFile(saved / "head.skops") as file:
        place = file.getinfo("schema.json").header_offset + 60
    flipped[place] ^= 1
    damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "bit": bytes(flipped), "gone": None}
    for name, content in damaged.items():
        folder = copied(saved, tmp_path / name, head_skops=content)
        with pytest.raises(InputError, match=r"head\.skops"):
            load_head(folder, embedder)


def test_a_damaged_array_of_the_estimator(saved: Path, embedder: Embedder, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved / "head.skops") as file:
        whole = {name: file.read(name) for name in file.namelist()}
    name = next(name for name in whole if name.endswith(".npy"))
    # A sound zip whose array has a header that never ends: numpy raises what is no ValueError.
    whole[name] = whole[name].replace(b"}", b"{", 1)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, part in whole.items():
            file.writestr(name, part)
    folder = copied(saved, tmp_path / "copy", head_skops=content.getvalue())
    with pytest.raises(InputError, match=r"head\.skops: is damaged"):
        load_head(folder, embedder)


def test_what_cannot_predict_is_no_head(saved: Path, embedder: Embedder, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path / "copy", head_skops=skops.io.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"head\.skops"):
        load_head(folder, embedder)


executed: list[str] = []


class Foreign(BaseEstimator):  # type: ignore[misc]
    """A class that nobody trusts, and says when its code runs."""

    def __init__(self, size: int = 1) -> None:
        executed.append("__init__")
        self.size = size

    def __setstate__(self, state: dict[str, Any]) -> None:
        executed.append("__setstate__")
        self.__dict__.update(state)

    def predict(self, x: Any) -> None:
        executed.append("predict")


@pytest.mark.parametrize(
    "estimator",
    [
        Foreign(),
        make_pipeline(StandardScaler(), Foreign()),
        make_pipeline(FunctionTransformer(os.system), LinearRegression()),
    ],
    ids=["class", "inside", "function"],
)
def test_a_foreign_class_is_refused_and_not_run(
    estimator: Any, saved: Path, embedder: Embedder, tmp_path: Path
) -> None:
    folder = copied(saved, tmp_path / "copy", head_skops=skops.io.dumps(estimator))
    executed.clear()
    with pytest.raises(InputError, match="holds classes that are not trusted"):
        load_head(folder, embedder)
    assert executed == []


def test_a_pickle_is_no_head(saved: Path, embedder: Embedder, tmp_path: Path) -> None:
    folder = copied(saved, tmp_path / "copy", head_skops=pickle.dumps(Foreign()))
    executed.clear()
    with pytest.raises(InputError, match=r"head\.skops: is damaged"):
        load_head(folder, embedder)
    assert executed == []


@pytest.mark.parametrize(
    "head", [Wild(), RandomForestRegressor(3), GridSearchCV(Lasso(), {"alpha": [0.1, 1.0]})]
)
def test_a_head_that_cannot_be_loaded_is_not_saved(
    head: Any, embedder: Embedder, tmp_path: Path
) -> None:
    regressor = PairRegressor(embedder, head=head).fit(TEXT_PAIRS, TEXT_LABELS)
    try:
        save_head(regressor, tmp_path / "head")
    except InputError:
        assert not (tmp_path / "head").exists()
    else:
        found = load_head(tmp_path / "head", embedder).predict(TEXT_PAIRS)
        np.testing.assert_array_equal(found, regressor.predict(TEXT_PAIRS))


# Evaluation


def test_evaluate_scores_predictions(embedder: Embedder, saved: Path) -> None:
    regressor = load_head(saved, embedder)
    first, second = zip(*TEXT_PAIRS, strict=True)
    truth = np.random.default_rng(8).uniform(0, 5, len(TEXT_PAIRS))
    report = evaluate(regressor, Pairs.from_columns("made", first, second, truth), threshold=2.5)
    predictions = regressor.predict(TEXT_PAIRS)
    expected = {
        "spearman": scipy.stats.spearmanr(predictions, truth).statistic,
        "pearson": scipy.stats.pearsonr(predictions, truth).statistic,
        "mse": mean_squared_error(truth, predictions),
        "f1": f1_score(truth >= 2.5, predictions >= 2.5),
    }
    assert {row.metric: row.value for row in report.results} == pytest.approx(expected, abs=1e-6)
    assert {row.similarity for row in report.results} == {"head"}
    from_folder = evaluate(saved, Pairs.from_columns("made", first, second, truth), threshold=2.5)
    assert [replace(row, model="") for row in from_folder.results] == [
        replace(row, model="") for row in report.results
    ]


def test_evaluate_refuses_what_a_head_cannot_take(saved: Path, embedder: Embedder) -> None:
    pairs = Pairs.from_columns("made", *zip(*TEXT_PAIRS, strict=True), TEXT_LABELS)
    with pytest.raises(InputError, match="got a prompt for a head"):
        evaluate(load_head(saved, embedder), pairs, prompt="query: ")
    with pytest.raises(InputError, match="threshold was given without a head"):
        evaluate(embedder, pairs, threshold=3.0)
    with pytest.raises(InputError, match="the head has no embedder"):
        evaluate(PairRegressor().fit(*draw()), pairs)
