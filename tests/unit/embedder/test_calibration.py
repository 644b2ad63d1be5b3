"""The measurement that `auto` goes by on a CPU, and the file that keeps it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command import Run, refused
from hypothesis import given
from hypothesis import strategies as st

from embedkit.embedder import calibration, precision
from embedkit.embedder.calibration import FILE, Measurement, calibrate, has_bfloat16, shortest
from embedkit.embedder.precision import WORTH, Choice, cpu_precision
from embedkit.manifest import write_manifest

MACHINE = ("CPU X", 4, "2.13.0", "torch")


def times(float32: float, bfloat16: float) -> Callable[[], tuple[dict[str, float], int]]:
    """Instead of a measurement."""
    return lambda: ({"float32": float32 / 1e6, "bfloat16": bfloat16 / 1e6}, 300)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, on a machine where bfloat16 is 2.0 times as fast."""
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_machine", lambda: MACHINE)
    monkeypatch.setattr(calibration, "_time_products", times(400, 200))
    monkeypatch.setattr(calibration, "_openvino_machine", lambda: None)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    return tmp_path / "cache"


def kept(cache: Path) -> list[dict[str, Any]]:
    said = json.loads((cache / FILE).read_text(encoding="utf-8"))
    assert said["schema"] == 1
    measurements: list[dict[str, Any]] = said["measurements"]
    return measurements


# Timing and load


@given(gain=st.floats(0.1, 8), disturbed=st.floats(0, 0.9), seed=st.integers(0, 2**32 - 1))
def test_load_does_not_change_the_gain(gain: float, disturbed: float, seed: int) -> None:
    """Runs that were interrupted, or found cold caches, do not count, however many they are."""
    generator, now = random.Random(seed), 0.0  # noqa: S311

    def job(seconds: float) -> Callable[[], None]:
        def run() -> None:
            nonlocal now
            now += seconds * generator.uniform(1, 1.004)
            if generator.random() < disturbed:
                now += generator.uniform(0.1 * seconds, 0.1)

        return run

    found, rounds = shortest({"slow": job(4e-4), "fast": job(4e-4 / gain)}, lambda: now)
    assert found["slow"] / found["fast"] == pytest.approx(gain, rel=0.02)
    assert rounds >= calibration._SETTLED


def test_times_that_never_settle_are_not_trusted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, step = 0.0, 1.0

    def faster_and_faster() -> None:
        nonlocal now, step
        now += step
        step *= 0.98

    monkeypatch.setattr(calibration, "_ROUNDS", 1000)
    unsteady = shortest({"float32": faster_and_faster}, lambda: now)
    assert unsteady == ({}, 1000)
    monkeypatch.setattr(calibration, "_time_products", lambda: unsteady)
    assert calibrate() == (None, "")
    monkeypatch.setattr(precision, "calibrated", calibrate)
    reason = "times of products are too unsteady here to choose by"
    assert cpu_precision() == Choice("float32", None, reason)
    assert not cache.exists()


@pytest.mark.parametrize(("step", "fine"), [(1e-7, True), (0.015625, False)])
def test_the_clock_counts_only_this_thread_where_its_steps_are_fine(
    monkeypatch: pytest.MonkeyPatch, step: float, fine: bool
) -> None:
    reads = 0

    def thread_time() -> float:
        nonlocal reads
        reads += 1
        return reads // 5 * step

    clock = calibration._clock(thread_time)
    assert clock is (thread_time if fine else calibration.time.perf_counter)


# Ambient state of torch


def test_the_caller_s_torch_state_neither_counts_nor_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("EMBEDKIT_CACHE", str(cache))
    seen: dict[str, Any] = {}
    real = shortest

    def noting(jobs: Any, clock: Any) -> Any:
        seen.update({name: job() for name, job in jobs.items()}, threads=torch.get_num_threads())
        monkeypatch.setattr(calibration, "_SETTLED", 2)
        return real(jobs, clock)

    monkeypatch.setattr(calibration, "shortest", noting)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            measured, note = calibrate()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (seen["float32"].dtype, seen["bfloat16"].dtype) == (torch.float32, torch.bfloat16)
    assert seen["float32"].device.type == "cpu"
    assert seen["threads"] == 1
    assert torch.equal(seen["float32"], torch.full((128, 384), 385.0))  # 384 ones and the bias
    assert note == ""
    assert measured is not None
    assert 0 < measured.gain < math.inf
    assert measured.torch == torch.__version__
    assert calibrate() == (measured, "")


# The choice


