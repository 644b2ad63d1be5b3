"""The texts of masked-language-model training: which are learnt from, which are held out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.digest import rows_sha256
from embedkit.errors import InputError
from embedkit.tokens import TextTokenizer, Tokenized, as_texts

HELD_OUT_EVERY = 20  # texts: the share of those that are held out where none are given
MIN_TEXTS = 2 * HELD_OUT_EVERY


@dataclass(frozen=True, eq=False)
class AdaptationTexts:
    """Distinct texts with tokens of their own: first those to train on, then those held out.

    Attributes:
        tokens: of all of them.
        trained: how many are to train on.
        left_out: texts that were there before, or have only special tokens.
        sha256: of the texts and which of them are held out.
    """

    tokens: Tokenized
    trained: int
    left_out: int
    sha256: str

    @classmethod
    def of(
        cls, texts: Iterable[str], held_out: Iterable[str] | None, tokenizer: TextTokenizer
    ) -> AdaptationTexts:
        """Read them all; `held_out` None holds out every 20th of `texts`.

        Raises:
            InputError: something that is no text, or too few of them.
        """
        given = as_texts(texts)
        read = len(given)
        distinct = list(dict.fromkeys(given))
        if held_out is None:
            kept = distinct[::HELD_OUT_EVERY]
        else:
            others = as_texts(held_out, "held-out texts")
            read += len(others)
            kept = list(dict.fromkeys(others))
        apart = set(kept)
        learnt = [text for text in distinct if text not in apart]
        tokens = tokenizer([*learnt, *kept])
        starts = tokens.offsets[:-1]
        whole = np.flatnonzero(np.add.reduceat(~tokens.special, starts) > 0)
        trained = int((whole < len(learnt)).sum())
        if len(whole) < MIN_TEXTS or not 0 < trained < len(whole):
            raise InputError(
                f"got {trained} distinct texts to train on and {len(whole) - trained} held out; "
                f"expected at least {MIN_TEXTS} together, and some of both"
            )
        sha256 = rows_sha256([*learnt, *kept, len(learnt)])
        return cls(_chosen(tokens, whole), trained, read - len(whole), sha256)

    @property
    def held_out(self) -> int:
        """How many are held out."""
        return len(self.tokens.lengths) - self.trained

    def held_out_batches(self, size: int) -> list[list[int]]:
        """The numbers of the held-out texts, those of similar length together."""
        by_length = np.argsort(self.tokens.lengths[self.trained :], kind="stable") + self.trained
        return [
            by_length[start : start + size].tolist() for start in range(0, len(by_length), size)
        ]


def _chosen(tokens: Tokenized, texts: NDArray[np.int64]) -> Tokenized:
    batch = tokens.batch(texts)
    return Tokenized(
        batch.token_ids.numpy().astype(np.int32),
        batch.offsets.numpy(),
        batch.special.numpy(),
        tokens.truncated[texts],
    )
