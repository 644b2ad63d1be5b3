"""Which recipe suits a classifier of sentence pairs: a grid search of scikit-learn.

    python examples/grid_search.py TRAIN.tsv TEST.tsv [--label entailment] [--pairs 2000]

Both files have columns sentence1, sentence2 and a label. The classifier reads |u - v| and u * v of
two embeddings. Each recipe is scored by cross-validation on the training pairs alone; the test
pairs are read once, by the best one. With the cache and a reproducible embedder, each text is
encoded once for all recipes that pool alike, in all folds, and not at all in the next run.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from embedkit import Embedder, InputError
from embedkit.integrations.sklearn import EmbeddingTransformer

RECIPES = ("cls", "mean", "max", "mean@1,-1", "cls+mean", "mean/whiten:128", "mean/pca:128")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--label", default="entailment")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--pairs", type=int, help="of the training file, chosen by chance")
    options = parser.parse_args()
    try:
        pairs, labels = read(options.train, options.label)
        tested = read(options.test, options.label)
        chosen = np.random.default_rng(0).permutation(len(pairs))[: options.pairs]
        pairs, labels = pairs[chosen], labels[chosen]
        embedder = Embedder(options.model, precision="float32", reproducible=True)
        pipeline = Pipeline(
            [
                ("stack", FunctionTransformer(all_sentences)),
                ("embed", EmbeddingTransformer(embedder, cache=True)),
                ("compare", FunctionTransformer(features)),
                ("scale", StandardScaler()),
                ("classify", LogisticRegression(C=0.01, max_iter=1000)),
            ]
        )
        grid = {"embed__recipe": list(options.recipes)}
        search = GridSearchCV(pipeline, grid, cv=3).fit(pairs, labels)
    except (InputError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    results = search.cv_results_
    print(f"{len(pairs):,} pairs, 3 folds\n")
    print("| recipe | accuracy | sd of the folds |\n| --- | --- | --- |")
    for at in np.argsort(-results["mean_test_score"], kind="stable"):
        recipe = results["param_embed__recipe"][at]
        mean, sd = results["mean_test_score"][at], results["std_test_score"][at]
        print(f"| `{recipe}` | {100 * mean:.1f} | {100 * sd:.1f} |")
    usual = DummyClassifier().fit(pairs, labels).score(*tested)
    best = search.best_params_["embed__recipe"]
    print(f"\n{len(tested[1]):,} test pairs: {best} {100 * search.score(*tested):.1f}, ", end="")
    print(f"the most frequent label {100 * usual:.1f}")


def read(path: Path, label: str) -> tuple[Any, Any]:
    """Pairs of str (n, 2), and their labels (n,)."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        columns = reader.fieldnames or []
        if missing := [x for x in ("sentence1", "sentence2", label) if x not in columns]:
            raise InputError(f"{path}: has no column {missing[0]!r}, only {', '.join(columns)}")
        rows = list(reader)
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    return np.array(pairs, dtype=object), np.array([row[label] for row in rows])


def all_sentences(pairs: Any) -> Any:
    """(2 n,): the first sentences of n pairs, then the second ones."""
    return pairs.T.ravel()


def features(vectors: Any) -> Any:
    """(n, 2 dim) of the embeddings (2 n, dim) of `all_sentences`."""
    u, v = np.split(vectors, 2)
    return np.hstack([abs(u - v), u * v])


if __name__ == "__main__":
    main()
