"""Are pooler_output and the CLS vector the same? The article's question, answered by running it.

    python examples/cls_or_pooler.py [MODEL] [PAIRS]

MODEL is `minilm` (offline), `klue/bert-base` (from the hub), or any BERT; PAIRS a file of sentence
pairs, by default the first look that comes with embedkit.
"""

from __future__ import annotations

import sys

import numpy as np

from embedkit import Embedder, InputError, evaluate, read_pairs
from embedkit.evaluation.correlation import CORRELATIONS


def main(model: str = "minilm", data: str = "first_look") -> None:
    pairs = read_pairs(data)
    texts = [*pairs.sentence1, *pairs.sentence2]
    embedder = Embedder.from_pretrained(model, precision="float32")
    kinds = {"cls": embedder.with_recipe("cls"), "pooler": embedder.with_recipe("pooler")}

    print(f"{model}: {len(texts)} sentences of {pairs.name}")
    vectors = {}
    for name, kind in kinds.items():
        vectors[name] = v = kind.encode(texts)
        outside = 100 * np.mean(np.abs(v) > 1)
        print(f"{name:6} {v.shape} from {v.min():.3f} to {v.max():.3f}, {outside:.1f} % beyond 1")
    cls, pooler = vectors["cls"], vectors["pooler"]
    largest = np.abs(cls - pooler).max()
    print(f"the same? {np.array_equal(cls, pooler)}; they differ by up to {largest:.3f}")
    print(f"correlation of their numbers: {np.corrcoef(cls.ravel(), pooler.ravel())[0, 1]:.3f}")
    head = embedder.encoder.pooler
    formula = np.tanh(cls @ head.weight.numpy().T + head.bias.numpy())
    print(f"is the pooler tanh(W cls + b)? {np.allclose(formula, pooler, atol=1e-5)}")
    for name, kind in kinds.items():
        report = evaluate(kind, pairs)
        spearman, pearson = (report.deciding(metric)[0].value for metric in CORRELATIONS)
        print(f"{name:6} cosine against the scores: Spearman {spearman:.4f}, Pearson {pearson:.4f}")
    print("So they differ: the pooler is one more layer on CLS, tanh(W cls + b), between -1 and 1.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
