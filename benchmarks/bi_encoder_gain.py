"""What one epoch on a slice of stsb_train brings a bi-encoder, and whether it is chance.

    python benchmarks/bi_encoder_gain.py DATA --work DIR [--pairs 2000] [--out FILE]

Trains all-MiniLM-L6-v2 as `embedkit train bi-encoder` would by default (CoSENT, one epoch, seed 0)
on the first `--pairs` of stsb_train in an order of seed 0, and scores what the last step leaves:
nothing is chosen on stsb_dev. Both models are scored with the same resamples of the pairs.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from figures import tell
from slices import first

from embedkit import Embedder, Pairs, read_pairs
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.significance import difference
from embedkit.evaluation.sts import Predictions, score_predictions, similarities_of
from embedkit.training.bi_encoder import train_bi_encoder
from embedkit.training.settings import BI_ENCODER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    learnt, dev, test = (
        read_pairs(options.data / f"sts_en/{name}.tsv")
        for name in ("stsb_train", "stsb_dev", "stsb_test")
    )
    before = Embedder.from_pretrained(precision="float32")
    after = train_bi_encoder(
        [first(learnt, options.pairs)],
        dev,
        options.work / "bi-encoder",
        settings=replace(BI_ENCODER, evaluations=1),
        show_progress=True,
    )
    rows = []
    for pairs in (dev, test):
        predictions = [cosines("before", before, pairs), cosines("after", after, pairs)]
        scored = score_predictions(pairs, predictions)
        for metric in ("spearman", "pearson"):
            old, new = (one for one in scored if one.result.metric == metric)
            rows.append(
                {
                    "dataset": pairs.name,
                    "metric": metric,
                    "before": old.result.value,
                    "after": new.result.value,
                    "gain": asdict(difference(new, old, "before")),
                }
            )
    result = {
        "command": f"python benchmarks/bi_encoder_gain.py DATA --work DIR --pairs {options.pairs}",
        "pairs": options.pairs,
        "settings": asdict(BI_ENCODER) | {"evaluations": 1},
        "results": rows,
        "resamples": RESAMPLES,
        "machine": f"{platform.machine()}, {after.encoder.device.type}",
        "versions": {
            name: version(name) for name in ("torch", "transformers", "sentence-transformers")
        },
    }
    tell(result, options.out)


def cosines(name: str, embedder: Embedder, pairs: Pairs) -> Predictions:
    left, right = np.split(embedder.encode([*pairs.sentence1, *pairs.sentence2]), 2)
    return Predictions(name, "cosine", similarities_of("cosine", left, right))


if __name__ == "__main__":
    main()
