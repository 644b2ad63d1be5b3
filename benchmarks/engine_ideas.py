"""What each idea of the engine brings on this machine, one left out or changed at a time.

    python benchmarks/engine_ideas.py TEXTS [--rounds 5] [--out results.json]

1,000 distinct sentences of TEXTS (a text a line; shuffled, seed 0) through MiniLM, all variants in
turn in one process: the median of the rounds' ratios to the engine as it is in float32, and the
smallest cosine to its vectors.
"""

from __future__ import annotations

import argparse
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import tell
from sentence_transformers import SentenceTransformer
from texts import shuffled

from embedkit import Embedder
from embedkit.benchmark import in_turn
from embedkit.embedder.one_pass import run
from embedkit.embedder.precision import smallest_cosine
from embedkit.encoders import attention, linear
from embedkit.encoders.hub import find_folder
from embedkit.recipes.steps import Float32Array

TEXTS = 1000


@contextmanager
def changed(place: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def with_budget(embedder: Embedder, texts: Sequence[str], budget: int) -> Float32Array:
    tokens = embedder.tokenizer(texts)
    return run(embedder.encoder, tokens, [embedder.bound], budget=budget)[0]


def not_laid(embedder: Embedder, texts: Sequence[str]) -> Float32Array:
    with changed(attention, "_SHORT", 0):
        return embedder.encode(texts, show_progress=False)


def two_streams(embedder: Embedder, texts: Sequence[str]) -> Float32Array:
    """Two Python threads with one thread of torch each, every second text."""
    found: list[Float32Array] = [np.empty(0), np.empty(0)]
    threads = torch.get_num_threads()

    def half(which: int) -> None:
        torch.set_num_threads(1)
        found[which] = embedder.encode(texts[which::2], show_progress=False)

    workers = [threading.Thread(target=half, args=(which,)) for which in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    torch.set_num_threads(threads)
    together = np.empty((len(texts), found[0].shape[1]), dtype=np.float32)
    together[::2], together[1::2] = found
    return together


def int8(folder: str) -> Callable[[Sequence[str]], Float32Array]:
    """sentence-transformers with torch's dynamic quantization of the linears."""
    model = SentenceTransformer(folder, device="cpu")
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    return lambda texts: np.asarray(quantized.encode(list(texts), show_progress_bar=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = shuffled(options.texts)[:TEXTS]

    folder = str(find_folder("minilm"))
    load = partial(Embedder.from_pretrained, "minilm", device="cpu")
    engine = load(precision="float32")
    with changed(linear, "fuses", lambda dtype: False):
        plain = load(precision="float32")
        plain.encode(texts[:8], show_progress=False)  # the linears are made by the first call
    quiet = {"show_progress": False}
    encode: dict[str, Callable[[Sequence[str]], Float32Array]] = {
        "the engine, float32": partial(engine.encode, **quiet),
        "padded batches of 32: sentence-transformers": partial(
            SentenceTransformer(folder, device="cpu").encode, show_progress_bar=False
        ),
        "plain linears instead of fused ones": partial(plain.encode, **quiet),
        "short texts not laid together": partial(not_laid, engine),
        "budget of 1,024 tokens": partial(with_budget, engine, budget=1024),
        "budget of 16,384 tokens": partial(with_budget, engine, budget=16_384),
        "two streams of one thread": partial(two_streams, engine),
        "reproducible": partial(load(precision="float32", reproducible=True).encode, **quiet),
        "bfloat16": partial(load(precision="bfloat16").encode, **quiet),
        "float16": partial(load(precision="float16").encode, **quiet),
        "int8 linears (torch's, dynamic) in sentence-transformers": int8(folder),
    }
    vectors = {name: function(texts) for name, function in encode.items()}
    jobs = {name: partial(function, texts) for name, function in encode.items()}
    seconds = in_turn(jobs, options.rounds, show_progress=True)
    first, *_ = encode
    result = {
        name: {
            "times the engine": statistics.median(
                ours / its for ours, its in zip(seconds[first], seconds[name], strict=True)
            ),
            "texts per second": TEXTS / statistics.median(seconds[name]),
            "smallest cosine": smallest_cosine(vectors[first], vectors[name]),
        }
        for name in encode
    }
    tell({"threads": torch.get_num_threads(), "torch": torch.__version__, **result}, options.out)


if __name__ == "__main__":
    main()
