"""How many times the encoder's learning rate `attention` and `mix` should have in training.

    python benchmarks/pooling_rate.py DATA --work DIR [--pairs 2000] [--factors 1 10 50 200]

Trains all-MiniLM-L6-v2 as `embedkit train bi-encoder` would by default (CoSENT, one epoch, seed 0)
on the first `--pairs` of stsb_train in an order of seed 0, and scores what the last step leaves on
stsb_dev.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from figures import tell
from slices import first

from embedkit import read_pairs
from embedkit.training import bi_encoder
from embedkit.training.arguments import BI_ENCODER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 10, 50, 200])
    parser.add_argument("--recipes", nargs="+", default=["attention", "mean@mix"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    learnt, dev = (
        read_pairs(options.data / f"sts_en/{name}.tsv") for name in ("stsb_train", "stsb_dev")
    )
    results = []
    for recipe in options.recipes:
        for factor in options.factors:
            bi_encoder._POOLING_RATES.update(query=factor, mix=factor)
            out = options.work / f"{recipe}-{factor:g}"
            trained = bi_encoder.train_bi_encoder(
                [first(learnt, options.pairs)],
                dev,
                out,
                recipe=recipe,
                settings=replace(BI_ENCODER, evaluations=1, device="cpu"),
            )
            assert trained.training is not None
            delta = trained.training.deltas[0]
            row = {"recipe": recipe, "factor": factor, "before": delta.before, "after": delta.after}
            results.append(
                {**row, "difference": delta.difference.value, "ci95": delta.difference.ci95}
            )
            print(results[-1], flush=True)
    tell({"pairs": options.pairs, "results": results}, options.out)


if __name__ == "__main__":
    main()
