"""Retrieval sets in folders, as BEIR lays them out, and trec_eval's values for them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytrec_eval

# What trec_eval calls our metrics; its recip_rank has no cut, so the ranking is cut for it.
MEASURES = {
    "ndcg@10": ("ndcg_cut_10", 1000),
    "recall@100": ("recall_100", 1000),
    "mrr@10": ("recip_rank", 10),
    "map": ("map", 1000),
}

Scores = Mapping[str, Mapping[str, float]]
Judgements = Mapping[str, Mapping[str, int]]


def write(
    folder: Path,
    documents: Sequence[Mapping[str, object]],
    queries: Sequence[Mapping[str, object]],
    qrels: str,
    *,
    qrels_name: str = "qrels/test.tsv",
    packed: bool = False,
) -> Path:
    """A retrieval set on disk."""
    files = {
        "corpus.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents),
        "queries.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in queries),
        qrels_name: qrels,
    }
    for name, text in files.items():
        path = folder / (name + ".gz" * packed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return folder


def trec_eval(judgements: Judgements, scores: Scores) -> dict[str, list[float]]:
    """A value a query for each of our metrics, from trec_eval itself."""
    values = {}
    for metric, (measure, depth) in MEASURES.items():
        run = {}
        for query, of_documents in scores.items():
            ranked = sorted(of_documents.items(), key=lambda item: (item[1], item[0]), reverse=True)
            run[query] = {name: float(np.float32(score)) for name, score in ranked[:depth]}
        found = pytrec_eval.RelevanceEvaluator(
            {query: dict(judged) for query, judged in judgements.items()},
            {measure.replace("_cut_10", "_cut.10").replace("recall_", "recall.")},
        ).evaluate(run)
        values[metric] = [found[query][measure] for query in judgements]
    return values
