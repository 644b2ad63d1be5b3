"""How fast texts are encoded on a GPU: embedkit and sentence-transformers, in turn in one process.

    python benchmarks/gpu.py TEXTS --documents SET [--model FOLDER] [--out results.json]

Short sentences are the first 6,000 distinct ones of TEXTS after a shuffle (seed 0); documents are
the first 600 of SET (title and text), cut to the 256 tokens of MiniLM. Both go through MiniLM and
through an encoder of BERT-base's shape with random weights. sentence-transformers runs in float32
and bfloat16, with its default batches of 32 texts and with the fastest of BATCH_SIZES. Medians of
interleaved rounds; agreement is the smallest cosine to sentence-transformers in float32.
`tokenizer` is the tokenizer alone, and `encoder` the network alone, in bfloat16 on tokens that are
ready: no encoder of texts is faster than either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from encode import bert_base, documents
from figures import tell
from sentence_transformers import SentenceTransformer
from texts import shuffled

from embedkit import Embedder
from embedkit.benchmark import in_turn
from embedkit.embedder.one_pass import run
from embedkit.embedder.precision import smallest_cosine
from embedkit.encoders.hub import find_folder

SHORT, LONG = 6_000, 600
BATCH_SIZES = (128, 512, 2048)
PEER = "sentence-transformers"


def peers(folder: Path, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """sentence-transformers in both precisions, with batches of 32 and of the best size."""
    jobs: dict[str, Callable[[], Any]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = SentenceTransformer(
            str(folder), device="cuda", model_kwargs={"dtype": dtype}, local_files_only=True
        )
        encode = partial(model.encode, texts, show_progress_bar=False)
        sizes = {size: partial(encode, batch_size=size) for size in BATCH_SIZES}
        encode(batch_size=32)  # not timed
        seconds = in_turn({str(size): job for size, job in sizes.items()}, 2, show_progress=False)
        best = min(BATCH_SIZES, key=lambda size: min(seconds[str(size)]))
        jobs[f"{PEER} {name}, batches of 32"] = partial(encode, batch_size=32)
        jobs[f"{PEER} {name}, best batches ({best})"] = sizes[best]
    return jobs


def ours(folder: Path, texts: list[str]) -> tuple[dict[str, Callable[[], Any]], Embedder]:
    jobs: dict[str, Callable[[], Any]] = {}
    for precision in ("auto", "float32", "bfloat16", "float16"):
        embedder = Embedder.from_pretrained(folder, device="cuda", precision=precision)
        name = f"embedkit {precision}"
        if precision == "auto":
            name += f" ({embedder.precision})"
        jobs[name] = partial(embedder.encode, texts, show_progress=False)
        if precision == "bfloat16":
            low = embedder
    return jobs, low


def bounds(embedder: Embedder, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """The tokenizer alone, and the network with its poolings alone."""
    tokens = embedder.tokenizer(texts)
    return {
        "tokenizer": partial(embedder.tokenizer, texts),
        "encoder": partial(run, embedder.encoder, tokens, [embedder.bound]),
    }


def measure(folder: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    own, low = ours(folder, texts)
    jobs = peers(folder, texts) | own
    vectors: dict[str, Any] = {}

    def keep(name: str, job: Callable[[], Any]) -> None:
        vectors[name] = job()

    timed = {name: partial(keep, name, job) for name, job in jobs.items()}
    limits = bounds(low, texts)
    for job in (*timed.values(), *limits.values()):
        job()
    seconds = in_turn(timed | limits, rounds, show_progress=False)
    first = next(iter(jobs))
    count = len(low.tokenizer(texts).token_ids)
    return {
        "texts": len(texts),
        "tokens": count,
        "rows": {
            name: {
                "texts_per_second": round(len(texts) / statistics.median(of_job)),
                "tokens_per_second": round(count / statistics.median(of_job)),
                "times": round(
                    statistics.median(a / b for a, b in zip(seconds[first], of_job, strict=True)),
                    2,
                ),
                "smallest_cosine": float(smallest_cosine(vectors[first], vectors[name]))
                if name in vectors
                else None,
                "seconds": [round(value, 4) for value in of_job],
            }
            for name, of_job in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU here; expected one")

    short, long = shuffled(options.texts)[:SHORT], documents(options.documents, LONG)
    model = find_folder(options.model)
    result: dict[str, Any] = {
        "card": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        shapes = {"MiniLM": model, "BERT-base shape": bert_base(Path(scratch), model)}
        for shape, folder in shapes.items():
            for kind, texts in {"short sentences": short, "256-token documents": long}.items():
                print(f"{shape}, {kind}", file=sys.stderr)
                result[f"{shape}, {kind}"] = measure(folder, texts, options.rounds)
                tell(result, options.out)


if __name__ == "__main__":
    main()
