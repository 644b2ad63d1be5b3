"""How many readers are refused while a writer commits.

    python benchmarks/readers.py MODEL [--opens 10000] [--out results.json]

A process changes an index, and another encodes a corpus of 300 texts again and again into a folder
of vectors, while this one opens and reads both. Counted: opens, commits (of the index, which has
five a round) and the errors of readers, which should be none. MODEL is a small one.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from figures import tell

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus

ROWS = 100
TEXTS = 300


def change_index(folder: Path, rounds: Path) -> None:
    generator = np.random.default_rng(0)
    index, first = VectorIndex.open(folder), ROWS
    while True:
        ids = list(range(first, first + 50))
        index.add(generator.normal(size=(50, 8)), ids=ids)
        index.update(generator.normal(size=(3, 8)), ids=ids[:3])
        index.remove(ids[:25])
        index.compact()
        index.remove(ids[25:])
        first += 50
        rounds.write_text(str(5 * (first - ROWS) // 50))


def write_corpus(path: Path, turn: int) -> Corpus:
    texts = [f"row {turn}", *(f"row {number}" for number in range(1, TEXTS))]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return Corpus(path)


def change_vectors(folder: Path, rounds: Path, model: str) -> None:
    embedder, turn = Embedder.from_pretrained(model, precision="float32"), 0
    while True:
        turn += 1
        corpus = write_corpus(folder.parent / "corpus.txt", 1000 + turn)
        encode_corpus(embedder, corpus, folder, show_progress=False)
        rounds.write_text(str(turn))


def read_index(folder: Path) -> None:
    index = VectorIndex.open(folder)
    assert len(index.search(np.ones((1, 8)), 5).ids[0]) == 5
    assert set(range(ROWS)) <= set(index.ids.to_pylist())


def read_vectors(folder: Path) -> None:
    vectors = Vectors.open(folder)
    assert len(vectors.to_numpy()) == len(set(vectors.ids.to_pylist())) == TEXTS


def beside(name: str, folder: Path, model: str, read: Callable[[Path], None], opens: int) -> Any:
    """Opens and errors of readers, and the commits of the writer meanwhile."""
    rounds, errors = folder.with_suffix(".rounds"), Counter[str]()
    command = [sys.executable, __file__, model, "--writer", name, str(folder), str(rounds)]
    with subprocess.Popen(command) as writer:  # noqa: S603
        while not rounds.exists() and writer.poll() is None:
            time.sleep(0.01)
        for _ in range(opens):
            try:
                read(folder)
            except (InputError, OSError, AssertionError) as error:
                errors[type(error).__name__] += 1
        assert writer.poll() is None, "the writer failed"
        writer.kill()
    return {"opens": opens, "commits": int(rounds.read_text() or 0), "errors": dict(errors)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--opens", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--writer", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        name, folder, rounds = options.writer
        if name == "index":
            change_index(Path(folder), Path(rounds))
        change_vectors(Path(folder), Path(rounds), options.model)
    with tempfile.TemporaryDirectory() as scratch:
        index, vectors = Path(scratch) / "index", Path(scratch) / "vectors"
        VectorIndex.build(np.random.default_rng(0).normal(size=(ROWS, 8))).save(index)
        embedder = Embedder.from_pretrained(options.model, precision="float32")
        encode_corpus(embedder, write_corpus(Path(scratch) / "corpus.txt", 0), vectors)
        result = {
            "machine": platform.processor() or platform.machine(),
            "index": beside("index", index, options.model, read_index, options.opens),
            "vectors": beside("vectors", vectors, options.model, read_vectors, options.opens),
        }
    tell(result, options.out)


if __name__ == "__main__":
    main()
