"""What a caller has set for torch changes no vector; models travel to other processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from helpers import tiny
from sklearn.model_selection import cross_val_predict, cross_val_score

from embedkit import CrossEncoder, Embedder, InputError, PairRegressor, VectorIndex
from embedkit.embedder import precision as precision_module
from embedkit.encoders.devices import standard_torch
from embedkit.scoring.regressor_folder import load_head, save_head
from embedkit.tagging.tagger import Tagger

pytestmark = pytest.mark.thorough

TEXTS = list(tiny.TEXTS)
PAIRS = [(f"the cat {index}", f"a dog {index % 3}") for index in range(20)]
SCORES = [float(index % 5) for index in range(20)]
RECIPE = "max+mean@1,-1/normalize"


@contextmanager
def changed(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """A setting of the process, which must be the caller's again at the end."""
    before = read()
    write(value)
    try:
        yield
        assert read() == value
    finally:
        write(before)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default device meta": lambda: default_device("meta"),
    "default device that is not there": lambda: default_device("cuda:7"),
    "device block": lambda: torch.device("meta"),
    "float64": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "bfloat16": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "deterministic": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "products in bfloat16": lambda: changed(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "numpy raises": lambda: np.errstate(all="raise"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One family that runs packed, and one that transformers runs."""
    return {
        family: tiny.make_model(tmp_path_factory.mktemp(family), family, layers=2)
        for family in ("bert", "mpnet")
    }


@pytest.fixture(autouse=True)
def low_precision_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `auto` runs its probe, whatever this machine is fast at."""
    candidate = precision_module.Choice("bfloat16", None, "a test")
    monkeypatch.setattr(precision_module, "fast_precision", lambda device: candidate)


@pytest.mark.parametrize(
    ("family", "precision"), [("bert", "float32"), ("bert", "auto"), ("mpnet", "float32")]
)
@pytest.mark.parametrize("state", STATES)
def test_ambient_torch_state_changes_no_embedder(
    folders: dict[str, Path], family: str, state: str, precision: str, tmp_path: Path
) -> None:
    folder = folders[family]
    outside = Embedder.from_pretrained(folder, RECIPE, precision=precision, device="cpu")
    want = outside.encode(TEXTS)
    with STATES[state]():
        inside = Embedder.from_pretrained(folder, RECIPE, precision=precision, device="cpu")
        got, again = inside.encode(TEXTS), outside.encode(TEXTS)
        fitted = inside.with_recipe("mean/center").fit(TEXTS).encode(TEXTS)
        inside.save_pretrained(tmp_path / "saved")
        choice = inside.precision_choice
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(again, want)
    np.testing.assert_array_equal(inside.encode(TEXTS), want)
    np.testing.assert_array_equal(
        outside.with_recipe("mean/center").fit(TEXTS).encode(TEXTS), fitted
    )
    assert inside.fingerprint == outside.fingerprint
    assert choice == outside.precision_choice
    saved = Embedder.from_pretrained(tmp_path / "saved", precision=precision, device="cpu")
    np.testing.assert_allclose(
        saved.encode(TEXTS), want, atol=1e-6 if precision == "float32" else 1
    )


@pytest.mark.parametrize("reads", ["pooler", "mean"])
@pytest.mark.parametrize("state", STATES)
def test_ambient_torch_state_changes_no_cross_encoder(
    folders: dict[str, Path], state: str, reads: str, tmp_path: Path
) -> None:
    outside = CrossEncoder.untrained(folders["bert"], reads, (0, 5))
    outside.save_pretrained(tmp_path / "before")
    want = outside.predict(PAIRS)
    with STATES[state]():
        inside = CrossEncoder.untrained(folders["bert"], reads, (0, 5))
        inside.save_pretrained(tmp_path / "inside")
        loaded = CrossEncoder.from_pretrained(tmp_path / "before", device="cpu")
        for each in (inside, outside, loaded):
            np.testing.assert_array_equal(each.predict(PAIRS), want)
    saved = CrossEncoder.from_pretrained(tmp_path / "inside", device="cpu")
    np.testing.assert_array_equal(saved.predict(PAIRS), want)
    assert all(not tensor.is_inference() for tensor in inside.network.parameters())
    assert all(tensor.requires_grad for tensor in loaded.network.parameters())


@pytest.mark.parametrize("state", STATES)
def test_ambient_torch_state_changes_no_head(
    folders: dict[str, Path], state: str, tmp_path: Path
) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="float32", device="cpu")
    want = PairRegressor(embedder).fit(PAIRS, SCORES).predict(PAIRS)
    with STATES[state]():
        head = PairRegressor(embedder).fit(PAIRS, SCORES)
        np.testing.assert_array_equal(head.predict(PAIRS), want)
        save_head(head, tmp_path / "head")
        loaded = load_head(tmp_path / "head", device="cpu")
    np.testing.assert_array_equal(loaded.predict(PAIRS), want)


def test_settings_come_back_when_threads_overlap_and_when_an_error_leaves(
    folders: dict[str, Path],
) -> None:
    with changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64):
        inside = Barrier(3)

        def enter(_: int) -> torch.dtype:
            with standard_torch():
                inside.wait(timeout=600)  # all are in at once, and leave in any order
                return torch.get_default_dtype()

        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(enter, range(3))) == {torch.float32}
        assert torch.get_default_dtype() == torch.float64
        with pytest.raises(InputError):
            Embedder.from_pretrained(folders["bert"]).encode([None])  # type: ignore[list-item]
        assert torch.get_default_dtype() == torch.float64


