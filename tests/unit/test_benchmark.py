"""`embedkit bench`: who runs, what is compared with what, and what it refuses."""

from __future__ import annotations

import statistics
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.command import Run, refused
from rich.cells import cell_len
from rich.console import Console
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, Pairs
from embedkit import benchmark as race
from embedkit.benchmark import CONTESTANTS, OURS, PEER, AbsentError, Contestant, Lap, Race, products
from embedkit.embedder.precision import Choice
from embedkit.encoders import linear
from embedkit.encoders.packed import PackedEncoder

ASKED = Choice("float32", None, "asked")
TEXTS = [text for text in tiny.TEXTS if text]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    Embedder.from_pretrained(tiny.make_bert(folder / "plain")).save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("name", CONTESTANTS)
def test_contestants_encode(bert: Path, name: str) -> None:
    try:
        made = CONTESTANTS[name](bert, "cpu")
    except AbsentError as why:
        pytest.skip(str(why))
    theirs = SentenceTransformer(str(bert), device="cpu").encode(TEXTS)
    got = made.encode(TEXTS)
    assert got.dtype == np.float32
    close = 0.05 if name.endswith(("bfloat16", "int8")) else 1e-5
    assert np.abs(got - theirs).max() <= close * np.abs(theirs).max()


def test_a_backend_that_is_not_installed(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    for backend in ("onnx", "openvino"):
        with pytest.raises(AbsentError, match=rf"pip install sentence-transformers\[{backend}\]"):
            CONTESTANTS[f"{PEER} {backend}"](bert, "cpu")


def test_a_race_with_a_clock_of_ours(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds, in which each takes known seconds; texts are made distinct."""
    now = 0.0
    costs = {PEER: [6.0, 8.0], OURS: [2.0, 2.0], "absent": []}
    seen: list[tuple[str, int]] = []

    def make(name: str) -> Any:
        def build(folder: Path, device: str | None) -> Contestant:
            if name == "absent":
                raise AbsentError("no reason")
            costs_left = iter(costs[name])

            def encode(texts: list[str]) -> Any:
                nonlocal now
                seen.append((name, len(texts)))
                if len(texts) == len(TEXTS) and len(seen) > 2:
                    now += next(costs_left, 0)
                elif len(texts) == 1:
                    now += 0.001
                angle = 0.1 if name == OURS else 0.0
                return np.array([[np.cos(angle), np.sin(angle)]] * len(texts), dtype=np.float32)

            return Contestant(encode, ASKED if name == OURS else None)

        return build

    monkeypatch.setattr(race, "CONTESTANTS", {name: make(name) for name in costs})
    monkeypatch.setattr(race.time, "perf_counter", lambda: now)
    monkeypatch.setattr(race, "products", lambda encoder, dtype, tokens: lambda: None)
    found = race.race(bert, TEXTS * 2, contestants=[OURS, "absent"], rounds=2)
    assert found.absent == {"absent": "no reason"}
    assert {name: lap.seconds for name, lap in found.laps.items()} == {
        PEER: [6.0, 8.0],
        OURS: [2.0, 2.0],
    }
    ours = found.laps[OURS]
    assert ours.times_peer == 3.5  # the median of 3 and 4
    assert ours.query_ms == pytest.approx(1)
    assert ours.smallest_cosine == pytest.approx(np.cos(0.1), abs=1e-6)
    assert ours.mean_cosine == pytest.approx(np.cos(0.1), abs=1e-6)
    assert ours.auto
    assert not found.laps[PEER].auto
    assert found.laps[PEER].smallest_cosine == 1
    assert found.bound == {"float32": [0.0, 0.0]}
    assert found.texts == len(TEXTS)
    # A warm-up each, and the rounds in turn and back; the agreement is that of the last one.
    assert [name for name, texts in seen if texts > 1] == [
        *(PEER, OURS),
        *(PEER, OURS, OURS, PEER),
    ]


def test_the_share_of_the_bound() -> None:
    lap = Lap([1.0, 2.0, 4.0], 1, 1, 1, 1, Choice("float32", None, "auto: why"), auto=True)
    found = Race("m", 100, 1000, {OURS: lap}, {}, {"bfloat16": [9.0], "float32": [1.0]})
    assert found.share_of_bound(OURS) == 0.5
    said = found.to_dict()["laps"][OURS]
    assert (said["median_seconds"], said["texts_per_second"]) == (2.0, 50.0)
    assert said["note"] == "float32 (auto: why)"
    assert found.grid().rows == ((OURS, "50", "1.00", "1.0", "1.00000", "50%", "yes"),)


def test_the_command_of_the_best() -> None:
    """The fastest of embedkit that agrees with float32; `reproducible` is another promise."""
    seconds = {
        PEER: (9.0, 1.0),
        f"{OURS} float32": (4.0, 1.0),
        f"{OURS} bfloat16": (2.0, 0.9991),
        f"{OURS} reproducible": (1.0, 1.0),
    }

    def raced(auto: str, lowest: float = 0.9991) -> Race:
        laps = {
            name: Lap(
                [time],
                1,
                1,
                min(cosine, lowest),
                1,
                ASKED,
                {"precision": name.split()[-1]},
                auto=name == auto,
            )
            for name, (time, cosine) in seconds.items()
        }
        return Race("my model", 100, 1000, laps, {})

    low = "embedkit encode FILE -m 'my model' --precision bfloat16"
    assert raced(f"{OURS} float32").command == low
    assert raced(f"{OURS} bfloat16").command == "embedkit encode FILE -m 'my model'"
    assert raced(f"{OURS} float32").to_dict()["best"] == f"{OURS} bfloat16"
    assert raced(PEER, 0.99).best is raced(PEER, 0.99).command is None


def test_spearman_of_pairs(bert: Path) -> None:
    """Oracle: scipy and sentence-transformers."""
    pairs = Pairs("p", TEXTS[:5], TEXTS[1:6], np.array([1.0, 4.0, 2.0, 5.0, 0.5]))
    found = race.race(bert, TEXTS, contestants=[f"{OURS} float32"], rounds=1, pairs=pairs)
    theirs = SentenceTransformer(str(bert), device="cpu")
    cosines = theirs.similarity_pairwise(*map(theirs.encode, (TEXTS[:5], TEXTS[1:6])))
    expected = spearmanr(cosines, pairs.scores).statistic
    for name in (PEER, f"{OURS} float32"):
        assert found.laps[name].spearman == pytest.approx(expected)


def test_the_table_in_80_columns() -> None:
    laps = {
        name: Lap([0.5], 1.57, 12.3, 0.9999, 1, ASKED if name.startswith(OURS) else None)
        for name in CONTESTANTS
    }
    grid = Race("m", 2000, 50_000, laps, {}, {"float32": [0.4]}).grid()
    out = StringIO()
    left_out = grid.print(Console(file=out, width=80))
    assert left_out == ["of the bound"]
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 + len(CONTESTANTS)  # no cell is folded
    assert max(map(cell_len, lines)) <= 80
    assert grid.print(Console(file=out, width=120)) == []


def test_the_bound_is_all_products_of_all_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 layers of width 32 (inner 128, as BERT's 4 times) over 5,000 tokens in two batches."""
    encoder = Embedder.from_pretrained(tiny.make_bert(tmp_path), precision="float32").encoder
    assert isinstance(encoder, PackedEncoder)
    inner = encoder.config["intermediate_size"]
    assert encoder.linear_shapes == [(96, 32), (32, 32), (inner, 32), (32, inner)]
    done: list[tuple[int, int]] = []

    class Noted(linear.PlainLinear):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            y = super().__call__(x)
            done.append((len(x), x.shape[1] * y.shape[1]))
            return y

    torch.set_num_threads(1)
    monkeypatch.setattr("embedkit.benchmark.ready", Noted)
    job = products(encoder, torch.float32, 5000)
    assert job is not None
    job()
    weights = 4 * 32 * 32 + 2 * 32 * inner
    assert sum(rows * size for rows, size in done) == 3 * 5000 * weights
    assert {rows for rows, _ in done} == {4096, 904}
    done.clear()
    torch.set_num_threads(2)
    job = products(encoder, torch.float32, 5000)
    assert job is not None
    job()
    assert sum(rows * size for rows, size in done) == 3 * 5000 * weights
    assert {rows for rows, _ in done} == {2048, 904}


def test_no_bound_for_what_transformers_runs(tmp_path: Path) -> None:
    encoder = Embedder.from_pretrained(tiny.make_model(tmp_path, "mpnet")).encoder
    assert products(encoder, torch.float32, 10) is None


def test_every_round_turns_the_order() -> None:
    order: list[str] = []
    jobs = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = race.in_turn(jobs, 3, show_progress=False)
    assert "".join(order) == "abbaab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (([],), r"^texts is empty; "),
        ((["a"], "nobody"), r"^contestant 'nobody' is not one of sentence-transformers, "),
    ],
)
def test_refused(bert: Path, arguments: tuple[Any, ...], problem: str) -> None:
    texts, *names = arguments
    with pytest.raises(InputError, match=problem):
        race.race(bert, texts, contestants=names)
    with pytest.raises(InputError, match=r"^rounds is 0; expected at least 1$"):
        race.race(bert, ["a"], rounds=0)


