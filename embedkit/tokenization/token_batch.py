"""Packed batches: the tokens of some texts in one flat row with offsets, without padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


def _check_offsets(offsets: Tensor, tokens: int) -> None:
    if offsets.ndim != 1 or offsets.dtype != torch.int64 or len(offsets) < 2:
        raise ValueError(
            f"offsets must be int64 (texts + 1,), got {offsets.dtype} {tuple(offsets.shape)}"
        )
    if int(offsets[0]) != 0 or int(offsets[-1]) != tokens or bool((offsets.diff() < 1).any()):
        raise ValueError(f"offsets must rise from 0 to the {tokens} tokens, got {offsets.tolist()}")


class Run(NamedTuple):
    """Neighbouring texts of one length."""

    texts: slice
    tokens: slice  # the indices of their tokens
    length: int


@dataclass(frozen=True)
class TokenBatch:
    """The input of an encoder."""

    token_ids: Tensor  # (tokens,) int64, text after text
    offsets: Tensor  # (texts + 1,) int64; text i is `token_ids[offsets[i]:offsets[i + 1]]`
    special: Tensor  # (tokens,) bool, True for tokens that the tokenizer added ([CLS], [SEP], ...)
    # whether a text must get the same bits whatever else is in the batch; then an encoder
    # runs each text by itself instead of laying some together for speed
    batch_invariant: bool = False

    def __post_init__(self) -> None:
        if self.token_ids.ndim != 1 or self.token_ids.dtype != torch.int64:
            raise ValueError(
                "token_ids must be int64 (tokens,), got "
                f"{self.token_ids.dtype} {tuple(self.token_ids.shape)}"
            )
        if self.offsets.device.type == "cpu":  # those elsewhere came from here
            _check_offsets(self.offsets, len(self.token_ids))
        if self.special.dtype != torch.bool or self.special.shape != self.token_ids.shape:
            raise ValueError("special must be bool and of the same shape as token_ids")

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        lengths: list[int] = self.offsets.diff().tolist()
        return lengths

    @cached_property
    def runs(self) -> list[Run]:
        """Neighbours of one length: their tokens are one (texts, length) block."""
        runs = []
        text = token = 0
        for length, group in groupby(self.lengths):
            texts = len(list(group))
            end = token + texts * length
            runs.append(Run(slice(text, text + texts), slice(token, end), length))
            text, token = text + texts, end
        return runs

    @cached_property
    def segments(self) -> Tensor:
        """(tokens,) int64: the text that each token belongs to."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(
            torch.arange(len(counts), device=counts.device),
            counts,
            output_size=len(self.token_ids),
        )

    @cached_property
    def positions(self) -> Tensor:
        """(tokens,) int64: the position of each token in its text, from 0."""
        tokens = torch.arange(len(self.token_ids), device=self.offsets.device)
        return tokens - self.offsets[self.segments]

    def to(self, device: torch.device) -> TokenBatch:
        """A copy on a device, made asynchronously; `lengths` stays known on the host."""
        if device == self.offsets.device:
            return self
        pin = device.type == "cuda"
        token_ids, offsets, special = (
            (part.pin_memory() if pin else part).to(device, non_blocking=pin)
            for part in (self.token_ids, self.offsets, self.special)
        )
        copy = TokenBatch(token_ids, offsets, special, self.batch_invariant)
        return copy._with_lengths(self.lengths)

    def without_first(self, tokens: int) -> tuple[TokenBatch, Tensor]:
        """The batch without the first tokens of each text, and (tokens left,) rows that stay."""
        texts = len(self.lengths)
        dropped = torch.arange(texts + 1, device=self.offsets.device) * tokens
        offsets = self.offsets - dropped
        rows = torch.arange(len(self.token_ids) - texts * tokens, device=self.offsets.device)
        rows = rows + torch.repeat_interleave(dropped[1:], offsets.diff(), output_size=len(rows))
        shorter = TokenBatch(
            self.token_ids[rows], offsets, self.special[rows], self.batch_invariant
        )
        return shorter._with_lengths([length - tokens for length in self.lengths]), rows

    def _with_lengths(self, lengths: list[int]) -> TokenBatch:
        self.__dict__["lengths"] = lengths  # reading them from a device would wait for it
        return self
