"""Poolings of all tokens, without learned weights.

mean and mean_sqrt_len are those of Sentence-BERT (Reimers and Gurevych 2019) and its library;
weighted_mean is the position-weighted mean of SGPT (Muennighoff 2022), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.segments import segment_max, segment_sum

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


def maximum(states: TokenStates) -> Tensor:
    """(texts, dim): max over i of h_i, elementwise."""
    return segment_max(states, states.only)


def mean(states: TokenStates) -> Tensor:
    """(texts, dim): sum(h_i) / n."""
    return segment_sum(states, states.only) / _count(states)


def mean_sqrt_len(states: TokenStates) -> Tensor:
    """(texts, dim): sum(h_i) / sqrt(n)."""
    return segment_sum(states, states.only) / _count(states).sqrt()


def weighted_mean(states: TokenStates) -> Tensor:
    """(texts, dim): sum(i h_i) / sum(i), i the position of a token in its text from 1."""
    positions = states.batch.positions + states.first_position
    weights = positions.to(states.only.dtype).unsqueeze(1)
    return segment_sum(states, states.only * weights) / segment_sum(states, weights)


def _count(states: TokenStates) -> Tensor:
    return states.batch.offsets.diff().to(states.only.dtype).unsqueeze(1)
