"""BERT's own sentence vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


def pooler(states: TokenStates) -> Tensor:
    """(texts, dim): tanh(W h_1 + b) with the checkpoint's weights (Devlin et al. 2019)."""
    if states.pooler_output is None:
        raise ValueError("these states were computed without pooler_output")
    return states.pooler_output
