"""Masked batches for masked-language-model training (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embedkit.batching import padded
from embedkit.tokens import Tokenized

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from embedkit.training.order import ByLength

_NOT_ASKED = -100  # the label of a token that is not guessed, as torch's loss knows it
_HELD_OUT = -1  # in place of an epoch: their masks stay


class Masking:
    """Makes batches of texts by number: 15 % of the tokens are to be guessed.

    Which ones follows from seed, epoch and texts alone, whatever was drawn before, so that a
    training that is taken up again masks as it would have, and held-out texts are always masked the
    same.

    Args:
        tokens: of n texts, each with a token that is not special.
        tokenizer: of transformers, with a mask token.
        order: of the first texts, which are trained on; those after them are held out.
        seed: another one, other masks.
    """

    def __init__(
        self, tokens: Tokenized, tokenizer: PreTrainedTokenizerBase, order: ByLength, seed: int
    ) -> None:
        from transformers import DataCollatorForLanguageModeling

        self._tokens = tokens
        self._collator = DataCollatorForLanguageModeling(tokenizer)
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._order = order
        self._seed = seed

    def __call__(self, texts: Sequence[int]) -> dict[str, Tensor]:
        """input_ids, attention_mask and labels, (texts, longest) each."""
        offsets = self._tokens.offsets
        spans = [slice(offsets[text], offsets[text + 1]) for text in texts]
        rows = [self._tokens.token_ids[span] for span in spans]
        ids = padded(rows, self._pad_id)
        mask = padded([np.ones_like(row) for row in rows], 0)
        special = padded([self._tokens.special[span] for span in spans], 1)
        trained = texts[0] < len(self._order)
        epoch = self._order.epoch if trained else _HELD_OUT
        drawn = np.random.default_rng([self._seed, epoch + 1, *texts]).integers(2**62)
        self._collator.generator = torch.Generator().manual_seed(int(drawn))
        labels = torch.full(ids.shape, _NOT_ASKED)
        inputs = torch.from_numpy(ids)
        while bool((labels == _NOT_ASKED).all()):  # few tokens may get no mask at first
            inputs, labels = self._collator.torch_mask_tokens(
                torch.from_numpy(ids.copy()), special_tokens_mask=torch.from_numpy(special)
            )
        return {"input_ids": inputs, "attention_mask": torch.from_numpy(mask), "labels": labels}
