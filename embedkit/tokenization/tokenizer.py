"""Texts to packed token ids: each text is tokenized once, truncated, and never padded."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedkit.errors import InputError, first_line

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from embedkit.tokenization.token_batch import TokenBatch


# Texts, and their characters, tokenized at a time: Encoding objects are larger than their ids.
_CHUNK = 4096
_CHARACTERS = 1 << 20
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Tokenized:
    """Tokens of n texts."""

    token_ids: NDArray[np.int32]  # (tokens,) int32
    offsets: NDArray[np.int64]  # (n + 1,) int64
    special: NDArray[np.bool_]  # (tokens,) bool, tokens that the tokenizer added
    truncated: NDArray[np.bool_]  # (n,) bool, texts that were truncated to the maximum length

    @classmethod
    def joined(cls, parts: Sequence[Tokenized]) -> Tokenized:
        """The texts of all parts, one after another."""
        return cls(
            np.concatenate([part.token_ids for part in parts]),
            _offsets(np.concatenate([part.lengths for part in parts])),
            np.concatenate([part.special for part in parts]),
            np.concatenate([part.truncated for part in parts]),
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each text."""
        return np.diff(self.offsets)

    def batch(self, texts: NDArray[np.int64], *, batch_invariant: bool = False) -> TokenBatch:
        """The texts at these indices, in this order; see `TokenBatch`."""
        import torch

        from embedkit.tokenization.token_batch import TokenBatch

        starts, lengths = self.offsets[texts], self.lengths[texts]
        offsets = _offsets(lengths)
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return TokenBatch(
            torch.from_numpy(self.token_ids[rows].astype(np.int64)),
            torch.from_numpy(offsets),
            torch.from_numpy(self.special[rows]),
            batch_invariant,
        )


class TextTokenizer:
    """A Hugging Face tokenizer that truncates and never pads."""

    def __init__(
        self,
        backend: Tokenizer,  # the tokenizer; it is changed (no padding, truncation to `max_length`)
        *,
        max_length: int,  # tokens of a text at most, special ones included
        truncation_side: str,  # the side that is truncated, "right" or "left"
        lower_case: bool,  # lower-case texts first, as a sentence-transformers folder may ask
        write: Callable[[Path], object],  # writes the tokenizer's files into a folder
    ) -> None:
        special = backend.num_special_tokens_to_add(is_pair=False)
        if max_length <= special:
            raise InputError(
                f"max_length is {max_length}; expected more than the {special} tokens that the "
                "tokenizer adds to each text"
            )
        backend.no_padding()
        backend.enable_truncation(max_length, direction=truncation_side)
        if lower_case:
            _prepend_lowercase(backend)
        self.backend = backend
        self.max_length = max_length
        self.lower_case = lower_case
        self.save: Callable[[Path], object] = write

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        """Tokenize; texts must be valid Unicode (see `as_texts`)."""
        ids: list[NDArray[np.int32]] = []
        special: list[NDArray[np.bool_]] = []
        truncated: list[bool] = []
        for token_ids, encoding in self.encodings(texts):
            ids.append(token_ids)
            special.append(np.array(encoding.special_tokens_mask, dtype=np.bool_))
            truncated.append(bool(encoding.overflowing))
        return Tokenized(
            np.concatenate(ids),
            _offsets([len(row) for row in ids]),
            np.concatenate(special),
            np.array(truncated, dtype=np.bool_),
        )

    def encodings(
        self, texts: Sequence[str] | Sequence[tuple[str, str]]
    ) -> Iterator[tuple[NDArray[np.int32], Encoding]]:
        """Token ids of each text, or of each pair in one row, with the backend's Encoding."""
        index = 0
        for chunk in _chunks(texts):
            with refusing("a text cannot be tokenized"):
                encodings = self.backend.encode_batch_fast(chunk)
            for text, encoding in zip(chunk, encodings, strict=True):
                ids = np.array(encoding.ids, dtype=np.uint32)
                if len(ids) > self.max_length or (ids > _LARGEST_ID).any():
                    raise InputError(
                        f"the tokenizer gave {len(ids)} tokens, the largest of id {ids.max()}; "
                        f"expected at most {self.max_length}, of ids up to {_LARGEST_ID}"
                    )
                if len(ids) == 0:
                    raise InputError(
                        f"{'text' if isinstance(text, str) else 'pair'} {index} "
                        f"({reprlib.repr(text)}) gives no tokens with this model's tokenizer; "
                        "expected at least one"
                    )
                index += 1
                yield ids.astype(np.int32), encoding

    def prompt_tokens(self, prompt: str) -> int:
        """The number of leading tokens of a text that belong to the prompt in front of it.

        As sentence-transformers counts: the prompt's own tokens without a closing special one.
        """
        if not prompt:
            return 0
        tokens = self([prompt])
        return len(tokens.token_ids) - int(tokens.special[-1])


def _offsets(lengths: ArrayLike) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def check_ids(token_ids: NDArray[np.integer[Any]], vocabulary: int) -> None:
    """Refuse token ids that are not below the encoder's vocabulary size."""
    highest = int(token_ids.max())
    if highest >= vocabulary:
        raise InputError(
            f"the tokenizer gave token {highest}, and the encoder has {vocabulary} tokens; the "
            "tokenizer and model vocabularies do not match"
        )


@contextmanager
def refusing(problem: str) -> Iterator[None]:
    """Make an InputError of errors that tokenizers and transformers raise for damaged files.

    Errors of Rust are plain Exceptions, and its panics are BaseExceptions.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{problem} ({first_line(error)})") from error


def _chunks(
    texts: Sequence[str] | Sequence[tuple[str, str]],
) -> Iterator[list[str | tuple[str, str]]]:
    """Neighbouring texts, or pairs of them, of few characters or one."""
    chunk: list[str | tuple[str, str]] = []
    characters = 0
    for text in texts:
        size = len(text) if isinstance(text, str) else sum(map(len, text))
        characters += size
        if chunk and (len(chunk) == _CHUNK or characters > _CHARACTERS):
            yield chunk
            chunk, characters = [], size
        chunk.append(text)
    if chunk:
        yield chunk


def _prepend_lowercase(backend: Tokenizer) -> None:
    from tokenizers import normalizers

    normalizer = backend.normalizer
    state = json.loads(backend.to_str())["normalizer"] or {}
    inside = state.get("normalizers", [state])
    if not any(part.get("type") == "Lowercase" for part in inside):
        rest = [] if normalizer is None else [normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
