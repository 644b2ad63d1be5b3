"""Reductions over the tokens of each text of a packed batch, which poolings are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def segment_sum(states: TokenStates, rows: Tensor) -> Tensor:
    """(texts, dim): the sum of the rows (tokens, dim) of each text."""
    # Blocks of one length, because torch's sum is pairwise: adding rows one by one loses digits.
    total = rows.new_empty(len(states.batch.lengths), rows.shape[1])
    for run in states.batch.runs:
        total[run.texts] = rows[run.tokens].view(-1, run.length, rows.shape[1]).sum(1)
    return total


def segment_max(states: TokenStates, rows: Tensor) -> Tensor:
    """(texts, dim): the largest values of the rows (tokens, dim) of each text."""
    text_of_value = states.batch.segments.unsqueeze(1).expand_as(rows)
    lowest = rows.new_full((len(states.batch.lengths), rows.shape[1]), -float("inf"))
    return lowest.scatter_reduce_(0, text_of_value, rows, "amax")