# The command


def test_bench(bert: Path, run: Run, tmp_path: Path) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("body\nrain\nthe cat\nrain\n그는 책을 읽고 있다\n", encoding="utf-8")
    command = ("bench", "-m", bert, "--texts", texts, "--text-column", "body", "--rounds", "2")
    said = run(*command, "--json").json
    assert (said["schema"], said["texts"]) == (1, 3)
    assert said["tokens"] == len(
        Embedder.from_pretrained(bert)
        .tokenizer(["rain", "the cat", "그는 책을 읽고 있다"])
        .token_ids
    )
    assert f"{OURS} int8" not in {**said["laps"], **said["absent"]}  # torch runs none
    for name, lap in said["laps"].items():
        assert len(lap["seconds"]) == 2
        assert lap["median_seconds"] == statistics.median(lap["seconds"])
        assert lap["smallest_cosine"] > (0.99 if name.endswith(("bfloat16", "int8")) else 0.99999)
    assert said["laps"][PEER]["times_peer"] == 1
    assert said["laps"][f"{OURS} reproducible"]["share_of_bound"] > 0
    assert said["machine"]["threads"] == torch.get_num_threads()
    done = run(*command, "--limit", "1")
    assert done.code == 0
    assert "1 distinct texts of " in done.out
    assert f"{OURS} reproducible" in done.out
    assert said["laps"][f"{OURS} float32"]["auto"]
    assert not said["laps"][f"{OURS} bfloat16"]["auto"]
    assert f"embedkit encode FILE -m {bert}" in "".join(done.out.splitlines())


@pytest.mark.slow
def test_bench_of_the_sentences_that_ship(bert: Path, run: Run) -> None:
    said = run("bench", "-m", bert, "--rounds", "1", "--json").json
    assert said["texts"] == 480


def test_bench_refuses(bert: Path, run: Run) -> None:
    assert refused(run("bench", "-m", bert, "--limit", "0")) == "--limit is 0; expected at least 1"
    assert "rounds is 0" in refused(run("bench", "-m", bert, "--rounds", "0"))
    assert "nowhere.txt" in refused(run("bench", "-m", bert, "--texts", "nowhere.txt"))
