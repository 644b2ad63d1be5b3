"""The texts of masked-language-model training: those to train on, those held out, their masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embedkit.data.texts import as_texts
from embedkit.errors import InputError
from embedkit.files import rows_sha256
from embedkit.tokenization.tokenizer import TextTokenizer, Tokenized

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from embedkit.training.order import ByLength


HELD_OUT_EVERY = 20  # texts: the share of those that are held out where none are given
MIN_TEXTS = 2 * HELD_OUT_EVERY


@dataclass(frozen=True, eq=False)
class AdaptationTexts:
    """Distinct texts with tokens of their own: first those to train on, then those held out."""

    tokens: Tokenized  # of all of them
    trained: int  # how many are to train on
    left_out: int  # texts that were there before, or have only special tokens
    sha256: str  # of the texts and which of them are held out

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
        held = set(kept)
        learnt = [text for text in distinct if text not in held]
        together = [*learnt, *kept]
        tokens = tokenizer(together)
        starts = tokens.offsets[:-1]
        whole = np.flatnonzero(np.add.reduceat(~tokens.special, starts) > 0)
        trained = int((whole < len(learnt)).sum())
        if len(whole) < MIN_TEXTS or not 0 < trained < len(whole):
            raise InputError(
                f"got {trained} distinct texts to train on and {len(whole) - trained} held out; "
                f"expected at least {MIN_TEXTS} together, and some of both"
            )
        if len(whole) < len(together):
            tokens = tokenizer([together[index] for index in whole])
        sha256 = rows_sha256([*together, len(learnt)])
        return cls(tokens, trained, read - len(whole), sha256)

    @property
    def held_out(self) -> int:
        """How many are held out."""
        return len(self.tokens.lengths) - self.trained


_HELD_OUT = -1  # in place of an epoch: their masks stay


class Masking:
    """Makes batches of texts by index, with 15 % of the tokens masked.

    The masks depend on seed, epoch and texts alone, so that a resumed training masks as it would
    have, and held-out texts always have the same masks. Each text has a token that is not special.
    """

    def __init__(
        self, tokens: Tokenized, tokenizer: PreTrainedTokenizerBase, order: ByLength, seed: int
    ) -> None:
        from transformers import DataCollatorForLanguageModeling

        tokenizer.padding_side = "right"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.mask_token  # none attends to it
        self._tokens = tokens
        self._collator = DataCollatorForLanguageModeling(tokenizer)
        self._order = order
        self._seed = seed

    def __call__(self, texts: Sequence[int]) -> dict[str, Tensor]:
        """input_ids, attention_mask and labels, (texts, longest) each."""
        examples = []
        for text in texts:
            span = slice(*self._tokens.offsets[text : text + 2])
            special = self._tokens.special[span].astype(int).tolist()
            ids = self._tokens.token_ids[span].tolist()
            examples.append({"input_ids": ids, "special_tokens_mask": special})
        epoch = self._order.epoch if texts[0] < len(self._order) else _HELD_OUT
        drawn = np.random.default_rng([self._seed, epoch + 1, *texts]).integers(2**62)
        self._collator.generator = torch.Generator().manual_seed(int(drawn))
        while True:  # few tokens may get no mask at first
            batch: dict[str, Tensor] = dict(self._collator(examples))
            if bool((batch["labels"] >= 0).any()):
                return batch
