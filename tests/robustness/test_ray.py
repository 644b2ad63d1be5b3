"""Encoding on a real cluster of Ray, of a head and two nodes, that loses nodes and actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers import tiny
from helpers.command import Run

from embedkit import Corpus, Embedder, InputError, Vectors, encode_corpus
from embedkit.vectors import encode_corpus as local

os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The machine may be loaded: a node counts as dead after a minute without an answer.
os.environ.setdefault("RAY_health_check_failure_threshold", "20")
# Nor is an actor killed, or a disk refused, because the machine is nearly full.
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_local_fs_capacity_threshold", "1")
ray = pytest.importorskip("ray", reason="not installed: ray")
door = pytest.importorskip("embedkit.distributed.ray", reason="not installed: ray")
actors = pytest.importorskip("embedkit.distributed.actors", reason="not installed: ray")

pytestmark = [pytest.mark.slow, pytest.mark.process]
TEXTS = [f"{tiny.TEXTS[n % 8]} {n}".strip() for n in range(2000)]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def add_node(cluster: Any) -> Any:
    node = cluster.add_node(wait=False, **NODE)
    cluster._wait_for_node(node, timeout=600)  # Ray's own patience is 30 seconds
    return node


def replace_lost_node(cluster: Any) -> None:
    """Once it counts as dead: until then, actors of the next test could be sent there."""
    while sum(node["Alive"] for node in ray.nodes()) > 2:  # the head and the other node
        time.sleep(0.1)
    cluster.nodes.append(add_node(cluster))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {**NODE, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.nodes = [add_node(cluster) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "_HEALTH_SECONDS", 600)
        yield cluster
    cluster.shutdown()


@pytest.fixture
def connection(cluster: Any) -> Iterator[str]:
    with door.connected(cluster.address) as where:
        yield where


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=1, width=16)
    return Embedder.from_pretrained(folder, device="cpu", precision="float32")


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """2,000 texts, which are 100 chunks and 10 shards."""
    monkeypatch.setattr(local, "_CHUNK", 20)
    monkeypatch.setattr(local, "_SHARD_ROWS", 200)
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return Corpus(path)


@pytest.fixture(scope="module")
def expected(embedder: Embedder) -> np.ndarray:
    return embedder.encode(TEXTS)


@pytest.fixture
def in_the_middle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen when chunk 50 of 100 is handed out."""

    def happen(event: Callable[[], None]) -> None:
        chunks = local._chunks

        def watched(*arguments: Any) -> Iterator[Any]:
            for number, chunk in enumerate(chunks(*arguments)):
                if number == 50:
                    event()
                yield chunk

        monkeypatch.setattr(local, "_chunks", watched)

    return happen


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An entry for each actor that is started; no text is encoded before all of them are ready."""
    add, encode, seen = actors._Pool._add, actors._Pool.encode, []

    def noting(pool: Any) -> None:
        seen.append(pool)
        add(pool)

    def when_ready(pool: Any, *arguments: Any) -> Iterator[Any]:
        while len(pool._loads) < len(pool._actors):
            pool._wait()
        yield from encode(pool, *arguments)

    monkeypatch.setattr(actors._Pool, "_add", noting)
    monkeypatch.setattr(actors._Pool, "encode", when_ready)
    return seen


def processes_of_actors(pool: Any) -> list[psutil.Process]:
    """Actors of an earlier connection may not have ended yet."""
    pids = [actor.__ray_call__.remote(lambda _: os.getpid()) for actor in pool._actors.values()]
    return [psutil.Process(pid) for pid in ray.get(pids)]


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def check(folder: Path, expected: np.ndarray) -> None:
    """Every row is there once, and equal to that of an undisturbed run."""
    vectors = Vectors.open(folder)
    assert vectors.ids.to_pylist() == list(range(len(expected)))
    stored = vectors.to_numpy()
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((stored * expected).sum(axis=1) / lengths).min() > 0.9999


def test_the_command_writes_the_folder_that_it_writes_without_ray(
    cluster: Any, embedder: Embedder, corpus: Corpus, expected: np.ndarray, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--model", embedder.name, "--precision", "float32", "--out", out]
    done = run("encode", corpus.path, *asked, "--json", "--ray", cluster.address)
    assert (done.json["rows"], done.json["encoded"]) == (2000, 2000)
    assert done.err.splitlines()[0] == f"ray: {cluster.address} (2 CPUs, 0 GPUs)"
    assert len(done.err.splitlines()) == 3  # and the precision, and the prompt
    check(out, expected)
    encode_corpus(embedder, corpus, tmp_path / "local")
    ours, theirs = Vectors.open(out).origin, Vectors.open(tmp_path / "local").origin
    assert ours == theirs
    again = run("encode", corpus.path, *asked, "--json")  # without Ray
    assert (again.json["kept"], again.json["encoded"]) == (2000, 0)


@pytest.mark.usefixtures("connection")
def test_a_node_that_is_lost_in_the_middle(
    cluster: Any,
    embedder: Embedder,
    corpus: Corpus,
    expected: np.ndarray,
    in_the_middle: Callable[[Callable[[], None]], None],
    started: list[Any],
    tmp_path: Path,
) -> None:
    def lose_one() -> None:
        processes = processes_of_actors(started[0])
        assert len(processes) == 2
        cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
        while all(map(is_alive, processes)):  # it outlives its node a little
            time.sleep(0.1)

    in_the_middle(lose_one)
    on_ray = door.ClusterEmbedder(embedder, door.Actors(2))
    try:
        assert encode_corpus(on_ray, corpus, tmp_path / "out").encoded == 2000
    finally:
        replace_lost_node(cluster)
    assert len(started) == 3  # the third one waits for a node
    check(tmp_path / "out", expected)


@pytest.mark.usefixtures("connection")
def test_an_actor_that_is_killed_in_the_middle(
    embedder: Embedder,
    corpus: Corpus,
    expected: np.ndarray,
    in_the_middle: Callable[[Callable[[], None]], None],
    started: list[Any],
    tmp_path: Path,
) -> None:
    wanted = door.Actors(2)
    killed = []

    def kill_one() -> None:
        ours = processes_of_actors(started[0])
        killed.append(len(ours))
        os.kill(ours[0].pid, signal.SIGKILL)

    in_the_middle(kill_one)
    with pytest.warns(UserWarning, match=r"^an actor of Ray died; others repeat its texts$"):
        done = encode_corpus(door.ClusterEmbedder(embedder, wanted), corpus, tmp_path / "out")
    assert done.encoded == 2000
    assert (killed, len(started)) == ([2], 3)
    check(tmp_path / "out", expected)


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("resumed_on_ray", [True, False])
def test_a_run_that_is_stopped_is_resumed_with_ray_and_without(
    resumed_on_ray: bool,
    embedder: Embedder,
    corpus: Corpus,
    expected: np.ndarray,
    in_the_middle: Callable[[Callable[[], None]], None],
    tmp_path: Path,
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_chunks", local._chunks)
        in_the_middle(stop)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(door.ClusterEmbedder(embedder), corpus, tmp_path / "out")
    kept = len(Vectors.open(tmp_path / "out", partial=True))
    assert 0 < kept <= 1000
    resuming = door.ClusterEmbedder(embedder) if resumed_on_ray else embedder
    done = encode_corpus(resuming, corpus, tmp_path / "out")
    assert (done.kept, done.encoded) == (kept, 2000 - kept)
    check(tmp_path / "out", expected)


class Bomb:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


@pytest.mark.usefixtures("connection")
def test_what_fails_in_actors_is_one_sentence(embedder: Embedder) -> None:
    wanted = door.Actors(1).fitted()
    shared = (ray.put(embedder),)

    def outcome(texts: list[Any], **changes: Any) -> Any:
        fields = {"embedder": shared, "recipes": [embedder.bound], "options": {"prompt": ""}}
        job = actors.Job(**fields | {"actors": wanted} | changes)
        return list(actors.in_actors(job, [texts]))

    (encoded,) = outcome(["rain", "the sun"])
    assert np.allclose(encoded.vectors[0], embedder.encode(["rain", "the sun"]), atol=1e-5)
    with pytest.raises(InputError, match=r"^texts\[1\].*3.*expected a str$"):
        outcome(["rain", 3])
    with pytest.raises(InputError, match=r"^node [0-9.]+: has embedkit .*, expected 0\.0\.1 as on"):
        outcome(["rain"], version="0.0.1")
    with pytest.raises(actors.ActorError, match=r"^an actor of Ray failed: AttributeError: 'int'"):
        outcome(["rain"], embedder=(ray.put(3),))
    with pytest.raises(actors.ActorError, match=r"^actors of Ray died 4 times over the same texts"):
        outcome([Bomb()])
    with pytest.raises(InputError, match="no node of the cluster has the 3 CPUs of an actor"):
        door.Actors(num_cpus=3).fitted()
    with pytest.raises(InputError, match="the 1 CPUs and 1 GPUs of an actor"):
        door.Actors(num_gpus=1).fitted()


@pytest.mark.usefixtures("connection")
def test_a_dataset_of_ray(embedder: Embedder, corpus: Corpus, tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(TEXTS[:300])]
    dataset = ray.data.from_items(rows)
    encoded = door.encode_dataset(dataset, embedder).take_all()
    assert [(row["id"], row["text"]) for row in encoded] == [(r["id"], r["text"]) for r in rows]
    expected = embedder.encode(TEXTS[:300])
    assert np.allclose([row["embedding"] for row in encoded], expected, atol=1e-5)

    store = door.DatasetCorpus(dataset, "id")
    assert encode_corpus(door.ClusterEmbedder(embedder), store, tmp_path / "out").encoded == 300
    vectors = Vectors.open(tmp_path / "out")
    assert np.allclose(vectors.get([row["id"] for row in rows]), expected, atol=1e-5)
    more = ray.data.from_items([*rows[100:], {"id": "new", "text": "the train"}])
    done = encode_corpus(
        door.ClusterEmbedder(embedder), door.DatasetCorpus(more, "id"), tmp_path / "out"
    )
    assert (done.kept, done.encoded, done.dropped) == (200, 1, 100)

    with pytest.raises(InputError, match="the dataset has no column 'name', only id, text"):
        door.DatasetCorpus(dataset, "name")
    with pytest.raises(InputError, match="the dataset has a column 'embedding' already"):
        door.encode_dataset(ray.data.from_items([{"text": "a", "embedding": 1}]), embedder)
    twice = door.DatasetCorpus(ray.data.from_items(rows[:1] * 2), "id")
    with pytest.raises(
        InputError, match="the dataset, row 2: has the id 'd0' of the dataset, row 1"
    ):
        encode_corpus(door.ClusterEmbedder(embedder), twice, tmp_path / "twice")


@pytest.mark.usefixtures("connection")
def test_a_dataset_of_ray_whose_node_is_lost(cluster: Any, embedder: Embedder) -> None:
    rows = [{"id": n, "text": text} for n, text in enumerate(TEXTS)]
    dataset = ray.data.from_items(rows, override_num_blocks=100)
    encoded = door.encode_dataset(dataset, embedder)
    seen: dict[int, np.ndarray] = {}
    try:
        for batch in encoded.iter_batches(batch_size=20, prefetch_batches=0):
            if not seen:
                cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
            assert seen.keys().isdisjoint(batch["id"])
            seen |= dict(zip(batch["id"].tolist(), batch["embedding"], strict=True))
    finally:
        replace_lost_node(cluster)
    stored = np.stack([seen[n] for n in range(len(TEXTS))])
    assert np.allclose(stored, embedder.encode(TEXTS), atol=1e-5)
