"""`EmbeddingTransformer` in scikit-learn's pipelines and searches, beside the embedder itself."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from embedkit import Embedder, InputError
from embedkit.embedder import precision
from embedkit.embedder.precision import Choice
from embedkit.encoders.packed import PackedEncoder
from embedkit.integrations.sklearn import EmbeddingTransformer
from embedkit.tokenization.token_batch import TokenBatch

pd = pytest.importorskip("pandas", reason="not installed: pandas")

WORDS = ("cat", "dog", "bird", "city", "rain", "sun", "music", "book")
TEXTS = [f"the {first} and the {second}" for first in WORDS for second in WORDS]
LABELS = [int("cat" in text or "dog" in text) for text in TEXTS]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=5)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder(bert, precision="float32")


def test_values_are_the_embedders_whatever_holds_the_texts(bert: Path, embedder: Embedder) -> None:
    expected = embedder.with_recipe("cls").encode(TEXTS, prompt="about: ")
    transformer = EmbeddingTransformer(bert, "cls", prompt="about: ")
    for texts in (
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object)[:, None],
        pd.Series(TEXTS, index=range(100, 164)),
        pd.DataFrame({"text": TEXTS}),
    ):
        vectors = transformer.fit_transform(texts)
        assert vectors.dtype == np.float32
        assert_allclose(vectors, expected, atol=1e-6)
    assert_allclose(
        EmbeddingTransformer(embedder, "cls", prompt="about: ").transform(TEXTS),
        expected,
        atol=1e-6,
    )


def test_a_prompt_by_its_name(bert: Path) -> None:
    prompted = Embedder(bert, prompts={"query": "q: "}, precision="float32")
    assert_allclose(
        EmbeddingTransformer(prompted, prompt_name="query").transform(["rain"]),
        prompted.encode(["q: rain"]),
        atol=1e-6,
    )


def test_steps_are_fitted_on_the_texts_of_fit(embedder: Embedder) -> None:
    transformer = EmbeddingTransformer(embedder, "mean/pca:3")
    for error in (InputError, NotFittedError):
        with pytest.raises(
            error, match="pca:3 is not fitted yet; call fit with the training texts"
        ):
            transformer.transform(TEXTS)
    train, test = TEXTS[:40], TEXTS[40:]
    vectors = transformer.fit(train).transform(test)
    plain = embedder.with_recipe("mean")
    pca = PCA(3, svd_solver="full").fit(plain.encode(train).astype(np.float64))
    expected = pca.transform(plain.encode(test).astype(np.float64))
    assert_allclose(np.abs(vectors), np.abs(expected), atol=1e-4)  # axes have no direction
    again = EmbeddingTransformer(transformer.embedder_).fit(test)
    assert_allclose(again.transform(train), transformer.transform(train), atol=0.5)
    # The fit on `test` left the embedder of the first one as it was.
    assert_allclose(transformer.transform(test), vectors, atol=1e-6)


def test_names_and_data_frames(embedder: Embedder) -> None:
    transformer = EmbeddingTransformer(embedder, "mean/truncate:3")
    with pytest.raises(NotFittedError):
        transformer.get_feature_names_out()
    frame = transformer.set_output(transform="pandas").fit_transform(pd.Series(TEXTS[:4]))
    names = [f"embeddingtransformer{n}" for n in range(3)]
    assert [*frame.columns] == [*transformer.get_feature_names_out()] == names
    assert (
        frame.to_numpy().tolist()
        == embedder.with_recipe("mean/truncate:3").encode(TEXTS[:4]).tolist()
    )


def test_in_a_column_transformer(embedder: Embedder) -> None:
    table = pd.DataFrame({"title": TEXTS[:6], "body": TEXTS[6:12], "n": range(6)})
    both = ColumnTransformer(
        [
            ("title", EmbeddingTransformer(embedder), "title"),
            ("body", EmbeddingTransformer(embedder, "cls"), ["body"]),
        ],
        remainder="passthrough",
    )
    vectors = both.fit_transform(table)
    parts = [embedder.encode(TEXTS[:6]), embedder.with_recipe("cls").encode(TEXTS[6:12])]
    assert_allclose(vectors, np.hstack([*parts, np.arange(6)[:, None]]), atol=1e-6)


def test_clones_share_an_embedder_and_store_parameters_only(bert: Path, embedder: Embedder) -> None:
    transformer = EmbeddingTransformer(embedder, "cls", prompt="p: ")
    copied = clone(transformer.fit(TEXTS))
    assert copied.model is embedder
    assert copied.get_params() == transformer.get_params()
    assert not hasattr(copied, "embedder_")
    assert vars(EmbeddingTransformer("no/such/folder")).keys() == transformer.get_params().keys()
    with pytest.raises(InputError, match="no/such/folder"):
        EmbeddingTransformer("no/such/folder").fit(TEXTS)
    with pytest.raises(InputError, match="got a prompt and a prompt_name"):
        EmbeddingTransformer(embedder, prompt="p: ", prompt_name="query").fit(TEXTS)
    fitted = EmbeddingTransformer(bert).fit(TEXTS)
    loaded = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert_allclose(loaded.transform(TEXTS), fitted.transform(TEXTS), atol=1e-6)


def test_a_pipeline_and_a_search_over_recipes(embedder: Embedder) -> None:
    pipeline = make_pipeline(
        EmbeddingTransformer(embedder), LogisticRegression(C=100, max_iter=1000)
    )
    grid = {"embeddingtransformer__recipe": ["cls", "mean", "max@1"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(TEXTS, LABELS)
    for recipe, score in zip(
        grid["embeddingtransformer__recipe"], search.cv_results_["mean_test_score"], strict=True
    ):
        vectors = embedder.with_recipe(recipe).encode(TEXTS)
        assert score == pytest.approx(
            cross_val_score(LogisticRegression(C=100, max_iter=1000), vectors, LABELS, cv=3).mean(),
            abs=0.02,
        )
    vectors = embedder.with_recipe(search.best_params_["embeddingtransformer__recipe"]).encode(
        TEXTS
    )
    expected = LogisticRegression(C=100, max_iter=1000).fit(vectors, LABELS).predict(vectors)
    assert search.predict(TEXTS).tolist() == expected.tolist()


@pytest.mark.slow
@pytest.mark.process
def test_in_several_processes(embedder: Embedder, tmp_path: Path) -> None:
    def scores(processes: int) -> Any:
        transformer = EmbeddingTransformer(embedder, "mean", cache=tmp_path / str(processes))
        pipeline = make_pipeline(transformer, LogisticRegression())
        return cross_val_score(pipeline, TEXTS, LABELS, cv=2, n_jobs=processes).tolist()

    assert scores(1) == scores(2)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each batch that an encoder runs, its texts."""
    batches: list[int] = []
    run = PackedEncoder.__call__

    def count(self: PackedEncoder, batch: TokenBatch, *args: Any, **kwargs: Any) -> object:
        batches.append(len(batch.offsets) - 1)
        return run(self, batch, *args, **kwargs)

    monkeypatch.setattr(PackedEncoder, "__call__", count)
    return batches