# Forks


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_forked_process_needs_one_thread(folders: dict[str, Path], family: str) -> None:
    embedder = Embedder.from_pretrained(folders[family], precision="float32", device="cpu")
    expected = embedder.encode(TEXTS)

    def refused_then_equal() -> None:
        torch.set_num_threads(2)
        with pytest.raises(InputError, match="this process was forked from one that ran an encod"):
            embedder.encode(TEXTS[0])
        torch.set_num_threads(1)
        np.testing.assert_allclose(embedder.encode(TEXTS), expected, atol=1e-5)

    process = multiprocessing.get_context("fork").Process(target=refused_then_equal, daemon=True)
    process.start()
    process.join(600)
    assert process.exitcode == 0


@pytest.mark.parametrize("kind", ["cross-encoder", "tagger"])
def test_a_forked_process_refuses_networks_of_transformers(
    folders: dict[str, Path], kind: str
) -> None:
    run: Callable[[], Any]
    if kind == "cross-encoder":
        run = partial(CrossEncoder.untrained(folders["bert"], "mean", (0, 5)).predict, PAIRS)
    else:
        run = partial(Tagger.untrained(folders["bert"], ["A"], "word").tag, TEXTS)
    run()

    def refused() -> None:
        torch.set_num_threads(2)
        with pytest.raises(InputError, match="this process was forked from one that ran an encod"):
            run()

    process = multiprocessing.get_context("fork").Process(target=refused)
    process.start()
    process.join()
    assert process.exitcode == 0


# Pickling

COPIES: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda model, protocol=protocol: pickle.loads(  # noqa: S301
            pickle.dumps(model, protocol)
        )
        for protocol in (2, pickle.HIGHEST_PROTOCOL)
    },
    "deepcopy": copy.deepcopy,
}


def joblib_copy(model: Any, folder: Path) -> Any:
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


@pytest.mark.parametrize(
    ("family", "precision"),
    [("bert", "float32"), ("bert", "bfloat16"), ("bert", "auto"), ("mpnet", "bfloat16")],
)
def test_copies_of_an_embedder_give_equal_vectors_and_run_no_probe(
    folders: dict[str, Path],
    family: str,
    precision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedder = Embedder.from_pretrained(
        folders[family], RECIPE, precision=precision, device="cpu", prompts={"query": "query: "}
    )
    fresh = copy.deepcopy(embedder)  # before it has run
    fitted = embedder.with_recipe("idf_mean/whiten:4/normalize").fit(TEXTS)
    monkeypatch.setattr(
        "embedkit.embedder.recipe_encoder.choose", lambda *_, **__: pytest.fail("probed again")
    )
    for model in (embedder, fitted):
        want = model.encode(TEXTS, prompt_name="query")
        copies = [make(model) for make in COPIES.values()] + [joblib_copy(model, tmp_path)]
        for other in [*copies, fresh] if model is embedder else copies:
            np.testing.assert_array_equal(other.encode(TEXTS, prompt_name="query"), want)
            assert other.precision_choice == model.precision_choice
            assert (other.fingerprint, other.recipe) == (model.fingerprint, model.recipe)
    fresh.save_pretrained(tmp_path / "saved")
    monkeypatch.undo()
    loaded = Embedder.from_pretrained(tmp_path / "saved", precision="float32", device="cpu")
    assert loaded.fingerprint == embedder.fingerprint


def test_copies_of_an_embedder_whose_tokenizer_transformers_makes(tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path / "bert", layers=1)
    (folder / "tokenizer.json").unlink()
    tiny.make_tokenizer_files(folder)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tiny.VOCAB), encoding="utf-8")
    embedder = Embedder.from_pretrained(folder, precision="float32", device="cpu")
    other = COPIES["pickle 2"](embedder)
    np.testing.assert_array_equal(other.encode(TEXTS), embedder.encode(TEXTS))
    other.save_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("reads", ["pooler", "mean"])
