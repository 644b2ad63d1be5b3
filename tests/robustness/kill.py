"""Kills encode, index add and index sync at random moments, and looks at what is left.

    PYTHONPATH=tests python -m robustness.kill [--kills 50] [--seed 0]

A child process does the work and gets SIGKILL after a random part of the time that it takes
undisturbed. After each kill the folder is read as it is, then the work is done again: every row
must be there once, and equal to an undisturbed run's. Exits with 1 where it is not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from helpers import tiny
from helpers.processes import CONTEXT, exit_code

from embedkit import (
    Corpus,
    Embedder,
    VectorIndex,
    Vectors,
    encode_corpus,
    merge_vectors,
    sync_index,
)
from embedkit.vectors import encode_corpus as encode

TEXTS = 6000
NEW = 3000  # rows that an index has, and rows that are added
QUERIES = 20
MISSED = "the work ended before the kill"


def load(model: Path) -> Embedder:
    return Embedder.from_pretrained(model, device="cpu", precision="float32")


def do_encode(model: Path, corpus: Path, folder: Path) -> None:
    encode._SHARD_ROWS, encode._CHUNK = 400, 200  # many commits in a short time
    encode_corpus(load(model), Corpus(corpus), folder)


def do_add(vectors: Path, index: Path) -> None:
    VectorIndex.open(index).add(Vectors.open(vectors))


def die_at(number: int, change: Callable[[Path], None], folder: Path) -> None:
    """Do the work, and be killed before the file operation of this number, counted from 0."""
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        names = [str(argument) for argument in arguments if str(folder) in str(argument)]
        if event in ("os.rename", "os.remove", "os.link") and names:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    change(folder)


def points(
    change: Callable[[Path], None], source: Path, folder: Path, numbers: Iterable[int] = range(100)
) -> Iterator[int]:
    """`folder` as a copy of `source` in which a change was killed, for every point of it."""
    log = folder.with_name(f"{folder.name}.log")
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        code = exit_code(log, die_at, number, change, folder)
        yield number
        if code == 0:
            return
        assert code == -signal.SIGKILL, log.read_text(encoding="utf-8")
    if numbers == range(100):
        raise AssertionError("there is no end of it")


def update(folder: Path) -> None:
    VectorIndex.open(folder).update(np.eye(8)[:4], ids=[0, 1, 100, 101])


def compact(folder: Path) -> None:
    VectorIndex.open(folder).compact()


def replace(folder: Path) -> None:
    VectorIndex.build(np.eye(8)[:2], ids=[7, 8]).save(folder)


def sync(folder: Path) -> None:
    """Make an index follow the file `docs.csv` beside it."""
    with patch.multiple(encode, _SHARD_ROWS=4, _CHUNK=2):
        sync_index(VectorIndex.open(folder), Corpus(folder.parent / "docs.csv", id_column="id"))


def encode_shard(folder: Path) -> None:
    """Encode a shard of the file `docs.txt` beside a folder, whose name ends with the shard's."""
    corpus, part = Corpus(folder.parent / "docs.txt"), int(folder.name[-1])
    with patch.multiple(encode, _SHARD_ROWS=4, _CHUNK=2):
        encode_corpus(load(folder.parent / "model"), corpus, folder, shard=(part, 2))


def merge(folder: Path) -> None:
    """Merge the two shards beside a folder into it."""
    merge_vectors([folder.parent / "part-1", folder.parent / "part-2"], folder)


WORK = {"encode": do_encode, "add": do_add, "sync": sync}


