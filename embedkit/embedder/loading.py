"""Load encoder, tokenizer, recipe and settings from a model folder or a loaded model."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from embedkit.arguments import check_count
from embedkit.embedder.folder_kind import check_kind
from embedkit.embedder.model_config import Settings
from embedkit.embedder.sentence_transformers import read_settings
from embedkit.encoders.encoder import ENGINES, Encoder, load_encoder
from embedkit.encoders.hub import find_folder
from embedkit.encoders.loading import of_pooler
from embedkit.encoders.packed import PackedEncoder
from embedkit.encoders.quantization import FILE, Quantization
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError
from embedkit.files import MARK, read_mark
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.tokenization.loading import load_tokenizer
from embedkit.tokenization.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_UNLIMITED = 1 << 20  # tokens; for encoders without positions and tokenizers that say 1e30
_UNSAID = 1 << 12  # tokens, where nobody says how many: attention takes memory with their square


class Parts(NamedTuple):
    """What an embedder is made of."""

    encoder: Encoder
    tokenizer: TextTokenizer
    bound: BoundRecipe
    settings: Settings


def load_parts(
    model: object,
    recipe: Recipe | None,
    max_length: int | None,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
) -> tuple[str, Parts]:
    """The name and the parts of a model; see `Embedder`."""
    if isinstance(model, str | Path):
        folder = find_folder(model, revision=revision, local_files_only=local_files_only)
        return str(model), load_folder(folder, recipe, max_length)
    with tempfile.TemporaryDirectory() as scratch:
        _write_loaded(model, Path(scratch))
        parts = load_folder(Path(scratch), recipe, max_length)
    return str(getattr(model, "name_or_path", "") or type(model).__name__), parts


def load_for_head(
    model: str | Path, max_length: int | None, kind: str, **hub: Any
) -> tuple[Path, Parts]:
    """Folder and parts of an encoder that gets a new head, to become a model of this kind."""
    folder = find_folder(model, **hub)
    parts = load_folder(folder, None, max_length)
    if parts.settings.lower_case:
        raise InputError(
            f"{folder}: asks for lower-cased texts beside its tokenizer, which the folder of a "
            f"{kind} cannot say; expected a tokenizer that does it"
        )
    return folder, parts


def load_folder(folder: Path, recipe: Recipe | None, max_length: int | None) -> Parts:
    """Read a folder of transformers or sentence-transformers; None is what the folder says."""
    check_kind(folder, "model")
    engine = read_mark(folder).get("engine", "auto")
    if engine not in ("auto", *ENGINES):
        raise InputError(
            f"{folder / MARK}: engine is {engine!r}; expected one of {', '.join(ENGINES)}"
        )
    settings = replace(read_settings(folder), engine=engine)
    encoder = load_encoder(settings.encoder_folder)
    if isinstance(encoder, PackedEncoder) and (folder / FILE).is_file():
        encoder.calibration = Quantization.load(folder, encoder)
    settings = settings.recognise_pooler(encoder).truncated(encoder)
    bound = settings.bind(recipe or settings.recipe or Recipe(("mean",)), encoder)
    bound.dim(encoder.dim)  # its Dense layers fit
    tokenizer = load_tokenizer(
        settings.encoder_folder,
        encoder.family,
        lower_case=settings.lower_case,
        max_length=lambda own: _choose_length(
            max_length, settings.max_length, own, encoder.max_positions
        ),
    )
    return Parts(encoder, tokenizer, bound, settings)


def _choose_length(
    asked: int | None, of_folder: float | None, of_tokenizer: int | None, positions: int | None
) -> int:
    """What was asked for, else the folder's, else the tokenizer's, else the encoder's positions.

    Only what was asked for is refused above the positions; RoBERTa's folders say 514, of 512.
    """
    most = positions or _UNLIMITED
    if asked is not None:
        asked = check_count("max_length", asked)
        if asked > most:
            raise InputError(
                f"max_length is {asked}, but the encoder has {most} positions; "
                f"expected a max_length of at most {most}"
            )
        return asked
    if isinstance(of_folder, float) and of_folder.is_integer():
        of_folder = int(of_folder)
    if of_folder is not None:
        of_folder = check_count("max_seq_length of the model's folder", of_folder)
    length = min(of_folder or of_tokenizer or _UNLIMITED, most)
    return length if length < _UNLIMITED else _UNSAID


def _write_loaded(model: object, folder: Path) -> None:
    """Write a loaded model into an empty folder, so that there is one way to load."""
    # Whoever has such an object has imported its library: this import costs nothing.
    libraries = sys.modules
    if "sentence_transformers" in libraries:
        from sentence_transformers import SentenceTransformer

        if isinstance(model, SentenceTransformer):
            model.save_pretrained(str(folder), create_model_card=False)
            if model.transformers_model is not None:
                _write_weights(model.transformers_model, folder)
            return
    if "transformers" in libraries:
        from transformers import PreTrainedModel

        if isinstance(model, PreTrainedModel):
            _write_transformers(model, folder)
            return
    raise InputError(
        f"model is a {type(model).__name__}; expected a name, a folder, a model of transformers "
        "or a SentenceTransformer"
    )


def _write_transformers(model: PreTrainedModel, folder: Path) -> None:
    from transformers import AutoTokenizer

    base = cast("PreTrainedModel", model.base_model)
    source = base.name_or_path
    try:
        if not source:
            raise OSError("it has no name_or_path")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("it has no vocabulary")  # transformers invents one
    except (OSError, ValueError) as error:
        raise InputError(
            f"no tokenizer is found for the {type(model).__name__} of name_or_path {source!r}; "
            "save model and tokenizer in one folder and name that"
        ) from error
    _write_weights(base, folder)
    tokenizer.save_pretrained(folder)


def _write_weights(model: PreTrainedModel, folder: Path) -> None:
    state = model.state_dict()
    if _pooler_is_invented(model):
        state = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    model.save_pretrained(folder, state_dict=state)


def _pooler_is_invented(model: PreTrainedModel) -> bool:
    """Whether transformers made the pooler up, because the checkpoint had none.

    The model keeps no record of it, so its checkpoint is asked. Where that is not found, the
    pooler counts as the model's.
    """
    try:
        folder = find_folder(model.name_or_path or "", local_files_only=True)
        names = Weights(folder).names
    except InputError:
        return False
    return not any(map(of_pooler, names))
