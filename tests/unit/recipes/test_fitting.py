"""Fitted steps: scikit-learn and numpy are the oracles, and sentence-transformers of saved ones."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny, tiny_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from embedkit import Embedder, InputError, Recipe, RecipeError
from embedkit.encoders.packed import PackedEncoder
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.fitting import fit_affine, fit_recipes
from embedkit.recipes.steps import STEPS, StepSpec, output_dim
from embedkit.recipes.streaming_covariance import StreamingCovariance

WIDTH = 16
AFFINE = ("center", "remove_top:1", "pca:7", "truncate:7")

seeds = st.integers(0, 2**32 - 1)


def draw(n: int, width: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """Correlated vectors around a mean that is not zero, float32 (n, width)."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, width)) @ random.normal(size=(width, width))
    return (mixed + 5 * random.normal(size=width)).astype(np.float32)


def covariance_of(*blocks: NDArray[np.float32]) -> StreamingCovariance:
    covariance = StreamingCovariance(blocks[0].shape[1])
    for block in blocks:
        covariance.add(block)
    return covariance


def mapped(steps: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors through steps that were fitted on them."""
    dense, _ = fit_affine(steps, covariance_of(vectors))
    return dense(vectors)


def assert_close(got: NDArray[Any], want: NDArray[Any], tolerance: float = 1e-5) -> None:
    """Within a share of the largest value."""
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


# Streaming covariance


def test_covariance_as_numpy() -> None:
    vectors = draw(50)
    covariance = covariance_of(vectors[:7], vectors[7:8], vectors[8:8], vectors[8:])
    assert covariance.count == 50
    assert covariance.mean.dtype == covariance.covariance.dtype == np.float64
    assert_close(covariance.mean, vectors.astype(np.float64).mean(0), 1e-12)
    assert_close(covariance.covariance, np.cov(vectors.astype(np.float64).T), 1e-12)


def test_covariance_of_one_vector() -> None:
    vectors = draw(1)
    assert (covariance_of(vectors).covariance == 0).all()
    assert (covariance_of(vectors).mean == vectors[0]).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, cuts=st.sets(st.integers(1, 199), max_size=12), data=st.data())
def test_neither_order_nor_chunks_matter(seed: int, cuts: set[int], data: st.DataObject) -> None:
    vectors = draw(200, seed=seed)
    order = data.draw(st.permutations(range(200)))
    whole = covariance_of(vectors)
    streamed = covariance_of(*np.split(vectors[order], sorted(cuts)))
    assert_close(streamed.mean, whole.mean, 1e-12)
    assert_close(streamed.covariance, whole.covariance, 1e-12)


def test_a_mean_far_off_costs_no_digits() -> None:
    """Sums of squares would leave no digit of a variance that is 1e-12 of the squared mean."""
    offsets = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    vectors = (offsets * 8 + 2**22).astype(np.float32)
    got = covariance_of(*np.array_split(vectors, 10)).covariance
    assert_close(got, np.cov((vectors.astype(np.float64) - 2**22).T), 1e-9)


# Each step


def test_center_and_standardize_as_scikit_learn() -> None:
    vectors = draw(40)
    scaled = StandardScaler().fit_transform(vectors.astype(np.float64))
    assert_close(mapped(["center"], vectors), StandardScaler(with_std=False).fit_transform(vectors))
    assert_close(mapped(["standardize"], vectors), scaled)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("number", [1, 3, 6])
def test_whiten_and_pca_as_scikit_learn(number: int, whiten: bool) -> None:
    """Signs too."""
    vectors = draw(40)
    pca = PCA(number, whiten=whiten, svd_solver="full").fit_transform(vectors.astype(np.float64))
    assert_close(mapped([f"{'whiten' if whiten else 'pca'}:{number}"], vectors), pca)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_remove_top_as_all_but_the_top(number: int) -> None:
    vectors = draw(40).astype(np.float64)
    centred = vectors - vectors.mean(0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    want = centred - sum(np.outer(centred @ row, row) for row in rows[:number])
    got = mapped([f"remove_top:{number}"], vectors.astype(np.float32))
    assert_close(got, want)
    assert (np.abs(got @ rows[:number].T) <= 1e-5 * np.abs(want).max()).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.sampled_from([1e-12, 1.0, 1e12]))
def test_whitened_vectors_have_the_identity_as_covariance(seed: int, scale: float) -> None:
    vectors = draw(300, seed=seed) * np.float32(scale)
    got = mapped(["whiten"], vectors)
    covariance = np.cov(got.astype(np.float64).T)
    assert got.shape[1] == 6 or np.linalg.cond(np.cov(vectors.astype(np.float64).T)) > 1e6
    np.testing.assert_allclose(covariance, np.eye(got.shape[1]), atol=2e-3)


@pytest.mark.parametrize("spec", STEPS.values(), ids=lambda spec: spec.name)
def test_every_step_does_what_its_row_says(spec: StepSpec) -> None:
    """Whether it is fitted, the dimension of its result, and the mean that fitted ones subtract."""
    step = spec.name + (":3" if spec.parameter else "")
    vectors = draw(50)
    bound = BoundRecipe.of(Recipe(("mean",), steps=(step,)), 6)
    assert (bound.unfitted is not None) == spec.fitted
    if spec.fitted:
        (bound,) = fit_recipes(
            [bound], ["a"] * 50, lambda *_: [vectors], lambda _: np.zeros(1, np.int64), source=""
        )
    got = bound.apply(vectors)
    assert got.dtype == np.float32
    assert got.shape == (50, bound.dim(6)) == (50, output_dim(step, 6))
    assert_close(bound.apply(vectors, batch_invariant=True), got)
    if spec.fitted:
        assert np.abs(got.mean(0)).max() < 1e-5 * np.abs(vectors).max()


def test_truncate_keeps_the_first_numbers() -> None:
    vectors = draw(10)
    assert (mapped(["truncate:4"], vectors) == vectors[:, :4]).all()


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(AFFINE), max_size=3),
    last=st.sampled_from(["center", "standardize", "whiten", "whiten:2"]),
    seed=st.integers(0, 50),
)
def test_folded_steps_are_the_steps_one_after_another(
    steps: list[str], last: str, seed: int
) -> None:
    """What makes variances equal comes last: the top ones of equal ones are anyone's choice."""
    vectors = draw(80, width=9, seed=seed)
    one_by_one = vectors
    for step in (*steps, last):
        one_by_one = mapped([step], one_by_one)
    got = mapped([*steps, last], vectors)
    assert got.dtype == np.float32
    assert got.shape == one_by_one.shape
    assert_close(got @ got.T, one_by_one @ one_by_one.T, 1e-3)


def test_dead_dimensions_do_not_explode() -> None:
    vectors = np.hstack(
        [draw(100), np.float32(1e-20) * draw(100), np.full((100, 1), np.float32(7))]
    )
    dense, notes = fit_affine(["whiten"], covariance_of(vectors))
    assert dense.weight.shape == (6, 13)
    assert np.abs(dense.weight).max() < 1e3
    assert notes == ("whiten keeps 6 of 13 directions; the others vary less than float32 resolves",)
    dense, notes = fit_affine(["pca:8"], covariance_of(vectors))
    assert len(dense.weight) == 6
    assert notes[0].startswith("pca:8 keeps 6 of 13 directions")
    standardized = mapped(["standardize"], vectors)
    assert np.abs(standardized).max() < 10
    assert (np.abs(standardized[:, 6:]) < 1e-5).all()


@pytest.mark.parametrize("scale", [1e-20, 1, 1e15])
def test_scales_an_outlier_dimension_leaves_the_others_standardized(scale: float) -> None:
    random = np.random.default_rng(0)
    deviations = [1000, 1, 0.9, 0.5]
    vectors = (random.normal(size=(500, 4)) * deviations * scale).astype(np.float32)
    dense, notes = fit_affine(["standardize"], covariance_of(vectors))
    assert notes == ()
    assert_close(dense(vectors), StandardScaler().fit_transform(vectors.astype(np.float64)))
    for steps in (["whiten"], ["standardize", "whiten"], ["pca:4", "standardize"]):
        dense, notes = fit_affine(steps, covariance_of(vectors))
        assert notes == ()
        np.testing.assert_allclose(np.cov(dense(vectors).T), np.eye(4), atol=5e-3)
    rotated = (vectors @ np.linalg.qr(random.normal(size=(4, 4)))[0]).astype(np.float32)
    dense, notes = fit_affine(["whiten"], covariance_of(rotated))
    np.testing.assert_allclose(np.cov(dense(rotated).T), np.eye(4), atol=5e-3)
    assert_close(covariance_of(vectors).covariance, np.cov(vectors.T, dtype=np.float64))


def test_scales_dead_dimensions_are_left_and_counted() -> None:
    """all-MiniLM-L6-v2 has three: two are zero but for 1e-32, one for 1e-9."""
    vectors = draw(100, 6)
    vectors[:, 1] = 7
    vectors[:, 4] *= np.float32(1e-9)
    dense, notes = fit_affine(["standardize"], covariance_of(vectors))
    assert notes == (
        "standardize leaves 2 of 6 dimensions unscaled; they vary less than float32 resolves",
    )
    np.testing.assert_array_equal(dense.weight[[1, 4], [1, 4]], 1)
    alive = [0, 2, 3, 5]
    want = StandardScaler().fit_transform(vectors[:, alive].astype(np.float64))
    assert_close(dense(vectors)[:, alive], want)


@pytest.mark.parametrize(
    ("steps", "vectors", "problem"),
    [
        (["whiten:3"], draw(3), "step whiten:3 needs more than 3 texts to fit on, got 3"),
        (["whiten"], draw(6), "step whiten needs more than 6 texts to fit on, got 6"),
        (["pca:2"], draw(1), "step pca:2 needs more than 2 texts to fit on, got 1"),
        (["standardize"], draw(1), "step standardize needs more than 1 text to fit on, got 1"),
        (["center", "remove_top:4"], draw(4), "step remove_top:4 needs more than 4 texts"),
        (["whiten:2"], np.repeat(draw(1), 9, 0), "step whiten:2 has nothing to fit: the vectors"),
        (["center", "pca:1"], np.repeat(draw(1), 9, 0), "step pca:1 has nothing to fit"),
        (["remove_top:2", "whiten"], draw(9, 3)[:, [0, 1, 0]], "step remove_top:2 leaves nothing"),
        (["whiten", "pca:3"], draw(9, 3)[:, [0, 1, 0]], "step pca:3: only 2 directions are left"),
        (["whiten"], np.full((9, 3), np.inf, np.float32), "step whiten: the vectors to fit it on"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_fitted(
    steps: list[str], vectors: NDArray[np.float32], problem: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(problem)}"):
        fit_affine(steps, covariance_of(vectors))


# The embedder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=WIDTH, seed=5)


@pytest.fixture
def embedder(bert: Path) -> Embedder:
    return Embedder.from_pretrained(bert, device="cpu")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    random = np.random.default_rng(1)
    return [
        " ".join(random.choice(tiny_tokenizers.WORDS[:30], random.integers(1, 12)))
        for _ in range(150)
    ]


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_fit_as_scikit_learn(embedder: Embedder, texts: list[str]) -> None:
    pooled = embedder.encode(texts).astype(np.float64)
    fitted = embedder.with_recipe("mean/whiten:4")
    assert fitted.fit(texts) is fitted
    want = PCA(4, whiten=True, svd_solver="full").fit(pooled).transform(pooled[:9])
    assert_close(fitted.encode(texts[:9]), want, 1e-4)
    assert fitted.dimension == 4
    assert str(fitted.bound.fit) == "fitted on 150 texts (given by the caller)"


def test_steps_behind_normalize_see_normalized_vectors(
    embedder: Embedder, texts: list[str]
) -> None:
    """center/normalize/pca needs a second pass."""
    pooled = embedder.encode(texts).astype(np.float64)
    centred = unit(pooled - pooled.mean(0))
    pca = PCA(3, svd_solver="full").fit(centred)
    got = embedder.with_recipe("mean/center/normalize/pca:3/normalize").fit(texts).encode(texts)
    assert_close(got, unit(pca.transform(centred)), 1e-4)


def test_equal_texts_count_as_often_as_they_are_there(embedder: Embedder) -> None:
    a, b = embedder.encode(["a cat", "the rain"])
    fitted = embedder.with_recipe("mean/center").fit(["a cat", "a cat", "the rain", "a cat"])
    assert_close(fitted.encode(["the rain"])[0], b - (3 * a + b) / 4)


def test_whitening_in_chunks_is_the_same(
    embedder: Embedder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embedder.with_recipe("mean/whiten:4").fit(texts).encode(texts)
    monkeypatch.setattr("embedkit.recipes.fitting._CHUNK", 7)
    chunked = embedder.with_recipe("mean/whiten:4").fit(texts[::-1]).encode(texts)
    assert_close(chunked, whole, 1e-4)


def test_a_stream_is_read_once_and_in_chunks(
    embedder: Embedder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.recipes.fitting._CHUNK", 10)
    waiting, most = 0, 0
    encode = PackedEncoder.__call__

    def run(*arguments: Any, **options: Any) -> Any:
        nonlocal waiting
        waiting = 0
        return encode(*arguments, **options)

    def stream() -> Iterator[str]:
        nonlocal waiting, most
        for text in texts:
            waiting += 1
            most = max(most, waiting)
            yield text

    monkeypatch.setattr(PackedEncoder, "__call__", run)
    got = embedder.with_recipe("mean/whiten:4").fit(stream())
    assert got.bound.fit is not None
    assert got.bound.fit.texts == 150
    assert most == 10


@pytest.mark.thorough
def test_many_texts_take_the_memory_of_a_few() -> None:
    """With a stand-in for the encoder, so that what is measured is the fit alone."""
    random = np.random.default_rng(0)

    def encode(texts: Sequence[str], _: Sequence[BoundRecipe]) -> list[NDArray[np.float32]]:
        return [random.normal(size=(len(texts), 8)).astype(np.float32)]

    def count_tokens(texts: Sequence[str]) -> NDArray[np.int64]:
        return np.zeros(1, np.int64)

    def peak(number: int) -> int:
        bound = BoundRecipe.of(Recipe.parse("mean/whiten:4"), 8)
        tracemalloc.start()
        (fitted,) = fit_recipes(
            [bound],
            (f"text {i}" for i in range(number)),
            encode,
            count_tokens,
            source="",
            show_progress=False,
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert fitted.fit is not None
        assert fitted.fit.texts == number
        return most

    peak(10)  # imports modules
    assert peak(200_000) < 1.2 * peak(10_000)


class Counted(Iterable[str]):
    """Texts that count how often they are read."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.times = texts, 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return iter(self.texts)


def test_one_pass_fits_all_recipes(embedder: Embedder, texts: list[str]) -> None:
    names = ["mean/center", "mean/whiten:4", "cls@1/normalize/pca:2", "max/standardize/truncate:3"]
    bounds = [embedder.bind(Recipe.parse(name)) for name in names]
    counted = Counted(texts)
    together = embedder.fit_recipes(bounds, counted)
    assert counted.times == 3  # looked at (twice, once for whether it can be), then encoded
    for name, bound in zip(names, together, strict=True):
        alone = embedder.with_recipe(name).fit(texts)
        assert np.array_equal(
            embedder.with_recipe(bound).encode(texts[:5]), alone.encode(texts[:5])
        )


def test_idf_mean_learns_from_the_texts(embedder: Embedder) -> None:
    texts = ["the cat", "the rain", "the the bird"]
    states = embedder.with_recipe("mean_content@0").encode(["the", "cat", "dog"])
    got = embedder.with_recipe("idf_mean@0").fit(iter(texts)).encode(["the", "cat", "dog"])
    for mine, plain, count in zip(got, states, (4, 1, 0), strict=True):
        assert_close(mine, plain * 1e-3 / (1e-3 + count / 7))


def test_idf_mean_and_steps_learn_together(embedder: Embedder, texts: list[str]) -> None:
    alone = embedder.with_recipe("idf_mean").fit(texts).encode(texts)
    both = embedder.with_recipe("idf_mean/pca:3").fit(texts)
    want = PCA(3, svd_solver="full").fit_transform(alone.astype(np.float64))
    assert_close(both.encode(texts), want, 1e-4)
    with pytest.raises(InputError, match="cannot be saved: sentence-transformers has no pooling"):
        both.check_saveable()


def test_a_recipe_without_its_fit_is_refused(
    embedder: Embedder, tmp_path: Path, no_forward: None
) -> None:
    for recipe, part in [
        ("mean/normalize/whiten:4", "whiten:4"),
        ("mean/center/truncate:2", "center/truncate:2"),
        ("idf_mean", "idf_mean"),
    ]:
        chosen = embedder.with_recipe(recipe)
        message = rf"^recipe '{recipe}': {part} is not fitted yet; fit it on texts first, with Emb"
        with pytest.raises(InputError, match=message):
            chosen.encode(["rain"])
        with pytest.raises(InputError, match=message):
            _ = chosen.fingerprint
        with pytest.raises(InputError, match=f"{message}|has no pooling idf_mean"):
            chosen.save_pretrained(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "texts", "problem"),
    [
        ("mean", ["a"], "recipe 'mean' has nothing to fit on texts"),
        ("mean/truncate:3", ["a"], "recipe 'mean/truncate:3' has nothing to fit on texts"),
        ("mean/center", "a text", "texts is one str; expected texts to fit on"),
        ("mean/center", 3, "texts is one int; expected texts to fit on"),
        ("mean/center", [], "there are no texts to fit on; expected some"),
        ("mean/center", iter(()), "there are no texts to fit on; expected some"),
        ("mean/center", ["a"] * 5000 + [None], "texts[5000]: got None, expected a str"),
        ("mean/center", ["a", "\ud800"], "texts[1]: got the lone surrogate"),
        (
            "mean/whiten:2",
            ["a", "b"],
            "recipe 'mean/whiten:2': step whiten:2 needs more than 2 texts to fit on, got 2",
        ),
        (
            "mean/center/normalize/pca:2",
            iter(["a", "b"]),
            "fitting takes 2 passes over the texts, and an iterator can be read once",
        ),
        (
            "idf_mean/center",
            iter(["a", "b"]),
            "fitting takes 2 passes over the texts, and an iterator can be read once",
        ),
        ("idf_mean", ["", ""], "recipe 'idf_mean': the texts to fit on have special tokens only"),
    ],
)
def test_texts_that_cannot_be_fitted_on(
    embedder: Embedder, recipe: str, texts: Any, problem: str
) -> None:
    chosen = embedder.with_recipe(recipe)
    with pytest.raises(InputError, match=f"^{re.escape(problem)}"):
        chosen.fit(texts)
    assert chosen.bound.unfitted == embedder.with_recipe(recipe).bound.unfitted


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ("mean/whiten:17", "step whiten:17 has vectors of 16 numbers before it; expected 1 to 16"),
        ("cls+mean/pca:33", "step pca:33 has vectors of 32 numbers before it; expected 1 to 32"),
        ("mean/remove_top:16", "step remove_top:16 has vectors of 16 numbers before it; expected"),
        ("mean/pca:4/truncate:5", "step truncate:5 has vectors of 4 numbers before it"),
    ],
)
def test_a_step_that_keeps_more_than_there_is(
    embedder: Embedder, recipe: str, problem: str
) -> None:
    with pytest.raises(RecipeError, match=f"^recipe '{re.escape(recipe)}': {problem}"):
        embedder.with_recipe(recipe)


def test_dense_cannot_be_asked_for(embedder: Embedder) -> None:
    with pytest.raises(RecipeError, match=r"^the step dense comes with a model"):
        BoundRecipe.of(Recipe(("mean",), (-1,), ("dense",)), WIDTH)


def test_the_prompt_is_in_front_of_the_texts_to_fit_on(embedder: Embedder) -> None:
    texts = ["the cat", "rain", "a book"]
    fitted = embedder.with_recipe("mean/center").fit(texts, prompt="query: ")
    want = embedder.encode(texts, prompt="query: ")
    assert_close(fitted.encode(texts, prompt="query: "), want - want.mean(0))


# Saved: sentence-transformers gives the same vectors


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [
        ("mean/whiten", ["Dense"]),
        ("mean/center/whiten:8/truncate:4", ["Dense"]),
        ("cls+mean/remove_top:2/normalize", ["Dense", "Normalize"]),
        ("max@1/normalize/standardize/pca:5/normalize", ["Normalize", "Dense", "Normalize"]),
        ("mean@1,-1/center/normalize/whiten:6", ["Dense", "Normalize", "Dense"]),
        ("mean/truncate:4", ["Dense"]),
        ("mean/truncate:4/truncate:2/normalize", ["Dense", "Normalize"]),
        ("pooler/whiten:3/normalize", ["Dense", "Dense", "Normalize"]),
    ],
)
def test_saved_steps(
    embedder: Embedder, texts: list[str], recipe: str, kinds: list[str], tmp_path: Path
) -> None:
    chosen = embedder.with_recipe(recipe)
    if chosen.recipe.to_fit:
        chosen.fit(texts, source="texts.txt")
    want = chosen.encode(texts)
    folder = tmp_path / "saved"
    chosen.save_pretrained(folder)
    modules = json.loads((folder / "modules.json").read_text())
    found = [module["type"].rsplit(".", 1)[1] for module in modules]
    assert found[found.index("Pooling") + 1 :] == kinds
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts)
    assert theirs.dtype == want.dtype == np.float32
    assert_close(want, theirs)
    again = Embedder.from_pretrained(folder, device="cpu")
    assert again.recipe.steps == Recipe.parse(recipe).steps
    assert again.fingerprint == chosen.fingerprint
    assert np.array_equal(again.encode(texts), want)
    card = (folder / "README.md").read_text()
    assert ("fitted on 150 texts (texts.txt)" in card) == bool(chosen.recipe.to_fit)
    again.save_pretrained(tmp_path / "again")
    assert Embedder.from_pretrained(tmp_path / "again", device="cpu").fingerprint == (
        chosen.fingerprint
    )


def test_a_loaded_recipe_can_be_fitted_again(
    embedder: Embedder, texts: list[str], tmp_path: Path
) -> None:
    first = embedder.with_recipe("mean/whiten:3").fit(texts[:50])
    first.save_pretrained(tmp_path / "saved")
    again = Embedder.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.fingerprint == first.fingerprint
    again.fit(texts)
    assert again.fingerprint != first.fingerprint
    assert again.fingerprint == embedder.with_recipe("mean/whiten:3").fit(texts).fingerprint
    assert np.array_equal(again.with_recipe("mean").encode(texts), embedder.encode(texts))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"recipe": "mean/pca:2"},
        {"recipe": "mean/normalize"},
        {"recipe": "mean/whiten:3/normalize"},
        {"recipe": "mean"},
        {"recipe": "mean/dense"},
        {"recipe": 3},
        {"recipe": None},
    ],
)
def test_weights_decide_what_the_steps_are_called(
    embedder: Embedder, texts: list[str], said: dict[str, Any], tmp_path: Path
) -> None:
    fitted = embedder.with_recipe("mean/whiten:3").fit(texts)
    fitted.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "embedkit.json").write_text(json.dumps(said))
    again = Embedder.from_pretrained(tmp_path / "saved", device="cpu")
    assert str(again.recipe) == "mean/dense"
    assert again.fingerprint == fitted.fingerprint
    assert np.array_equal(again.encode(texts), fitted.encode(texts))
    with pytest.raises(InputError, match=r"^recipe 'mean/dense' has nothing to fit on texts$"):
        again.fit(texts)


@pytest.mark.parametrize("content", ["[", "[]", "\xff", '{"recipe": '])
def test_a_damaged_file_of_our_own_is_named(
    embedder: Embedder, content: str, tmp_path: Path
) -> None:
    embedder.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "embedkit.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"embedkit\.json"):
        Embedder.from_pretrained(tmp_path / "saved", device="cpu")


def test_content_poolings_are_not_saved(embedder: Embedder, tmp_path: Path) -> None:
    for name in ("mean_content", "max_content"):
        with pytest.raises(InputError) as error:
            embedder.with_recipe(name).save_pretrained(tmp_path / name)
        assert str(error.value) == (
            f"recipe '{name}' cannot be saved: sentence-transformers has no pooling {name}; "
            "choose one that it has, such as mean"
        )


def test_other_weights_have_another_fingerprint(embedder: Embedder, texts: list[str]) -> None:
    recipes = ("mean/whiten:3", "mean/pca:3", "mean/truncate:3", "mean/truncate:4", "idf_mean")
    found = set()
    for recipe in recipes:
        for part in (texts, texts[:-1]):
            chosen = embedder.with_recipe(recipe)
            found.add((chosen.fit(part) if chosen.recipe.to_fit else chosen).fingerprint)
    assert len(found) == 2 * len(recipes) - 2


@pytest.mark.slow
@pytest.mark.thorough
def test_a_full_whitening_of_minilm(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """It has three dead dimensions."""
    with gzip.open(shared_data("corpus/en_sentences.txt.gz"), "rt", encoding="utf-8") as lines:
        texts = [line.strip() for line in islice(lines, 6000) if len(line) < 45]
    embedder = Embedder.from_pretrained("minilm", "mean/whiten", device="cpu").fit(texts)
    assert len(texts) > 600
    assert embedder.dimension == 381
    assert embedder.bound.fit is not None
    assert embedder.bound.fit.notes[0].startswith("whiten keeps 381 of 384 directions")
    vectors = embedder.encode(texts)
    np.testing.assert_allclose(np.cov(vectors.astype(np.float64).T), np.eye(381), atol=1e-3)
    embedder.save_pretrained(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(texts[:64])
    assert_close(vectors[:64], theirs)
