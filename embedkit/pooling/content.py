"""Poolings without special tokens ([CLS], [SEP], ...).

Special tokens carry no word, and in BERT's upper layers much of the attention goes to them (Clark
et al. 2019, "What does BERT look at?", section 3.2). A text without other tokens, such as the empty
one, has the zero vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.segments import segment_max, segment_sum

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def mean_content(states: TokenStates) -> Tensor:
    """(texts, dim): sum(h_i) / n over the n tokens that are not special."""
    return content_sum(states, states.only) / content_count(states)


def max_content(states: TokenStates) -> Tensor:
    """(texts, dim): max of h_i, elementwise, over the tokens that are not special."""
    special = states.batch.special.unsqueeze(1)
    highest = segment_max(states, states.only.masked_fill(special, -float("inf")))
    empty = segment_sum(states, (~special).to(highest.dtype)) == 0
    return highest.masked_fill(empty, 0)


def content_sum(states: TokenStates, rows: Tensor) -> Tensor:
    """(texts, dim): the sum of the rows (tokens, dim) of tokens that are not special."""
    return segment_sum(states, rows.masked_fill(states.batch.special.unsqueeze(1), 0))


def content_count(states: TokenStates) -> Tensor:
    """(texts, 1): how many tokens are not special, or 1 where none is."""
    content = (~states.batch.special).unsqueeze(1).to(states.only.dtype)
    return segment_sum(states, content).clamp(min=1)
