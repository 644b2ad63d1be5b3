"""Fixtures of all tests, and what holds for the whole run."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: one thread a process, here and in the processes that tests start.
# Sums depend on the number of threads, and pytest-xdist runs a process on each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test takes two, they do not spin
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when haystack is imported
os.environ.pop("COLUMNS", None)  # readline sets it for workers: output is that of a pipe

import pytest
from filelock import FileLock
from helpers.command import Run, runner, script_runner
from helpers.paths import DATA, MODELS, TESTS
from hypothesis import HealthCheck, settings

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# torch is imported by fixtures: the process that hands out the tests does without.

NOT_INSTALLED = "not installed: "  # how the reason of such a skip begins

# The same examples in every run, and no limit on time: no outcome depends on chance or load.
# `pytest --hypothesis-profile=search` looks for new ones.
_ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, max_examples=25, **_ANY_SPEED)
settings.register_profile("search", max_examples=1000, **_ANY_SPEED)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-installed",
        action="store_true",
        help="fail where a test would be skipped because something is not installed",
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Imported modules stay to the end: the garbage collector need not look at them."""
    gc.disable()
    # skops looks through all modules when it is imported: now there are few.
    if "PYTEST_XDIST_WORKER" in os.environ and find_spec("skops") is not None:
        import skops.io  # noqa: F401
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what trains, drives a browser or runs commands, before `-m` selects."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if {"run", "run_script"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("command")
        if item.path.parent == TESTS / "unit" / "training":
            item.add_marker("training")
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reason = str(call.excinfo.value) if report.skipped and call.excinfo else ""
    if reason.startswith(NOT_INSTALLED) and item.config.getoption("all_installed"):
        report.outcome, report.longrepr = "failed", reason
    return report


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> str:
    """A device that is not the CPU, on every machine: of shapes alone, which users cannot take."""
    monkeypatch.setattr("embedkit.encoders.devices._WITHOUT_NUMBERS", None)
    return "meta"


@pytest.fixture(scope="session", autouse=True)
def _auto_is_float32() -> Iterator[None]:
    """On every CPU and GPU alike; the tests of `auto` offer it something else."""
    from embedkit.embedder import precision

    with pytest.MonkeyPatch.context() as patch:
        offered = precision.Choice("float32", None, "as in all tests")
        patch.setattr(precision, "fast_precision", lambda device: offered)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written into the user's cache; processes that tests start choose float32 too."""
    from embedkit.embedder import calibration

    slower = {"float32": 100.0, "bfloat16": 200.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        calibration._keep(calibration.Measurement(*calibration._machine(), slower, 1), anew=True)
        yield


@pytest.fixture(scope="session", autouse=True)
def _minilm_is_read_once() -> Iterator[None]:
    """Its weights are checked, read and laid out once in a process; no user changes them."""
    from embedkit.embedder import loading
    from embedkit.encoders import hub

    read = loading.load_encoder
    once = cache(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "_minilm_folder", cache(hub._minilm_folder))
        patch.setattr(
            loading,
            "load_encoder",
            lambda folder: (once if hub._MINILM_PACKAGE in folder.parts else read)(folder),
        )
        yield


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """Sums depend on the number of threads: no test leaves another to the next."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Path of a file in the shared data folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"needs {name} in the data folder ($EMBEDKIT_DATA or ../shared/data)")
        return path

    return find


@pytest.fixture(scope="session")
def e5(request: pytest.FixtureRequest) -> Path:
    """multilingual-e5-small; its script builds it once, into pytest's cache.

    The test is skipped where the script is not, or cannot fetch the package with the weights.
    """
    script = MODELS / "make_multilingual_e5_small.py"
    if not script.exists():
        pytest.skip(
            f"needs {script.name} in the models folder ($EMBEDKIT_MODELS or ../shared/models)"
        )
    folder = Path(request.config.cache.mkdir("models")) / "multilingual-e5-small"
    with FileLock(folder.with_suffix(".lock")):  # tests run in several processes
        done = subprocess.run(
            [sys.executable, script, folder], check=False, capture_output=True, text=True
        )
    if done.returncode != 0:
        pytest.skip(done.stderr.strip() or script.name)
    return folder


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a database of PostgreSQL; the tests are skipped where no server starts."""
    from helpers.postgres import NoServerError, postgres

    pytest.importorskip("psycopg", reason=NOT_INSTALLED + "psycopg")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres())
        except NoServerError as error:
            pytest.skip(str(error))
        yield url


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process."""
    return runner(monkeypatch, capsys)


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A script in this process."""
    return script_runner(monkeypatch, capsys)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model may be loaded."""
    from embedkit import Embedder

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(Embedder, "from_pretrained", fail)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step may be taken, by sentence-transformers' trainer neither."""
    from transformers import Trainer

    def fail(*_: object, **__: object) -> None:
        pytest.fail("training began")

    monkeypatch.setattr(Trainer, "train", fail)


@pytest.fixture
def no_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text may be encoded."""
    from embedkit.encoders.packed import PackedEncoder

    def fail(*_: object, **__: object) -> None:
        pytest.fail("the encoder ran")

    monkeypatch.setattr(PackedEncoder, "__call__", fail)