def test_copies_of_a_cross_encoder_give_equal_scores(
    folders: dict[str, Path], reads: str, tmp_path: Path
) -> None:
    model = CrossEncoder.untrained(folders["bert"], reads, (0, 5))
    want = model.predict(PAIRS)
    for other in [make(model) for make in COPIES.values()] + [joblib_copy(model, tmp_path)]:
        np.testing.assert_array_equal(other.predict(PAIRS), want)
        assert other.fingerprint == model.fingerprint


@pytest.mark.parametrize("head", ["ridge", "isotonic"])
def test_copies_of_a_head_give_equal_scores(
    folders: dict[str, Path], head: str, tmp_path: Path
) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="bfloat16", device="cpu")
    model = PairRegressor(embedder, head=head).fit(PAIRS, SCORES)
    want = model.predict(PAIRS)
    for other in [make(model) for make in COPIES.values()] + [joblib_copy(model, tmp_path)]:
        np.testing.assert_array_equal(other.predict(PAIRS), want)


def make_index(embedder: Embedder, folder: Path, *, on_disk: bool) -> VectorIndex:
    """With texts, two segments and removed rows."""
    vectors = embedder.encode(TEXTS)
    index = VectorIndex.build(vectors, texts=TEXTS, embedder=embedder, kind="hnsw", ef_search=9)
    index.add(vectors[:3], texts=TEXTS[:3])
    index.remove([0, 2])
    if on_disk:
        index.save(folder / "index")
        return VectorIndex.open(folder / "index", embedder)
    return index


@pytest.mark.parametrize("on_disk", [False, True])
def test_copies_of_an_index_with_its_embedder_find_the_same(
    folders: dict[str, Path], on_disk: bool, tmp_path: Path
) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="float32", device="cpu")
    index = make_index(embedder, tmp_path, on_disk=on_disk)
    want, rows = work(index), len(index)
    for other in [make(index) for make in COPIES.values()] + [joblib_copy(index, tmp_path)]:
        assert work(other) == want
        assert other.info == index.info
        assert other.folder == index.folder
        if on_disk:
            continue  # the copy lives in the same folder
        other.remove([1])
        assert (len(other), len(index)) == (rows - 1, rows)
    if on_disk:  # a copy is the last committed state, and the older handle says so
        other = copy.deepcopy(index)
        other.remove([1])
        with pytest.raises(InputError, match="was changed by another"):
            index.remove([1])


def work(model: Any) -> Any:
    """In another process."""
    torch.set_num_threads(1)
    if isinstance(model, VectorIndex):
        return [*model.search(TEXTS, 4)]
    return model.encode(TEXTS) if isinstance(model, Embedder) else model.predict(PAIRS)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("on_disk", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_index_with_its_embedder_travels_to_spawned_processes(
    folders: dict[str, Path], on_disk: bool, tmp_path: Path
) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="float32", device="cpu")
    index = make_index(embedder, tmp_path, on_disk=on_disk)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        (got,) = pool.map(work, [index])
    for mine, theirs in zip(work(index), got, strict=True):
        assert [(hit.id, hit.text) for hit in mine] == [(hit.id, hit.text) for hit in theirs]
        np.testing.assert_allclose([x.score for x in mine], [x.score for x in theirs], atol=1e-6)


@pytest.mark.slow
@pytest.mark.process
def test_models_travel_to_spawned_processes(folders: dict[str, Path]) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="bfloat16", device="cpu")
    models = [
        embedder,
        PairRegressor(embedder).fit(PAIRS, SCORES),
        CrossEncoder.untrained(folders["bert"], "mean", (0, 5)),
    ]
    want = [work(model) for model in models]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for got, expected in zip(pool.map(work, models), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_cross_validation_in_two_processes_is_that_of_one(folders: dict[str, Path]) -> None:
    embedder = Embedder.from_pretrained(folders["bert"], precision="float32", device="cpu")
    head = PairRegressor(embedder)
    one, two = (cross_val_score(head, PAIRS, SCORES, cv=2, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-4)
    array = cross_val_score(head, np.array(PAIRS), SCORES, cv=2)
    np.testing.assert_array_equal(array, one)
    predictions = cross_val_predict(head, PAIRS, SCORES, cv=2)
    halves = [PairRegressor(embedder).fit(PAIRS[a], SCORES[a]) for a in (slice(10, 20), slice(10))]
    want = [*halves[0].predict(PAIRS[:10]), *halves[1].predict(PAIRS[10:])]
    np.testing.assert_allclose(predictions, want, rtol=0, atol=1e-5)
