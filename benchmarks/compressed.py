"""What fewer dimensions and coarser numbers cost in search: nDCG@10, recall@10 and bytes.

    python benchmarks/compressed.py DATA --work DIR [--rows 200951] [--pairs 0]
        [--dimension 256 --dimension 128] [--out results.json] [--table table.md]

DATA is the folder of the data. Two models: all-MiniLM-L6-v2, whose dimensions are reduced by the
recipe step pca:K, fitted on the documents; and the same model after one epoch with a Matryoshka
loss on pairs of NLI that entail one another (--pairs of them; 0 takes all), cut by truncate:K.
Then normalize. Kinds are flat (float32), SQ8 (int8) and RaBitQ (binary), alone and rescored by
float32 vectors on disk, 10 candidates a hit. scifact is searched for its queries; of the corpus,
1,000 rows are drawn as queries and left out. recall@10 is that of the hits of float32 in all
dimensions of the same model; bytes are those of a vector's code in memory. DIR keeps the model and
the vectors, and a run that was stopped resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytrec_eval
from figures import tell

from embedkit import (
    Corpus,
    Embedder,
    VectorIndex,
    Vectors,
    encode_corpus,
    read_pairs,
    read_retrieval,
    train_bi_encoder,
)
from embedkit.data.positives import PositiveColumns, Positives, read_positives
from embedkit.recipes.fitting import fit_affine
from embedkit.recipes.streaming_covariance import StreamingCovariance
from embedkit.training.arguments import BI_ENCODER

K = 10
QUERIES = 1000
KINDS = {"float32": "flat", "int8": "SQ8", "binary": "RaBitQ"}
NLI = ("mnli_subset_train.tsv.gz", "snli_cad_train.tsv.gz")
Map = Callable[[np.ndarray], np.ndarray]


class Task(NamedTuple):
    """Documents and queries of a model; `ndcg` is of the hits' positions, or None."""

    name: str
    documents: np.ndarray
    queries: np.ndarray
    ndcg: Callable[[np.ndarray], float] | None


def matryoshka(data: Path, folder: Path, dimensions: list[int], pairs: int) -> Path:
    """MiniLM trained so that its first numbers are embeddings too."""
    if not folder.exists():
        columns = PositiveColumns("premise", "hypothesis")
        sets = [read_positives(data / "nli_en" / name, columns) for name in NLI]
        if pairs:
            sets = [Positives(x.name, x.sentence1[:pairs], x.sentence2[:pairs]) for x in sets]
        train_bi_encoder(
            sets,
            read_pairs(data / "sts_en/stsb_dev.tsv"),
            folder,
            loss="in-batch",
            matryoshka=[384, *dimensions],
            settings=replace(BI_ENCODER, epochs=1, batch_size=64, evaluations=2),
            show_progress=True,
        )
    return folder


def vectors_of(embedder: Embedder, corpus: Corpus, folder: Path, role: str) -> Vectors:
    prompt = embedder.settings.prompts.get(role, "")
    encode_corpus(embedder, corpus, folder, prompt=prompt, show_progress=True)
    return Vectors.open(folder)


def tasks(data: Path, embedder: Embedder, work: Path, rows: int) -> Iterator[Task]:
    scifact = data / "retrieval/scifact"
    judged = read_retrieval(scifact)
    columns, ids = ("title", "text"), "_id"
    stored = vectors_of(
        embedder, Corpus(scifact / "corpus.jsonl.gz", columns, ids), work / "documents", "document"
    )
    asked = vectors_of(
        embedder, Corpus(scifact / "queries.jsonl", ("text",), ids), work / "queries", "query"
    )
    names, queries = stored.ids.to_pylist(), [*judged.judgements]
    evaluator = pytrec_eval.RelevanceEvaluator(
        {name: dict(judged.judgements[name]) for name in queries}, {"ndcg_cut.10"}
    )

    def ndcg(hits: np.ndarray) -> float:
        run = {
            query: {names[row]: float(K - rank) for rank, row in enumerate(of_query)}
            for query, of_query in zip(queries, hits, strict=True)
        }
        return float(np.mean([x["ndcg_cut_10"] for x in evaluator.evaluate(run).values()]))

    yield Task("scifact", stored.to_numpy(), asked.get(queries), ndcg)
    path = work / "corpus.txt"
    whole = Corpus(data / "corpus/en_sentences.txt.gz")
    path.write_text("".join(f"{x.text}\n" for x in islice(whole, rows)), encoding="utf-8")
    vectors = vectors_of(embedder, Corpus(path), work / "sentences", "document").to_numpy()
    order = np.random.default_rng(0).permutation(len(vectors))
    yield Task("corpus", vectors[order[QUERIES:]], vectors[order[:QUERIES]], None)


