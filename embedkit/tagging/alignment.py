"""Tokens and the words or characters of a text, aligned by the offsets of the tokenizer.

A text that is longer than the model's maximum is read in windows that overlap by a quarter. Each
token belongs to one window, in which it is not in the outer half of an overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from embedkit.data.entities import Span, TaggedText, entities, tags_at
from embedkit.data.tables import chunks
from embedkit.tokenization.tokenizer import TextTokenizer, refusing

_CHUNK = 256  # texts tokenized at a time
_OVERLAP = 4  # of 4 tokens, one is in the next window too


class Window(NamedTuple):
    """Tokens of a text that a model reads in one pass."""

    text: int  # index of the text
    token_ids: NDArray[np.int32]  # (tokens,) with the special ones
    labelled: NDArray[np.int64]  # (k,) tokens with a label: the first of a word, or of a character
    bounds: NDArray[np.int64]  # (k, 2) start and end of the word, or of the token's characters


def windows_of(tokenizer: TextTokenizer, rows: Sequence[TaggedText]) -> Iterator[Window]:
    """The windows of texts, in order.

    A token begins at its first character that is no space. It has a label if that is in a word, or
    anywhere where the units are characters, and after all that has a label already.
    """
    backend, overlap = _with_windows(tokenizer)
    for start, chunk in enumerate(chunks(rows, _CHUNK)):
        with refusing("a text cannot be tokenized"):
            encodings = backend.encode_batch([row.text for row in chunk])
        for index, (row, first) in enumerate(zip(chunk, encodings, strict=True), _CHUNK * start):
            aligned = _Aligner(row)
            parts = [first, *first.overflowing]
            for part in parts:
                own = np.flatnonzero(~np.array(part.special_tokens_mask, dtype=bool))
                skipped = 0 if part is first else overlap - overlap // 2
                kept = own[skipped : None if part is parts[-1] else len(own) - overlap // 2]
                if part.ids:
                    yield Window(index, np.array(part.ids, np.int32), *aligned(part, kept))


@lru_cache(maxsize=1)
def _with_windows(tokenizer: TextTokenizer) -> tuple[Tokenizer, int]:
    """The tokenizer as it cuts long texts into windows, and the tokens by which these overlap."""
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    room = tokenizer.max_length - backend.num_special_tokens_to_add(is_pair=False)
    overlap = room // _OVERLAP
    backend.enable_truncation(tokenizer.max_length, stride=overlap, direction="right")
    return backend, overlap


class _Aligner:
    """Gives the labelled tokens of a text's windows, one after another."""

    def __init__(self, row: TaggedText) -> None:
        self._row = row
        self._words = {i: word for word in row.words or () for i in range(*word)}
        self._end = 0  # of what has a label

    def __call__(
        self, part: Encoding, kept: Iterable[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        labelled, bounds = [], []
        for token in kept:
            start, end = part.offsets[token]
            inside = self._row.text[start:end]
            start += len(inside) - len(inside.lstrip())
            if not inside.strip() or start < self._end:
                continue
            own = (start, start + len(inside.strip()))
            unit = own if self._row.words is None else self._words.get(start)
            if unit is not None:
                labelled.append(token)
                bounds.append(unit)
                self._end = unit[1]
        return np.array(labelled, np.int64), np.array(bounds, np.int64).reshape(-1, 2)


def window_tags(windows: Iterable[Window], rows: Sequence[TaggedText]) -> list[list[str]]:
    """The IOB2 tag of each labelled token of each window."""
    windows = list(windows)
    starts: list[list[int]] = [[] for _ in rows]
    for window in windows:
        starts[window.text] += window.bounds[:, 0].tolist()
    left = [iter(tags_at(*both)) for both in zip(starts, rows, strict=True)]
    return [[next(left[window.text]) for _ in window.labelled] for window in windows]


def spans_of(
    windows: Sequence[Window],
    tags: Iterable[Sequence[str]],
    texts: int,
    scores: Iterable[Sequence[float]] | None = None,
) -> list[tuple[Span, ...]]:
    """The entities of each text, from the tags of the labelled tokens of all windows.

    The score of an entity is the mean of those of its tokens.
    """
    scores = scores or [[1.0] * len(window.labelled) for window in windows]
    joined: list[list[tuple[list[int], str, float]]] = [[] for _ in range(texts)]
    for window, *own in zip(windows, tags, scores, strict=True):
        joined[window.text] += zip(window.bounds.tolist(), *own, strict=True)
    return [tuple(_spans(tokens)) for tokens in joined]


def _spans(tokens: Sequence[tuple[list[int], str, float]]) -> Iterator[Span]:
    for first, last, kind in entities(tag for _, tag, _ in tokens):
        own = tokens[first : last + 1]
        yield Span(own[0][0][0], own[-1][0][1], kind, float(np.mean([score for *_, score in own])))
