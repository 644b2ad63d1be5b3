from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.tiny_tokenizers import VOCAB

from embedkit.embedder import one_pass, streams
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.streams import run_streams, streams_for
from embedkit.encoders.packed import Network
from embedkit.encoders.states import TokenStates
from embedkit.tokenization.batching import Batches, stream_budget
from embedkit.tokenization.token_batch import TokenBatch

WORDS = [word for word in VOCAB if word.isalpha() and word.isascii()]
# 400 texts of 3 to 14 tokens, 3,400 in all: work for six streams.
TEXTS = [" ".join(WORDS[(k * n) % 20] for k in range(1, 2 + n % 12)) + f" {n}" for n in range(400)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2)


def threads_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Filled with (streams, threads of each) of every pass."""
    seen: list[tuple[int, int]] = []

    def noted(function: Any, batches: Any, land: Any, count: int, threads: int) -> None:
        def inside(batch: Any) -> Any:
            assert torch.get_num_threads() == threads
            return function(batch)

        seen.append((count, threads))
        run_streams(inside, batches, land, count, threads)

    monkeypatch.setattr(one_pass, "run_streams", noted)
    return seen


def number_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as other:
        return other.submit(torch.get_num_threads).result()


# The rule


@pytest.mark.parametrize(
    ("threads", "batches", "expected"),
    [
        (1, 100, (1, 1)),
        (2, 100, (2, 1)),
        (2, 1, (1, 2)),
        (2, 0, (1, 2)),
        (4, 3, (2, 2)),
        (16, 16, (16, 1)),
        (16, 9, (8, 2)),
        (16, 5, (4, 4)),
        (7, 3, (2, 3)),
    ],
)
def test_the_rule(threads: int, batches: int, expected: tuple[int, int]) -> None:
    assert streams_for(threads, batches) == expected


@pytest.mark.parametrize(
    ("tokens", "streams", "batches"), [(4000, 2, 2), (5000, 2, 4), (8200, 4, 8), (600, 1, 1)]
)
def test_streams_share_the_work_evenly(tokens: int, streams: int, batches: int) -> None:
    lengths = np.full(tokens // 10, 10)
    sizes = [len(texts) for texts in Batches(lengths, stream_budget(lengths, streams, 2048))]
    assert len(sizes) == batches
    assert max(sizes) * 10 <= min(2048, tokens / batches + 10)


# Values


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("recipe", ["mean", "cls+max@1/normalize", "pooler", "mean/whiten:8"])
def test_the_vectors_of_one_thread(
    folder: Path, recipe: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder.from_pretrained(folder, recipe, precision="float32", device="cpu")
    if embedder.recipe.to_fit:
        embedder.fit(TEXTS)
    torch.set_num_threads(1)
    seen = threads_seen(monkeypatch)
    expected = embedder.encode(TEXTS)
    assert seen == []
    torch.set_num_threads(threads)
    got = embedder.encode(TEXTS)
    assert seen == [(threads, 1)]
    assert np.abs(got - expected).max() <= 2e-6 * max(1, np.abs(expected).max())
    np.testing.assert_array_equal(embedder.encode(TEXTS), got)  # timing changes nothing


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reproducible_bits(folder: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder.from_pretrained(
        folder, precision=precision, device="cpu", reproducible=True
    )
    torch.set_num_threads(1)
    expected = embedder.encode(TEXTS)
    seen = threads_seen(monkeypatch)
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        for some in (slice(0, 1), slice(7, 40), slice(None)):
            np.testing.assert_array_equal(embedder.encode(TEXTS[some]), expected[some])
    assert {of_each for _, of_each in seen} == {1}
    assert {count for count, _ in seen} == {1, 2, 3, 4}


def test_little_work_has_all_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(2)
    seen = threads_seen(monkeypatch)
    embedder.encode("rain")
    embedder.encode(TEXTS[:40])
    assert seen == []


def test_what_transformers_runs_is_one_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.make_model(tmp_path, "mpnet", layers=1)
    embedder = Embedder.from_pretrained(model, precision="float32", device="cpu")
    torch.set_num_threads(2)
    seen = threads_seen(monkeypatch)
    embedder.encode(TEXTS)
    assert seen == []


def test_tokens_under_way_are_those_asked_for(folder: Path) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(2)
    under_way: list[int] = []
    call = embedder.encoder.__call__

    class Noted:
        def __getattr__(self, name: str) -> Any:
            return getattr(encoder, name)

        def __call__(self, batch: TokenBatch, *args: Any, **kwargs: Any) -> TokenStates:
            under_way.append(len(batch.token_ids))
            return call(batch, *args, **kwargs)

    encoder, embedder.encoder = embedder.encoder, Noted()  # type: ignore[assignment]
    embedder.encode_recipes(TEXTS, [embedder.bound], batch_tokens=200)
    assert max(under_way) <= 100


def test_advance_is_told_by_the_caller(folder: Path) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(2)
    told: list[tuple[int, str]] = []
    tokens = embedder.tokenizer(TEXTS)

    def advance(count: int) -> None:
        told.append((count, threading.current_thread().name))

    one_pass.run(embedder.encoder, tokens, [embedder.bound], advance=advance)
    assert sum(count for count, _ in told) == len(tokens.token_ids)
    assert {name for _, name in told} == {threading.current_thread().name}


def test_the_network_is_built_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    built: list[int] = []

    def slow(*args: Any) -> Network:
        built.append(threading.get_ident())
        time.sleep(0.05)
        return Network(*args)

    monkeypatch.setattr("embedkit.encoders.packed.Network", slow)
    embedder.encoder.__dict__.pop("_engine", None)
    torch.set_num_threads(4)
    embedder.encode(TEXTS)
    assert len(built) == 1


# Threads


def test_the_numbers_of_threads_of_others_stay(folder: Path) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(3)
    seen: list[int] = []
    run_streams(lambda batch: seen.append(number_of_a_new_thread()), range(8), print_none, 3, 1)
    embedder.encode(TEXTS)
    assert torch.get_num_threads() == number_of_a_new_thread() == 3
    assert set(seen) == {3}


def print_none(batch: object, result: object) -> None:
    assert result is None


def test_within_other_threads(folder: Path) -> None:
    """Three callers at once, each with a number of threads of its own."""
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(2)
    expected = embedder.encode(TEXTS)

    def encode(threads: int) -> tuple[int, Any]:
        torch.get_num_threads()  # only then does a thread keep a number of its own
        torch.set_num_threads(threads)
        vectors = [embedder.encode(TEXTS) for _ in range(3)]
        return torch.get_num_threads(), vectors

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(encode, (1, 2, 3)))
    assert [threads for threads, _ in results] == [1, 2, 3]
    for got in (vector for _, vectors in results for vector in vectors):
        assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "state",
    [
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        torch.inference_mode,
        lambda: torch.device("meta"),
        lambda: np.errstate(all="raise"),
    ],
)
def test_settings_of_the_caller_change_nothing(folder: Path, state: Callable[[], Any]) -> None:
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    torch.set_num_threads(2)
    expected = embedder.encode(TEXTS)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with state():
            np.testing.assert_array_equal(embedder.encode(TEXTS), expected)
    finally:
        torch.set_default_dtype(before)


# Errors


class Failing(tiny.PositionEncoder):
    """Fails at its third call, while the others wait for long."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = count(1)  # its next() is one step, whatever other threads do

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        call = next(self.calls)
        if call == 3:
            raise ArithmeticError("the third batch")
        states = super().__call__(batch, layers, pooler=pooler)
        for _ in range(30 if call > 1 else 0):
            time.sleep(0.01)
        return states


