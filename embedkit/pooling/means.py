"""Weighted sums over a text's tokens.

mean and mean_sqrt_len are those of Sentence-BERT (Reimers and Gurevych 2019) and its library;
weighted_mean is the position-weighted mean of SGPT (Muennighoff 2022), section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.segments import segment_sum

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def _count(states: TokenStates) -> Tensor:
    return states.batch.offsets.diff().to(states.only.dtype).unsqueeze(1)


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
