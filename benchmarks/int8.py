"""int8 beside padded int8 and sentence-transformers: texts a CPU second, and agreement.

    OMP_NUM_THREADS=2 python benchmarks/int8.py TEXTS MODEL [--rounds 5]

MODEL is a folder that `embedkit quantize -m minilm` wrote, of a model whose recipe is a mean; TEXTS
has a text a line. `padded` is the same int8 graph on batches of 32 texts, sorted by length and
padded to the longest one. It reads pads as tokens, so it has less to do than a graph with a mask:
a bound that is in its favour. Medians of interleaved rounds, after one that does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from texts import shuffled

from embedkit import Embedder

COUNT, BATCH = 2000, 32


def padded(embedder: Embedder, texts: list[str]) -> None:
    """Encode with padding; the vectors are not looked at."""
    tokens = embedder.tokenizer(texts)
    order = np.argsort(-tokens.lengths, kind="stable")
    network = embedder.encoder._engine
    compiled, _ = network._model((embedder.encoder.num_layers,), False)
    request = compiled.create_infer_request()
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        ids = np.zeros((len(rows), int(tokens.lengths[rows[0]])), np.int32)
        for row, text in zip(ids, rows, strict=True):
            own = tokens.token_ids[tokens.offsets[text] : tokens.offsets[text + 1]]
            row[: len(own)] = own
        places = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
        request.infer([ids, np.ascontiguousarray(places)])[0].mean(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    texts = shuffled(options.texts)[:COUNT]
    rough = Embedder(options.model, precision="int8")
    exact = Embedder(options.model, precision="float32", device="cpu")
    peer = SentenceTransformer(str(options.model), device="cpu")
    contestants: dict[str, Callable[[], object]] = {
        "embedkit int8": lambda: rough.encode(texts, show_progress=False),
        "padded int8": lambda: padded(rough, texts),
        "embedkit float32": lambda: exact.encode(texts, show_progress=False),
        "sentence-transformers": lambda: peer.encode(texts, show_progress_bar=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds + 1):
        for name, encode in contestants.items():
            started = time.perf_counter()
            encode()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    a, b = (one.encode(texts, normalize_embeddings=True) for one in (rough, exact))
    cosines = (a * b).sum(axis=1)
    print(
        json.dumps(
            {
                "texts": len(texts),
                "seconds": medians,
                "times": {name: time / medians["embedkit int8"] for name, time in medians.items()},
                "cosine": {"mean": float(cosines.mean()), "smallest": float(cosines.min())},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