def reductions(documents: np.ndarray, dimensions: list[int], by: str) -> Iterator[tuple[str, Map]]:
    yield "all", lambda x: x
    covariance = StreamingCovariance(documents.shape[1])
    if by == "pca":
        covariance.add(documents)
    for k in dimensions:
        if by == "pca":
            yield f"pca:{k}", fit_affine([f"pca:{k}"], covariance)[0]
        else:
            yield f"truncate:{k}", lambda x, k=k: np.ascontiguousarray(x[:, :k])


def measured(model: str, task: Task, dimensions: list[int], by: str) -> Iterator[dict[str, Any]]:
    exact: list[set[int]] = []
    for reduction, reduce in reductions(task.documents, dimensions, by):
        documents, queries = reduce(task.documents), reduce(task.queries)
        for numbers, kind in KINDS.items():
            index = VectorIndex.build(documents, kind=kind, similarity="cosine")
            (segment,) = index._segments
            prepared = index._ranking.prepare(queries)
            hits = {"rescored": segment.search(prepared, K)[1]}
            if numbers != "float32":
                hits["alone"] = segment.index.search(prepared, K)[1]
            exact = exact or [set(x) for x in hits["rescored"].tolist()]  # of the first row
            row = {
                "model": model,
                "data": task.name,
                "dimensions": reduction,
                "numbers": numbers,
                "bytes": segment.index.sa_code_size(),
            }
            for way in ("alone", "rescored") if numbers != "float32" else ("rescored",):
                found = [len(a & {*b}) / K for a, b in zip(exact, hits[way].tolist(), strict=True)]
                row[way] = {
                    "ndcg@10": None if task.ndcg is None else task.ndcg(hits[way]),
                    "recall@10": float(np.mean(found)),
                }
            print(row, flush=True)
            yield row


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| data | model | dimensions | numbers | bytes | nDCG@10 | recall@10 "
        "| rescored: nDCG@10 | recall@10 |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [row[name] for name in ("data", "model", "dimensions", "numbers", "bytes")]
        ways = ("alone", "rescored") if "alone" in row else ("rescored",)
        for way in ways:
            value = row[way]["ndcg@10"]
            cells += ["" if value is None else f"{100 * value:.2f}", f"{row[way]['recall@10']:.3f}"]
        cells += [""] * (9 - len(cells))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200_951)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--dimension", type=int, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    dimensions = options.dimension or [256, 128]
    trained = options.work / "matryoshka"
    models = {
        "MiniLM": ("minilm", "pca"),
        "Matryoshka": (matryoshka(options.data, trained, dimensions, options.pairs), "truncate"),
    }
    rows = []
    for name, (source, by) in models.items():
        embedder = Embedder.from_pretrained(source)
        work = options.work / name
        work.mkdir(parents=True, exist_ok=True)
        for task in tasks(options.data, embedder, work, options.rows):
            rows += measured(name, task, dimensions, by)
    tell({"rows": rows}, options.out)
    if options.table:
        options.table.write_text(table(sorted(rows, key=lambda x: x["data"] == "corpus")))


if __name__ == "__main__":
    main()
