"""Who encodes: embedkit, and sentence-transformers with each of its backends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from embedkit.embedder import Embedder
from embedkit.errors import first_line
from embedkit.precision import Choice
from embedkit.steps import Vectors

PEER = "sentence-transformers"
OURS = "embedkit"

Encode = Callable[[Sequence[str]], Vectors]


class AbsentError(Exception):
    """A contestant that cannot run here, and why."""


class Contestant(NamedTuple):
    """Encodes texts, and where it is ours, in what precision."""

    encode: Encode
    choice: Choice | None = None


def _ours(folder: Path, device: str | None, **options: Any) -> Contestant:
    embedder = Embedder.from_pretrained(folder, device=device, **options)
    return Contestant(partial(embedder.encode, show_progress=False), embedder.precision_choice)


def _peer(
    folder: Path, device: str | None, *, backend: str = "torch", dtype: torch.dtype | None = None
) -> Contestant:
    needs = {"onnx": ("optimum.onnxruntime",), "openvino": ("optimum.intel", "openvino")}
    for module in needs.get(backend, ()):
        if not _installed(module):
            raise AbsentError(f"{module} is not installed")
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if backend != "torch":
        options["export"] = True
    try:
        with _quiet():
            model = SentenceTransformer(
                str(folder),
                device=device,
                backend=backend,  # type: ignore[arg-type]
                model_kwargs=options,
                local_files_only=True,
            )
    except Exception as error:
        raise AbsentError(f"it does not load here ({first_line(error)})") from error

    def encode(texts: Sequence[str]) -> Vectors:
        vectors: Vectors = model.encode(list(texts), show_progress_bar=False)
        return vectors.astype(np.float32, copy=False)

    return Contestant(encode)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars of weights and warnings of an export."""
    from transformers.utils import logging as of_transformers

    before, bars = logging.root.manager.disable, of_transformers.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.disable(before)
        if bars:
            of_transformers.enable_progress_bar()  # type: ignore[no-untyped-call]


# The first of the peers is what others are held against.
CONTESTANTS: dict[str, Callable[[Path, str | None], Contestant]] = {
    PEER: _peer,
    f"{PEER} bfloat16": partial(_peer, dtype=torch.bfloat16),
    f"{PEER} onnx": partial(_peer, backend="onnx"),
    f"{PEER} openvino": partial(_peer, backend="openvino"),
    OURS: _ours,
    f"{OURS} float32": partial(_ours, precision="float32"),
    f"{OURS} bfloat16": partial(_ours, precision="bfloat16"),
    f"{OURS} reproducible": partial(_ours, precision="float32", reproducible=True),
}
USUAL = tuple(name for name in CONTESTANTS if name not in (f"{OURS} float32", f"{OURS} bfloat16"))
