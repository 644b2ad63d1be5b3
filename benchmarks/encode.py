"""How fast texts are encoded: embedkit and its peers, in turn in one process.

    python benchmarks/encode.py TEXTS --documents SET [--pairs stsb_test.tsv] [--rounds 3]
        [--suites short long base] [--out results.json] [--memory]

TEXTS has a text a line (.txt, .txt.gz); SET is a folder in BEIR's layout. Short sentences are the
first 2,000 distinct ones of TEXTS after a shuffle (seed 0), long documents the first 100 of SET
(title and text, cut to the model's 256 tokens); both with MiniLM. The same sentences, 300 of them,
go through a BERT-base-shaped encoder of random weights. The peers are sentence-transformers, and
OpenVINO and onnxruntime driven well (peers.py; int8 is calibrated on other sentences of TEXTS).
Equal thread counts, medians of interleaved rounds, agreement beside speed, and with --pairs the
Spearman correlation of each with MiniLM; peers that are not installed are named. A cold start is a
process that loads MiniLM and encodes one text. --memory adds the peak memory of a process that
encodes all of TEXTS, for embedkit and for sentence-transformers, which takes half an hour here.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from figures import tell
from peers import peers
from texts import read, shuffled
from timing import of_process

from embedkit.benchmark import CONTESTANTS, OURS, PEER, race
from embedkit.data.corpus import Corpus
from embedkit.data.pairs import read_pairs
from embedkit.encoders.hub import find_folder
from embedkit.errors import InputError

SHORT, LONG, BASE = 2000, 100, 300
SUITES = ("short", "long", "base")
COLD = {
    PEER: "from sentence_transformers import SentenceTransformer\n"
    "SentenceTransformer({folder!r}, device='cpu').encode(['rain'])",
    OURS: "from embedkit import Embedder\n"
    "Embedder.from_pretrained({folder!r}, device='cpu').encode(['rain'])",
}


def documents(folder: Path, count: int = LONG) -> list[str]:
    (file,) = folder.glob("corpus.jsonl*")
    return [d.text for d in islice(Corpus(file, ("title", "text"), "_id"), count)]


def bert_base(folder: Path, model: str | Path = "minilm") -> Path:
    """A BertModel of the published shape, random weights, MiniLM's tokenizer and 256 tokens."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(find_folder(model))
    tokenizer.model_max_length = 256
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def peak_memory(texts: Path, contestant: str) -> float:
    """MiB of a process of its own."""
    import subprocess

    command = [sys.executable, __file__, str(texts), "--encode-all", contestant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout.split()[-1])


def encode_all(texts: Path, contestant: str) -> None:
    CONTESTANTS[contestant](find_folder("minilm"), "cpu").encode(read(texts))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=SUITES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--encode-all", metavar="CONTESTANT", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.encode_all:
        encode_all(options.texts, options.encode_all)
        return
    if options.documents is None:
        parser.error("expected --documents")

    sentences = shuffled(options.texts)
    pairs = read_pairs(options.pairs) if options.pairs else None
    folder = str(find_folder("minilm"))
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        base = bert_base(Path(scratch))
        suites: dict[str, tuple[str, Path | str, list[str]]] = {
            "short": ("MiniLM, short sentences", "minilm", sentences[:SHORT]),
            "long": ("MiniLM, long documents", "minilm", documents(options.documents)),
            "base": ("BERT-base shape, short sentences", base, sentences[:BASE]),
        }
        CONTESTANTS.update(peers(sentences[SHORT:]))
        for name, model, texts in map(suites.__getitem__, options.suites):
            print(name, file=sys.stderr)
            try:
                found = race(
                    model,
                    texts,
                    contestants=list(CONTESTANTS),
                    rounds=options.rounds,
                    device="cpu",
                    pairs=pairs if model == "minilm" else None,
                    show_progress=True,
                )
            except InputError as error:
                sys.exit(f"error: {error}")
            result[name] = found.to_dict() | {"model": name.partition(",")[0]}
    result["cold start, seconds"] = {
        name: of_process([sys.executable, "-c", code.format(folder=folder)], options.rounds)
        for name, code in COLD.items()
    }
    if options.memory:
        result["peak memory, MiB"] = {
            name: peak_memory(options.texts, name) for name in (PEER, f"{OURS} float32")
        }
    tell(result, options.out)


if __name__ == "__main__":
    main()
