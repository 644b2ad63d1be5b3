"""Time embedkit's engines and precisions beside sentence-transformers, in one process."""

from __future__ import annotations

import logging
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from embedkit.data.pairs import Pairs
from embedkit.data.texts import as_texts
from embedkit.embedder.certificate import row_cosines
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.precision import AGREEMENT, INT8, PRECISIONS, Choice, smallest_cosine
from embedkit.embedder.streams import run_streams, streams_for
from embedkit.encoders.encoder import ENGINES, Encoder
from embedkit.encoders.hub import find_folder
from embedkit.encoders.linear import Affine, Linear, ready
from embedkit.encoders.loading import without_bars
from embedkit.encoders.packed import PackedEncoder
from embedkit.errors import InputError, first_line
from embedkit.evaluation.correlation import measure
from embedkit.evaluation.report.grid import Grid
from embedkit.progress import progress
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.batching import STREAM_BUDGET, TOKEN_BUDGET

PEER = "sentence-transformers"
OURS = "embedkit"

_QUERIES, _WARM_UP = 20, 512


class AbsentError(Exception):
    """A contestant that cannot run here, and why."""


class Contestant(NamedTuple):
    """What encodes texts, and the precision if it is embedkit."""

    encode: Callable[[list[str]], Float32Array]
    choice: Choice | None = None
    options: Mapping[str, Any] = {}  # of embedkit's `Embedder`


def _ours(folder: Path, device: str | None, **options: Any) -> Contestant:
    try:
        embedder = Embedder.from_pretrained(folder, device=device, **options)
    except InputError as error:
        raise AbsentError(str(error)) from error
    encode = partial(embedder.encode, show_progress=False)
    return Contestant(encode, embedder.precision_choice, options)


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


# What embedkit can run in, by name; float16 is for old GPUs, and torch cannot run int8.
_EVERY: dict[str, dict[str, Any]] = {
    f"{OURS} {engine} {precision}".replace(" torch", ""): {"engine": engine, "precision": precision}
    for engine, precision in product(ENGINES, PRECISIONS)
    if precision != "float16" and (precision != INT8 if engine == "torch" else find_spec(engine))
}

# The first one is what the others are compared with.
CONTESTANTS: dict[str, Callable[[Path, str | None], Contestant]] = {
    PEER: _peer,
    f"{PEER} bfloat16": partial(_peer, dtype=torch.bfloat16),
    f"{PEER} onnx": partial(_peer, backend="onnx"),
    f"{PEER} openvino": partial(_peer, backend="openvino"),
    OURS: _ours,
    **{name: partial(_ours, **options) for name, options in _EVERY.items()},
    f"{OURS} reproducible": partial(_ours, engine="torch", precision="float32", reproducible=True),
}
USUAL = (PEER, f"{PEER} bfloat16", *_EVERY, f"{OURS} reproducible")


@dataclass(frozen=True)
class Lap:
    """The figures of one contestant."""

    seconds: list[float]  # of each round, for all texts
    times_peer: float  # speed relative to sentence-transformers, the median over the rounds
    query_ms: float  # the median milliseconds of a single text
    smallest_cosine: float  # of a text's vector to that of sentence-transformers in float32
    mean_cosine: float
    choice: Choice | None = None  # of embedkit's precision, None for a peer
    options: Mapping[str, Any] = field(default_factory=dict)  # of embedkit's `Embedder`
    auto: bool = False  # whether embedkit takes it by itself
    spearman: float | None = None  # of the cosines of pairs with their scores

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

    @property
    def best(self) -> str | None:
        """embedkit's fastest engine and precision whose vectors agree with float32."""
        agree = {
            name: lap.median
            for name, lap in self.laps.items()
            if name in _EVERY and lap.smallest_cosine >= AGREEMENT
        }
        return min(agree, key=agree.__getitem__, default=None)

    @property
    def command(self) -> str | None:
        """The one that encodes with the best."""
        if self.best is None:
            return None
        lap = self.laps[self.best]
        options = {} if lap.auto else lap.options
        named = [part for option, value in options.items() for part in (f"--{option}", value)]
        return shlex.join(["embedkit", "encode", "FILE", "-m", self.model, *named])

    def share_of_bound(self, contestant: str) -> float | None:
        """Seconds of the products alone over those of the contestant, by its precision."""
        lap = self.laps[contestant]
        if lap.choice is None or lap.choice.name not in self.bound:
            return None
        return statistics.median(self.bound[lap.choice.name]) / lap.median

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        content = asdict(self) | {"best": self.best, "command": self.command}
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
                    "yes" if lap.auto else "",
                )
            )
        headings = ("", "texts/s", "times", "query ms", "min cosine", "of the bound", "auto")
        bold = None if self.best is None else list(self.laps).index(self.best)
        dropped_first = ((5,), (3,), (2,), (6,))
        return Grid(headings, tuple(rows), frozenset({0, 6}), bold, expendable=dropped_first)