@pytest.mark.parametrize(("gain", "name"), [(5.0, "bfloat16"), (1.9, "bfloat16"), (0.5, "float32")])
def test_a_cpu_takes_what_is_clearly_faster(
    cache: Path, monkeypatch: pytest.MonkeyPatch, gain: float, name: str
) -> None:
    """The gains of known CPUs; a quarter more or less changes no choice."""
    monkeypatch.setattr(precision, "calibrated", lambda: calibrate(anew=True))
    for error in (0.8, 1, 1.25):
        monkeypatch.setattr(calibration, "_time_products", times(100 * gain * error, 100))
        found = cpu_precision()
        assert found.name == name
        said = f"bfloat16 products are {gain * error:.1f} times as fast as float32 here"
        assert found.reason == said
        assert found.measured is not None
        assert found.measured.gain == pytest.approx(gain * error)
        assert (found.measured.gain >= WORTH) == (name == "bfloat16")


@pytest.mark.parametrize(
    ("lines", "capable"),
    [
        ({"flags": "fpu avx2 avx512f avx512bw"}, False),
        ({"flags": "fpu avx512f avx512_bf16"}, True),
        ({"flags": "fpu amx_tile amx_bf16"}, True),
        ({"Features": "fp asimd bf16 i8mm"}, True),
        ({"Features": "fp asimd"}, False),
        ({}, False),
    ],
)
def test_a_cpu_without_instructions_for_bfloat16_is_not_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch, lines: dict[str, str], capable: bool
) -> None:
    monkeypatch.setattr(calibration, "_cpuinfo", lambda: lines)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "bf16": False})
    assert has_bfloat16() == capable
    if not capable:
        monkeypatch.setattr(precision, "has_bfloat16", has_bfloat16)
        monkeypatch.setattr(precision, "calibrated", lambda: pytest.fail("measured"))
        reason = "this CPU has no instructions for bfloat16"
        assert cpu_precision() == cpu_precision(anew=True) == Choice("float32", None, reason)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert has_bfloat16()


# The file


