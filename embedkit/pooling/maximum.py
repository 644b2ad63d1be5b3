"""The largest value of each dimension over a text's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.segments import segment_max

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def maximum(states: TokenStates) -> Tensor:
    """(texts, dim): max over i of h_i, elementwise."""
    return segment_max(states, states.only)
