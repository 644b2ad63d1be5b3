"""A mean whose weights are learned: a query says how much each token counts.

Felbo et al. 2017, "Using millions of emoji occurrences to learn any-domain representations for
detecting sentiment, emotion and sarcasm", section 3.2: weights a = softmax(q . h_i) over the tokens
of a text. With the query 0 it is `mean`, where training begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.segments import segment_max, segment_sum

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def attention(states: TokenStates) -> Tensor:
    """(texts, dim): sum(a_i h_i), a = softmax over the text's tokens of q . h_i."""
    if states.query is None:
        raise ValueError("these states have no query")
    scores = (states.only * states.query).sum(1, keepdim=True)
    highest = segment_max(states, scores.detach())
    weights = (scores - highest[states.batch.segments]).exp()
    return segment_sum(states, states.only * weights) / segment_sum(states, weights)