class Child:
    """A process that is about to begin the work."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        self._connection, inner = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_work, args=(name, paths, inner))
        self._process.start()
        inner.close()
        assert self._connection.recv() == "ready"
        self._connection.send("begin")

    def wait(self) -> None:
        assert self._connection.recv() == "done"
        self._process.join()

    def kill(self) -> bool:
        """Whether it was still at work."""
        self._process.kill()
        self._process.join()
        try:
            return bool(self._connection.recv() != "done")
        except (EOFError, ConnectionResetError):  # it had not read "begin"
            return True


def _work(name: str, paths: list[Path], connection: Connection) -> None:
    connection.send("ready")
    connection.recv()
    WORK[name](*paths)
    connection.send("done")


@dataclass
class Bench:
    """Folders of a run, and the undisturbed results."""

    scratch: Path

    def __post_init__(self) -> None:
        self.model = tiny.make_bert(self.scratch / "model", layers=2, width=32)
        lines = [f"{number} {tiny.TEXTS[number % 8]}" for number in range(TEXTS)]
        self.corpus = self.scratch / "corpus.txt"
        self.corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
        do_encode(self.model, self.corpus, self.scratch / "whole")
        self.whole = Vectors.open(self.scratch / "whole").to_numpy()
        self.base, self.more = self.scratch / "base", self.scratch / "more"
        VectorIndex.build(self.whole[:NEW], kind="hnsw").save(self.base)
        rest = self.scratch / "rest.jsonl"
        rest.write_text(
            "".join(f'{{"id": {n}, "text": "{n} {n * n}"}}\n' for n in range(NEW, 2 * NEW))
        )
        embedder = load(self.model)
        encode_corpus(embedder, Corpus(rest, id_column="id"), self.more)
        self.queries = self.whole[:: TEXTS // QUERIES]
        self.before = VectorIndex.open(self.base)
        shutil.copytree(self.base, self.scratch / "grown")
        do_add(self.more, self.scratch / "grown")
        self.after = VectorIndex.open(self.scratch / "grown")

    def killed(self, name: str, paths: list[Path], seconds: float) -> bool:
        """Whether the child was still at work when it was killed after `seconds`."""
        child = Child(name, paths)
        time.sleep(seconds)
        return child.kill()

    def duration(self, name: str, paths: list[Path]) -> float:
        child = Child(name, paths)
        started = time.perf_counter()
        child.wait()
        return time.perf_counter() - started

    def encode_once(self, seconds: float) -> str:
        """What was found after a kill, in a word; AssertionError where rows are lost."""
        folder = self.scratch / "encode"
        shutil.rmtree(folder, ignore_errors=True)
        killed = self.killed("encode", [self.model, self.corpus, folder], seconds)
        state = "nothing"
        if any(folder.glob("manifest*.json")):
            left = Vectors.open(folder, partial=True)
            ids = left.ids.to_pylist()
            assert len(set(ids)) == len(ids)
            if ids:
                check_same(left.to_numpy(), self.whole[ids])
            state = "complete" if left.complete else f"{len(ids) * 10 // TEXTS * 10} % and more"
            del left  # an open reader keeps its files
        do_encode(self.model, self.corpus, folder)
        again = Vectors.open(folder)
        assert sorted(again.ids.to_pylist()) == list(range(TEXTS))
        check_same(again.get(list(range(TEXTS))), self.whole)
        named = {path.name for path in folder.iterdir()} - {"manifest.json", ".manifest.json.lock"}
        assert len(named) == len(again._store.shards), "files that no manifest names are left"
        return state if killed else MISSED

    def add_once(self, seconds: float) -> str:
        """The same for `add`."""
        folder = self.scratch / "index"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.base, folder)
        killed = self.killed("add", [self.more, folder], seconds)
        left = VectorIndex.open(folder)
        committed = len(left) == 2 * NEW
        assert committed or len(left) == NEW
        check_hits(left, self.after if committed else self.before, self.queries)
        if not committed:
            do_add(self.more, folder)
        again = VectorIndex.open(folder)
        assert sorted(again.ids.to_pylist()) == list(range(2 * NEW))
        check_hits(again, self.after, self.queries)
        named = {path.name for path in folder.iterdir()} - {"index.json", ".index.json.lock"}
        assert again._state is not None
        assert named == {entry.name for entry in again._state.entries}
        return ("after" if committed else "before") if killed else MISSED


def check_same(got: np.ndarray, want: np.ndarray) -> None:
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(want, axis=1)
    assert ((got * want).sum(1) / norms > 0.9999).all()


def check_hits(got: VectorIndex, want: VectorIndex, queries: np.ndarray) -> None:
    found, expected = got.search(queries), want.search(queries)
    assert found.ids == expected.ids
    assert np.array_equal(found.scores, expected.scores)


def run(kills: int, seed: int, scratch: Path) -> dict[str, Counter[str]]:
    """How often each state was found; AssertionError where something was lost."""
    generator = random.Random(seed)  # noqa: S311
    bench = Bench(scratch)
    encode_paths = [bench.model, bench.corpus, scratch / "timed"]
    shutil.copytree(bench.base, scratch / "timed-index")
    found = {}
    for name, paths, once in (
        ("encode", encode_paths, bench.encode_once),
        ("add", [bench.more, scratch / "timed-index"], bench.add_once),
    ):
        whole = bench.duration(name, paths)
        states: Counter[str] = Counter()
        while states.total() - states[MISSED] < kills:
            states[once(generator.uniform(0, whole))] += 1
            print(f"{name}: {states.total() - states[MISSED]} of {kills} kills", file=sys.stderr)
        found[name] = states
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, states in run(options.kills, options.seed, Path(scratch)).items():
            missed = states.pop(MISSED, 0)
            print(f"{name}: {states.total()} kills ({missed} more were late), every row there once")
            for state, count in sorted(states.items()):
                print(f"  found {state}: {count}")


if __name__ == "__main__":
    main()
