"""The largest value of each dimension over a text's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def maximum(states: TokenStates) -> Tensor:
    """(texts, dim): max over i of h_i, elementwise."""
    return segment_max(states, states.only)


def segment_max(states: TokenStates, rows: Tensor) -> Tensor:
    """(texts, dim): the largest values of the rows (tokens, dim) of each text."""
    text_of_value = states.batch.segments.unsqueeze(1).expand_as(rows)
    lowest = rows.new_full((len(states.batch.lengths), rows.shape[1]), -float("inf"))
    return lowest.scatter_reduce_(0, text_of_value, rows, "amax")
