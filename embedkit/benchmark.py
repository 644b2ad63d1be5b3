"""Time embedkit beside sentence-transformers and its backends, on the same texts in one process."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from embedkit.data.texts import as_texts
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.precision import PRECISIONS, Choice, smallest_cosine
from embedkit.encoders.encoder import Encoder
from embedkit.encoders.hub import find_folder
from embedkit.encoders.linear import Affine, Linear, ready
from embedkit.encoders.loading import without_bars
from embedkit.encoders.packed import PackedEncoder
from embedkit.errors import InputError, first_line
from embedkit.evaluation.report.grid import Grid
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.batching import TOKEN_BUDGET

PEER = "sentence-transformers"
OURS = "embedkit"

_QUERIES = 20


class AbsentError(Exception):
    """A contestant that cannot run here, and why."""


class Contestant(NamedTuple):
    """What encodes texts, and the precision if it is embedkit."""

    encode: Callable[[list[str]], Float32Array]
    choice: Choice | None = None


def _ours(folder: Path, device: str | None, **options: Any) -> Contestant:
    embedder = Embedder.from_pretrained(folder, device=device, **options)
    return Contestant(partial(embedder.encode, show_progress=False), embedder.precision_choice)


def _peer(
    folder: Path, device: str | None, *, backend: str = "torch", dtype: torch.dtype | None = None
) -> Contestant:
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    if backend != "torch":
        options["export"] = True
    logged = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with without_bars():
            model = SentenceTransformer(
                str(folder),
                device=device,
                backend=backend,  # type: ignore[arg-type]
                model_kwargs=options,
                local_files_only=True,
            )
    except Exception as error:
        raise AbsentError(f"it does not load here ({first_line(error)})") from error
    finally:
        logging.disable(logged)

    def encode(texts: list[str]) -> Float32Array:
        vectors: Float32Array = model.encode(texts, show_progress_bar=False)
        return vectors.astype(np.float32, copy=False)

    return Contestant(encode)


# The first one is what the others are compared with.
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


@dataclass(frozen=True)
class Lap:
    """The figures of one contestant."""

    seconds: list[float]  # of each round, for all texts
    times_peer: float  # speed relative to sentence-transformers, the median over the rounds
    query_ms: float  # the median milliseconds of a single text
    smallest_cosine: float  # of a text's vector to that of sentence-transformers in float32
    choice: Choice | None = None  # of embedkit's precision, None for a peer

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Race:
    """The figures of all contestants."""

    model: str
    texts: int  # how many, all distinct
    tokens: int  # of them all
    laps: dict[str, Lap]
    absent: dict[str, str]  # contestants that could not run, and why
    bound: dict[str, list[float]] = field(default_factory=dict)  # seconds of the products
    machine: dict[str, str | int] = field(default_factory=dict)

    def share_of_bound(self, contestant: str) -> float | None:
        """Seconds of the products alone over those of the contestant, by its precision."""
        lap = self.laps[contestant]
        if lap.choice is None or lap.choice.name not in self.bound:
            return None
        return statistics.median(self.bound[lap.choice.name]) / lap.median

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        content = asdict(self)
        for name, lap in self.laps.items():
            del content["laps"][name]["choice"]
            content["laps"][name] |= {
                "note": "" if lap.choice is None else str(lap.choice),
                "median_seconds": lap.median,
                "texts_per_second": self.texts / lap.median,
                "share_of_bound": self.share_of_bound(name),
            }
        return content

    def grid(self) -> Grid:
        """A row a contestant."""
        rows = []
        for name, lap in self.laps.items():
            share = self.share_of_bound(name)
            rows.append(
                (
                    name,
                    f"{self.texts / lap.median:,.0f}",
                    f"{lap.times_peer:.2f}",
                    f"{lap.query_ms:.1f}",
                    f"{lap.smallest_cosine:.5f}",
                    "" if share is None else f"{share:.0%}",
                    "" if lap.choice is None else lap.choice.name,
                )
            )
        headings = ("", "texts/s", "times", "query ms", "min cosine", "of the bound", "precision")
        return Grid(headings, tuple(rows), frozenset({0, 6}), expendable=((6,), (5,)))


def race(
    model: str | Path,
    texts: Sequence[str],
    *,
    contestants: Sequence[str] = USUAL,  # names of CONTESTANTS; sentence-transformers runs anyway
    rounds: int = 5,
    device: str | None = None,
    show_progress: bool | None = None,
) -> Race:
    """Time the contestants on the same texts, with the same number of threads.

    Each first encodes a few texts, which is not timed. Texts are deduplicated, because embedkit
    would run equal ones once.
    """
    as_texts(texts)
    if unknown := [name for name in contestants if name not in CONTESTANTS]:
        raise InputError(f"contestant {unknown[0]!r} is not one of {', '.join(CONTESTANTS)}")
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; expected at least 1")
    texts = list(dict.fromkeys(texts))
    folder = find_folder(model)
    reference = Embedder.from_pretrained(folder, device=device, precision="float32")
    tokens = len(reference.tokenizer(texts).token_ids)

    entered: dict[str, Contestant] = {}
    absent: dict[str, str] = {}
    for name, make in CONTESTANTS.items():
        if name in (PEER, *contestants):
            try:
                entered[name] = make(folder, device)
            except AbsentError as reason:
                absent[name] = str(reason)
    if PEER not in entered:
        raise InputError(f"{PEER} cannot run {model}: {absent[PEER]}")
    vectors: dict[str, Float32Array] = {}

    def encode(name: str, texts: list[str]) -> None:
        vectors[name] = entered[name].encode(texts)

    def encode_queries(name: str) -> None:
        for query in texts[:_QUERIES]:
            entered[name].encode([query])

    for name in entered:
        try:
            encode(name, texts[:8])
        except Exception as error:
            raise InputError(f"{name} fails on these texts: {error}") from error
    jobs: dict[str, Callable[[], None]] = {name: partial(encode, name, texts) for name in entered}
    precisions = dict.fromkeys(entry.choice.name for entry in entered.values() if entry.choice)
    for name in precisions:
        if job := products(reference.encoder, PRECISIONS[name], tokens):
            jobs[name] = job
    seconds = in_turn(jobs, rounds, show_progress=show_progress)
    query_jobs = {name: partial(encode_queries, name) for name in entered}
    query_seconds = in_turn(query_jobs, 3, show_progress=False)
    laps = {
        name: Lap(
            seconds[name],
            float(np.median(np.divide(seconds[PEER], seconds[name]))),
            1000 * statistics.median(query_seconds[name]) / len(texts[:_QUERIES]),
            smallest_cosine(vectors[PEER], vectors[name]),
            entry.choice,
        )
        for name, entry in entered.items()
    }
    machine: dict[str, str | int] = {
        "device": str(reference.encoder.device),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    bound = {name: times for name, times in seconds.items() if name in precisions}
    return Race(str(model), len(texts), tokens, laps, absent, bound, machine)


def products(encoder: Encoder, dtype: torch.dtype, tokens: int) -> Callable[[], None] | None:
    """The matrix products of an encoder alone, in batches of the token budget, as a job.

    No encoder with these linears is faster. None for an encoder that transformers runs.
    """
    if not isinstance(encoder, PackedEncoder):
        return None
    device = encoder.device
    linears: list[tuple[Linear, int]] = []
    for dim, inside in encoder.linear_shapes:
        weight = torch.full((dim, inside), 0.01, device=device, dtype=dtype)
        linears.append((ready(Affine(weight, weight[:, 0].contiguous())), inside))
    whole, rest = divmod(tokens, TOKEN_BUDGET)
    sizes = [TOKEN_BUDGET] * whole + [rest] * (rest > 0)
    inputs = {
        (size, inside): torch.ones(size, inside, device=device, dtype=dtype)
        for size in set(sizes)
        for _, inside in linears
    }

    def job() -> None:
        with torch.inference_mode():
            for size in sizes:
                for _ in range(encoder.num_layers):
                    for linear, inside in linears:
                        linear(inputs[size, inside])
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return job


def in_turn(
    jobs: Mapping[str, Callable[[], object]], rounds: int, *, show_progress: bool | None
) -> dict[str, list[float]]:
    """Seconds of each round of each job; every second round runs in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with progress(rounds * len(jobs), "runs", show=show_progress) as advance:
        for index in range(rounds):
            for name in jobs if index % 2 == 0 else reversed(list(jobs)):
                started = time.perf_counter()
                jobs[name]()
                seconds[name].append(time.perf_counter() - started)
                advance(1)
    return seconds
