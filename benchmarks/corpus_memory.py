"""Whether the memory of encoding grows with the corpus.

    python benchmarks/corpus_memory.py TEXTS.txt[.gz] [--small 200000 --large 1000000]

TEXTS, a text a line, is repeated and numbered. `embedkit encode` runs over both numbers of texts in
a process of its own, with a tiny random BERT: peak resident memory of each, and their ratio.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from figures import tell
from texts import read
from transformers import BertConfig, BertModel, BertTokenizer


def write_model(folder: Path) -> None:
    """One layer of width 32, and a vocabulary of characters."""
    characters = [chr(code) for code in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    tokens += [f"##{character}" for character in characters]
    tokenizer = BertTokenizer({token: number for number, token in enumerate(tokens)})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertModel(config).save_pretrained(folder)


def write_corpus(texts: list[str], number: int, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for place, text in enumerate(islice(cycle(texts), number)):
            file.write(f"{place} {text[:40]}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = read(options.texts)
    peaks, seconds = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch) / "model")
        # The smaller one first: the peak of all children so far is what the system tells.
        for number in (options.small, options.large):
            corpus, out = Path(scratch) / "corpus.txt", Path(scratch) / str(number)
            write_corpus(texts, number, corpus)
            command = [sys.executable, "-m", "embedkit", "encode", str(corpus), "--out", str(out)]
            command += ["--model", str(Path(scratch) / "model"), "--device", "cpu"]
            started = time.perf_counter()
            subprocess.run(command, check=True)  # noqa: S603
            seconds[number] = time.perf_counter() - started
            peaks[number] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {
        "machine": platform.processor() or platform.machine(),
        "peak MiB": peaks,
        "seconds": seconds,
        "large / small": peaks[options.large] / peaks[options.small],
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
