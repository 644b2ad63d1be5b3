"""What a low precision changes: vectors of a corpus, scores of pairs and of retrieval.

    python benchmarks/precision.py TEXTS --pairs PAIRS.tsv --retrieval SET [--low bfloat16]
        [-m MODEL] [--out results.json]

TEXTS has a text a line (.txt or .txt.gz). Cosines are of the distinct texts' vectors in the low
precision to those in float32; scores are Spearman of the pairs and nDCG@10 of the set, both with
the model's own recipe. Peak memory is that of the process after all texts were encoded
in float32, the texts and their vectors included.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch
from figures import tell
from texts import read

from embedkit import Embedder, evaluate
from embedkit.embedder.precision import smallest_cosine
from embedkit.similarity import find_similarity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--retrieval", required=True)
    parser.add_argument("--low", default="bfloat16")
    parser.add_argument("-m", "--model", default="minilm")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    texts = read(options.texts)
    distinct = list(dict.fromkeys(texts))
    vectors, seconds, scores, peak = {}, {}, {}, 0.0
    for precision in ("float32", options.low):
        embedder = Embedder.from_pretrained(options.model, device="cpu", precision=precision)
        started = time.perf_counter()
        vectors[precision] = embedder.encode(distinct)
        seconds[precision] = time.perf_counter() - started
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report = evaluate(embedder, [options.pairs, options.retrieval])
        values = {result.metric: result.value for result in report.results}
        scores[precision] = {metric: values[metric] for metric in ("spearman", "ndcg@10")}
    a, b = vectors.values()
    cosines = find_similarity("cosine").pairwise(a.astype(float), b.astype(float))
    exact, low = scores.values()
    result = {
        "model": options.model,
        "texts": len(texts),
        "distinct": len(distinct),
        "smallest cosine": smallest_cosine(a, b),
        "cosine, 0.1 % quantile": float(np.quantile(cosines, 0.001)),
        "median cosine": float(np.median(cosines)),
        "scores": scores,
        "differences": {name: low[name] - exact[name] for name in exact},
        "seconds, not interleaved": seconds,
        "peak memory of float32, MiB": peak,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
