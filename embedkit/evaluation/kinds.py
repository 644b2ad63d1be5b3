"""The kinds of data, and what each is scored by."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A row of the table.

    Attributes:
        main: the metric that decides what is best.
        title: the same as titles say it.
        others: metrics that tables show beside.
        metrics: what all of them are called.
        units: what a value is made of, and intervals are drawn from.
    """

    main: str
    title: str
    others: tuple[str, ...]
    metrics: str
    units: str


PAIRS = Kind("spearman", "Spearman", ("pearson",), "correlations", "pairs")
RETRIEVAL = Kind(
    "ndcg@10", "nDCG@10", ("recall@100", "mrr@10", "map"), "retrieval metrics", "queries"
)
KINDS = (PAIRS, RETRIEVAL)
MAIN = tuple(kind.main for kind in KINDS)
OTHERS = tuple(metric for kind in KINDS for metric in kind.others)
