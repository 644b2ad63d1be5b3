"""Poolings that take one token of the text: the first (`cls`) or the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def cls(states: TokenStates) -> Tensor:
    """(texts, dim): the first token's vector; in BERT that token is [CLS]."""
    return states.only[states.batch.offsets[:-1]]


def last(states: TokenStates) -> Tensor:
    """(texts, dim): the last token's vector, special or not."""
    return states.only[states.batch.offsets[1:] - 1]
