"""Sentence pairs to token ids: both sentences of a pair in one row, for cross-encoders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.data.texts import as_pairs
from embedkit.tokenization.batching import padded
from embedkit.tokenization.tokenizer import TextTokenizer


@dataclass(frozen=True, eq=False)
class PairTokens:
    """Tokens of n pairs."""

    token_ids: list[NDArray[np.int64]]  # of each pair, (tokens,)
    type_ids: list[NDArray[np.int64]]  # 0 for the first sentence, 1 for the second, as in BERT
    truncated: NDArray[np.bool_]  # (n,), pairs that were truncated to the maximum length

    @classmethod
    def of(cls, tokenizer: TextTokenizer, pairs: Iterable[Sequence[str]]) -> PairTokens:
        """Tokenize; in a pair that is too long, the longer sentence is truncated."""
        texts = list(zip(*as_pairs(pairs), strict=True))
        ids, types, truncated = [], [], []
        for token_ids, encoding in tokenizer.encodings(texts):
            ids.append(token_ids.astype(np.int64))
            types.append(np.array(encoding.type_ids, dtype=np.int64))
            truncated.append(bool(encoding.overflowing))
        return cls(ids, types, np.array(truncated, dtype=np.bool_))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each pair."""
        return np.array([len(row) for row in self.token_ids], dtype=np.int64)

    def inputs(self, pairs: Sequence[int] | NDArray[np.int64], pad_id: int) -> dict[str, Tensor]:
        """The pairs at these indices as inputs of transformers, (pairs, longest) each."""
        token_ids = [self.token_ids[pair] for pair in pairs]
        named = {
            "input_ids": padded(token_ids, pad_id),
            "attention_mask": padded([np.ones_like(row) for row in token_ids], 0),
            "token_type_ids": padded([self.type_ids[pair] for pair in pairs], 0),
        }
        return {name: torch.from_numpy(values) for name, values in named.items()}
