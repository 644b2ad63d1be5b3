"""Hidden states of a packed batch: one flat row of tokens with offsets, without padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from embedkit.tokenization.token_batch import TokenBatch


@dataclass(frozen=True)
class TokenStates:
    """What an encoder returns and every pooling reads.

    Attributes:
        layers: hidden state k -> (tokens, dim), floats; 0 is the input of the first layer.
        batch: the tokens behind the rows.
        pooler_output: (texts, dim) tanh(W h_cls + b), where it was asked for.
        first_position: the place of each text's first row in its text, counted from 1; above 1 when
            the prompt was left out.
        token_weights: (vocabulary,) what a token counts, where a pooling asks for it.

    Example:
        >>> hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [0.0, 0.0]]])
        >>> mask = torch.tensor([[1, 1], [1, 0]])
        >>> states = TokenStates.from_padded(hidden, mask, token_ids=torch.zeros_like(mask))
        >>> states.only.tolist(), states.batch.offsets.tolist()
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 2, 3])
    """

    layers: Mapping[int, Tensor]
    batch: TokenBatch
    pooler_output: Tensor | None = None
    first_position: int = 1
    token_weights: Tensor | None = None

    def __post_init__(self) -> None:
        for index, state in self.layers.items():
            if state.ndim != 2 or len(state) != len(self.batch.token_ids):
                raise ValueError(
                    f"hidden state {index} must have shape ({len(self.batch.token_ids)}, dim), "
                    f"got {tuple(state.shape)}"
                )

    @classmethod
    def from_padded(cls, hidden: Tensor, mask: Tensor, token_ids: Tensor) -> TokenStates:
        """Pack one hidden state from outside, such as transformers' last_hidden_state.

        Args:
            hidden: (texts, length, dim).
            mask: (texts, length), 1 for tokens and 0 for padding, which may be on either side.
            token_ids: (texts, length) int64.
        """
        kept = mask.bool()
        offsets = torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0))
        tokens = token_ids[kept]
        batch = TokenBatch(tokens, offsets, torch.zeros_like(tokens, dtype=torch.bool))
        return cls({0: hidden[kept]}, batch)

    @property
    def only(self) -> Tensor:
        """(tokens, dim): the one layer, which poolings reduce; see `average`."""
        if len(self.layers) != 1:
            raise ValueError(f"expected the one layer that average leaves, got {list(self.layers)}")
        return next(iter(self.layers.values()))

    def average(self, layers: tuple[int, ...]) -> TokenStates:
        """The same tokens with one layer, float32, the mean of the given ones."""
        if len(layers) == 1:
            mean = self.layers[layers[0]].float()
        else:
            mean = torch.stack([self.layers[index].float() for index in layers]).mean(0)
        return replace(self, layers={layers[-1]: mean})

    def without_prompt(self, prompt_tokens: int) -> TokenStates:
        """Leave out the first tokens of each text; every text must have more than that."""
        if prompt_tokens == 0:
            return self
        batch, rows = self.batch.without_first(prompt_tokens)
        return TokenStates(
            {index: state[rows] for index, state in self.layers.items()},
            batch,
            self.pooler_output,
            self.first_position + prompt_tokens,
            self.token_weights,
        )