def test_a_measurement_is_kept_by_cpu_cores_and_torch(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Measurement(*MACHINE, {"float32": 400.0, "bfloat16": 200.0}, 300)
    assert calibrate() == (first, "")
    monkeypatch.setattr(calibration, "_time_products", times(300, 600))
    assert calibrate() == (first, "")
    others = [("CPU Y", *MACHINE[1:]), ("CPU X", 8, *MACHINE[2:]), ("CPU X", 4, "2.14.0", "torch")]
    for machine in others:
        monkeypatch.setattr(calibration, "_machine", lambda machine=machine: machine)
        found, note = calibrate()
        assert found is not None
        assert (found.machine, found.gain, note) == (machine, 0.5, "")
    monkeypatch.setattr(calibration, "_machine", lambda: MACHINE)
    assert calibrate() == (first, "")
    again, _ = calibrate(anew=True)
    assert again is not None
    assert again.gain == 0.5
    assert calibrate() == (again, "")
    assert [(one["cpu"], one["cores"], one["torch"]) for one in kept(cache)] == [
        machine[:3] for machine in (MACHINE, *others)
    ]


def test_this_machine_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cores, version, engine = calibration._machine()
    assert len(cpu) > 3
    assert cores >= 1
    assert (version, engine) == (torch.__version__, "torch")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert calibration._machine()[0] == f"{cpu}, ONEDNN_MAX_CPU_ISA AVX2"


def test_the_folder_follows_the_environment_never_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EMBEDKIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert calibration.cache_folder() == tmp_path / "home" / ".cache" / "embedkit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert calibration.cache_folder() == tmp_path / "home" / ".cache" / "embedkit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert calibration.cache_folder() == tmp_path / "xdg" / "embedkit"
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "own"))
    assert calibration.cache_folder() == tmp_path / "own"


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def full(*_: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("wrong", ["a file in the way", "no home", "a full disk"])
def test_a_folder_that_cannot_be_written_is_harmless(
    cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    if wrong == "a file in the way":
        cache.write_text("mine")
    elif wrong == "a full disk":
        monkeypatch.setattr(calibration, "write_manifest", full)
    else:
        monkeypatch.delenv("EMBEDKIT_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    for _ in range(2):
        measured, note = calibrate()
        assert measured is not None
        assert measured.gain == 2
        assert note.startswith("; it cannot be kept (")
    with pytest.raises(OSError, match=r"File exists|home directory|No space left"):
        calibrate(anew=True)
    if wrong == "a file in the way":
        assert cache.read_text() == "mine"


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"schema": 1, "meas',
    "a list": b"[]",
    "no text": b"\xff\xfe\x00",
    "no checksum": b'{"schema": 1, "measurements": []}',
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_measured_anew_and_replaced(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    cache.mkdir()
    (cache / FILE).write_bytes(content)
    monkeypatch.setattr(precision, "calibrated", calibrate)
    found = cpu_precision()
    assert found.name == "bfloat16"
    assert found.reason.startswith(
        "bfloat16 products are 2.0 times as fast as float32 here; measured anew, for "
        f"{cache / FILE}: is damaged"
    )
    assert calibrate() == (found.measured, "")
    assert [path.name for path in cache.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "measurements",
    [
        None,
        [None],
        [{}],
        [{**dict.fromkeys(("cpu", "cores", "torch", "engine", "rounds"), 1), "microseconds": 1}],
        [
            dict(zip(("cpu", "cores", "torch", "engine"), MACHINE, strict=True))
            | {"rounds": 1}
            | {"microseconds": {"float32": 1.0, "bfloat16": 0.0}}
        ],
        [
            dict(zip(("cpu", "cores", "torch", "engine"), MACHINE, strict=True))
            | {"rounds": 1}
            | {"microseconds": {"float32": "1", "bfloat16": 1.0}}
        ],
        [
            dict(zip(("cpu", "cores", "torch", "engine"), MACHINE, strict=True))
            | {"rounds": 1}
            | {"microseconds": {"float32": 1.0}}
        ],
    ],
)
def test_a_file_of_wrong_types_is_measured_anew_and_replaced(
    cache: Path, measurements: object
) -> None:
    cache.mkdir()
    write_manifest(cache / FILE, {"measurements": measurements})
    measured, note = calibrate()
    assert measured is not None
    assert measured.gain == 2
    assert "is damaged (" in note
    assert calibrate() == (measured, "")


def test_a_folder_in_the_file_s_place_is_harmless(cache: Path) -> None:
    (cache / FILE).mkdir(parents=True)
    measured, note = calibrate()
    assert measured is not None
    assert measured.gain == 2
    assert "it cannot be kept" in note


def test_of_two_processes_at_once_the_first_one_counts(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def while_another_measures() -> tuple[dict[str, float], int]:
        monkeypatch.setattr(calibration, "_time_products", times(400, 200))
        calibrate()
        return times(300, 600)()

    monkeypatch.setattr(calibration, "_time_products", while_another_measures)
    measured, _ = calibrate()
    assert measured is not None
    assert measured.gain == 2
    assert len(kept(cache)) == 1


@pytest.mark.process
def test_threads_and_processes_at_once_leave_a_whole_file(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: calibrate(), range(32)))
    assert {note for _, note in found} == {""}
    assert {measured.gain for measured, _ in found if measured} == {2.0}
    code = (
        "import json\n"
        "from embedkit.embedder import calibration\n"
        "calibration._time_products = lambda: ({'float32': 3e-4, 'bfloat16': 1e-4}, 300)\n"
        "print(json.dumps(calibration.calibrate(anew=True)[0].to_json()))\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in runs:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert json.loads(out)["gain"] == pytest.approx(3)
    assert {one["cpu"] for one in kept(cache)} >= {json.loads(out)["cpu"]}
    assert [path.name for path in cache.iterdir()] == [FILE]


# The command line


def test_bench_calibrate_measures_again_and_rewrites(
    cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate()
    monkeypatch.setattr(calibration, "_time_products", times(300, 600))
    said = run("bench", "--calibrate", "--json").json
    measured = {
        "cpu": "CPU X",
        "cores": 4,
        "torch": "2.13.0",
        "engine": "torch",
        "microseconds": {"float32": 300.0, "bfloat16": 600.0},
        "rounds": 300,
    }
    assert said == {
        "schema": 1,
        "file": str(cache / FILE),
        "precision": "float32",
        "engine": "torch",
        "measured": {**measured, "gain": 0.5},
        "openvino": None,
        "reason": "bfloat16 products are 0.5 times as fast as float32 here",
    }
    assert kept(cache) == [measured]
    monkeypatch.setattr(calibration, "_time_products", times(900, 300))
    assert run("bench", "--calibrate").out.splitlines() == [
        "this CPU: bfloat16 with torch (bfloat16 products are 3.0 times as fast as float32 here)",
        "measured: float32 900 us, bfloat16 300 us a product on one thread, the shortest of 300; "
        "CPU X; 4 cores; torch 2.13.0",
    ]
    assert "it times the CPU alone" in refused(run("bench", "--calibrate", "--texts", "texts.txt"))
    monkeypatch.setattr(calibration, "write_manifest", full)
    failed = run("bench", "--calibrate")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == "error: [Errno 28] No space left on device\n"
