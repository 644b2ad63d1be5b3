"""Save and load a regression head and its embedder in one folder.

The embedder is a sentence-transformers folder like any other; beside it stand head.json and the
fitted estimator in skops' format, which holds a user's regressor too, and runs no code when it is
read, as a pickle would: it rebuilds only classes that it is told to trust.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sklearn
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from embedkit.arguments import as_path, check_type
from embedkit.embedder.folder_kind import read_record, write_record
from embedkit.embedder.model_card import add_section, noted
from embedkit.embedder.precision import AUTO, PRECISIONS
from embedkit.errors import InputError
from embedkit.files import new_folder
from embedkit.markdown import in_markdown
from embedkit.scoring.pair_regressor import HEADS, PairRegressor

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


_ESTIMATOR = "head.skops"

# Parts of our own heads that skops does not trust unasked.
_TRUSTED = (
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "scipy.interpolate._interpolate.interp1d",
)

_VERSIONS = ("embedkit", "scikit-learn", "skops", "numpy", "torch", "sentence-transformers")

_SECTION = """
## Regression head

This folder also holds a regression head for sentence pairs: `embedkit score PAIRS -m FOLDER`.

- head: {head}
- features: {features}
- predictions are clipped to {low:g} to {high:g}
- prompt in front of each sentence: {prompt}
- versions: {versions}
{notes}
"""


def save_head(
    regressor: PairRegressor, folder: str | Path, *, notes: dict[str, Any] | None = None
) -> None:
    """Write a fitted head and its embedder.

    Args:
        regressor: fitted, with an embedder.
        folder: new, empty, or written by embedkit before.
        notes: data, settings and scores for the model card.

    Raises:
        InputError: no embedder, or something else is in the folder.

    Example:
        >>> import tempfile
        >>> from embedkit import Embedder, PairRegressor, load_head, save_head
        >>> embedder = Embedder("minilm", precision="float32", device="cpu")
        >>> pairs = [(f"{n} cats", f"{n % 3} cats") for n in range(12)]
        >>> head = PairRegressor(embedder, head="isotonic").fit(pairs, range(12))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_head(head, f"{folder}/head")
        ...     loaded = load_head(f"{folder}/head", device="cpu")
        >>> bool((loaded.predict(pairs) == head.predict(pairs)).all())
        True
    """
    from skops.io import dump, get_untrusted_types

    check_type("regressor", regressor, PairRegressor, "a PairRegressor")
    if notes is not None:
        check_type("notes", notes, dict, "a dict")
    check_is_fitted(regressor)
    if regressor.embedder is None:
        raise InputError("the head has no embedder; expected one, to be saved with it")
    low, high = regressor.range_
    described = regressor.head if isinstance(regressor.head, str) else repr(regressor.head)
    with new_folder(as_path("folder", folder)) as new:
        regressor.embedder.write(new)
        dump(regressor.regressor_, new / _ESTIMATOR)
        if unknown := set(get_untrusted_types(file=new / _ESTIMATOR)) - set(_TRUSTED):
            raise InputError(
                f"the head {described} cannot be saved: reading it would need trust in "
                f"{', '.join(sorted(unknown))}"
            )
        record = {
            "scikit-learn": sklearn.__version__,
            "head": described,
            "features": list(regressor.features_),
            "label_range": [low, high],
            "prompt": regressor.prompt,
            "seed": regressor.seed,
            "width": regressor.width_,
            "fingerprint": regressor.embedder.fingerprint,
            "precision": regressor.embedder.precision,
            "estimator": _digest(new / _ESTIMATOR),
            "notes": notes or {},
        }
        write_record(new, "head", record)
        section = _SECTION.format(
            head=described,
            features=", ".join(f"`{name}`" for name in regressor.features_),
            low=low,
            high=high,
            prompt="none"
            if regressor.prompt is None
            else in_markdown(json.dumps(regressor.prompt)),
            versions=", ".join(f"{name} {version(name)}" for name in _VERSIONS),
            notes=noted(notes or {}),
        )
        add_section(new, section)


def load_head(
    folder: str | Path, embedder: Embedder | None = None, **options: Any
) -> PairRegressor:
    """Read a head.

    Args:
        folder: what `save_head` wrote.
        embedder: the one to use; None loads the folder's. A precision that was left to `auto` is
            the one that the head was trained in.
        options: for `Embedder.from_pretrained`, where the folder's is loaded.

    Raises:
        InputError: no head, a damaged one, one with classes that are not trusted, or an embedder
            that is not the one that it was trained on.

    Example:
        >>> from embedkit import Embedder, PairRegressor, load_head, save_head
        >>> pairs = [(f"{n} dogs", "a dog") for n in range(20)]
        >>> head = PairRegressor(Embedder("minilm")).fit(pairs, [20 - n for n in range(20)])
        >>> save_head(head, "my-head")
        >>> load_head("my-head").predict(pairs).shape
        (20,)
    """
    from embedkit.embedder.embedder import Embedder

    target = as_path("folder", folder)
    if embedder is not None:
        check_type("embedder", embedder, Embedder, "an Embedder")
    path, record = read_record(target, "head")
    recorded = record.get("precision", "float32")  # 0.1.0 wrote none
    if recorded not in [*PRECISIONS]:
        raise InputError(f"{path}: is damaged (precision is {recorded!r})")
    asked = AUTO
    if embedder is None:
        asked = options.pop("precision", AUTO)
    elif "precision" in record:
        embedder = embedder.in_recorded(recorded)
        asked = embedder.precision
    if asked not in (AUTO, recorded):
        raise InputError(
            f"{target}: the head was trained on {recorded} embeddings, got precision "
            f"{asked!r}; leave the precision to auto, or train the head again"
        )
    if embedder is None:
        embedder = Embedder.from_pretrained(target, precision=recorded, **options)
    if embedder.fingerprint != record.get("fingerprint"):
        raise InputError(
            f"{target}: the head was trained on another embedder (fingerprint "
            f"{str(record.get('fingerprint'))[:12]}, got {embedder.fingerprint[:12]}); "
            "train it again with this one, or use the folder's own"
        )
    if record.get("estimator") != _digest(target / _ESTIMATOR):
        raise InputError(f"{target / _ESTIMATOR}: is not the estimator that {path.name} describes")
    estimator = _read_estimator(target / _ESTIMATOR)
    try:
        regressor = PairRegressor(
            embedder,
            head=record["head"] if record["head"] in HEADS else clone(estimator),
            features=record["features"],
            label_range=tuple(record["label_range"]),
            prompt=record["prompt"],
            seed=record["seed"],
        )
        regressor.restore(estimator, int(record["width"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
    return regressor


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _read_estimator(path: Path) -> Any:
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        estimator = load(path, trusted=list(_TRUSTED))
    except UntrustedTypesFoundException as error:
        names = ", ".join(map(str, error.args[0])) if isinstance(error.args[0], list) else ""
        untrusted = names or str(error).splitlines()[0]
        raise InputError(f"{path}: holds classes that are not trusted ({untrusted})") from error
    # Whatever reading damaged bytes raises, they are damaged: zip, JSON and array headers alike.
    except Exception as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
    if not hasattr(estimator, "predict"):
        raise InputError(f"{path}: holds a {type(estimator).__name__}; expected a regressor")
    return estimator
