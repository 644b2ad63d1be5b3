"""Writes the folders that tests/test_saved_folders.py opens, with the embedkit that is installed.

    python tests/make_fixtures.py tests/fixtures/0.1

A folder of fixtures is made once for each version of a file format and never again: it shows that
later versions open what earlier ones wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from embedkit import (
    Corpus,
    CrossEncoder,
    Embedder,
    PairRegressor,
    Pairs,
    VectorIndex,
    Vectors,
    compare,
    encode_corpus,
    save_head,
)
from embedkit.vectors import encode_corpus as encode
from helpers import tiny

RECIPES = ("mean", "cls+max@first-last", "pooler/normalize", "mean/whiten:4")
KINDS = ("flat", "hnsw", "IVF2,Flat", "SQ8")
READS = ("pooler", "mean")
TEXTS = [text for text in tiny.TEXTS if text]
PAIRS = [(first, second) for first in TEXTS for second in TEXTS]
LABELS = [float(len(first) % 5) for first, _ in PAIRS]


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    expected: dict[str, Any] = {"embeddings": {}, "cross_encoders": {}, "indexes": {}}
    tiny.make_bert(folder / "bert", layers=2, width=16, max_positions=64)
    options: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    for number, recipe in enumerate(RECIPES):
        embedder = Embedder.from_pretrained(folder / "bert", recipe, **options)
        if embedder.recipe.to_fit:
            embedder.fit([f"{text} {other}" for text in TEXTS for other in TEXTS])
        embedder.save_pretrained(folder / f"embedder-{number}")
        expected["embeddings"][recipe] = embedder.encode(TEXTS).tolist()
    embedder = Embedder.from_pretrained(folder / "embedder-0", **options)
    embedder.name = "embedder-0"
    head = PairRegressor(embedder).fit(PAIRS, LABELS)
    save_head(head, folder / "head")
    expected["head"] = head.predict(PAIRS).tolist()
    for reads in READS:
        cross_encoder = CrossEncoder.untrained(folder / "bert", reads, (0, 5), seed=0)
        cross_encoder.network.eval()
        cross_encoder.save_pretrained(folder / f"cross-encoder-{reads}")
        expected["cross_encoders"][reads] = cross_encoder.predict(PAIRS).tolist()
    corpus = folder / "corpus.txt"
    corpus.write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    encode_corpus(embedder, Corpus(corpus), folder / "vectors", texts=True)
    _encode_in_part(embedder, corpus, folder / "vectors-partial")
    vectors = Vectors.open(folder / "vectors")
    expected["vectors"] = vectors.to_numpy().tolist()
    generator = np.random.default_rng(0)
    for number, kind in enumerate(KINDS):
        index = VectorIndex.build(
            vectors if kind == "flat" else generator.normal(size=(100, 16)).astype(np.float32),
            kind=kind,
        )
        index.save(folder / f"index-{number}")
        index.remove([1])
        hits = index.search(vectors.to_numpy(), 3)
        expected["indexes"][kind] = {"ids": hits.ids, "scores": hits.scores.tolist()}
    pairs = Pairs.from_columns("pairs", *map(list, zip(*PAIRS, strict=True)), LABELS)
    report = compare(embedder, pairs, ["mean", "max"])
    (folder / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


def _encode_in_part(embedder: Embedder, corpus: Path, folder: Path) -> None:
    """What an interrupted encode leaves: three rows, and a manifest that says so."""
    encode._CHUNK = encode._SHARD_ROWS = 3
    encode_recipes, calls = embedder.encode_recipes, iter((False, True))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return encode_recipes(*arguments, **options)

    embedder.encode_recipes = interrupted  # type: ignore[method-assign]
    try:
        encode_corpus(embedder, Corpus(corpus), folder, texts=True)
    except KeyboardInterrupt:
        del embedder.encode_recipes
        return
    raise AssertionError("nothing was interrupted")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
