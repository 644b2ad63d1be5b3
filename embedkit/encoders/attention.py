"""Attention over packed texts (Vaswani et al. 2017, equation 1), each text for itself."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.tokenization.token_batch import TokenBatch

# torch's kernel for the CPU is slow below so many tokens: 2,048 tokens in texts of 8 take 3.35 ms,
# and laid together in rows of 32 tokens 1.33 ms (12 heads of 32, a CPU with AMX).
_SHORT, _ROW = 16, 32


def attend(qkv: Tensor, batch: TokenBatch, heads: int) -> Tensor:
    """(tokens, 3 dim) of queries, keys and values side by side -> (tokens, dim) of mixed values."""
    split = qkv.view(len(qkv), 3, heads, -1)
    if qkv.is_cuda and _packs(qkv.device, qkv.dtype, *split.shape[2:]):
        return _attend_packed(split, batch.offsets, max(batch.lengths))
    laid = qkv.device.type == "cpu" and not batch.batch_invariant
    runs = [_attend_run(split[run.tokens], run.length, laid=laid) for run in batch.runs]
    return runs[0] if len(runs) == 1 else torch.cat(runs)


def _attend_run(qkv: Tensor, length: int, *, laid: bool = False) -> Tensor:
    """(tokens, 3, heads, size) of texts of one length -> (tokens, dim).

    `laid`: short texts share rows, in which each sees its own tokens only. The last bits of a text
    then depend on its place in the row.
    """
    together = _ROW // length if laid and length < _SHORT else 1
    whole = len(qkv) // (together * length) * together * length
    if together == 1 or whole == 0:
        return _attend_rows(qkv, length)
    owners = torch.arange(together).repeat_interleave(length)
    mixed = _attend_rows(qkv[:whole], together * length, owners[:, None] == owners)
    return torch.cat([mixed, _attend_rows(qkv[whole:], length)]) if whole < len(qkv) else mixed


def _attend_rows(qkv: Tensor, length: int, mask: Tensor | None = None) -> Tensor:
    """(tokens, 3, heads, size) in rows of one length -> (tokens, dim)."""
    _, _, heads, size = qkv.shape
    q, k, v = qkv.view(-1, length, 3, heads, size).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(-1, heads * size)


def _attend_packed(qkv: Tensor, offsets: Tensor, longest: int) -> Tensor:
    """(tokens, 3, heads, size) of texts of any lengths -> (tokens, dim), in one call."""
    # Not at the top: it loads torch's compiler, which takes a second. torch has it from 2.10 on.
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv.unbind(1)
    starts = offsets.int()
    mixed: Tensor = varlen_attn(q, k, v, starts, starts, longest, longest)  # type: ignore[assignment]
    return mixed.reshape(len(qkv), -1)


@cache
def _packs(device: torch.device, dtype: torch.dtype, heads: int, size: int) -> bool:
    """Whether torch packs texts of differing lengths on this GPU, and computes what we mean."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(8, 3, heads, size, generator=generator).to(device, dtype)
    try:
        packed = _attend_packed(qkv, torch.tensor([0, 3, 8], device=device), 5)
    except (ImportError, NotImplementedError, RuntimeError, TypeError):
        return False
    plain = torch.cat([_attend_run(qkv[:3], 3), _attend_run(qkv[3:], 5)])
    return torch.allclose(packed, plain, rtol=0.02, atol=0.02)
