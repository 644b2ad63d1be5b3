"""What one epoch on a slice of stsb_train brings a bi-encoder, and whether it is chance.

    python benchmarks/bi_encoder_gain.py DATA --work DIR [--pairs 5000] [--out FILE]

Trains all-MiniLM-L6-v2 as `embedkit train bi-encoder` would by default (one epoch, seed 0), once by
each loss on scores, on the first `--pairs` of stsb_train in an order of seed 0, and scores what the
last step leaves: nothing is chosen on stsb_dev or stsb_test. Before and after are scored with the
same resamples of the pairs.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from figures import tell
from slices import first

from embedkit import Embedder, evaluate, read_pairs
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.metric_delta import metric_deltas
from embedkit.training.arguments import BI_ENCODER
from embedkit.training.bi_encoder import LOSSES, train_bi_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    learnt, dev, test = (
        read_pairs(options.data / f"sts_en/{name}.tsv")
        for name in ("stsb_train", "stsb_dev", "stsb_test")
    )
    before = evaluate(Embedder.from_pretrained(precision="float32"), [dev, test])
    settings = replace(BI_ENCODER, evaluations=1)
    results = []
    for loss in (row.name for row in LOSSES.values() if row.scored):
        after = train_bi_encoder(
            [first(learnt, options.pairs)],
            dev,
            options.work / loss,
            loss=loss,
            settings=settings,
            show_progress=True,
        )
        found = metric_deltas(before, evaluate(after, [dev, test]))
        results += [{"loss": loss, **asdict(gain)} for gain in found]
    result = {
        "command": f"python benchmarks/bi_encoder_gain.py DATA --work DIR --pairs {options.pairs}",
        "pairs": options.pairs,
        "settings": asdict(settings),
        "results": results,
        "resamples": RESAMPLES,
        "machine": f"{platform.machine()}, {after.encoder.device.type}",
        "versions": {
            name: version(name) for name in ("torch", "transformers", "sentence-transformers")
        },
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
