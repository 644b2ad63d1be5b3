"""`EmbeddingTransformer`: an embedder as a transformer of scikit-learn, for its pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError

from embedkit.data.texts import Texts, as_texts
from embedkit.embedder.embedder import Embedder
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.integrations.encoding import Cache, encode, fit_encode, load
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array


class NotFittedInputError(InputError, NotFittedError):  # type: ignore[misc]
    """A recipe that `fit` has to fit first, as both libraries raise it."""


class EmbeddingTransformer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Texts to sentence embeddings, as a step of a scikit-learn pipeline.

    `fit` loads the model; without it, each `transform` does. Equal texts of a call run once. Clones
    share an `Embedder`, and each loads a model that is named: pass an `Embedder` to grid searches.
    `Pipeline(memory=...)` keeps the result of a whole fit, `cache` the embeddings.

    Args:
        model: an `Embedder`, which has precision, device and other options of its own, or anything
            that `Embedder.from_pretrained` takes.
        recipe: a recipe, whose steps `fit` fits on its texts; None for the model's own.
        prompt: text to put in front of each text.
        prompt_name: one of the model's prompts instead; its default one where neither is given.
        cache: keep embeddings on disk, in the usual cache (True) or in a folder. Recipes that
            differ in their steps share them. They are found again when the same texts are encoded
            together, or text by text with a `reproducible` embedder.

    Attributes:
        embedder_: the embedder that `transform` uses.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> texts = ["A cat sleeps.", "The dog barks.", "Stocks fell.", "The bank lends money."]
        >>> pipeline = make_pipeline(EmbeddingTransformer("minilm", "mean"), LogisticRegression())
        >>> pipeline.fit(texts, ["pets", "pets", "money", "money"]).predict(["a puppy"]).tolist()
        ['pets']
    """

    def __init__(
        self,
        model: Any = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        cache: Cache = False,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.prompt = prompt
        self.prompt_name = prompt_name
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> EmbeddingTransformer:  # noqa: N803
        """Load the model, and fit what the recipe learns from texts, if anything.

        Args:
            X: n texts: a list, an array, a Series, or a DataFrame of one column.
            y: not used.

        Raises:
            InputError: what is no text, or what is wrong with an argument.
        """
        self._fit(_as_texts(X))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Float32Array:  # noqa: N803
        """`fit`, then `transform` of the same texts; the encoder runs once for both."""
        texts = _as_texts(X)
        vectors = self._fit(texts)
        return self._encode(self.embedder_, texts) if vectors is None else vectors

    def transform(self, X: Any) -> Float32Array:  # noqa: N803
        """Embeddings float32 (n, dim) of n texts; see `fit`.

        Raises:
            InputError: what is no text, or a recipe that has to be fitted first (which is
                scikit-learn's NotFittedError too).
        """
        texts = _as_texts(X)
        embedder = getattr(self, "embedder_", None) or self._load()
        if embedder.bound.unfitted is not None:
            raise NotFittedInputError(
                f"recipe {str(embedder.recipe)!r}: {embedder.bound.unfitted} is not fitted yet; "
                "call fit with the training texts first"
            )
        return self._encode(embedder, texts)

    def _fit(self, texts: Texts) -> Float32Array | None:
        """The embeddings of the texts, where fitting took them."""
        embedder = self.embedder_ = self._load()
        prompt = embedder.prompt_text(self.prompt, self.prompt_name)
        if not embedder.recipe.to_fit:
            return None
        self.embedder_, vectors = fit_encode(
            embedder, texts, "the texts of fit", prompt, self.cache
        )
        return vectors

    def _encode(self, embedder: Embedder, texts: Texts) -> Float32Array:
        prompt = embedder.prompt_text(self.prompt, self.prompt_name)
        return encode(embedder, texts, prompt, self.cache)

    def _load(self) -> Embedder:
        return load(self.model, self.recipe, self.cache)

    @property
    def _n_features_out(self) -> int:
        return self.embedder_.dimension

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def _as_texts(values: Any) -> Texts:
    """The texts of one column, whatever holds them."""
    if getattr(values, "ndim", 1) == 2 or hasattr(values, "columns"):
        table = np.asarray(values)
        if table.ndim != 2 or table.shape[1] != 1:
            raise InputError(f"X has shape {table.shape}; expected texts, or one column of them")
        values = table[:, 0]
    return as_texts(values, "X")
