"""What all trainings share: settings, the order of examples, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import InputError
from embedkit.training.arguments import TrainingSettings
from embedkit.training.checkpoints import Checkpoints, commit, step_of
from embedkit.training.order import ByLength


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"epochs": 0}, "epochs is 0; expected a number above 0"),
        ({"epochs": float("nan")}, "epochs is nan; expected a number above 0"),
        ({"batch_size": 0}, "batch_size is 0; expected a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5; expected a whole number from 1"),
        ({"accumulate": True}, "accumulate is True; expected a whole number from 1"),
        ({"learning_rate": -1}, "learning_rate is -1; expected a number above 0"),
        ({"warmup": 1.5}, "warmup is 1.5; expected a share from 0 to 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected a number from 0"),
        ({"evaluations": 0}, "evaluations is 0; expected a whole number from 1"),
        ({"patience": 0}, "patience is 0; expected a whole number from 1"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
        ({"device": "tpu"}, "device is 'tpu'; expected cpu or cuda"),
    ],
)
def test_wrong_settings(wrong: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError) as error:
        TrainingSettings(**wrong)  # type: ignore[arg-type]
    assert str(error.value) == problem


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.training.arguments.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"accelerate and datasets; install the extra train \(pip"):
        TrainingSettings().check_installed()


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="device is 'cuda', which torch cannot use here"):
        TrainingSettings(device="cuda").check_installed()


def test_bfloat16_where_the_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for has in (True, False):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_, has=has, **__: has)
        assert TrainingSettings().bfloat16 is has
        assert TrainingSettings(device="cpu").bfloat16 is False
        wanted = "bfloat16" if has else "float32"
        assert TrainingSettings().described()["precision"] == wanted


def test_steps() -> None:
    assert TrainingSettings(epochs=3, batch_size=16).steps(100) == 21  # 7 batches an epoch
    assert TrainingSettings(epochs=1, batch_size=16, accumulate=2).steps(100) == 4
    assert TrainingSettings(epochs=0.5, batch_size=16).steps(100) == 4


sizes = st.integers(1, 200)


@settings(deadline=None)
@given(n=sizes, batch=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_each_epoch_reads_all_once(n: int, batch: int, seed: int, epoch: int) -> None:
    lengths = np.random.default_rng(n).integers(1, 60, n)
    order = ByLength(lengths, batch, seed)
    order.set_epoch(epoch)
    read = list(order)
    assert sorted(read) == list(range(n))
    assert len(order) == n
    assert list(order) == read
    again = ByLength(lengths, batch, seed)
    again.set_epoch(epoch)
    assert list(again) == read
    # All batches but the last are whole, and are batches to the loader too.
    batches = [read[start : start + batch] for start in range(0, n, batch)]
    assert all(len(each) == batch for each in batches[:-1])


def test_order_changes_with_epoch_and_seed_and_pads_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 1600)
    order, other = ByLength(lengths, 16, 0), ByLength(lengths, 16, 1)
    first = list(order)
    assert first != list(other)
    order.set_epoch(1)
    assert first != list(order)

    def padded(read: list[int]) -> int:
        return sum(16 * lengths[read[start : start + 16]].max() for start in range(0, 1600, 16))

    assert padded(first) < 1.1 * lengths.sum()
    assert padded(list(range(1600))) > 1.8 * lengths.sum()
    # Long and short batches are mixed: it is no curriculum.
    means = lengths[first].reshape(100, 16).mean(1)
    assert abs(np.corrcoef(means, np.arange(100))[0, 1]) < 0.3


def make_checkpoint(folder: Path, step: int, *, stopped: bool = False, whole: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "1_Dense").mkdir(parents=True)
    (path / "model.safetensors").write_text(f"weights {step}")
    (path / "1_Dense" / "model.safetensors").write_text("more")
    if whole:
        commit(path, stopped=stopped)
    return path


def test_the_last_whole_checkpoint(tmp_path: Path) -> None:
    with Checkpoints.beside(tmp_path / "out", {"seed": 0}) as checkpoints:
        assert checkpoints.folder == tmp_path / "out.training"
        assert checkpoints.last() is None
        for step in (5, 10, 15, 20, 25):
            make_checkpoint(checkpoints.folder, step, whole=step != 25)
        (checkpoints.folder / "checkpoint-20" / "1_Dense" / "model.safetensors").unlink()
        (checkpoints.folder / "checkpoint-15" / "model.safetensors").write_text("weights 51")
        last = checkpoints.last()
        assert last is not None
        assert (step_of(last.folder), last.stopped) == (10, False)
        left = sorted(path.name for path in checkpoints.folder.glob("checkpoint-*"))
        assert left == ["checkpoint-10", "checkpoint-5"]
        make_checkpoint(checkpoints.folder, 30, stopped=True)
        last = checkpoints.last()
        assert last is not None
        assert (step_of(last.folder), last.stopped) == (30, True)
    assert list(tmp_path.iterdir()) == []  # it is over


def test_killed_while_checkpoints_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best one, which is never later than the last, is there as long as any is."""
    removed: list[str] = []

    def rmtree(path: Path, **_: object) -> None:
        removed.append(path.name)

    monkeypatch.setattr("embedkit.training.checkpoints.shutil.rmtree", rmtree)
    for step in (5, 1000, 20):
        make_checkpoint(tmp_path, step)
    Checkpoints(tmp_path).remove()
    assert removed == ["checkpoint-1000", "checkpoint-20", "checkpoint-5", "eval"]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_damaged_checkpoint_is_none(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever byte of whatever file is changed or cut off."""
    folder = tmp_path_factory.mktemp("damaged")
    checkpoints = Checkpoints(folder)
    path = make_checkpoint(folder, 7)
    victim = data.draw(st.sampled_from(sorted(p for p in path.rglob("*") if p.is_file())))
    content = victim.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    changed = bytes([content[place] ^ data.draw(st.integers(1, 255))])
    whole = data.draw(st.booleans())
    victim.write_bytes(content[:place] + (changed + content[place + 1 :] if whole else b""))
    assert checkpoints.last() is None


def test_another_training_in_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Checkpoints.beside(out, {"seed": 0, "a": [1.5]}):
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "out.training" / "training.json").read_text())["plan"]
    with (
        pytest.raises(InputError, match="holds a training with another seed, 0, got 1; finish"),
        Checkpoints.beside(out, {"seed": 1, "a": [1.5]}),
    ):
        pytest.fail("it went on")
    with Checkpoints.beside(out, {"seed": 0, "a": [1.5]}) as checkpoints:
        assert checkpoints.folder.is_dir()
        with (
            pytest.raises(InputError, match="another process is writing there"),
            Checkpoints.beside(out, {"seed": 0, "a": [1.5]}),
        ):
            pytest.fail("it went on")


def test_places_that_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("x")
    with (
        pytest.raises(InputError, match="has files in it that embedkit did not write"),
        Checkpoints.beside(tmp_path / "a", {}),
    ):
        pytest.fail("it went on")
    (tmp_path / "b.training").mkdir()
    (tmp_path / "b.training" / "mine.txt").write_text("x")
    with (
        pytest.raises(InputError, match=r"b.training has other files in it \(mine.txt\)"),
        Checkpoints.beside(tmp_path / "b", {}),
    ):
        pytest.fail("it went on")
    assert (tmp_path / "b.training" / "mine.txt").exists()
