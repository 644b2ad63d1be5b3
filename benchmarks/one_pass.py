"""What comparing every layer and pooling costs beside scoring one recipe.

    python benchmarks/one_pass.py PAIRS.tsv [--runs 5] [--out results.json]

In one process, with equal thread counts, in turn: sentence-transformers scores its own recipe
(its EmbeddingSimilarityEvaluator), embedkit scores the same recipe, embedkit compares all hidden
states with all poolings. Medians of the interleaved runs, and their ratios. Models are loaded
before.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from figures import tell
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from embedkit import Embedder, compare, evaluate, read_pairs
from embedkit.benchmark import in_turn
from embedkit.encoders.hub import find_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    pairs = read_pairs(options.pairs)
    embedder = Embedder.from_pretrained("minilm", device="cpu", precision="float32")
    peer = SentenceTransformer(str(find_folder("minilm")), device="cpu")
    evaluator = EmbeddingSimilarityEvaluator(
        list(pairs.sentence1), list(pairs.sentence2), pairs.scores.tolist(), show_progress_bar=False
    )
    jobs: dict[str, Callable[[], object]] = {
        "sentence-transformers, its own recipe": lambda: evaluator(peer),
        "embedkit, the same recipe": lambda: evaluate(embedder, pairs, show_progress=False),
        "embedkit, all layers x poolings": lambda: compare(
            embedder, pairs, layers="all", show_progress=False
        ),
    }
    recipes = len(compare(embedder, pairs, layers="all", show_progress=False).compared)
    evaluator(peer)
    seconds = in_turn(jobs, options.runs, show_progress=True)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    theirs, one, every = medians.values()
    result = {
        "pairs": pairs.name,
        "n": len(pairs.scores),
        "recipes in all": recipes,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "median seconds": medians,
        "all seconds": seconds,
        "all recipes / one recipe": every / one,
        "sentence-transformers / embedkit, one recipe": theirs / one,
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
