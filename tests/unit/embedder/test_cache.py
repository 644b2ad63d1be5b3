"""The cache of embeddings: what it gives back, and what goes wrong with files."""

from __future__ import annotations

import os
import signal
import sqlite3
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny
from helpers.command import Run, refused
from helpers.processes import CONTEXT, exit_code

from embedkit import Embedder, InputError, Pairs, Report, evaluate
from embedkit.embedder import cache as cache_module
from embedkit.embedder.cache import FILE, EmbeddingCache, EncodedTexts, encode_texts
from embedkit.encoders.packed import PackedEncoder

TEXTS = [f"{text} {number}" for number in range(6) for text in tiny.TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return Embedder(folder, device="cpu", precision="float32")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts were in each batch that the encoder ran."""
    sizes: list[int] = []
    forward = PackedEncoder.__call__

    def counted(self: PackedEncoder, batch: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(batch.offsets) - 1)
        return forward(self, batch, *args, **kwargs)

    monkeypatch.setattr(PackedEncoder, "__call__", counted)
    return sizes


def encode(
    embedder: Embedder,
    cache: EmbeddingCache | None,
    texts: list[str] = TEXTS,
    recipes: tuple[str, ...] = ("mean", "cls"),
    prompt: str = "",
) -> EncodedTexts:
    bounds = [embedder.bind(recipe) for recipe in recipes]
    return encode_texts(embedder, texts, bounds, prompt, cache, show_progress=False)


def encode_thrice(embedder: Embedder, folder: Path) -> EncodedTexts:
    """What the last of three runs with one cache gives."""
    with EmbeddingCache(folder) as cache:
        return [encode(embedder, cache) for _ in range(3)][-1]


def same(one: EncodedTexts, other: EncodedTexts) -> bool:
    vectors = zip(one.vectors, other.vectors, strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in vectors) and bool(
        (one.truncated == other.truncated).all()
    )


def test_cached_and_fresh_embeddings_are_the_same_bits(
    embedder: Embedder, tmp_path: Path, encoded: list[int]
) -> None:
    fresh = encode(embedder, None)
    for wanted in (0, len(TEXTS)):
        del encoded[:]
        with EmbeddingCache(tmp_path) as cache:
            again = encode(embedder, cache)
        assert same(again, fresh)
        assert again.cached == wanted
        assert sum(encoded) == len(TEXTS) - wanted


def test_only_a_missing_recipe_is_computed(
    embedder: Embedder, tmp_path: Path, encoded: list[int]
) -> None:
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache, recipes=("mean",))
        assert encode(embedder, cache, recipes=("mean", "max")).cached == 0
        del encoded[:]
        assert same(
            encode(embedder, cache, recipes=("max", "mean")),
            encode(embedder, None, recipes=("max", "mean")),
        )
        assert sum(encoded) == len(TEXTS)  # those of the fresh ones


def test_what_an_embedding_depends_on_is_in_its_key(
    embedder: Embedder, folder: Path, tmp_path: Path
) -> None:
    others = [
        (embedder.with_recipe("mean"), {"prompt": "query: "}),
        (Embedder(folder, device="cpu", precision="bfloat16"), {}),
        (Embedder(folder, device="cpu", precision="float32", reproducible=True), {}),
        (Embedder(folder, device="cpu", precision="float32", max_length=4), {}),
        (embedder, {"texts": TEXTS[1:]}),
    ]
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache)
        for other, options in others:
            kept = encode(other, cache, **options)
            assert kept.cached == 0
            assert same(kept, encode(other, None, **options))


def test_a_reproducible_embedder_runs_new_texts_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder(folder, device="cpu", precision="float32", reproducible=True)
    fresh, run = encode(embedder, None), embedder.encode_recipes
    ran: list[str] = []
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache, TEXTS[:30])
        monkeypatch.setattr(
            embedder,
            "encode_recipes",
            lambda texts, *x, **y: ran.extend(texts) or run(texts, *x, **y),
        )
        extended = encode(embedder, cache)
    assert same(extended, fresh)
    assert (extended.cached, ran) == (30, TEXTS[30:])


def test_the_size_is_bounded_and_the_oldest_goes(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"{text} {number}" for number in range(40) for text in tiny.TEXTS]
    passes = [many[start::4] for start in range(4)]
    size = 2 * len(passes[0]) * (16 * 4 + 128)  # of a pass, for two recipes
    with EmbeddingCache(tmp_path, size=2 * size) as cache:
        encode(embedder, cache, passes[0])
        encode(embedder, cache, passes[1])
        encode(embedder, cache, passes[0])  # read last
        encode(embedder, cache, passes[2])
        assert cache.info()["embeddings"] == 2 * 2 * len(passes[0])
        assert encode(embedder, cache, passes[0]).cached == len(passes[0])
        assert encode(embedder, cache, passes[1]).cached == 0
        for _ in range(3):
            for texts in passes:
                encode(embedder, cache, texts)
        pages, before = cache.info()["bytes"], cache.info()["embeddings"]
        encode(embedder, cache, [f"{text}!" for text in many * 4 + passes[0]][: len(many)])
        assert cache.info()["embeddings"] == before > 0  # what never fits makes nothing go
    assert pages == (tmp_path / FILE).stat().st_size <= 2 * size + 8 * 32768
    monkeypatch.setenv("EMBEDKIT_CACHE_SIZE", "0")
    with EmbeddingCache(tmp_path / "none") as cache:
        encode(embedder, cache)
        assert cache.info()["embeddings"] == 0
    monkeypatch.setenv("EMBEDKIT_CACHE_SIZE", "1.5 mb")
    assert EmbeddingCache(tmp_path).info()["limit"] == 1_500_000
    monkeypatch.setenv("EMBEDKIT_CACHE_SIZE", "much")
    with pytest.raises(InputError, match="EMBEDKIT_CACHE_SIZE is 'much'; expected a number"):
        EmbeddingCache(tmp_path)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50_000])


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[32768:] = np.random.default_rng(0).bytes(len(content) - 32768)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [garbage, cut, overwrite])
def test_a_damaged_file_is_begun_anew(
    damage: Callable[[Path], None], embedder: Embedder, tmp_path: Path
) -> None:
    fresh = encode(embedder, None)
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache)
    damage(tmp_path / FILE)
    with pytest.warns(UserWarning, match=r"was damaged .*, and is begun anew"):
        again = encode_thrice(embedder, tmp_path)
    assert same(again, fresh)
    with warnings.catch_warnings(), EmbeddingCache(tmp_path) as cache:
        warnings.simplefilter("error")
        encode(embedder, cache)
        assert encode(embedder, cache).cached == len(TEXTS)


def test_a_changed_vector_is_computed_again(embedder: Embedder, tmp_path: Path) -> None:
    fresh = encode(embedder, None)
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache)
    file = sqlite3.connect(tmp_path / FILE)
    with file:
        (vector,) = file.execute("SELECT vector FROM embeddings WHERE rowid = 5").fetchone()
        changed = bytes([vector[0] ^ 1]) + vector[1:]
        file.execute("UPDATE embeddings SET vector = ? WHERE rowid = 5", (changed,))
    file.close()
    with EmbeddingCache(tmp_path) as cache:
        again = encode(embedder, cache)
        assert same(again, fresh)
        assert again.cached == 0
        assert encode(embedder, cache).cached == len(TEXTS)


def test_the_work_goes_on_where_nothing_can_be_written(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("a file, not a folder")
    fresh = encode(embedder, None)
    with pytest.warns(UserWarning, match="the work goes on without") as told:
        again = encode_thrice(embedder, file)
    assert same(again, fresh)
    assert len(told) == 1

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(EmbeddingCache, "_make_room", full)
    with pytest.warns(UserWarning, match="database or disk is full") as told:
        again = encode_thrice(embedder, tmp_path / "full")
    assert same(again, fresh)
    assert len(told) == 1


def test_a_file_that_another_process_begins_is_waited_for(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(cache_module.time, "sleep", lambda _: other.execute("COMMIT"))
    with warnings.catch_warnings(), EmbeddingCache(tmp_path) as cache:
        warnings.simplefilter("error")
        encode(embedder, cache)
        assert encode(embedder, cache).cached == len(TEXTS)
    other.close()


def test_the_oldest_goes_whatever_the_clock_says(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a machine may be set back."""
    one, two, three = (TEXTS[start : start + 8] for start in (0, 8, 16))
    now = count(1000, -1)
    monkeypatch.setattr(cache_module.time, "time", lambda: next(now))
    with EmbeddingCache(tmp_path, size=2 * 2 * 8 * (16 * 4 + 128)) as cache:
        for texts in (one, two, three):
            encode(embedder, cache, texts)
        assert encode(embedder, cache, three).cached == len(three)
        assert encode(embedder, cache, two).cached == len(two)


def encode_all(model: Path, cache: Path, start: int) -> None:
    embedder = Embedder(model, device="cpu", precision="float32")
    with EmbeddingCache(cache) as own:
        for number in range(8):
            texts = [f"{text} {(start + number) % 8}" for text in tiny.TEXTS]
            assert same(encode(embedder, own, texts), encode(embedder, None, texts))


@pytest.mark.process
def test_several_processes_share_a_file(folder: Path, tmp_path: Path) -> None:
    processes = [
        CONTEXT.Process(target=encode_all, args=(folder, tmp_path / "cache", 2 * start))
        for start in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with EmbeddingCache(tmp_path / "cache") as cache:
        assert cache.info()["embeddings"] == 8 * len(tiny.TEXTS) * 2
        assert cache.info()["recipes"] == 2


# Runs of evaluate

SETS = [
    Pairs.from_columns(
        name, [f"{text} {name}" for text in tiny.TEXTS], [*tiny.TEXTS], [*range(len(tiny.TEXTS))]
    )
    for name in ("first", "second", "third")
]


def values(report: Report) -> list[tuple[object, ...]]:
    return [(x.candidate, x.dataset, x.metric, x.value, x.ci95, x.ties) for x in report.results]


def die_in(models: list[Path], cache: Path, passes: int) -> None:
    """Evaluate, and be killed when the encoder is about to run a batch after this many."""
    forward, ran = PackedEncoder.__call__, []

    def run(self: PackedEncoder, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if len(ran) == passes:
            os.kill(os.getpid(), signal.SIGKILL)
        ran.append(batch)
        return forward(self, batch, *args, **kwargs)

    PackedEncoder.__call__ = run  # type: ignore[method-assign]
    evaluate(models, SETS, cache=cache, show_progress=False)


@pytest.mark.process
@pytest.mark.parametrize("passes", [0, 1, 4])
def test_a_killed_run_does_each_model_and_task_once(
    passes: int, tmp_path: Path, encoded: list[int]
) -> None:
    models = [
        tiny.make_bert(tmp_path / name, layers=1, width=16, seed=seed)
        for seed, name in enumerate(("one", "other"))
    ]
    whole = evaluate(models, SETS, cache=False, show_progress=False)
    assert len(encoded) == 6  # a batch for each model and task
    cache = tmp_path / "cache"
    assert exit_code(tmp_path / "log", die_in, models, cache, passes) == -signal.SIGKILL
    del encoded[:]
    again = evaluate(models, SETS, cache=cache, show_progress=False)
    assert len(encoded) == 6 - passes
    assert values(again) == values(whole)
    assert again.verdict == whole.verdict
    texts = len(SETS[0].scores) * 2
    assert again.cached == passes * texts
    assert again.forward_passes == 6 * texts


def test_an_extended_run_does_what_is_new(tmp_path: Path, encoded: list[int]) -> None:
    models = [
        tiny.make_bert(tmp_path / name, layers=1, width=16, seed=seed)
        for seed, name in enumerate(("one", "other"))
    ]
    evaluate(models[:1], SETS[:2], cache=tmp_path / "cache", show_progress=False)
    assert len(encoded) == 2
    del encoded[:]
    extended = evaluate(models, SETS, cache=tmp_path / "cache", show_progress=False)
    assert len(encoded) == 6 - 2
    assert values(extended) == values(evaluate(models, SETS, cache=False, show_progress=False))


def test_one_model_is_not_cached_unless_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    evaluate(folder, SETS[:1], show_progress=False)
    assert not (tmp_path / "cache" / FILE).exists()
    evaluate(folder, SETS[:1], cache=True, show_progress=False)
    assert (tmp_path / "cache" / FILE).exists()


def test_the_command_shows_and_clears_it(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path))
    empty = run("cache", "info", "--json").json
    assert (empty["bytes"], empty["embeddings"], empty["limit"]) == (0, 0, 2 * 10**9)
    assert not (tmp_path / FILE).exists()
    evaluate(folder, SETS[:1], cache=True, show_progress=False)
    info = run("cache", "info", "--json").json
    assert info["path"] == str(tmp_path / FILE)
    assert info["embeddings"] == len(SETS[0].scores) * 2
    assert 0 < info["bytes"] <= (tmp_path / FILE).stat().st_size
    assert "16 embeddings of 1 models and recipes" in run("cache", "info").out
    assert run("cache", "clear", "--json").json["embeddings"] == 0
    assert run("cache", "clear").code == 0
    monkeypatch.setenv("EMBEDKIT_CACHE_SIZE", "-1")
    assert refused(run("cache", "info")).startswith("EMBEDKIT_CACHE_SIZE is '-1'")


def test_vectors_are_float32(embedder: Embedder, tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path) as cache:
        encode(embedder, cache)
        kept = encode(embedder, cache)
    assert [vectors.dtype for vectors in kept.vectors] == [np.float32] * 2
    assert [vectors.shape for vectors in kept.vectors] == [(len(TEXTS), 16)] * 2
