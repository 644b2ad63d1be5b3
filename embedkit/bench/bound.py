"""The matrix products of an encoder alone: no encoder with these linears is faster."""

from __future__ import annotations

from collections.abc import Callable

import torch

from embedkit.batching import TOKEN_BUDGET
from embedkit.encoder import Encoder
from embedkit.encoder.linear import Affine, Linear, ready
from embedkit.encoder.packed import PackedEncoder


def products(encoder: Encoder, dtype: torch.dtype, tokens: int) -> Callable[[], None] | None:
    """A job of the linears of all layers over so many tokens, in batches of the token budget.

    Attention, layer norms, activations, the embeddings and the tokenizer are left out.

    Args:
        encoder: its shapes count, on the device where it is.
        dtype: of the products.
        tokens: of all texts.

    Returns:
        The job, or None for an encoder that is not ours to run.
    """
    if not isinstance(encoder, PackedEncoder):
        return None
    device = encoder.device
    linears: list[tuple[Linear, int]] = []
    for width, inside in encoder.linear_shapes:
        weight = torch.full((width, inside), 0.01, device=device, dtype=dtype)
        linears.append((ready(Affine(weight, weight[:, 0].contiguous())), inside))
    whole, rest = divmod(tokens, TOKEN_BUDGET)
    sizes = [TOKEN_BUDGET] * whole + [rest] * (rest > 0)
    inputs = {
        (size, inside): torch.ones(size, inside, device=device, dtype=dtype)
        for size in set(sizes)
        for _, inside in linears
    }

    def job() -> None:
        with torch.inference_mode():
            for size in sizes:
                for _ in range(encoder.num_layers):
                    for linear, inside in linears:
                        linear(inputs[size, inside])
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return job
