"""The regression head: a scikit-learn estimator on frozen sentence embeddings."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from embedkit.arguments import as_label_range, check_seed
from embedkit.data.texts import Texts, as_pairs
from embedkit.errors import InputError
from embedkit.recipes.steps import Float32Array
from embedkit.scoring.features import check_features, pair_features

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


STRENGTHS = tuple(10.0**power for power in np.arange(-1, 6.5, 0.5))


class Head(NamedTuple):
    """A row of the table."""

    make: Callable[[int], Any]  # a regressor of scikit-learn, from a seed
    min_pairs: int = 10  # that it can be trained on
    features: tuple[str, ...] = ("|u-v|", "u*v")  # the default ones
    only_default: bool = False  # whether it takes no others


HEADS: dict[str, Head] = {
    "ridge": Head(lambda seed: make_pipeline(StandardScaler(), RidgeCV(STRENGTHS))),
    "mlp": Head(
        lambda seed: make_pipeline(
            StandardScaler(),
            MLPRegressor(
                hidden_layer_sizes=(64,),
                alpha=30.0,
                early_stopping=True,
                max_iter=1000,
                random_state=seed,
            ),
        ),
        min_pairs=20,  # a tenth is held out for early stopping
    ),
    "isotonic": Head(
        lambda seed: IsotonicRegression(out_of_bounds="clip"),
        features=("cosine",),
        only_default=True,
    ),
}


class PairRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Scores sentence pairs on the labels' scale.

    Args:
        embedder: makes vectors of texts; None if `fit` and `predict` get vectors. It stays as it
            is: only the head is trained.
        head: `ridge` (standardized features, strength by leave-one-out cross-validation), `mlp`
            (one hidden layer of 64), `isotonic` (a monotone calibration of the cosine), or a
            regressor of scikit-learn's kind.
        features: names from the table of features; None for |u-v| and u*v, or the cosine where the
            head is isotonic. All symmetric ones give score(a, b) = score(b, a) exactly.
        label_range: (lowest, highest) label that is possible; None takes them from the labels.
        prompt: text to put in front of each text; None for the embedder's default one.
        seed: of heads that draw random numbers.

    Attributes:
        regressor_: the fitted estimator, on `features_`.
        width_: of the sentence vectors.
        features_: names, in the table's order.
        range_: predictions are clipped to it.

    Example:
        >>> import numpy as np
        >>> from embedkit import PairRegressor
        >>> pairs = np.random.default_rng(0).normal(size=(200, 2, 3))  # or pairs of texts
        >>> scores = (pairs[:, 0] * pairs[:, 1]).sum(axis=1)
        >>> regressor = PairRegressor().fit(pairs, scores)
        >>> round(regressor.score(pairs, scores), 2)
        1.0
    """

    kind: ClassVar[Literal["head"]] = "head"

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        head: str | Any = "ridge",
        features: Sequence[str] | None = None,
        label_range: tuple[float, float] | None = None,
        prompt: str | None = None,
        seed: int = 0,
    ) -> None:
        self.embedder = embedder
        self.head = head
        self.features = features
        self.label_range = label_range
        self.prompt = prompt
        self.seed = seed

    def fit(self, pairs: Any, scores: ArrayLike) -> PairRegressor:
        """Train the head.

        Args:
            pairs: n pairs of texts, or vectors (n, 2, dim).
            scores: n labels.

        Raises:
            InputError: wrong options or labels, before anything is encoded.
        """
        labels = self.check(scores)
        given = _read_pairs(pairs)
        _check_count(len(given if isinstance(given, np.ndarray) else given[0]), labels)
        vectors = self._vectors(given)
        self.features_ = self._choose_features()
        limits = (labels.min(), labels.max()) if self.label_range is None else self.label_range
        self.range_ = as_label_range(limits)
        self.width_ = vectors.shape[2]
        inputs = pair_features(vectors, self.features_)
        self.regressor_ = self._head().make(self.seed).fit(inputs, labels)
        return self

    def predict(self, pairs: Any, *, show_progress: bool | None = None) -> NDArray[np.float64]:
        """Predictions (n,) on the labels' scale, clipped to `range_`.

        Args:
            pairs: n pairs of texts, or vectors (n, 2, dim).
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.
        """
        check_is_fitted(self)
        vectors = self._vectors(_read_pairs(pairs), show_progress)
        if vectors.shape[2] != self.width_:
            raise InputError(
                f"pairs have vectors of width {vectors.shape[2]}; the head was trained on "
                f"{self.width_}"
            )
        predictions = self.regressor_.predict(pair_features(vectors, self.features_))
        return np.clip(np.asarray(predictions, dtype=np.float64), *self.range_)

    def score(self, pairs: Any, scores: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """R squared of the predictions, as of scikit-learn's other regressors."""
        labels, predictions = _as_labels(scores), self.predict(pairs)
        _check_count(len(predictions), labels)
        return float(r2_score(labels, predictions, sample_weight=sample_weight))

    @property
    def described(self) -> dict[str, Any]:
        """What training chose, for people."""
        ridge = self.regressor_[-1] if hasattr(self.regressor_, "steps") else self.regressor_
        return {"ridge strength": float(ridge.alpha_)} if hasattr(ridge, "alpha_") else {}

    def restore(self, regressor: Any, width: int) -> None:
        """Take a fitted estimator from a saved head, instead of `fit`."""
        self.features_ = self._choose_features()
        self.range_ = as_label_range(self.label_range or ())
        self.width_, self.regressor_ = width, regressor

    def check(self, scores: ArrayLike) -> NDArray[np.float64]:
        """What `fit` refuses before anything is encoded; the labels as float64 (n,)."""
        check_seed(self.seed)
        is_str = isinstance(self.embedder, str)  # which has an `encode`, too
        if self.embedder is not None and (is_str or not hasattr(self.embedder, "encode")):
            raise InputError(f"embedder is {reprlib.repr(self.embedder)}; expected an Embedder")
        self._choose_features()
        labels, fewest = _as_labels(scores), self._head().min_pairs
        if len(labels) < fewest:
            raise InputError(f"got {len(labels)} scored pairs; this head needs at least {fewest}")
        if np.ptp(labels) == 0:
            raise InputError(f"all {len(labels)} scores are {labels[0]:g}; expected different ones")
        if self.label_range is not None:
            low, high = as_label_range(self.label_range)
            outside = np.flatnonzero((labels < low) | (labels > high))
            if len(outside):
                index = int(outside[0])
                raise InputError(
                    f"scores[{index}] is {labels[index]:g}; expected {low:g} to {high:g}, "
                    "the declared range"
                )
        return labels

    def _head(self) -> Head:
        if hasattr(self.head, "fit") and hasattr(self.head, "predict"):
            return Head(lambda seed: clone(self.head))
        if not isinstance(self.head, str) or self.head not in HEADS:
            raise InputError(
                f"unknown head {self.head!r}; choose from {', '.join(HEADS)}, or give a regressor"
            )
        return HEADS[self.head]

    def _choose_features(self) -> tuple[str, ...]:
        row = self._head()
        features = row.features if self.features is None else check_features(self.features)
        if row.only_default and features != row.features:
            raise InputError(
                f"features are {', '.join(features)}; an isotonic head calibrates the cosine alone"
            )
        return features

    def _vectors(
        self, given: Float32Array | tuple[Texts, Texts], show_progress: bool | None = None
    ) -> Float32Array:
        """Vectors (n, 2, dim) of texts, or the given ones."""
        if isinstance(given, np.ndarray):
            return given
        if self.embedder is None:
            raise InputError("got pairs of texts and no embedder; expected one, or vectors")
        first, second = given
        vectors = self.embedder.encode(
            Texts([*first, *second]), prompt=self.prompt, show_progress=show_progress
        )
        return np.stack([vectors[: len(first)], vectors[len(first) :]], axis=1)


def _check_count(pairs: int, labels: NDArray[np.float64]) -> None:
    if pairs != len(labels):
        raise InputError(f"got {pairs} pairs and {len(labels)} scores; expected as many")


def _read_pairs(pairs: Any) -> Float32Array | tuple[Texts, Texts]:
    """Vectors (n, 2, dim), or the first and the second texts of pairs."""
    if not isinstance(pairs, np.ndarray) or pairs.dtype.kind not in "fiu":
        return as_pairs(pairs)
    if pairs.ndim != 3 or pairs.shape[1] != 2 or 0 in pairs.shape:
        raise InputError(f"pairs have shape {pairs.shape}; expected vectors (n, 2, dim)")
    with np.errstate(over="ignore"):
        vectors = pairs.astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        raise InputError("pairs have vectors that are not finite")
    return vectors


def _as_labels(scores: ArrayLike) -> NDArray[np.float64]:
    """Finite labels, float64 (n,)."""
    try:
        given = np.asarray(scores)
        if given.dtype.kind not in "fiubO":
            raise TypeError(f"an array of {given.dtype}")
        labels = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"scores are not all numbers ({error})") from error
    if labels.ndim != 1:
        raise InputError(f"got scores of shape {labels.shape}; expected (n,)")
    if not np.isfinite(labels).all():
        index = int(np.flatnonzero(~np.isfinite(labels))[0])
        raise InputError(f"scores[{index}] is {labels[index]}; expected a finite number")
    return labels
