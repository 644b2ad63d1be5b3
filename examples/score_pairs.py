"""Scores a file of sentence pairs.

    python examples/score_pairs.py PAIRS.csv [--model minilm]

The file has the columns sentence1 and sentence2; the score is the cosine, or the prediction of a
regression head where the model's folder holds one (`embedkit train head`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit import InputError
from embedkit.data.tables import read_rows
from embedkit.data.texts import check_text
from embedkit.scoring.loading import load_scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="minilm")
    options = parser.parse_args()
    try:
        rows = read_rows(options.pairs, {"sentence1": check_text, "sentence2": check_text})
        pairs = [(row.cells["sentence1"], row.cells["sentence2"]) for row in rows]
        scores = load_scorer(options.model)(pairs)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    for score, (first, second) in sorted(zip(scores, pairs, strict=True), reverse=True):
        print(f"{score:.3f}  {first} | {second}")


if __name__ == "__main__":
    main()
