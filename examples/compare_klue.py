"""Compares the poolings of klue/bert-base on sentence pairs, and keeps the best.

    python examples/compare_klue.py PAIRS.tsv [--model klue/bert-base] [--save my-model]

The pairs are Korean ones such as KorSTS's or KLUE-STS's; klue/bert-base comes from the hub. It was
trained as a masked language model, so nobody can say which pooling is its own: it is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit import Embedder, InputError, compare

RECIPES = ["cls", "pooler", "mean", "max", "mean@1,-1", "mean@-2", "cls+mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="klue/bert-base")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    try:
        report = compare(options.model, options.pairs, RECIPES)
        print(report)
        if options.save is not None and report.best is not None:
            Embedder.from_pretrained(options.model, report.best).save_pretrained(options.save)
            print(f"Saved {report.best} in {options.save}.")
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