@pytest.mark.parametrize("recipe", ["mean", "mean/pca:3"])
def test_equal_texts_run_once_a_fit(embedder: Embedder, encoded: list[int], recipe: str) -> None:
    make_pipeline(EmbeddingTransformer(embedder, recipe), LogisticRegression()).fit(
        TEXTS * 3, LABELS * 3
    )
    assert sum(encoded) == len(TEXTS)


@pytest.mark.parametrize(
    "recipe",
    ["mean/whiten:3", "mean/center/normalize/pca:3/normalize", "idf_mean", "idf_mean+cls/center"],
)
def test_fitting_and_transforming_take_one_pass(
    embedder: Embedder, encoded: list[int], recipe: str
) -> None:
    texts = [*TEXTS, *TEXTS[:20]]  # repeated ones count for the mean
    transformer = EmbeddingTransformer(embedder, recipe, prompt="the ")
    vectors = transformer.fit_transform(texts)
    assert sum(encoded) == len(TEXTS)
    expected = embedder.with_recipe(recipe).fit(texts, prompt="the ")
    assert_allclose(np.abs(vectors), np.abs(expected.encode(texts, prompt="the ")), atol=1e-5)
    assert_allclose(vectors, transformer.transform(texts), atol=1e-6)
    fit, theirs = transformer.embedder_.bound.fit, expected.bound.fit
    assert fit is not None
    assert theirs is not None
    assert (fit.source, fit.texts, fit.sha256) == ("the texts of fit", 84, theirs.sha256)


