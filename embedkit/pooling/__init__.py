"""The poolings, one table: names, order, help texts and tests all derive from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from embedkit.pooling.first_last import cls, last
from embedkit.pooling.maximum import maximum
from embedkit.pooling.means import mean, mean_sqrt_len, weighted_mean
from embedkit.pooling.pooler import pooler

if TYPE_CHECKING:
    from torch import Tensor

    from embedkit.states import TokenStates


class Pooling(NamedTuple):
    """A row of the table.

    Attributes:
        name: what a recipe says.
        reduce: packed states -> (texts, width).
        formula: the vector of a text with token vectors h_1 ... h_n.
        note: when one would choose it.
        sentence_transformers: its name in sentence-transformers 5.4 and later, or None.
        legacy_key: its key in the folders of sentence-transformers up to 5.3, or None.
    """

    name: str
    reduce: Callable[[TokenStates], Tensor]
    formula: str
    note: str
    sentence_transformers: str | None
    legacy_key: str | None


# In sentence-transformers' order of concatenation.
_ROWS = (
    Pooling(
        "cls",
        cls,
        "h_1",
        "the first token; many retrieval models are trained for it",
        "cls",
        "pooling_mode_cls_token",
    ),
    Pooling(
        "max",
        maximum,
        "max over i of h_i",
        "the strongest token of each dimension",
        "max",
        "pooling_mode_max_tokens",
    ),
    Pooling(
        "mean",
        mean,
        "sum(h_i) / n",
        "the usual choice for sentence similarity",
        "mean",
        "pooling_mode_mean_tokens",
    ),
    Pooling(
        "mean_sqrt_len",
        mean_sqrt_len,
        "sum(h_i) / sqrt(n)",
        "the direction of mean; longer texts get longer vectors",
        "mean_sqrt_len_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
    ),
    Pooling(
        "weighted_mean",
        weighted_mean,
        "sum(i h_i) / sum(i)",
        "later tokens count more; made for decoders",
        "weightedmean",
        "pooling_mode_weightedmean_tokens",
    ),
    Pooling(
        "last",
        last,
        "h_n",
        "the last token: for decoders; [SEP] in BERT",
        "lasttoken",
        "pooling_mode_lasttoken",
    ),
    Pooling(
        "pooler",
        pooler,
        "tanh(W h_1 + b)",
        "BERT's pooler_output, if the checkpoint has its weights",
        None,
        None,
    ),
)

POOLINGS: dict[str, Pooling] = {row.name: row for row in _ROWS}


def pooling_table() -> str:
    """The table as Markdown, as the README shows it."""
    lines = ["| pooling | vector of a text | |", "| --- | --- | --- |"]
    lines += [f"| `{row.name}` | {row.formula} | {row.note} |" for row in _ROWS]
    return "\n".join(lines)
