"""Load the tokenizer of a model folder, or wrap one that transformers has loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError
from embedkit.files import read_json
from embedkit.tokenization.compatibility import matches_auto_tokenizer
from embedkit.tokenization.tokenizer import TextTokenizer, refusing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
TOKENIZER_FILES = (
    *VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_MOST_GROWTH = 1000  # characters that normalizers may make of one
_LONGEST_WORD = 1000  # characters; the time of WordPiece grows with their square


def load_tokenizer(
    folder: Path, family: str, *, lower_case: bool = False, max_length: Callable[[int | None], int]
) -> TextTokenizer:
    """The tokenizer of a model folder; `max_length` maps its own maximum to the one to use.

    tokenizer.json is read directly if AutoTokenizer would build the same tokenizer from it;
    otherwise AutoTokenizer loads the folder.
    """
    vocabularies = [name for name in VOCABULARIES if (folder / name).is_file()]
    if not vocabularies:
        # transformers would invent an empty vocabulary.
        raise InputError(f"{folder}: has no tokenizer; expected one of {', '.join(VOCABULARIES)}")
    config_path, json_path = folder / "tokenizer_config.json", folder / "tokenizer.json"
    config = read_json(config_path) if config_path.exists() else {}
    content = read_json(json_path) if json_path.exists() else {}
    _check_growth(json_path, content)
    own_length = _own_length(config_path, config)
    side = config.get("truncation_side", "right")
    if side not in ("right", "left"):
        raise InputError(f"{config_path}: truncation_side is {side!r}; expected right or left")
    if content and matches_auto_tokenizer(content, config, family):
        from tokenizers import Tokenizer

        with refusing(f"{json_path}: is no tokenizer"):
            backend = Tokenizer.from_file(str(json_path))
        # The folder may be gone when a model is saved.
        paths = [folder / name for name in TOKENIZER_FILES]
        files = {path.name: path.read_bytes() for path in paths if path.is_file()}
        return TextTokenizer(
            backend,
            max_length=max_length(own_length),
            truncation_side=side,
            lower_case=lower_case,
            write=partial(_write_files, files),
        )
    if all(name.endswith(".model") for name in vocabularies) and find_spec("sentencepiece") is None:
        raise InputError(
            f"{folder}: its tokenizer is {vocabularies[0]} without a tokenizer.json; transformers "
            "can convert it where sentencepiece is installed (pip install sentencepiece protobuf)"
        )
    from transformers import AutoTokenizer

    with refusing(f"{folder}: has no tokenizer that can be read"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    return wrap_tokenizer(tokenizer, lower_case=lower_case, max_length=max_length)


def wrap_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    *,
    lower_case: bool = False,
    max_length: Callable[[int | None], int],
) -> TextTokenizer:
    """A loaded tokenizer of transformers; the object itself is not changed."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            f"tokenizer {type(tokenizer).__name__} has no fast version; expected one that "
            "transformers can save as tokenizer.json"
        )

    return TextTokenizer(
        Tokenizer.from_str(backend.to_str()),
        max_length=max_length(tokenizer.model_max_length),
        truncation_side=tokenizer.truncation_side,
        lower_case=lower_case,
        write=tokenizer.save_pretrained,
    )


def _check_growth(path: Path, content: dict[str, Any]) -> None:
    """Refuse a tokenizer that makes texts very long, or takes very long for a word."""
    for name in ("model", "post_processor"):
        if not isinstance(content.get(name) or {}, dict):
            raise InputError(f"{path}: {name} is {content[name]!r}; expected an object")
    growth = 1
    left: list[object] = [content.get("normalizer")]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
            inserted = part.get("content" if part.get("type") == "Replace" else "prepend")
            growth = min(growth * max(1, len(str(inserted or ""))), _MOST_GROWTH + 1)
        elif isinstance(part, list):
            left += part
    if growth > _MOST_GROWTH:
        raise InputError(f"{path}: its normalizers make more than {_MOST_GROWTH} characters of one")
    longest = (content.get("model") or {}).get("max_input_chars_per_word")
    if isinstance(longest, int | float) and longest > _LONGEST_WORD:
        raise InputError(
            f"{path}: max_input_chars_per_word is {longest}; expected at most {_LONGEST_WORD}"
        )


def _own_length(path: Path, config: dict[str, Any]) -> int | None:
    value = config.get("model_max_length")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise InputError(f"{path}: model_max_length is {value!r}; expected a number of tokens")
    return int(value)


def _write_files(files: dict[str, bytes], target: Path) -> None:
    for name, content in files.items():
        (target / name).write_bytes(content)
