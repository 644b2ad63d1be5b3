"""What a cross-encoder brings to search: nDCG@10 of scifact, dense, hybrid and reranked.

    python benchmarks/rerank.py DATA --work DIR [--queries 0] [--depth 50] [--out rerank.md]

DATA is the folder of the data. all-MiniLM-L6-v2 becomes a cross-encoder by one epoch on scifact's
training queries: a pair of a query and a relevant abstract has the score 1, one with each of the
first three abstracts that hybrid search finds and nobody judged relevant 0. A tenth of the queries
is held out to choose the checkpoint. No test query is read before the end. Then scifact's test
queries are searched by embeddings, by words and by both, each with and without the cross-encoder,
which orders the first --depth documents anew. --queries trains on that many queries alone. DIR
keeps the cross-encoder, and a training that was stopped resumes.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedkit import Embedder, Pairs, Report, VectorIndex, evaluate, read_retrieval
from embedkit import train_cross_encoder as train
from embedkit.training.arguments import CROSS_ENCODER

NEGATIVES = 3
MODEL = "minilm"


def training_pairs(scifact: Path, work: Path, queries: int) -> tuple[Pairs, Pairs]:
    """Pairs to learn from, and those of the queries that are held out."""
    folder = work / "train"  # BEIR's layout with the training qrels in the place of the test's
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (
        ("corpus.jsonl.gz", "corpus.jsonl.gz"),
        ("queries.jsonl", "queries.jsonl"),
        ("qrels_test.tsv", "qrels_train.tsv"),
    ):
        shutil.copyfile(scifact / source, folder / name)
    data = read_retrieval(folder)
    embedder = Embedder.from_pretrained(MODEL)
    documents = [*data.documents.values()]
    index = VectorIndex.build(
        embedder.encode(documents, show_progress=True),
        ids=list(data.documents),
        texts=documents,
        embedder=embedder,
        bm25=True,
        words="english",
    )
    names = list(data.judgements)
    np.random.default_rng(0).shuffle(names)
    names = names[: queries or None]
    hits = index.search([data.queries[name] for name in names], 20, mode="hybrid")
    parts: list[list[tuple[str, str, float]]] = [[], []]
    for position, (name, found) in enumerate(zip(names, hits, strict=True)):
        relevant = {x for x, score in data.judgements[name].items() if score > 0}
        part = parts[position % 10 == 0]
        query = data.queries[name]
        part += [(query, data.documents[x], 1.0) for x in sorted(relevant)]
        others = [hit for hit in found if hit.id not in relevant]
        part += [(query, str(hit.text), 0.0) for hit in others[:NEGATIVES]]
    learnt, held_out = (
        Pairs.from_columns(name, *zip(*part, strict=True))
        for name, part in zip(("scifact-train", "scifact-held-out"), parts, strict=True)
    )
    return learnt, held_out


def table(report: Report) -> str:
    lines = [
        "| ranked by | nDCG@10 | 95 % | difference to dense | recall@100 | MRR@10 | MAP |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    values = {(x.candidate, x.metric): x.value for x in report.results}
    for row in report.deciding("ndcg@10"):
        name = row.candidate.replace(MODEL, "dense").replace("dense hybrid", "hybrid")
        low, high = row.ci95
        delta = ""
        if row.baseline is not None:
            least, most = row.baseline.ci95
            delta = f"{100 * row.baseline.value:+.2f} [{100 * least:+.2f}, {100 * most:+.2f}]"
        others = (values[row.candidate, x] for x in ("recall@100", "mrr@10", "map"))
        cells = [f"{100 * row.value:.2f}", f"[{100 * low:.1f}, {100 * high:.1f}]", delta]
        cells += [f"{100 * x:.2f}" for x in others]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=0)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scifact, model = options.data / "retrieval/scifact", options.work / "cross-encoder"
    if not model.exists():
        learnt, held_out = training_pairs(scifact, options.work, options.queries)
        print(f"{len(learnt.scores)} pairs, {len(held_out.scores)} held out")
        settings = replace(CROSS_ENCODER, epochs=1, evaluations=2)
        train([learnt], held_out, model, model=MODEL, settings=settings, show_progress=True)
    report = evaluate(
        MODEL,
        read_retrieval(scifact),
        modes=["dense", "bm25", "hybrid"],
        words="english",
        rerank=model,
        rerank_depth=options.depth,
        show_progress=True,
    )
    text = table(report)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
