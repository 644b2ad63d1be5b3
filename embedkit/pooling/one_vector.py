"""Poolings that take one vector of the text: the first token's (`cls`), the last's, BERT's own."""

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


def pooler(states: TokenStates) -> Tensor:
    """(texts, dim): tanh(W h_1 + b) with the checkpoint's weights (Devlin et al. 2019)."""
    if states.pooler_output is None:
        raise ValueError("these states were computed without pooler_output")
    return states.pooler_output
