"""What fewer dimensions and coarser numbers cost in retrieval: nDCG@10, recall@10 and bytes.

    python benchmarks/compressed.py SET DOCUMENTS QUERIES [--dimension 256 --dimension 128]
        [--out results.json] [--table table.md]

SET is a folder in BEIR's layout; DOCUMENTS and QUERIES are folders of `embedkit encode` of its
corpus (titles and texts) and its queries by one model, of which a Matryoshka model may be cut by
`truncate:K` without a loss to speak of. Dimensions are reduced by the recipe steps pca:K, fitted on
the documents, and truncate:K, then by normalize. Kinds are flat (float32), SQ8 (int8) and RaBitQ
(binary), alone and rescored by the float32 vectors on disk, 10 candidates a hit. recall@10 is that
of the hits of float32 in all dimensions; bytes are those of a vector's code in memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytrec_eval
from figures import tell

from embedkit import VectorIndex, Vectors, read_retrieval
from embedkit.recipes.fitting import fit_affine
from embedkit.recipes.streaming_covariance import StreamingCovariance

K = 10
KINDS = {"float32": "flat", "int8": "SQ8", "binary": "RaBitQ"}


def reductions(
    documents: np.ndarray, dimensions: list[int]
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    covariance = StreamingCovariance(documents.shape[1])
    covariance.add(documents)
    maps: dict[str, Callable[[np.ndarray], np.ndarray]] = {"all": lambda x: x}
    for k in dimensions:
        maps[f"pca:{k}"], _ = fit_affine([f"pca:{k}"], covariance)
    for k in dimensions:
        maps[f"truncate:{k}"] = lambda x, k=k: np.ascontiguousarray(x[:, :k])
    return maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--dimension", type=int, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    data = read_retrieval(options.set)
    documents = Vectors.open(options.documents)
    stored, names = documents.to_numpy(), documents.ids.to_pylist()
    asked = [name for name in data.judgements if name in data.queries]
    queries = Vectors.open(options.queries).get(asked)
    evaluator = pytrec_eval.RelevanceEvaluator(
        {name: dict(data.judgements[name]) for name in asked}, {"ndcg_cut.10"}
    )
    exact: list[set[str]] = []
    rows = []
    for reduction, reduce in reductions(stored, options.dimension or [256, 128]).items():
        for precision, kind in KINDS.items():
            index = VectorIndex.build(reduce(stored), ids=names, kind=kind, similarity="cosine")
            (segment,) = index._segments
            prepared = index._ranking.prepare(reduce(queries))
            ranked = {"rescored": segment.search(prepared, K)[1]}
            if precision != "float32":
                ranked["alone"] = segment.index.search(prepared, K)[1]
            for way, hits in ranked.items():
                ids = [[names[row] for row in of_query] for of_query in hits]
                exact = exact or [set(x) for x in ids]  # the first row of the table
                run = {
                    query: {name: float(K - rank) for rank, name in enumerate(own)}
                    for query, own in zip(asked, ids, strict=True)
                }
                scores = [x["ndcg_cut_10"] for x in evaluator.evaluate(run).values()]
                found = [len(a & set(b)) / K for a, b in zip(exact, ids, strict=True)]
                code = segment.index.sa_code_size()
                rows.append(
                    {
                        "dimensions": reduction,
                        "precision": precision,
                        "rescored": way == "rescored" and precision != "float32",
                        "ndcg@10": float(np.mean(scores)),
                        "recall@10": float(np.mean(found)),
                        "bytes": code,
                    }
                )
    model = documents.provenance.model
    tell(
        {"model": model, "documents": len(names), "queries": len(asked), "rows": rows}, options.out
    )
    if options.table:
        options.table.write_text(table(rows), encoding="utf-8")


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        "| dimensions | numbers | bytes | nDCG@10 | recall@10 | rescored: nDCG@10 | recall@10 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["rescored"]:
            continue
        cells = [row["dimensions"], row["precision"], row["bytes"]]
        pair = [
            other
            for other in rows
            if other["rescored"] and all(other[x] == row[x] for x in ("dimensions", "precision"))
        ]
        for one in (row, *pair):
            cells += [f"{100 * one['ndcg@10']:.2f}", f"{one['recall@10']:.3f}"]
        cells += [""] * (7 - len(cells))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
