"""Whether a corpus encoded in shards and merged is the corpus encoded at once, and what it costs.

    python benchmarks/shards.py TEXTS [--shards 16] [--rows N] [--model minilm] [--work DIR]
        [--precision float32] [--markdown] [--out results.json]

TEXTS is what `embedkit encode` reads, such as a .txt.gz with a text a line; --rows takes its first
N texts. One process encodes all of it, then shard after shard, with one embedder, and merges the
shards. The merged vectors are compared with the others by id. Exits with 1 where a row is missing
or the smallest cosine is 0.999999 or less. With --work a run that was stopped is resumed, and its
times are of the rest only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from figures import cpu, tell

from embedkit import Corpus, Embedder, Vectors, encode_corpus, merge_vectors

BATCH = 8192  # vectors compared at a time


def smallest_cosine(merged: Vectors, whole: Vectors) -> float:
    """Over all ids of `whole`; an id that `merged` lacks is an error."""
    lowest = 1.0
    for batch in whole:
        ids = batch.ids.to_pylist()
        for start in range(0, len(ids), BATCH):
            a = batch.vectors[start : start + BATCH].astype(np.float64)
            b = merged.get(ids[start : start + BATCH]).astype(np.float64)
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            lowest = min(lowest, float(((a * b).sum(1) / norms).min()))
    return lowest


def timed(function: Any, *arguments: Any, **options: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    return function(*arguments, **options), time.perf_counter() - started


def measure(corpus: Corpus, embedder: Embedder, shards: int, folder: Path) -> dict[str, Any]:
    whole, seconds = timed(encode_corpus, embedder, corpus, folder / "whole", show_progress=False)
    parts = [folder / f"part-{part}" for part in range(1, shards + 1)]
    of_parts = []
    for part, path in enumerate(parts, start=1):
        of_parts.append(
            timed(encode_corpus, embedder, corpus, path, shard=(part, shards), show_progress=False)[
                1
            ]
        )
    merged, merging = timed(merge_vectors, parts, folder / "merged")
    assert merged.rows == whole.rows
    rows = [len(Vectors.open(path)) for path in parts]
    return {
        "rows": whole.rows,
        "shards": shards,
        "rows of a shard": [min(rows), max(rows)],
        "unsharded s": round(seconds, 2),
        "all shards, one after another s": round(sum(of_parts), 2),
        "slowest shard s": round(max(of_parts), 2),
        "merge s": round(merging, 2),
        "smallest cosine by id": smallest_cosine(
            Vectors.open(folder / "merged"), Vectors.open(folder / "whole")
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    embedder = Embedder.from_pretrained(options.model, precision=options.precision)
    scratch = tempfile.TemporaryDirectory() if options.work is None else nullcontext(options.work)
    with scratch as name:
        corpus, folder = Corpus(options.texts), Path(name)
        folder.mkdir(exist_ok=True)
        if options.rows:
            texts = [document.text for document in islice(corpus, options.rows)]
            (folder / "texts.txt").write_text("".join(f"{text}\n" for text in texts), "utf-8")
            corpus = Corpus(folder / "texts.txt")
        result = measure(corpus, embedder, options.shards, folder)
    if options.markdown:
        print(f"{cpu()}\n\n| | |\n| --- | --- |")
        print("\n".join(f"| {name} | {value} |" for name, value in result.items()))
    else:
        tell(result, options.out)
    if result["smallest cosine by id"] <= 0.999999:
        raise SystemExit("the merged vectors differ from the unsharded ones")


if __name__ == "__main__":
    main()
