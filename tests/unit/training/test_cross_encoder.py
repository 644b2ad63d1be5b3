"""Training of cross-encoders: what is learnt, kills, and wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import tiny
from helpers.command import Run, refused, replaced
from helpers.trainings import kill, write_pairs
from huggingface_hub import ModelCard
from transformers import Trainer

from embedkit import InputError, Pairs
from embedkit.scoring.cross_encoder import CrossEncoder
from embedkit.scoring.cross_encoder_network import READS
from embedkit.training.arguments import TrainingSettings
from embedkit.training.cross_encoder import train_cross_encoder
from embedkit.training.order import ByLength

WORDS = ("man", "woman", "dog", "bird", "city", "rain", "sun", "music", "book", "plays")


def make_pairs(name: str, n: int, seed: int) -> Pairs:
    """The score is how many cats are in the second sentence, on a scale from 1 to 4."""
    generator = np.random.default_rng(seed)
    cats = generator.integers(0, 4, n)
    first, second = [], []
    for count in cats:
        first.append(" ".join(generator.choice(WORDS, generator.integers(2, 6))))
        words = [*generator.choice(WORDS, generator.integers(2, 6)), *["cat"] * count]
        second.append(" ".join(generator.permutation(words)))
    return Pairs.from_columns(name, first, second, 1.0 + cats)


TRAIN, DEV = make_pairs("train", 320, 0), make_pairs("dev", 60, 1)
FAST = TrainingSettings(epochs=15, learning_rate=3e-3, evaluations=4, device="cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {pairs.name: write_pairs(folder, pairs) for pairs in (TRAIN, DEV)}


def both(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.sentence1, pairs.sentence2, strict=True))


def weights(model: CrossEncoder) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def same(one: CrossEncoder, other: CrossEncoder) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(
    "reads",
    [name if name == "mean" else pytest.param(name, marks=pytest.mark.slow) for name in READS],
)
def test_it_learns_on_the_labels_scale(bert: Path, tmp_path: Path, reads: str) -> None:
    trained = train_cross_encoder(
        [TRAIN], DEV, tmp_path / "out", model=bert, reads=reads, settings=FAST
    )
    predictions = trained.predict(both(DEV))
    assert scipy.stats.spearmanr(predictions, DEV.scores).statistic > 0.9
    assert np.mean((predictions - DEV.scores) ** 2) < 0.2 * DEV.scores.var()
    again = CrossEncoder.from_pretrained(tmp_path / "out", device="cpu")
    assert np.array_equal(again.predict(both(DEV)), predictions)
    assert again.label_range == (1, 4)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ("trained on: train (320 pairs)", "learning_rate: 0.003", "seed: 0"):
        assert said in card
    value = scipy.stats.spearmanr(predictions, DEV.scores).statistic
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    on_hub = {one.metric_type: one.metric_value for one in results}
    assert on_hub["spearman"] == pytest.approx(value)
    assert on_hub["mse"] == pytest.approx(np.mean((predictions - DEV.scores) ** 2))
    assert f"- on dev: spearman {100 * value:.2f} [" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.slow
def test_a_seed_is_all_there_is_to_chance(bert: Path, tmp_path: Path) -> None:
    trained = [
        train_cross_encoder(
            [TRAIN],
            DEV,
            tmp_path / f"{place}",
            model=bert,
            settings=TrainingSettings(epochs=1, seed=seed, evaluations=1, device="cpu"),
        )
        for place, seed in enumerate((0, 0, 1))
    ]
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_the_loss_is_the_squared_error(tmp_path: Path) -> None:
    """Of a network that does not change: with next to no learning rate, and without dropout."""
    bert = tiny.make_bert(
        tmp_path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    untrained = CrossEncoder.untrained(bert, "mean", (0, 1), seed=0)
    expected = np.mean((untrained.predict(both(TRAIN)) - (TRAIN.scores - 1) / 3) ** 2)
    settings = TrainingSettings(epochs=2, learning_rate=1e-12, evaluations=2, device="cpu")
    trained = train_cross_encoder(
        [TRAIN], DEV, tmp_path / "out", model=bert, reads="mean", settings=settings
    )
    assert trained.training is not None
    curve = trained.training.curve
    assert [row["step"] for row in curve] == [20, 40]
    assert [row["loss"] for row in curve] == pytest.approx([expected, expected], rel=1e-4)
    losses = ", ".join(f"{row['loss']:.4f} (step {row['step']})" for row in curve)
    assert trained.notes["training loss"] == losses


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer would add where it ought to average: a network must say that its loss is a mean."""
    bert = tiny.make_bert(
        tmp_path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    monkeypatch.setattr(ByLength, "__iter__", lambda self: iter(range(len(self))))
    for reads in ("pooler", "mean"):
        whole, parts = (
            train_cross_encoder(
                [TRAIN],
                DEV,
                tmp_path / f"{reads}{accumulate}",
                model=bert,
                reads=reads,
                settings=TrainingSettings(
                    epochs=1,
                    batch_size=16 // accumulate,
                    accumulate=accumulate,
                    learning_rate=1e-3,
                    evaluations=1,
                    device="cpu",
                ),
            )
            for accumulate in (1, 4)
        )
        assert np.allclose(whole.predict(both(DEV)), parts.predict(both(DEV)), atol=1e-5)


@pytest.mark.slow
def test_the_best_checkpoint_is_kept(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = train_cross_encoder(
        [TRAIN], DEV, tmp_path / "out", model=bert, settings=FAST, show_progress=True
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if "spearman" in line]
    scores = [float(line.split("spearman ")[1].split()[0]) for line in lines]
    assert len(scores) == 4
    best = 75 * (1 + int(np.argmax(scores)))  # 20 steps an epoch, 300 in all
    assert trained.notes["kept"].endswith(f"after step {best}")
    found = scipy.stats.spearmanr(trained.predict(both(DEV)), DEV.scores).statistic
    assert found == pytest.approx(max(scores), abs=1e-4)


def stuck(**changes: Any) -> TrainingSettings:
    return TrainingSettings(epochs=6, learning_rate=1e-12, evaluations=6, device="cpu", **changes)


@pytest.mark.slow
def test_it_stops_where_nothing_gets_better(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for patience, evaluations in ((None, 6), (2, 3)):
        train_cross_encoder(
            [TRAIN],
            DEV,
            tmp_path / "out",
            model=bert,
            settings=stuck(patience=patience),
            show_progress=True,
        )
        err = capsys.readouterr().err
        assert err.count("spearman") == evaluations


@pytest.mark.slow
def test_killed_after_it_had_stopped(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go on then; nor does one that had come to its end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name, settings in (("stopped", stuck(patience=2)), ("ended", stuck())):
        arguments: Any = ([TRAIN], DEV, tmp_path / name)
        whole = train_cross_encoder(*arguments[:2], tmp_path / "x", model=bert, settings=settings)
        with monkeypatch.context() as patch:
            patch.setattr("embedkit.training.cards.add_scores", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train_cross_encoder(*arguments, model=bert, settings=settings)
        assert not (tmp_path / name).exists()
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train", interrupt)
            again = train_cross_encoder(*arguments, model=bert, settings=settings)
        assert same(again, whole)
        assert again.notes == whole.notes


@pytest.mark.slow
@pytest.mark.parametrize(("reads", "batch"), [("pooler", 95), ("mean", 141)])
def test_killed_and_taken_up_again(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run, reads: str, batch: int
) -> None:
    """The same bits as undisturbed, in the middle of an epoch; with accumulation and patience."""
    command = ["train", "cross-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    command += ["--reads", reads, "--epochs", 2, "--learning-rate", 1e-3, "--evaluations", 4]
    command += ["--batch-size", 4, "--accumulate", 2, "--patience", 3, "--device", "cpu"]
    kill(command, tmp_path / "out", batch=batch)
    assert run(*command, "--out", tmp_path / "out").code == 0
    assert run(*command, "--out", tmp_path / "whole").code == 0
    again, whole = (
        CrossEncoder.from_pretrained(tmp_path / name, device="cpu") for name in ("out", "whole")
    )
    assert same(again, whole)
    assert again.notes == whole.notes
    assert not (tmp_path / "out.training").exists()


@pytest.mark.slow
def test_killed_while_nothing_got_better(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    """How long it has waited is not forgotten."""
    command = ["train", "cross-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    command += ["--epochs", 40, "--learning-rate", 1e-12, "--evaluations", 40, "--patience", 4]
    command += ["--device", "cpu"]
    kill(command, tmp_path / "out", batch=55)
    ended = {}
    for name in ("out", "whole"):
        done = run(*command, "--out", tmp_path / name)
        steps = [
            line.split("step ")[1].split()[0] for line in done.err.splitlines() if "spear" in line
        ]
        ended[name] = steps[-1]
        assert len(steps) == (3 if name == "out" else 5)
    assert ended["out"] == ended["whole"] == "100"  # 20 steps an epoch; the first is the best


@pytest.mark.slow
def test_another_training_is_not_gone_on_with(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    command = ["train", "cross-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    command += ["--evaluations", 9, "--device", "cpu"]
    kill([*command, "--epochs", 30], tmp_path / "out", batch=70)
    for changed, name in (
        (["--epochs", 31], "epochs, 30.0, got 31.0"),
        (["--epochs", 30, "--reads", "cls"], "reads, 'pooler', got 'cls'"),
        (["--epochs", 30, "--label-range", "0 5"], "label_range"),
        (["--epochs", 30, "--max-length", 20], "model"),
    ):
        said = refused(run(*command, *changed, "--out", tmp_path / "out"))
        assert f"holds a training with another {name}" in said


def test_from_the_command_line(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    command = ["train", "cross-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    command += ["--epochs", 2, "--learning-rate", 3e-3, "--evaluations", 4, "--device", "cpu"]
    done = run(*command, "--reads", "mean", "--out", tmp_path / "out")
    assert done.code == 0
    assert "a cross-encoder that reads mean: correlations x 100" in done.out
    assert re.search(r"step 40 of 40: loss 0\.\d{4}, spearman 0\.", done.err)
    assert "chosen on these data, so its scores on them are biased upwards" in done.out
    assert "Saved the cross-encoder in" in done.err
    assert "shards" not in done.err  # bars of transformers
    said = run(*command, "--reads", "mean", "--out", tmp_path / "out", "--json", "--overwrite").json
    model = CrossEncoder.from_pretrained(tmp_path / "out", device="cpu")
    expected = scipy.stats.spearmanr(model.predict(both(DEV)), DEV.scores).statistic
    (row,) = (row for row in said["dev"]["results"] if row["metric"] == "spearman")
    assert row["value"] == pytest.approx(expected)
    assert said["label_range"] == [1, 4]
    assert (said["verdict"]["decision"], said["gain"]) == ("single", [])
    assert said["verdict"]["score"] == pytest.approx(expected)
    assert said["verdict"] == said["dev"]["verdict"]
    assert done.out.splitlines()[0] == said["verdict"]["text"]["en"]
    assert [row["step"] for row in said["curve"]] == [10, 20, 30, 40]
    scored = run("score", files["dev"], "-m", tmp_path / "out", "--json")
    predictions = [json.loads(line)["prediction"] for line in scored.out.splitlines()]
    assert np.allclose(predictions, model.predict(both(DEV)))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (["--reads", "first"], "unknown reading 'first'; choose from pooler, pooler-fresh, cls"),
        (["--batch-size", "0"], "batch_size is 0; expected a whole number from 1"),
        (["--learning-rate", "nan"], "learning_rate is nan; expected a number above 0"),
        (["--label-range", "2 5"], "train, pair"),
        (["--label-range", "5"], "--label-range is '5'; expected two numbers such as '0 5'"),
        (["--dev", "absent.tsv"], "absent.tsv"),
        (["--score-column", "gold"], "gold"),
        (["--device", "tpu"], "device is 'tpu'; expected cpu or cuda"),
        (["--model", "absent/folder/x"], "there is no such folder"),
        (["--max-length", "3"], "max_length"),
    ],
)
@pytest.mark.usefixtures("no_training")
def test_wrong_input_before_the_first_step(
    bert: Path,
    files: dict[str, Path],
    tmp_path: Path,
    run: Run,
    wrong: list[str],
    problem: str,
) -> None:
    command = ["train", "cross-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    said = refused(run(*replaced(command, wrong), "--out", tmp_path / "out"))
    assert problem in said
    assert list(tmp_path.iterdir()) == []


def test_no_score_at_all(bert: Path, tmp_path: Path) -> None:
    """Weights that are no longer finite are not saved."""
    with pytest.raises(InputError, match="no evaluation had a score"):
        train_cross_encoder(
            [TRAIN],
            DEV,
            tmp_path / "out",
            model=bert,
            settings=TrainingSettings(epochs=1, learning_rate=1e30, warmup=0, evaluations=1),
        )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.training").exists()  # it would refuse a lower learning rate
