"""Measure how fast this CPU is in float32 and bfloat16, by torch and OpenVINO, kept in a file.

`auto` must choose the same on a busy machine as on an idle one. So a product takes less than a time
slice of the scheduler, on one thread, and only the time that this thread ran counts where the
system counts finely. Both precisions run in turn, and the shortest time of each counts, which load
hardly changes. The rounds end when neither has become 1 % shorter for long; where that does not
happen, float32 is taken, and nothing is kept. The gain that bfloat16 needs (`precision.WORTH`) is
far from those of known CPUs: 0.5 where it is converted to float32, 1.9 with AVX512-BF16, 5 by AMX.

OpenVINO is timed only where a user asks for it (`embedkit bench --calibrate`): against torch, on a
layer of MiniLM's shape, by the time that this process ran, for its threads are not the caller's.

The file is calibration.json in $EMBEDKIT_CACHE, by default in embedkit/ of $XDG_CACHE_HOME or of
~/.cache. A process that cannot read it measures anew; one that cannot write it goes on without.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from embedkit.encoders.devices import one_thread
from embedkit.encoders.linear import Affine, ready
from embedkit.errors import InputError
from embedkit.manifest import read_manifest, write_manifest
from embedkit.tokenization.token_batch import TokenBatch

FILE = "calibration.json"
_NAMES = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16", "svebf16", "sve_bf16"}
_LIMIT = "ONEDNN_MAX_CPU_ISA"
_SETTLED = 200  # rounds in which no time became shorter
BY_TORCH = "{} by torch"
_ROUNDS = 20_000  # at most
_FINE = 1e-5  # seconds: a clock with larger steps cannot time a product


@dataclass(frozen=True)
class Measurement:
    """The shortest times of a product on one thread."""

    cpu: str  # its model, and what oneDNN was limited to, if it was
    cores: int
    torch: str
    engine: str  # torch, of products; or OpenVINO and its version, of a layer, torch's beside it
    microseconds: Mapping[str, float]  # by precision; in torch's where OpenVINO is the engine
    rounds: int  # how often each ran

    def __post_init__(self) -> None:
        needed = ("float32", "bfloat16" if self.engine == "torch" else BY_TORCH.format("float32"))
        if not all(0 < self.microseconds[x] < math.inf for x in {*needed, *self.microseconds}):
            raise ValueError(f"microseconds are {self.microseconds}")

    @property
    def machine(self) -> tuple[object, ...]:
        """What it holds for."""
        return self.cpu, self.cores, self.torch, self.engine

    @property
    def gain(self) -> float:
        """How often bfloat16 is as fast as float32."""
        return self.microseconds["float32"] / self.microseconds["bfloat16"]

    def gain_over_torch(self, precision: str) -> float:
        """How often OpenVINO is as fast as torch; 0 where it does not compute in this precision."""
        torchs = self.microseconds.get(BY_TORCH.format(precision), 0.0)
        return torchs / self.microseconds.get(precision, math.inf)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the gain."""
        return {**asdict(self), **({"gain": self.gain} if "bfloat16" in self.microseconds else {})}