def test_a_precision_that_fitting_changes_is_that_of_both(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whitening blows up what bfloat16 rounds, so `auto` goes back to float32 once it is fitted."""
    monkeypatch.setattr(precision, "fast_precision", lambda _: Choice("bfloat16", None, "faster"))
    embedder = Embedder(bert, "mean/whiten")
    assert embedder.precision == "bfloat16"
    transformer = EmbeddingTransformer(embedder)
    vectors = transformer.fit_transform(TEXTS)
    assert transformer.embedder_.precision == "float32"
    assert_allclose(vectors, transformer.transform(TEXTS), atol=1e-6)


def test_the_cache_serves_all_that_pools_alike(
    embedder: Embedder, encoded: list[int], tmp_path: Path
) -> None:
    def fitted(recipe: str) -> Any:
        transformer = EmbeddingTransformer(embedder, recipe, cache=tmp_path)
        return transformer.fit_transform(TEXTS)

    first = fitted("mean/pca:3")
    assert sum(encoded) == len(TEXTS)
    assert fitted("mean/pca:3").tolist() == first.tolist()
    assert_allclose(
        fitted("mean/normalize"), embedder.encode(TEXTS, normalize_embeddings=True), atol=1e-6
    )
    assert sum(encoded) == 2 * len(TEXTS)  # the second is of `embedder.encode`
    fitted("cls")
    assert sum(encoded) == 3 * len(TEXTS)


def test_a_reproducible_embedder_is_cached_text_by_text(
    bert: Path, encoded: list[int], tmp_path: Path
) -> None:
    embedder = Embedder(bert, precision="float32", reproducible=True)
    transformer = EmbeddingTransformer(embedder, cache=tmp_path)
    transformer.fit_transform(TEXTS)
    assert encoded != []
    encoded.clear()
    grid = {"embeddingtransformer__recipe": ["mean", "mean/pca:3"]}
    search = GridSearchCV(make_pipeline(transformer, LogisticRegression()), grid, cv=3)
    search.fit(TEXTS, LABELS)
    assert encoded == []
    plain = search.best_estimator_.set_params(embeddingtransformer__cache=False)
    assert plain.predict_proba(TEXTS).tolist() == search.predict_proba(TEXTS).tolist()


def test_a_pipeline_with_memory_encodes_once(
    bert: Path, embedder: Embedder, encoded: list[int], tmp_path: Path
) -> None:
    def fitted(model: Any) -> Any:
        steps = (EmbeddingTransformer(model, "cls"), LogisticRegression())
        return (
            make_pipeline(*steps, memory=str(tmp_path)).fit(TEXTS, LABELS).predict_proba(TEXTS[:1])
        )

    for model in (embedder, str(bert)):
        first = fitted(model)
        encoded.clear()
        assert fitted(model).tolist() == first.tolist()
        assert sum(encoded) == 1  # of predict_proba


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "X is one str; expected a list of str"),
        ([], "X is empty; expected at least one str"),
        (["a", None], r"X\[1\]: got None, expected a str"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"X has shape \(1, 2\); expected texts, or one"),
        (np.zeros((3, 4)), r"X has shape \(3, 4\); expected texts, or one column"),
        (np.zeros(3), r"X\[0\]: got 0.0, expected a str"),
    ],
)
def test_what_is_no_text(embedder: Embedder, texts: object, message: str) -> None:
    for call in (EmbeddingTransformer(embedder).fit, EmbeddingTransformer(embedder).transform):
        with pytest.raises(InputError, match=message):
            call(texts)


def test_scikit_learns_own_checks(embedder: Embedder) -> None:
    """It has few for estimators of texts, and none fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that most checks need numbers
        results = check_estimator(EmbeddingTransformer(embedder), expected_failed_checks={})
    assert {result["status"] for result in results} == {"passed"}
