"""Workers give the vectors of one process, whatever dies."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.command import Run, refused
from helpers.dying import DEADLY, dying
from helpers.processes import CONTEXT

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, encode_corpus
from embedkit.embedder import workers
from embedkit.embedder.workers import EmbedderPool
from embedkit.vectors import encode_corpus as encode

pytestmark = pytest.mark.thorough  # processes

TEXTS = [
    *tiny.TEXTS,
    *(f"고양이 {index} cats {'read ' * (index % 7)}" for index in range(60)),
    "rain",
]
PROMPTS = {"query": "query: ", "news": "news: "}


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Workers are forked from a server that has imported all, and get few texts at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_SPAWN", CONTEXT)
        patch.setattr(workers, "_LEAST", 100)
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16)
    return Embedder(folder, device="cpu", precision="float32", prompts=PROMPTS)


@pytest.fixture(scope="module")
def pool(embedder: Embedder) -> Iterator[EmbedderPool]:
    with embedder.workers(["cpu", "cpu"]) as pool:
        yield pool


def close(got: Any, want: Any) -> None:
    """Vectors differ by rounding: other texts run beside a text."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def pids(pool: EmbedderPool) -> list[int]:
    return [worker.process.pid for worker in pool._workers._all]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Equal vectors


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt": "a "},
        {"prompt_name": "news", "normalize_embeddings": True},
        {"truncate_dim": 5, "convert_to_tensor": True},
    ],
)
def test_vectors_are_those_of_one_process(
    options: dict[str, Any], embedder: Embedder, pool: EmbedderPool
) -> None:
    want = embedder.encode(TEXTS, **options)
    got = pool.encode(iter(TEXTS), **options)
    assert type(got) is type(want)
    close(got, want)


def test_other_calls_are_those_of_one_process(embedder: Embedder, pool: EmbedderPool) -> None:
    close(pool.encode("한국어 문장"), embedder.encode("한국어 문장"))
    close(pool.encode_query(TEXTS), embedder.encode_query(TEXTS))
    close(pool.similarity(TEXTS[:3], TEXTS), embedder.similarity(TEXTS[:3], TEXTS))
    assert pool.encode([]).shape == (0, 16)
    assert pool.fingerprint == embedder.fingerprint
    for refused_text in (None, "\ud800"):
        with pytest.raises(InputError, match=r"texts\[1\]|index 1|text 1"):
            pool.encode(["a", refused_text])  # type: ignore[list-item]


def test_other_recipes_run_in_the_same_workers(embedder: Embedder, pool: EmbedderPool) -> None:
    before = pids(pool)
    for recipe in ("max+mean@1,-1/normalize", "idf_mean/whiten:4/normalize"):
        mine, theirs = embedder.with_recipe(recipe), pool.with_recipe(recipe)
        if mine.recipe.to_fit:
            with pytest.raises(InputError, match="fit"):
                theirs.encode(TEXTS)
            mine.fit(TEXTS)
            theirs.fit(TEXTS)
        np.testing.assert_allclose(theirs.encode(TEXTS), mine.encode(TEXTS), rtol=0, atol=1e-4)
    recipes = [embedder.bind("cls"), embedder.bind("max@1")]
    got, want = (x.encode_recipes(TEXTS, recipes, prompt="a ") for x in (pool, embedder))
    for mine, theirs in zip(got.vectors, want.vectors, strict=True):
        close(mine, theirs)
    assert got.distinct.texts == want.distinct.texts
    np.testing.assert_array_equal(got.tokens.token_ids, want.tokens.token_ids)
    np.testing.assert_array_equal(got.tokens.offsets, want.tokens.offsets)
    assert pids(pool) == before


def test_workers_take_the_precision_of_the_parent(embedder: Embedder, pool: EmbedderPool) -> None:
    """Also the one that a folder records, which is known once the workers run."""
    auto = pool.with_recipe("mean")
    auto.asked_precision = "auto"
    low = auto.in_recorded("bfloat16")
    mine = embedder.with_recipe("mean")._settle(precision="bfloat16")
    np.testing.assert_allclose(low.encode(TEXTS), mine.encode(TEXTS), rtol=0, atol=0.02)
    assert np.abs(low.encode(TEXTS) - embedder.encode(TEXTS)).max() > 1e-4
    close(pool.encode(TEXTS), embedder.encode(TEXTS))