def has_bfloat16() -> bool:
    """Whether this CPU has an instruction for products of bfloat16."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    flags = {name for name, value in capabilities.items() if value is True}
    lines = _cpuinfo()
    return bool(_BFLOAT16 & {*flags, *f"{lines.get('flags')} {lines.get('Features')}".split()})


@cache
def calibrated() -> tuple[Measurement | None, str]:
    """See `calibrate`; once for a process."""
    return calibrate()


def calibrate(*, anew: bool = False) -> tuple[Measurement | None, str]:
    """The kept measurement of this machine, or a new one, and what was wrong with the file.

    None where the machine is too unsteady. `anew` measures in any case, and raises the OSError of a
    file that cannot be written.
    """
    machine, note = _machine(), ""
    kept: dict[tuple[object, ...], Measurement] = {}
    try:
        kept = _read()
    except (InputError, OSError) as error:
        note = f"; measured anew, for {error}"
    if machine in kept and not anew:
        return kept[machine], note
    measured = _measure(machine, _time_products)
    if measured is None:
        return None, note
    try:
        return _keep(measured, anew=anew), note
    except OSError as error:
        if anew:
            raise
        return measured, f"; it cannot be kept ({error})"


def calibrate_openvino() -> Measurement | None:
    """A new measurement of OpenVINO, kept; None where it is not installed or too unsteady.

    Raises the OSError of a file that cannot be written.
    """
    machine = _openvino_machine()
    measured = None if machine is None else _measure(machine, _time_layers)
    return None if measured is None else _keep(measured, anew=True)


def kept_openvino() -> Measurement | None:
    """The kept measurement of OpenVINO on this machine, if there is one; none is made."""
    machine = _openvino_machine()
    try:
        return None if machine is None else _read().get(machine)
    except (InputError, OSError):  # `calibrate` names the problem
        return None


def _measure(
    machine: tuple[str, int, str, str], timed: Callable[[], tuple[dict[str, float], int]]
) -> Measurement | None:
    with ThreadPoolExecutor(1) as alone:  # the caller's autocast and default device do not reach it
        times, rounds = alone.submit(timed).result()
    microseconds = {name: round(seconds * 1e6, 3) for name, seconds in times.items()}
    return Measurement(*machine, microseconds, rounds) if times else None


def cache_folder() -> Path:
    """Where the file is; OSError where there is no home."""
    if own := os.environ.get("EMBEDKIT_CACHE"):
        return Path(own)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # others do not count, by XDG's specification
        return base / "embedkit"
    try:
        return Path.home() / ".cache" / "embedkit"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _read() -> dict[tuple[object, ...], Measurement]:
    """The kept measurements, by machine; none where there is no file."""
    folder = cache_folder()
    if not (folder / FILE).exists():
        return {}
    measurements = read_manifest(
        folder,
        FILE,
        "measurements of embedkit",
        lambda content: [Measurement(**one) for one in content["measurements"]],
    )
    return {one.machine: one for one in measurements}


def _keep(measured: Measurement, *, anew: bool) -> Measurement:
    """Write it; but take that of another process, if one came first."""
    try:
        kept = _read()
    except InputError:
        kept = {}
    if measured.machine in kept and not anew:
        return kept[measured.machine]
    kept[measured.machine] = measured
    path = cache_folder() / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    measurements = [asdict(one) for one in kept.values()]
    write_manifest(path, {"measurements": measurements}, sole=False)
    return measured


@one_thread()
@torch.inference_mode()
def _time_products() -> tuple[dict[str, float], int]:
    products = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        weight, x = (torch.ones(n, 384, dtype=dtype, device="cpu") for n in (384, 128))
        products[name] = partial(ready(Affine(weight, weight[0])), x)
    return shortest(products, _clock(time.thread_time))


@one_thread()
def _time_layers() -> tuple[dict[str, float], int]:
    """A layer of MiniLM's shape on 8 texts of 16 tokens, by both engines on one thread."""
    from embedkit.encoders import openvino
    from embedkit.encoders.families import FAMILIES, EncoderConfig
    from embedkit.encoders.network import Network

    sizes = {"dim": 384, "layers": 1, "heads": 12, "inner": 1536, "vocabulary": 9, "positions": 16}
    family, config = FAMILIES["bert"], EncoderConfig(**sizes, activation="gelu", embedding=384)
    generator, cpu = torch.Generator("cpu").manual_seed(0), torch.device("cpu")
    tensors = {
        name: torch.randn(*shape, generator=generator, device="cpu") / 20
        for name, shape in config.shapes(family, pooler=False)
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    tokens = torch.zeros(128, dtype=torch.int64, device="cpu")
    batch = TokenBatch(tokens, torch.arange(0, 129, 16, device="cpu"), tokens.bool())
    jobs: dict[str, Callable[[], object]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if name == "float32" or openvino.has_bfloat16():
            ours = openvino.OpenVINONetwork(family, config, arrays, dtype, 1)
            theirs = Network(family, config, tensors, cpu, dtype)
            for job, network in ((name, ours), (BY_TORCH.format(name), theirs)):
                jobs[job] = partial(network, batch, [1])
    return shortest(jobs, _clock(time.process_time))


def shortest(
    jobs: Mapping[str, Callable[[], object]], clock: Callable[[], float]
) -> tuple[dict[str, float], int]:
    """The shortest time of each of the jobs, which run in turn until it stays, and the rounds."""
    times, quiet = dict.fromkeys(jobs, math.inf), 0
    for rounds in range(1, _ROUNDS + 1):
        quiet += 1
        for name, job in jobs.items():
            started = clock()
            job()
            seconds = clock() - started
            if seconds < 0.99 * times[name]:
                quiet = 0
            times[name] = min(times[name], seconds)
        if quiet == _SETTLED:
            return times, rounds
    return {}, _ROUNDS  # they never stayed


def _clock(fine: Callable[[], float]) -> Callable[[], float]:
    """This clock, where its steps are fine; on Windows they are not."""
    started = fine()
    while (step := fine() - started) == 0:
        pass
    return fine if step < _FINE else time.perf_counter


def _machine() -> tuple[str, int, str, str]:
    """Of a measurement that is made here."""
    lines = _cpuinfo()
    cpu = ", ".join(f"{name} {lines[name]}" for name in _NAMES if name in lines)
    cpu = cpu or platform.processor() or platform.machine()
    if limit := os.environ.get(_LIMIT):
        cpu += f", {_LIMIT} {limit}"
    return cpu, os.cpu_count() or 1, str(torch.__version__), "torch"


def _openvino_machine() -> tuple[str, int, str, str] | None:
    """Of a measurement of OpenVINO; None where it is not installed."""
    try:
        return *_machine()[:3], f"openvino {version('openvino')}"
    except PackageNotFoundError:
        return None


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
