"""What options can be set to: for `--help` and for the completion of shells.

The tables of the API, which check the values, load numpy or torch; tests compare them with these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path

from embedkit.data.builtin import SHIPPED
from embedkit.files import DEFAULT_MODEL
from embedkit.pooling import POOLINGS

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
INDEX_SIMILARITIES = ("cosine", "dot", "euclidean")
INDEX_KINDS = ("flat", "hnsw")
BUILT_KINDS = (*INDEX_KINDS, "auto")
MODES = ("dense", "bm25", "hybrid")
WORDS = ("unicode", "english", "kiwi")
INDEX_METAVAR = "[flat|hnsw|FACTORY]"
AGGREGATIONS = ("all", "mean", "wmean")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
ENGINES = ("auto", "torch", "openvino")
DTYPES = ("float32", "float16")
FORMATS = ("table", "markdown", "latex", "csv", "json")
HEADS = ("ridge", "mlp", "isotonic")
LOSSES = ("cosent", "cosine", "in-batch", "triplet")
READS = ("pooler", "pooler-fresh", "cls", "mean", "max")

_SEPARATED = re.compile(r"(.*[\s,+])?", re.DOTALL)  # values that are complete

Complete = Callable[[str], list[str]]


def completion(names: Iterable[str], *, several: bool = False) -> Complete:
    """What Typer calls to complete a word; with `several`, the last one of the word's values."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        match = _SEPARATED.match(incomplete) if several else None
        before = match[0] if match else ""
        return [before + name for name in known if name.startswith(incomplete[len(before) :])]

    return complete


def complete_model(incomplete: str) -> list[str]:
    """The built-in model, and those of the hub that are in the local cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = sorted(path.name[len("models--") :] for path in Path(HF_HUB_CACHE).glob("models--*"))
    return completion([DEFAULT_MODEL, *(name.replace("--", "/") for name in cached)])(incomplete)


def complete_data(incomplete: str) -> list[str]:
    """A data set's name, where no file begins so: the shell completes files by itself."""
    from embedkit.data.named_sets import NAMED_SETS, SUITES

    names = (*SHIPPED, *NAMED_SETS, *SUITES)
    return [] if glob(f"{escape(incomplete)}*") else completion(names)(incomplete)


complete_recipes = completion(POOLINGS, several=True)
