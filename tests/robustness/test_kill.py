"""A short form of kill.py."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny

from embedkit import Corpus, Embedder, InputError, VectorIndex, Vectors, build_index
from robustness import kill


@pytest.mark.slow
def test_nothing_is_lost_by_kills(tmp_path: Path) -> None:
    found = kill.run(2, seed=1, scratch=tmp_path)
    assert [states.total() - states[kill.MISSED] for states in found.values()] == [2, 2]


@pytest.mark.parametrize("change", [kill.update, kill.compact, kill.replace])
def test_a_kill_at_any_point_of_a_change_leaves_one_state_and_no_garbage(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    """Before and after the commit: the manifest is replaced in between."""
    source, whole = tmp_path / "source", tmp_path / "whole"
    index = VectorIndex.build(np.random.default_rng(0).normal(size=(20, 8)))
    index.save(source)
    index.remove([2, 3])
    states = [(index.info["removed"], sorted(index.ids.to_pylist()))]
    index.save(whole)
    change(whole)
    after = VectorIndex.open(whole)
    states.append((after.info["removed"], sorted(after.ids.to_pylist())))
    seen = []
    for _ in kill.points(change, source, tmp_path / "killed"):
        left = VectorIndex.open(tmp_path / "killed")
        seen.append(states.index((left.info["removed"], sorted(left.ids.to_pylist()))))
        left.add(np.eye(8)[:1], ids=[1000])
        named = {entry.name for entry in left._state.entries}
        kept = {path.name for path in (tmp_path / "killed").iterdir()}
        assert kept == {*named, "index.json", ".index.json.lock"}
    assert seen == sorted(seen)  # before, then after
    assert seen.count(0) >= 2
    assert seen.count(1) >= 3


# Sync


class Synced:
    """An index, an edit of its file, and the two states between which a sync goes."""

    def __init__(self, scratch: Path) -> None:
        self.source, self.killed, self.corpus = (
            scratch / name for name in ("source", "killed", "docs.csv")
        )
        model = tiny.make_bert(scratch / "model", layers=1, width=16)
        texts = {f"r{n}": f"{tiny.TEXTS[n % 8]} {n}".strip().replace(",", "") for n in range(40)}
        self._write(texts, 1)
        embedder = Embedder.from_pretrained(model, device="cpu", precision="float32")
        corpus = Corpus(self.corpus, id_column="id")
        self.states = [self.state(build_index(embedder, corpus, self.source, metadata="all"))]
        del texts["r3"], texts["r4"]
        texts |= {name: f"{texts[name]} a cat" for name in ("r5", "r17", "r29")}
        texts |= {f"s{n}": f"the dog {n}" for n in range(20)}
        self._write(texts, 2)
        shutil.copytree(self.source, scratch / "whole")
        kill.sync(scratch / "whole")
        self.states.append(self.state(VectorIndex.open(scratch / "whole")))

    def _write(self, texts: dict[str, str], year: int) -> None:
        rows = [f"{name},{text},{year}" for name, text in texts.items()]
        self.corpus.write_text("\n".join(["id,text,year", *rows, ""]), encoding="utf-8")

    @staticmethod
    def state(index: VectorIndex) -> dict[object, object]:
        rows = index.get(index.ids.to_pylist(), vectors=True)
        return {row.id: (row.text, row.metadata, row.vector.round(3).tolist()) for row in rows}

    def check(self) -> int:
        """Which state a kill left; the same sync again leads to the second one, without garbage."""
        left = self.states.index(self.state(VectorIndex.open(self.killed)))
        kill.sync(self.killed)
        again = VectorIndex.open(self.killed)
        assert self.state(again) == self.states[1]
        named = {entry.name for entry in again._state.entries}
        kept = {path.name for path in self.killed.iterdir()}
        assert kept == {*named, "index.json", ".index.json.lock"}
        return left


@pytest.mark.process
def test_a_kill_of_a_sync_leaves_the_state_before_or_after(tmp_path: Path) -> None:
    synced = Synced(tmp_path)
    for _ in kill.points(kill.sync, synced.source, synced.killed, (1, 9, 20)):
        synced.check()


@pytest.mark.slow
def test_kills_of_a_sync_at_every_point_and_at_fifty_random_moments(tmp_path: Path) -> None:
    synced = Synced(tmp_path)
    seen = [synced.check() for _ in kill.points(kill.sync, synced.source, synced.killed)]
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}
    generator = random.Random(5)  # noqa: S311
    shutil.rmtree(synced.killed)
    shutil.copytree(synced.source, synced.killed)
    child = kill.Child("sync", [synced.killed])
    started = time.perf_counter()
    child.wait()
    whole = time.perf_counter() - started
    kills = 0
    while kills < 50:
        shutil.rmtree(synced.killed)
        shutil.copytree(synced.source, synced.killed)
        child = kill.Child("sync", [synced.killed])
        time.sleep(generator.uniform(0, whole))
        kills += child.kill()
        synced.check()


# Shards of a corpus


@pytest.mark.process
def test_a_killed_shard_is_repeated_and_a_killed_merge_leaves_nothing_or_all(
    tmp_path: Path,
) -> None:
    texts = [f"{text} {n}" for n, text in enumerate(tiny.TEXTS * 3)]
    (tmp_path / "docs.txt").write_text("".join(f"{text}\n" for text in texts))
    want = kill.load(tiny.make_bert(tmp_path / "model", layers=1, width=16)).encode(texts)
    kill.encode_shard(tmp_path / "part-1")
    (tmp_path / "empty").mkdir()
    second, out = tmp_path / "part-2", tmp_path / "out"
    kept = []
    for _ in kill.points(kill.encode_shard, tmp_path / "empty", second, (1, 4)):
        kept.append(len(Vectors.open(second, partial=True)))
        with pytest.raises(InputError, match="was not encoded to its end"):
            kill.merge(out)
        kill.encode_shard(second)
    assert kept == sorted(kept)
    assert kept[-1] > 0
    seen = []
    for _ in kill.points(kill.merge, tmp_path / "empty", out, (0, 2, 5, 8, 9)):
        try:
            seen.append(len(Vectors.open(out)))
        except InputError:
            seen.append(0)
        kill.merge(out)
        vectors = Vectors.open(out)
        assert sorted(vectors.ids.to_pylist()) == list(range(24))
        assert np.abs(vectors.get(list(range(24))) - want).max() < 1e-6
        names = {path.name for path in out.iterdir()} - {"manifest.json", ".manifest.json.lock"}
        assert len(names) == len(vectors._store.shards)
    assert (seen[0], seen[-1]) == (0, 24)
    assert seen == sorted(seen)
