"""Hidden states of a packed batch: one flat row of tokens with offsets, without padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.errors import InputError
from embedkit.tokenization.token_batch import TokenBatch


@dataclass(frozen=True)
class TokenStates:
    """What an encoder returns and every pooling reads."""

    layers: Mapping[int, Tensor]  # number -> (tokens, dim); 0 is the input of the first layer
    batch: TokenBatch  # the tokens behind the rows
    pooler_output: Tensor | None = None  # (texts, dim) tanh(W h_cls + b), where it was asked for
    first_position: int = 1  # of a text's first row in it; above 1 without the prompt
    token_weights: Tensor | None = None  # (vocabulary,), where a pooling weighs tokens
    query: Tensor | None = None  # (dim,), which attention compares tokens with

    def __post_init__(self) -> None:
        for index, state in self.layers.items():
            if state.ndim != 2 or len(state) != len(self.batch.token_ids):
                raise ValueError(
                    f"hidden state {index} must have shape ({len(self.batch.token_ids)}, dim), "
                    f"got {tuple(state.shape)}"
                )

    @classmethod
    def from_padded(
        cls,
        hidden: Tensor | Mapping[int, Tensor],  # (texts, length, dim), or several by number
        mask: Tensor,  # (texts, length), 1 for tokens; padding may be on either side
        token_ids: Tensor | None = None,  # (texts, length) of integers, where a pooling reads them
        special: Tensor | None = None,  # (texts, length), 1 for special tokens
        pooler_output: Tensor | None = None,  # (texts, dim), where a pooling reads it
    ) -> TokenStates:
        """Pack hidden states from outside, such as transformers' last_hidden_state."""
        layers = {0: hidden} if isinstance(hidden, Tensor) else hidden
        kept = _check_mask(mask)
        parts = {"input_ids": token_ids, "special_tokens_mask": special}
        parts |= {f"hidden state {index}": state for index, state in layers.items()}
        for name, part in parts.items():
            if part is not None and not isinstance(part, Tensor):
                raise InputError(f"{name} is a {type(part).__name__}; expected a tensor")
            if part is not None and part.shape[:2] != mask.shape:
                raise InputError(
                    f"{name} has shape {tuple(part.shape)}, and the attention mask "
                    f"{tuple(mask.shape)}; expected the same rows and length"
                )
        if pooler_output is not None and len(pooler_output) != len(mask):
            raise InputError(
                f"pooler_output has {len(pooler_output)} rows, and the attention mask {len(mask)}; "
                "expected as many"
            )
        if pooler_output is not None and not kept[:, 0].all():
            raise InputError(
                "pooler_output is of the first column, which the attention mask leaves out in row "
                f"{int(kept[:, 0].int().argmin())}; expected padding on the right"
            )
        offsets = F.pad(kept.sum(1).cumsum(0), (1, 0))
        batch = TokenBatch(
            (torch.zeros_like(kept) if token_ids is None else token_ids)[kept].long(),
            offsets,
            (torch.zeros_like(kept) if special is None else special)[kept].bool(),
        )
        packed = {index: state[kept] for index, state in layers.items()}
        return cls(packed, batch, pooler_output)

    @property
    def only(self) -> Tensor:
        """(tokens, dim): the one layer, which poolings reduce; see `average`."""
        if len(self.layers) != 1:
            raise ValueError(f"expected the one layer that average leaves, got {list(self.layers)}")
        return next(iter(self.layers.values()))

    def average(self, layers: tuple[int, ...], weights: Tensor | None = None) -> TokenStates:
        """The same tokens with one layer, the mean of the given ones, or their weighted sum.

        It is float32, or float64 where the states are.
        """
        chosen = [self.layers[index] for index in layers]
        states = [state.to(torch.promote_types(state.dtype, torch.float32)) for state in chosen]
        if weights is not None:
            stacked = torch.stack(states)
            mean = (stacked * weights.to(stacked.dtype).view(-1, 1, 1)).sum(0)
        else:
            mean = states[0] if len(states) == 1 else torch.stack(states).mean(0)
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
            self.query,
        )


def _check_mask(mask: Tensor) -> Tensor:
    """The mask as bool, each row one run of tokens."""
    shape = getattr(mask, "shape", ())
    if not isinstance(mask, Tensor) or len(shape) != 2 or not len(mask):
        raise InputError(
            f"the attention mask is a {type(mask).__name__} of shape {tuple(shape)}; expected a "
            "tensor (texts, length), of one text at least"
        )
    kept = mask.bool()
    starts = (F.pad(kept.int(), (1, 0)).diff() > 0).sum(1)
    flaws = {
        "has values other than 0 and 1; expected 1 for tokens and 0 for padding": (
            (mask != kept.to(mask.dtype)).any(1)
        ),
        "has no tokens; expected at least one": starts == 0,
        "has padding between tokens; expected it on one side": starts > 1,
    }
    if torch.stack([*flaws.values()]).any():  # one wait for a GPU
        for flaw, rows in flaws.items():
            if rows.any():
                raise InputError(f"row {int(rows.nonzero()[0])} of the attention mask {flaw}")
    return kept