def race(
    model: str | Path,
    texts: Sequence[str],
    *,
    contestants: Sequence[str] = USUAL,  # names of CONTESTANTS; sentence-transformers runs anyway
    rounds: int = 5,
    device: str | None = None,
    pairs: Pairs | None = None,
    show_progress: bool | None = None,
) -> Race:
    """Time the contestants on the same texts, with the same number of threads.

    Each first encodes some texts, which is not timed. Texts are deduplicated, because embedkit
    would run equal ones once. With pairs, each also gets its Spearman correlation, untimed.
    """
    as_texts(texts)
    if unknown := [name for name in contestants if name not in CONTESTANTS]:
        raise InputError(f"contestant {unknown[0]!r} is not one of {', '.join(CONTESTANTS)}")
    if rounds < 1:
        raise InputError(f"rounds is {rounds}; expected at least 1")
    texts = list(dict.fromkeys(texts))
    folder = find_folder(model)
    reference = Embedder.from_pretrained(folder, device=device, engine="torch", precision="float32")
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
            encode(name, texts[:_WARM_UP])  # enough for engines that compile for streams
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
    auto = Embedder.from_pretrained(folder, device=device).precision_choice
    laps = {
        name: Lap(
            seconds[name],
            float(np.median(np.divide(seconds[PEER], seconds[name]))),
            1000 * statistics.median(query_seconds[name]) / len(texts[:_QUERIES]),
            smallest_cosine(vectors[PEER], vectors[name]),
            float(row_cosines(vectors[PEER], vectors[name]).mean()),
            entry.choice,
            entry.options,
            name in (OURS, *_EVERY)
            and entry.choice is not None
            and (entry.choice.engine, entry.choice.name) == (auto.engine, auto.name),
            None if pairs is None else _spearman(entry.encode, pairs),
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


def _spearman(encode: Callable[[list[str]], Float32Array], pairs: Pairs) -> float | None:
    sides = (encode(list(texts)) for texts in (pairs.sentence1, pairs.sentence2))
    return measure("spearman", row_cosines(*sides), np.asarray(pairs.scores, np.float64)).value


def products(encoder: Encoder, dtype: torch.dtype, tokens: int) -> Callable[[], None] | None:
    """The matrix products of an encoder alone, in the batches and streams of a pass, as a job.

    No encoder with these linears is faster. None for an encoder that transformers runs.
    """
    if not isinstance(encoder, PackedEncoder):
        return None
    device = encoder.device
    linears: list[tuple[Linear, int]] = []
    for dim, inside in encoder.linear_shapes:
        weight = torch.full((dim, inside), 0.01, device=device, dtype=dtype)
        linears.append((ready(Affine(weight, weight[:, 0].contiguous())), inside))
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    budget = TOKEN_BUDGET if threads == 1 else STREAM_BUDGET
    whole, rest = divmod(tokens, budget)
    sizes = [budget] * whole + [rest] * (rest > 0)
    inputs = {
        (size, inside): torch.ones(size, inside, device=device, dtype=dtype)
        for size in set(sizes)
        for _, inside in linears
    }

    @torch.inference_mode()
    def multiply(size: int) -> None:
        for _ in range(encoder.num_layers):
            for linear, inside in linears:
                linear(inputs[size, inside])

    def job() -> None:
        if threads > 1:
            streams = streams_for(threads, len(sizes))
            run_streams(multiply, sizes, lambda size, _: None, *streams)
            return
        for size in sizes:
            multiply(size)
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
