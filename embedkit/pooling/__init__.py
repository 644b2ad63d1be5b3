"""The poolings, one table: names, order, help texts, documentation and tests derive from it.

Example:
    >>> import torch
    >>> from embedkit.encoders.states import TokenStates
    >>> hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [0.0, 0.0]]])
    >>> mask = torch.tensor([[1, 1], [1, 0]])
    >>> states = TokenStates.from_padded(hidden, mask)
    >>> POOLINGS["mean"].reduce(states).tolist()
    [[2.0, 3.0], [5.0, 6.0]]
    >>> POOLINGS["max"].reduce(states).tolist()
    [[3.0, 4.0], [5.0, 6.0]]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from embedkit.pooling.attention import attention
from embedkit.pooling.content import max_content, mean_content
from embedkit.pooling.idf import idf_mean
from embedkit.pooling.plain import cls, last, maximum, mean, mean_sqrt_len, pooler, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.encoders.states import TokenStates


class PoolingSpec(NamedTuple):
    """A row of the table."""

    name: str  # in a recipe
    reduce: Callable[[TokenStates], Tensor]  # packed states -> (texts, dim)
    formula: str  # the vector of a text with token vectors h_1 ... h_n
    note: str  # when one would choose it
    note_ko: str
    sentence_transformers: str | None = None  # its name there, from 5.4
    legacy_key: str | None = None  # its key in the folders of sentence-transformers up to 5.3
    fitted: bool = False  # whether it learns token weights from texts
    trained: bool = False  # whether it has a query, which is trained with the encoder
    content: bool = False  # whether it reads which tokens are special


# First those of sentence-transformers, in its order of concatenation; a new row goes behind them.
_ROWS = (
    PoolingSpec(
        "cls",
        cls,
        "h_1",
        "the first token; many retrieval models are trained for it",
        "첫 토큰. 이 방식으로 학습한 검색 모델이 많다",
        sentence_transformers="cls",
        legacy_key="pooling_mode_cls_token",
    ),
    PoolingSpec(
        "max",
        maximum,
        "max over i of h_i",
        "the strongest token of each dimension",
        "차원마다 가장 큰 값",
        sentence_transformers="max",
        legacy_key="pooling_mode_max_tokens",
    ),
    PoolingSpec(
        "mean",
        mean,
        "sum(h_i) / n",
        "the usual choice for sentence similarity",
        "문장 유사도에 가장 널리 쓰인다",
        sentence_transformers="mean",
        legacy_key="pooling_mode_mean_tokens",
    ),
    PoolingSpec(
        "mean_sqrt_len",
        mean_sqrt_len,
        "sum(h_i) / sqrt(n)",
        "the direction of mean; longer texts get longer vectors",
        "방향은 mean과 같고, 긴 텍스트일수록 벡터가 길다",
        sentence_transformers="mean_sqrt_len_tokens",
        legacy_key="pooling_mode_mean_sqrt_len_tokens",
    ),
    PoolingSpec(
        "weighted_mean",
        weighted_mean,
        "sum(i h_i) / sum(i)",
        "later tokens count more; made for decoders",
        "뒤쪽 토큰일수록 비중이 크다. 디코더용",
        sentence_transformers="weightedmean",
        legacy_key="pooling_mode_weightedmean_tokens",
    ),
    PoolingSpec(
        "last",
        last,
        "h_n",
        "the last token: for decoders; [SEP] in BERT",
        "마지막 토큰. 디코더용이며 BERT에서는 [SEP]",
        sentence_transformers="lasttoken",
        legacy_key="pooling_mode_lasttoken",
    ),
    PoolingSpec(
        "mean_content",
        mean_content,
        "sum(h_i) / n over content tokens",
        "mean without special tokens",
        "특수 토큰을 뺀 mean",
        content=True,
    ),
    PoolingSpec(
        "max_content",
        max_content,
        "max over content tokens of h_i",
        "max without special tokens",
        "특수 토큰을 뺀 max",
        content=True,
    ),
    PoolingSpec(
        "idf_mean",
        idf_mean,
        "sum(w_i h_i) / n over content tokens, w = a / (a + p)",
        "frequent tokens count less (SIF, a = 0.001); p is a token's share of the fit texts",
        "흔한 토큰일수록 비중이 작다(SIF, a = 0.001). p는 학습 텍스트에서 토큰이 차지하는 비율",
        fitted=True,
        content=True,
    ),
    PoolingSpec(
        "attention",
        attention,
        "sum(a_i h_i), a = softmax(q · h_i)",
        "a learned query q weighs the tokens; it is trained with the encoder",
        "학습한 쿼리 q로 토큰에 가중치를 준다. 인코더와 함께 학습한다",
        trained=True,
    ),
    PoolingSpec(
        "pooler",
        pooler,
        "tanh(W h_1 + b)",
        "BERT's pooler_output, if the checkpoint has its weights",
        "BERT의 pooler_output. 체크포인트에 가중치가 있을 때만 쓸 수 있다",
    ),
)

POOLINGS: dict[str, PoolingSpec] = {row.name: row for row in _ROWS}
