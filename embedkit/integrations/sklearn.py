"""`EmbeddingTransformer`: an embedder as a transformer of scikit-learn, for its pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from embedkit.data.texts import Texts, as_texts
from embedkit.embedder.embedder import Embedder
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL
from embedkit.recipes.recipe import Recipe
from embedkit.recipes.steps import Float32Array


class EmbeddingTransformer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Texts to sentence embeddings, as a step of a scikit-learn pipeline.

    `fit` loads the model; without it, each `transform` does. Equal texts of a call run once. Clones
    share an `Embedder`, and each loads a model that is named: pass an `Embedder` to grid searches.
    `Pipeline(memory=...)` keeps embeddings.

    Args:
        model: an `Embedder`, which has precision, device and other options of its own, or anything
            that `Embedder.from_pretrained` takes.
        recipe: a recipe, whose steps `fit` fits on its texts; None for the model's own.
        prompt: put in front of each text.
        prompt_name: one of the model's prompts instead; its default one where neither is given.

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
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.prompt = prompt
        self.prompt_name = prompt_name

    def fit(self, X: Any, y: Any = None) -> EmbeddingTransformer:  # noqa: N803
        """Load the model, and fit the steps of the recipe if it has some.

        Args:
            X: n texts: a list, an array, a Series, or a DataFrame of one column.
            y: not used.

        Raises:
            InputError: what is no text, or what is wrong with an argument.
        """
        texts = _as_texts(X)
        self.embedder_ = self._load()
        if self.embedder_.recipe.to_fit:
            # A copy: the embedder may be shared.
            self.embedder_ = self.embedder_.with_recipe(self.embedder_.recipe).fit(
                texts,
                source="the texts of fit",
                prompt=self.prompt,
                prompt_name=self.prompt_name,
            )
        return self

    def transform(self, X: Any) -> Float32Array:  # noqa: N803
        """Embeddings float32 (n, dim) of n texts; see `fit`.

        Raises:
            InputError: what is no text, or a recipe that has to be fitted first.
        """
        texts = _as_texts(X)
        embedder = getattr(self, "embedder_", None) or self._load()
        return embedder.encode(texts, prompt=self.prompt, prompt_name=self.prompt_name)

    @property
    def _n_features_out(self) -> int:
        return self.embedder_.dimension

    def _load(self) -> Embedder:
        if isinstance(self.model, Embedder):
            return self.model if self.recipe is None else self.model.with_recipe(self.recipe)
        return Embedder.from_pretrained(self.model, self.recipe)

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