def test_reproducible_vectors_are_equal_to_the_bit(embedder: Embedder) -> None:
    exact = embedder.with_recipe("mean/normalize")
    exact.reproducible = True
    want = exact.encode(TEXTS)
    got = exact.encode(TEXTS, device=["cpu", "cpu"])
    np.testing.assert_array_equal(got, want)


def test_encode_with_several_devices_ends_its_workers(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = watch(monkeypatch)
    close(embedder.encode(TEXTS, device=["cpu", "cpu"]), embedder.encode(TEXTS))
    assert len(started) == 2
    assert not any(map(is_running, started))
    embedder.encode([], device=["cpu", "cpu"])
    assert len(started) == 2


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the processes that are started from now on."""
    started: list[int] = []
    start = workers._Worker.start

    def noting(worker: workers._Worker) -> None:
        start(worker)
        started.append(worker.process.pid)

    monkeypatch.setattr(workers._Worker, "start", noting)
    return started


def test_progress_counts_the_distinct_texts(
    pool: EmbedderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[Any] = []

    @contextmanager
    def noting(total: int, unit: str, *, show: bool | None) -> Iterator[Callable[[int], None]]:
        counts.append((total, unit, show))
        yield counts.append

    monkeypatch.setattr(workers, "progress", noting)
    pool.encode(TEXTS, show_progress=True)
    first, *steps = counts
    assert first == (len(set(TEXTS)), "texts", True)
    assert sum(steps) == len(set(TEXTS))
    assert len(steps) > 2


def test_pieces_are_of_about_as_many_characters() -> None:
    texts = ["x" * length for length in (900, 1, 1, 400, 92, 92, 3000, 0)]
    got = [[len(text) for text in piece] for piece in workers._pieces(texts, 1)]
    assert [length for piece in got for length in piece] == [len(text) for text in texts]
    # With 8 for each text they end at 908, 917, 926, 1334, 1434, 1534, 4542 and 4550; the last is
    # cut in eight parts of 568.
    assert got == [[900, 1, 1], [400, 92, 92], [3000], [0]]


# Workers that die


def test_a_worker_that_is_killed_starts_again(embedder: Embedder, tmp_path: Path) -> None:
    texts = [*TEXTS[:20], f"{DEADLY} text", *TEXTS[20:]]
    with dying(embedder, tmp_path / "times", 2).workers(2) as pool:
        before = set(pids(pool))
        with pytest.warns(UserWarning, match=r"cpu ended with SIGKILL .*; it starts again"):
            got = pool.encode(texts)
        after = set(pids(pool))
    close(got, embedder.encode(texts))
    assert len(before & after) == 1
    assert len(after) == 2


def test_texts_that_kill_every_worker_are_named(embedder: Embedder, tmp_path: Path) -> None:
    texts = [*TEXTS[:20], f"{DEADLY} 글", *TEXTS[20:]]
    with dying(embedder, tmp_path / "times", 3).workers(2) as pool:
        with (
            pytest.warns(UserWarning, match="SIGKILL"),
            pytest.raises(ChildProcessError) as caught,
        ):
            pool.encode(texts)
        close(pool.encode(texts), embedder.encode(texts))
    match = re.fullmatch(
        r"a worker on cpu ended with SIGKILL \(out of memory\?\), as did 2 before it, at the same "
        r"(\d+) texts, '(.*)' to '(.*)'; where memory is short, .*",
        str(caught.value),
    )
    assert match is not None
    size = int(match[1])
    pieces = workers._pieces(list(dict.fromkeys(texts)), 2)
    (piece,) = [piece for piece in pieces if f"{DEADLY} 글" in piece]
    assert (size, match[2][:9], match[3][-4:]) == (len(piece), piece[0][:9], piece[-1][-4:])


def test_an_error_of_a_worker_is_that_of_one_process(embedder: Embedder) -> None:
    other = embedder.with_recipe("mean")
    other.encoder = copy.copy(embedder.encoder)
    other.encoder.vocab_size = 20
    with other.workers(2) as pool:
        for texts in (TEXTS, TEXTS[:1]):
            with pytest.raises(InputError) as mine:
                other.encode(texts)
            with pytest.raises(InputError) as theirs:
                pool.encode(texts)
            assert "vocabularies do not match" in str(mine.value)
            assert "vocabularies do not match" in str(theirs.value)
        assert str(theirs.value) == str(mine.value)
        close(pool.encode(""), embedder.encode(""))


def test_processes_end_with_the_block_at_once(embedder: Embedder) -> None:
    endless = ([f"{n} cats"] * 99 for n in range(10**9))
    with suppress(KeyboardInterrupt), embedder.workers(2) as pool:
        running, folder = pids(pool), Path(pool._workers._folder.name)
        assert all(map(is_running, running))
        for _ in pool.encode_each(endless, [pool.bound], prompt=""):
            raise KeyboardInterrupt
    assert not any(map(is_running, running))
    assert not folder.exists()
    pool.close()
    # The embedder remains, in this process.
    close(pool.encode(TEXTS), embedder.encode(TEXTS))
    assert pool.to("cpu") is pool


def test_copies_of_a_pool_encode_alone(embedder: Embedder, pool: EmbedderPool) -> None:
    other = pickle.loads(pickle.dumps(pool))  # noqa: S301
    np.testing.assert_array_equal(other.encode(TEXTS), embedder.encode(TEXTS))
    index = VectorIndex.build(pool.encode(TEXTS), texts=TEXTS, embedder=pool)
    assert index.search(["rain"], 1, prompt="")[0][0].text == "rain"
    with pool.workers(1) as other:
        close(other.encode(TEXTS), embedder.encode(TEXTS))


def test_a_forked_process_encodes_alone(embedder: Embedder, pool: EmbedderPool) -> None:
    expected = embedder.encode(TEXTS)

    def encode_alone() -> None:
        torch.set_num_threads(1)
        close(pool.encode(TEXTS), expected)
        pool.close()

    process = multiprocessing.get_context("fork").Process(target=encode_alone, daemon=True)
    process.start()
    process.join(600)
    assert process.exitcode == 0
    close(pool.encode(TEXTS), expected)  # the workers here remain


# Corpora


@pytest.mark.parametrize("times", [0, 1])
def test_a_corpus_is_encoded_by_workers(
    times: int, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_CHUNK", 3)
    monkeypatch.setattr(encode, "_SHARD_ROWS", 12)
    texts = [*TEXTS[:20], f"{DEADLY} text", *TEXTS[20:]]
    path = tmp_path / "x.txt"
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    with dying(embedder, tmp_path / "times", 3 + times).workers(2) as pool:
        with pytest.warns(UserWarning, match="SIGKILL"), pytest.raises(ChildProcessError):
            encode_corpus(pool, Corpus(path), tmp_path / "out", batch_tokens=64)
        kept = len(Vectors.open(tmp_path / "out", partial=True).ids)
        with pytest.warns(UserWarning, match="SIGKILL") if times else nullcontext():
            done = encode_corpus(pool, Corpus(path), tmp_path / "out", batch_tokens=64)
    assert kept == 18
    assert (done.rows, done.kept, done.encoded) == (len(texts), kept, len(texts) - kept)
    vectors = Vectors.open(tmp_path / "out")
    assert vectors.ids.to_pylist() == list(range(len(texts)))
    close(vectors.to_numpy(), embedder.encode(texts))


def test_the_command_encodes_with_workers(
    embedder: Embedder, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = watch(monkeypatch)
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "x.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    arguments = (tmp_path / "x.txt", "--model", tmp_path / "model", "--precision", "float32")
    done = run("encode", *arguments, "--out", tmp_path / "out", "--workers", 2, "--json")
    assert done.json["encoded"] == len(TEXTS)
    close(Vectors.open(tmp_path / "out").to_numpy(), embedder.encode(TEXTS))
    done = run("index", "build", *arguments, "--out", tmp_path / "index", "--devices", "cpu, cpu")
    assert done.code == 0, done.err
    index = VectorIndex.open(tmp_path / "index", embedder)
    assert index.search(["rain"], 1, prompt="")[0][0].text == "rain"
    assert len(started) == 4
    assert not any(map(is_running, started))


# Wrong arguments


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "workers is 0; expected a whole number from 1"),
        (True, "workers is True; expected a whole number from 1"),
        ([], "devices is empty; expected at least one"),
        ("cpu", "devices is one str; expected a list of devices, all, or a number of CPU workers"),
        (["cpu", "cuda:99"], "device is 'cuda:99', which torch cannot use here; expected cpu, or"),
        (["nothing"], "device is 'nothing', which torch cannot use here; expected cpu, or"),
        ([3.5], "device is 3.5; expected a name such as cpu or cuda:0"),
    ],
)
def test_wrong_devices(devices: Any, message: str, embedder: Embedder) -> None:
    with pytest.raises(InputError) as caught:
        embedder.workers(devices)
    assert str(caught.value).startswith(message)


def test_all_devices_are_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert workers.check_devices("all") == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="devices is all, and torch sees no GPU here; expected a"):
        workers.check_devices("all")


def test_a_device_is_refused_where_workers_run(pool: EmbedderPool) -> None:
    with pytest.raises(InputError, match=r"got device 'cuda', and workers run on cpu, cpu; exp"):
        pool.encode(TEXTS, device="cuda")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", 0), "workers is 0; expected a whole number from 1"),
        (
            ("--workers", 2, "--device", "cuda"),
            "got --device cuda and --workers 2; expected one of",
        ),
        (
            ("--workers", 2, "--devices", "cpu"),
            "got --devices cpu and --workers 2; expected one of",
        ),
        (
            ("--devices", "cuda:99"),
            "device is 'cuda:99', which torch cannot use here; expected cpu",
        ),
        (("--devices", ", "), "devices is empty; expected at least one"),
    ],
)
def test_wrong_options(arguments: tuple[Any, ...], message: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a cat\n")
    done = run("encode", tmp_path / "x.txt", "--model", "none", "--out", tmp_path / "o", *arguments)
    assert message in refused(done)


# Processes of their own


_SCRIPT = """
import itertools, sys
from embedkit import Embedder
embedder = Embedder(sys.argv[1], device="cpu", precision="float32")
endless = ([f"{n} cats"] * 99 for n in itertools.count())
with embedder.workers(2) as pool:
    print(pool._workers._folder.name)
    for _ in pool.encode_each(endless, [pool.bound], prompt=""):
        print("part", flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_workers_end_with_their_parent(
    number: signal.Signals, embedder: Embedder, tmp_path: Path
) -> None:
    """A script without `if __name__ == "__main__":`, in a process group as a terminal makes one."""
    embedder.save_pretrained(tmp_path / "model")
    (tmp_path / "script.py").write_text(_SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "model")]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, process_group=0, **pipes) as process:
        try:
            folder = Path(process.stdout.readline().strip())
            assert process.stdout.readline() == "part\n"
            assert folder.exists()
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as Ctrl-C does
            else:
                process.kill()
            # The pipes are at their end once no process holds them.
            _, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert not folder.exists()
    assert err.count("Traceback") == (number == signal.SIGINT)


def test_a_full_disk_is_told(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="the model for the workers cannot be written here; expected"):
        embedder.workers(2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_workers_on_gpus(embedder: Embedder) -> None:
    devices = ["cuda:0", f"cuda:{torch.cuda.device_count() - 1}"]
    got = embedder.encode(TEXTS, device=devices)
    np.testing.assert_allclose(got, embedder.encode(TEXTS), rtol=0, atol=1e-4)
