"""The front matter of a model card: base model, language, license and scores, for the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from embedkit.encoders.hub import find_folder
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL, read_mark, write_text

_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_KEPT = ("language", "license", "license_name", "license_link")


class CardScore(NamedTuple):
    """A row of `model-index`, in the terms of sentence-transformers' model cards."""

    task: str  # `semantic-similarity`, `information-retrieval` or `fill-mask`
    dataset: str
    metric: str
    value: float  # as it was measured: 0.85, not 85
    ci95: tuple[float, float] | None = None


def base_model_metadata(model: str | Path, revision: str | None = None) -> dict[str, Any]:
    """`base_model`, `language` and `license` of what is made from a model, where they are known.

    The base model is a hub id: the one that was named, or for a folder that embedkit wrote the one
    of its card. Language and license are those of the model's card.
    """
    try:
        folder = find_folder(model, revision=revision, local_files_only=True)
    except InputError:  # a model that was loaded from elsewhere
        return {}
    card = _read(folder / "README.md")
    base: Any = str(model)
    if base == DEFAULT_MODEL:
        base = _MINILM
    elif Path(model).expanduser().is_dir():
        base = card.get("base_model") if read_mark(folder) else None
    metadata = {"base_model": base, **{key: card.get(key) for key in _KEPT}}
    return {key: value for key, value in metadata.items() if _is_known(key, value)}


def add_card_metadata(
    folder: Path, name: str, metadata: Mapping[str, Any], scores: Iterable[CardScore] = ()
) -> None:
    """Merge metadata and scores into the front matter of the folder's README.md."""
    from huggingface_hub import EvalResult, ModelCard

    card = ModelCard.load(folder / "README.md")
    for key, value in metadata.items():
        card.data[key] = value
    results = [
        EvalResult(
            task_type=score.task,
            task_name=_title(score.task),
            dataset_type=score.dataset,
            dataset_name=score.dataset,
            metric_type=score.metric,
            metric_name=_title(score.metric),
            metric_value=float(score.value),
            metric_args=None if score.ci95 is None else {"ci95": [*map(float, score.ci95)]},
        )
        for score in scores
    ]
    if results:
        card.data.model_name = name
        card.data.eval_results = [*(card.data.eval_results or []), *results]
    write_text(folder / "README.md", str(card))


def _is_known(key: str, value: object) -> bool:
    """Whether it is a text, or several languages."""
    values = value if key == "language" and isinstance(value, list) else [value]
    return bool(values) and all(isinstance(one, str) for one in values)


def _title(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").title()


def _read(card: Path) -> dict[str, Any]:
    """The front matter of a card; empty where there is none that can be read."""
    from huggingface_hub import metadata_load
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        return metadata_load(card) or {}
    except (OSError, ValueError, RecursionError, YAMLError):
        return {}