@pytest.fixture
def no_thread_left() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # one of an earlier test may have ended
    assert torch.get_num_threads() == number_of_a_new_thread() == 3


@pytest.mark.usefixtures("no_thread_left")
def test_an_error_ends_all_streams(folder: Path) -> None:
    torch.set_num_threads(3)
    embedder = Embedder.from_pretrained(folder, device="cpu")
    with pytest.raises(ArithmeticError, match=r"^the third batch$"):
        one_pass.run(Failing(), embedder.tokenizer(TEXTS), [embedder.bound])


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_ends_all_streams(error: type[BaseException]) -> None:
    """In the calling thread, while two streams are at batches."""
    torch.set_num_threads(3)
    begun: list[int] = []
    landed = threading.Event()

    def work(batch: int) -> int:
        begun.append(batch)
        if batch:
            landed.wait()
            time.sleep(0.1)
        return batch

    def land(batch: int, result: int) -> None:
        landed.set()
        assert batch == result == 0
        raise error

    with pytest.raises(error):
        run_streams(work, range(99), land, 3, 1)
    assert len(begun) <= 6  # two a stream are handed out before one has landed


@pytest.mark.usefixtures("no_thread_left")
def test_an_interrupt_while_the_caller_waits() -> None:
    torch.set_num_threads(3)
    begun: list[int] = []

    def work(batch: int) -> int:
        begun.append(batch)
        if batch == 2:
            time.sleep(0.2)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        for _ in range(30):
            time.sleep(0.01)
        return batch

    with pytest.raises(KeyboardInterrupt):
        run_streams(work, range(99), lambda batch, result: None, 3, 1)
    assert len(begun) < 99


def test_a_stop_of_the_iteration_is_an_error() -> None:
    """It does not pass for the end of the batches."""

    def work(batch: int) -> int:
        raise StopIteration

    with pytest.raises(StopIteration):
        run_streams(work, range(9), lambda batch, result: None, 2, 1)


def test_no_stream_reaches_another_pass() -> None:
    """Ten passes in turn after an error: none loses a batch."""
    for index in range(10):
        landed: list[int] = []

        def work(batch: int, fail: bool = index % 2 == 0) -> int:
            if fail and batch == 5:
                raise ArithmeticError
            return 2 * batch

        def land(batch: int, result: int, landed: list[int] = landed) -> None:
            assert result == 2 * batch
            landed.append(batch)

        if index % 2 == 0:
            with pytest.raises(ArithmeticError):
                run_streams(work, range(40), land, 4, 1)
        else:
            run_streams(work, range(40), land, 4, 1)
            assert sorted(landed) == list(range(40))
    assert not streams._changing.locked()
