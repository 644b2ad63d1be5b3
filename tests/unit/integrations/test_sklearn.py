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
    with pytest.raises(InputError, match="is not fitted"):
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
def test_in_several_processes(embedder: Embedder) -> None:
    pipeline = make_pipeline(EmbeddingTransformer(embedder, "mean"), LogisticRegression())
    one, two = (cross_val_score(pipeline, TEXTS, LABELS, cv=2, n_jobs=n) for n in (1, 2))
    assert one.tolist() == two.tolist()


def test_equal_texts_run_once_a_fit(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    run = PackedEncoder.__call__

    def count(self: PackedEncoder, batch: TokenBatch, *args: Any, **kwargs: Any) -> object:
        encoded.append(len(batch.offsets) - 1)
        return run(self, batch, *args, **kwargs)

    monkeypatch.setattr(PackedEncoder, "__call__", count)
    make_pipeline(EmbeddingTransformer(embedder), LogisticRegression()).fit(TEXTS * 3, LABELS * 3)
    assert sum(encoded) == len(TEXTS)


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
