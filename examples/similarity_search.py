"""Similarity search over a CSV file.

    python examples/similarity_search.py FILE.csv "a question" [--column text] [--model minilm]

Encodes the column into a folder beside the file, indexes it, and prints the rows that are most
similar. Run again, it encodes only rows that are new or changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("query")
    parser.add_argument("--column", default="text")
    parser.add_argument("--model", default="minilm")
    options = parser.parse_args()
    try:
        embedder = Embedder.from_pretrained(options.model)
        corpus = Corpus(options.file, text_columns=(options.column,))
        folder = options.file.with_suffix(".vectors")
        done = encode_corpus(embedder, corpus, folder, texts=True)
        print(f"{done.rows} rows: {done.encoded} encoded, {done.kept} kept")
        index = VectorIndex.build(Vectors.open(folder), embedder=embedder)
        (hits,) = index.search([options.query], k=3)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    for hit in hits:
        print(f"{hit.score:.3f}  row {hit.id}: {hit.text}")


if __name__ == "__main__":
    main()
