"""Load a model of any kind, and score sentence pairs with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from embedkit.embedder.embedder import Embedder
from embedkit.embedder.folder_kind import check_one_label, folder_kind
from embedkit.embedder.precision import AUTO
from embedkit.encoders.hub import find_folder
from embedkit.errors import InputError
from embedkit.similarity import find_similarity

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from embedkit.recipes.recipe import Recipe
    from embedkit.scoring.cross_encoder import CrossEncoder
    from embedkit.scoring.pair_regressor import PairRegressor


LoadedModel: TypeAlias = Union[Embedder, "PairRegressor", "CrossEncoder"]
Scorer: TypeAlias = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]


def load_model(
    model: str | Path | SentenceTransformer | PreTrainedModel | LoadedModel,
    recipe: str | Recipe | None = None,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    device: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    max_length: int | None = None,
) -> LoadedModel:
    """Load a model of any kind: an embedder, a regression head or a cross-encoder.

    Args:
        model: `minilm`, a hub id, a folder, or a loaded model; embedkit's own are returned
            as they are.
        recipe: of an embedder; see `Embedder.from_pretrained`, and for the other arguments.
        revision: the revision on the hub: a branch, tag or commit.
        local_files_only: do not contact the hub.
        device: "cpu", "cuda", ...; None uses a GPU if there is one.
        precision: of the encoder; None is float32, and for a head the one that it was trained in.
        engine: that runs the encoder; None is auto. A cross-encoder runs by torch.
        max_length: the most tokens of a text.

    Returns:
        An object whose `kind` is "model", "head" or "cross-encoder".

    Raises:
        InputError: there is no such model, it is an index or stored vectors, or an option that
            this kind does not take.

    Example:
        >>> import embedkit
        >>> embedkit.load_model("minilm").kind
        'model'
    """
    options = {
        "recipe": recipe,
        "max_length": max_length,
        "precision": precision,
        "engine": engine,
    }
    given: dict[str, Any] = {name: x for name, x in options.items() if x is not None}
    if hasattr(model, "kind"):
        if given or device is not None:
            raise InputError("got options for a model that is loaded; expected none")
        return model  # type: ignore[return-value]
    if not isinstance(model, str | Path):
        return Embedder.from_pretrained(model, device=device, **{"precision": "float32", **given})
    folder = find_folder(model, revision=revision, local_files_only=local_files_only)
    kind = folder_kind(folder)
    if kind == "head":
        from embedkit.scoring.regressor_folder import load_head  # not at the top: scikit-learn

        _check_options(given, kind, "precision", "engine")
        own: dict[str, Any] = {"precision": precision or AUTO, "engine": engine or AUTO}
        return load_head(folder, device=device, **own)
    if kind == "cross-encoder":
        from embedkit.scoring.cross_encoder import CrossEncoder

        _check_options({name: given[name] for name in given if given[name] != AUTO}, kind)
        return CrossEncoder.from_pretrained(folder, device=device)
    embedder = Embedder.from_pretrained(folder, device=device, **{"precision": "float32", **given})
    embedder.name = str(model)
    return embedder


_AS_TRAINED = (("precision", "float32"), ("engine", "torch"))


def _check_options(given: dict[str, Any], kind: str, *known: str) -> None:
    for name in given:
        if name not in known and (name, given[name]) not in _AS_TRAINED:
            article = "an" if name == "engine" else "a"
            raise InputError(
                f"got {article} {name} for a {kind}; it runs with the {name} that it was trained "
                "with"
            )


def load_scorer(
    model: str | Path | LoadedModel, *, prompt: str | None = None, **options: Any
) -> Scorer:
    """The function from n pairs of texts to n scores: predictions, or the cosine of an embedder.

    `options` are those of `load_model`; an embedder puts the prompt in front of each text.
    """
    loaded = load_model(model, **options)
    if loaded.kind != "model":
        if prompt is not None:
            raise InputError(f"got a prompt for a {loaded.kind}; expected none")
        return partial(loaded.predict, show_progress=False)

    def cosine(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        vectors = loaded.encode(
            [pair[0] for pair in pairs] + [pair[1] for pair in pairs],
            prompt=prompt,
            show_progress=False,
        ).astype(np.float64)
        return find_similarity("cosine").pairwise(vectors[: len(pairs)], vectors[len(pairs) :])

    return cosine


def load_reranker(
    model: str | Path | LoadedModel, *, show_progress: bool | None = None, **options: Any
) -> Scorer:
    """Load a model of any kind as a function of n pairs of a query and a document to n scores.

    Those are the predictions of a cross-encoder or a head, and the similarity of an embedder, which
    puts its prompts for queries and documents in front.

    Args:
        model: see `load_model`, and for `options`.
        show_progress: show a bar on stderr; None shows it if stderr is a terminal.

    Raises:
        InputError: there is no such model, or it is a classifier of several labels.

    Example:
        >>> score = load_reranker("minilm", show_progress=False)
        >>> close, far = score([("Do cats nap?", "A cat sleeps."), ("Do cats nap?", "It rains.")])
        >>> bool(close > far)
        True
    """
    if isinstance(model, str | Path):
        where = {x: options[x] for x in ("revision", "local_files_only") if x in options}
        check_one_label(find_folder(model, **where))
    loaded = load_model(model, **options)
    if loaded.kind != "model":
        return partial(loaded.predict, show_progress=show_progress)

    def similarity(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        queries, documents = zip(*pairs, strict=True)
        return loaded.similarity_pairwise(
            loaded.encode_query(queries, show_progress=False),
            loaded.encode_document(documents, show_progress=show_progress),
        ).astype(np.float64)

    return similarity
