"""A mean in which frequent tokens count less.

The smooth inverse frequency of Arora, Liang and Ma (2017), "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings", algorithm 1: (1 / |s|) sum over the tokens of a / (a + p(token)) h_i, with
a = 1e-3, and p(token) a token's share of all tokens in the texts that it is fitted on. A token that
is not in those texts has weight 1. Their second step, to project out the first direction, is the
step `remove_top:1`, except that `remove_top` subtracts the mean first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.pooling.content import content_count, content_sum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from embedkit.encoders.states import TokenStates

SMOOTHING = 1e-3


def idf_weights(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """a / (a + p): (vocabulary,) float32, from how often each token occurs."""
    shares = counts / max(1, counts.sum())
    weights: NDArray[np.float32] = (SMOOTHING / (SMOOTHING + shares)).astype("float32")
    return weights


def idf_mean(states: TokenStates) -> Tensor:
    """(texts, dim): sum(w_i h_i) / n over the n tokens that are not special."""
    if states.token_weights is None:
        raise ValueError("these states have no token_weights")
    weights = states.token_weights[states.batch.token_ids].unsqueeze(1)
    return content_sum(states, states.only * weights) / content_count(states)
