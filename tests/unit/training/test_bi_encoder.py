"""Training of bi-encoders: what is learnt, kills, and wrong input."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers import tiny
from helpers.command import Run, refused, replaced
from helpers.trainings import kill, write_pairs
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, Pairs
from embedkit.data.positives import Positives
from embedkit.embedder.card_metadata import add_card_metadata
from embedkit.training.arguments import TrainingSettings
from embedkit.training.bi_encoder import LOSSES, train_bi_encoder
from embedkit.training.cross_encoder import train_cross_encoder

TOPICS = (("man", "woman", "he", "she"), ("dog", "bird", "cat"), ("rain", "sun", "city", "park"))
FILL = ("the", "one", "runs", "reads", "slowly", "plays", "and", "in", "a", "is")


def sentence(generator: np.random.Generator, topic: int) -> str:
    words = [*generator.choice(FILL, 4), *generator.choice(TOPICS[topic], 2)]
    return " ".join(generator.permutation(words))


def make_pairs(name: str, n: int, seed: int) -> Pairs:
    """The score is 1 where both sentences are on one topic, else 0."""
    generator = np.random.default_rng(seed)
    topics = generator.integers(0, 3, (n, 2))
    first, second = ([sentence(generator, topic) for topic in topics[:, i]] for i in (0, 1))
    scores = (topics[:, 0] == topics[:, 1]).astype(float)
    return Pairs.from_columns(name, first, second, scores)


TRAIN, DEV = make_pairs("train", 240, 0), make_pairs("dev", 80, 1)
POSITIVE = TRAIN.scores == 1
POSITIVES = Positives(
    "positive",
    tuple(np.array(TRAIN.sentence1)[POSITIVE].tolist()),
    tuple(np.array(TRAIN.sentence2)[POSITIVE].tolist()),
)
_RANDOM = np.random.default_rng(2)
TRIPLETS = Positives(
    "triplets",
    *(tuple(sentence(_RANDOM, i % 3) for i in range(80)) for _ in range(2)),
    (tuple(sentence(_RANDOM, (i + 1) % 3) for i in range(80)),),
)
FAST = TrainingSettings(epochs=20, learning_rate=1e-3, evaluations=4, device="cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, seed=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """train.tsv, dev.tsv, and nli.tsv with other names of its columns."""
    folder = tmp_path_factory.mktemp("data")
    found = {pairs.name: write_pairs(folder, pairs) for pairs in (TRAIN, DEV)}
    labels = np.where(POSITIVE, "entailment", "neutral")
    rows = zip(labels, TRAIN.sentence1, TRAIN.sentence2, strict=True)
    found["triplets"] = folder / "triplets.jsonl"
    names = ("anchor", "positive", "negative")
    lines = (dict(zip(names, row, strict=True)) for row in zip(*TRIPLETS.columns, strict=True))
    found["triplets"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    found["nli"] = folder / "nli.tsv"
    found["nli"].write_text(
        "\n".join(["label\tpremise\thypothesis", *("\t".join(row) for row in rows)]) + "\n"
    )
    return found


def spearman(embedder: Embedder) -> float:
    """Oracle: scipy, on cosines of our vectors."""
    left, right = (embedder.encode(list(texts)) for texts in (DEV.sentence1, DEV.sentence2))
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(scipy.stats.spearmanr((left * right).sum(1) / norms, DEV.scores).statistic)


def vectors(embedder: Embedder) -> np.ndarray:
    return embedder.encode([*DEV.sentence1, *DEV.sentence2])


@pytest.mark.parametrize("loss", LOSSES)
def test_it_learns(bert: Path, tmp_path: Path, loss: str) -> None:
    before = Embedder.from_pretrained(bert, "mean", device="cpu")
    positives = {"in-batch": POSITIVES, "triplet": TRIPLETS}
    data = [TRAIN] if LOSSES[loss].scored else [positives[loss]]
    trained = train_bi_encoder(
        data,
        DEV,
        tmp_path / "out",
        model=bert,
        recipe="mean",
        loss=loss,
        settings=replace(FAST, epochs=6, learning_rate=3e-3),
    )
    # In a batch, other pairs are of the same topic, and are taken for negatives.
    assert spearman(trained) > spearman(before) + (0.2 if loss == "in-batch" else 0.6)
    again = Embedder.from_pretrained(tmp_path / "out", device="cpu")
    assert str(again.recipe) == "mean"
    assert np.array_equal(vectors(again), vectors(trained))
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert np.allclose(
        theirs.encode(list(DEV.sentence1)), again.encode(list(DEV.sentence1)), atol=1e-5
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- epochs: " in card
    assert "patience" not in card  # which was left unset
    for said in (f"loss: {loss}", "learning_rate: 0.003", f"trained on: {data[0].name} ("):
        assert said in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    quoted = [
        path for path in (tmp_path / "out").rglob("*.md") if TRAIN.sentence1[0] in path.read_text()
    ]
    assert quoted == []  # a model card must not tell the training data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "after"),
    [
        ("cls", "cls"),
        ("mean@1,-1", "mean@1,-1"),
        ("max@-2/normalize", "max/normalize"),  # the layers above are cut off
        ("pooler", "cls/dense"),
        ("cls+mean/normalize", "cls+mean/normalize"),
        ("attention@1,-1", "attention@1,-1"),
        ("mean+attention@mix/normalize", "mean+attention@mix/normalize"),
    ],
)
def test_recipes(bert: Path, tmp_path: Path, recipe: str, after: str) -> None:
    before = Embedder.from_pretrained(bert, recipe, device="cpu").with_initial_weights()
    settings = FAST if recipe == "pooler" else replace(FAST, epochs=12, learning_rate=2e-3)
    trained = train_bi_encoder(
        [TRAIN], DEV, tmp_path / "out", model=bert, recipe=recipe, settings=settings
    )
    assert str(trained.recipe) == after
    assert spearman(trained) > spearman(before) + 0.3
    again = Embedder.from_pretrained(tmp_path / "out", device="cpu")
    assert np.array_equal(vectors(again), vectors(trained))
    for part, weights in (("attention", again.bound.query), ("mix", again.bound.layer_weights)):
        assert (weights is None) == (part not in recipe)
        assert weights is None or np.ptp(weights) > 1e-3  # they begin equal
    theirs = SentenceTransformer(
        str(tmp_path / "out"), device="cpu", trust_remote_code="attention" in recipe
    )
    assert np.allclose(
        theirs.encode(list(DEV.sentence1)), vectors(again)[: len(DEV.scores)], atol=1e-5
    )


def test_a_layer_of_an_encoder_that_is_not_cut(tmp_path: Path) -> None:
    """A WeightedLayerPooling of one layer stands before the attention."""
    folder = tiny.make_model(tmp_path / "albert", "albert", layers=2)
    settings = replace(FAST, epochs=2, learning_rate=1e-3, evaluations=1)
    trained = train_bi_encoder(
        [TRAIN], DEV, tmp_path / "out", model=folder, recipe="attention@1", settings=settings
    )
    assert str(trained.recipe) == "attention@1"
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu", trust_remote_code=True)
    assert np.allclose(theirs.encode(list(DEV.sentence1)), vectors(trained)[:80], atol=1e-5)


SLOW_FAMILIES = [
    pytest.param(x, marks=pytest.mark.slow)
    for x in ("distilbert", "roberta", "electra", "albert", "modernbert")
]


@pytest.mark.parametrize("family", SLOW_FAMILIES)
def test_other_families(tmp_path: Path, family: str) -> None:
    model = tiny.make_model(tmp_path / "model", family, layers=2)
    before = Embedder.from_pretrained(model, "mean", device="cpu")
    trained = train_bi_encoder(
        [TRAIN], DEV, tmp_path / "out", model=model, recipe="mean", loss="cosine", settings=FAST
    )
    assert spearman(trained) > spearman(before) + 0.2


@pytest.mark.slow
def test_prompts_are_trained_with(bert: Path, tmp_path: Path) -> None:
    """An embedder whose default prompt is pooled; without it the texts would be others."""
    start = Embedder.from_pretrained(bert, "mean", prompts={"query": "query: "}, device="cpu")
    start.save_pretrained(tmp_path / "start")
    trained = {
        prompt: train_bi_encoder(
            [TRAIN],
            DEV,
            tmp_path / f"out{len(prompt)}",
            model=tmp_path / "start",
            prompt=prompt,
            settings=replace(FAST, epochs=3),
        )
        for prompt in ("", "query: ")
    }
    assert trained["query: "].settings.prompts == {"query": "query: "}
    assert not np.allclose(vectors(trained[""]), vectors(trained["query: "]), atol=1e-3)
    assert 'prompt: "query: "' in (tmp_path / "out7" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "loss", "batch"),
    [("train", "cosent", 77), ("triplets", "in-batch --matryoshka 32,8", 27)],
)
def test_killed_and_taken_up_again(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run, data: str, loss: str, batch: int
) -> None:
    """The same bits as undisturbed, in the middle of a later epoch."""
    command = ["train", "bi-encoder", files[data], "--dev", files["dev"], "-m", bert]
    command += [
        "--loss",
        *loss.split(),
        "--recipe",
        "pooler" if loss == "cosent" else "attention@mix",
    ]
    command += ["--epochs", 2, "--learning-rate", 1e-4, "--batch-size", 4, "--accumulate", 2]
    command += ["--evaluations", 4, "--device", "cpu"]
    kill(command, tmp_path / "out", batch=batch)
    for name in ("out", "whole"):
        done = run(*command, "--out", tmp_path / name)
        assert done.code == 0, done.err
    again, whole = (
        Embedder.from_pretrained(tmp_path / name, device="cpu") for name in ("out", "whole")
    )
    assert again.fingerprint == whole.fingerprint  # of every weight
    assert np.array_equal(vectors(again), vectors(whole))
    assert not (tmp_path / "out.training").exists()


def test_from_the_command_line(
    bert: Path, files: dict[str, Path], tmp_path: Path, run: Run
) -> None:
    command = ["train", "bi-encoder", files["nli"], "--dev", files["dev"], "-m", bert]
    command += ["--loss", "in-batch", "--sentence1-column", "premise"]
    command += ["--sentence2-column", "hypothesis", "--dev-sentence1-column", "sentence1"]
    command += ["--dev-sentence2-column", "sentence2", "--epochs", 4, "--learning-rate", 1e-3]
    command += ["--evaluations", 2, "--device", "cpu"]
    done = run(*command, "--out", tmp_path / "out")
    assert done.code == 0
    assert "recipe mean: correlations x 100" in done.out
    assert "Saved the model in" in done.err
    assert f"({POSITIVE.sum():,} pairs)" in (tmp_path / "out" / "README.md").read_text()
    said = run(*command, "--out", tmp_path / "out", "--json", "--overwrite").json
    (row,) = (row for row in said["dev"]["results"] if row["metric"] == "spearman")
    expected = spearman(Embedder.from_pretrained(tmp_path / "out", device="cpu"))
    assert row["value"] == pytest.approx(expected, abs=1e-5)
    assert said["recipe"] == "mean"
    before = spearman(Embedder.from_pretrained(bert, "mean", device="cpu"))
    (gain,) = (gain for gain in said["gain"] if gain["metric"] == "spearman")
    assert gain["before"] == pytest.approx(before, abs=1e-5)
    assert gain["difference"]["value"] == pytest.approx(expected - before, abs=1e-5)
    low, high = gain["difference"]["ci95"]
    assert low < gain["difference"]["value"] < high
    assert f"from {100 * gain['before']:.2f} before training to " in done.out
    verdict = said["verdict"]
    assert (verdict["decision"], said["saved"]) == ("improved", True)
    assert verdict["difference"] == gain["difference"]["value"]
    assert verdict["ci95"] == gain["difference"]["ci95"]
    assert " ".join(done.out.split()).startswith(f"{verdict['text']['en']} ")
    assert verdict["text"]["en"].startswith("The bi-encoder improved on dev: Spearman +")
    steps = [row["step"] for row in said["curve"]]
    assert len(steps) == 2
    assert said["curve"][-1]["loss"] < said["curve"][0]["loss"]
    assert max(row["spearman"] for row in said["curve"]) == pytest.approx(expected, abs=1e-5)
    last = said["curve"][-1]
    line = f"step {steps[-1]} of {steps[-1]}: loss {last['loss']:.4f}, spearman "
    assert f"{line}{last['spearman']:.4f}" in done.err
    assert f" [{100 * low:+.2f}, {100 * high:+.2f}], from " in done.out
    pearson = said["gain"][1]
    assert f"dev: pearson {100 * pearson['before']:.2f} before, " in done.out
    assert "chosen on these data, so its scores on them are biased upwards" in done.out


@pytest.mark.slow
def test_only_if_better(bert: Path, files: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """A learning rate of next to nothing changes nothing."""
    command = ["train", "bi-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    command += [
        "--epochs",
        1,
        "--evaluations",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "out",
        "--overwrite",
    ]
    nothing = [*command, "--learning-rate", 1e-12]
    kept = run(*nothing, "--only-if-better")
    assert "; not saved." in " ".join(kept.out.split())
    assert "The model was not saved in" in kept.err
    assert list(tmp_path.iterdir()) == []
    said = run(*nothing, "--only-if-better", "--json").json
    assert (said["saved"], said["verdict"]["decision"]) == (False, "not_improved")
    assert list(tmp_path.iterdir()) == []
    done = run(*nothing, "--lang", "ko")
    assert done.out.startswith("dev에서 바이 인코더 성능이 유의하게 향상되지 않았습니다: Spearman ")
    assert "그래도 모델을 저장했습니다." in " ".join(done.out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    better = replaced(command, ["--learning-rate", "3e-3", "--epochs", "6"])
    done = run(*better, "--only-if-better")
    assert "; saved." in " ".join(done.out.split())
    again = spearman(Embedder.from_pretrained(tmp_path / "out", device="cpu"))
    assert again > spearman(Embedder.from_pretrained(bert, "mean", device="cpu")) + 0.3


def test_the_hub_reads_the_card(bert: Path, tmp_path: Path) -> None:
    """Scores before and after, license and base model of a folder that has them in its card."""
    start = tmp_path / "start"
    Embedder.from_pretrained(bert, "mean", device="cpu").save_pretrained(start)
    add_card_metadata(start, "start", {"license": "mit", "base_model": "klue/bert-base"})
    settings = replace(FAST, epochs=1)
    trained = train_bi_encoder(
        [TRAIN], DEV, tmp_path / "out", model=start, settings=settings, show_progress=False
    )
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.base_model) == ("mit", "klue/bert-base")
    assert card.data.datasets is None
    assert card.data.model_name == "out"
    results = {one.metric_type: one for one in card.data.eval_results}
    first = results["spearman_cosine"]
    after = spearman(trained)
    assert first.metric_value == pytest.approx(after, abs=1e-5)
    assert (first.dataset_name, first.task_type) == ("dev", "semantic-similarity")
    assert first.metric_args["ci95"][0] < after < first.metric_args["ci95"][1]
    assert set(results) == {"spearman_cosine", "pearson_cosine"}
    before = spearman(Embedder.from_pretrained(start, device="cpu"))
    assert f"- on dev: spearman {100 * after:.2f} [" in card.text
    assert f"] ({100 * before:.2f} before training), pearson " in card.text
    outcome = trained.training
    assert outcome is not None
    losses = [f"{row['loss']:.4f} (step {row['step']})" for row in outcome.curve]
    assert f"- training loss: {', '.join(losses)}\n" in card.text
    assert Embedder.from_pretrained(tmp_path / "out").training is None


def test_no_progress_prints_nothing(
    bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = replace(FAST, epochs=1, evaluations=2)
    train_bi_encoder(
        [TRAIN], DEV, tmp_path / "out", model=bert, settings=settings, show_progress=False
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (["--loss", "nll"], "unknown loss 'nll'; choose from cosent, cosine, in-batch, triplet"),
        (
            ["--loss", "triplet"],
            "train has 0 columns of negatives; expected 1, as the loss triplet has",
        ),
        (["--matryoshka", "16 33"], "matryoshka is [16, 33]; expected different whole numbers fro"),
        (["--matryoshka", "16,8,16"], "matryoshka is [16, 8, 16]; expected different"),
        (["--matryoshka", "0"], "matryoshka is [0]; expected different whole numbers from 1 to 32"),
        (["--matryoshka", ""], "matryoshka is []; expected"),
        (["--matryoshka", "16 half"], "--matryoshka is '16 half'; expected whole numbers such as"),
        (["--matryoshka", "32", "8", "33"], "matryoshka is [32, 8, 33]; expected different"),
        (["--recipe", "mean/whiten:4"], "is not fitted"),
        (["--recipe", "middle"], "middle"),
        (["--positive", "1"], "the loss cosent learns from scores"),
        (["--loss", "in-batch", "--label-column", "gold"], "gold"),
        (["--loss", "in-batch", "--label-range", "0 1"], "the loss in-batch has no labels"),
        (["--label-range", "0 0.5"], "expected 0 to 0.5, the declared range"),
        (["--label-range", "5 0"], "expected two numbers such as '0 5', the lower one first"),
        (["--evaluations", "0"], "evaluations is 0; expected a whole number from 1"),
        (["--dev", "absent.tsv"], "absent.tsv"),
        (["--lang", "de"], "unknown language 'de'; choose from en, ko"),
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
    command = ["train", "bi-encoder", files["train"], "--dev", files["dev"], "-m", bert]
    assert problem in refused(run(*replaced(command, wrong), "--out", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_data_of_the_wrong_kind(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="positive is Positives; the loss cosent learns from Pairs"
    ):
        train_bi_encoder([POSITIVES], DEV, tmp_path / "out", model=bert)
    with pytest.raises(InputError, match="train is Pairs; the loss in-batch learns from Positives"):
        train_bi_encoder([TRAIN], DEV, tmp_path / "out", model=bert, loss="in-batch")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"data": TRAIN}, "data is one Pairs; expected a list of Pairs or Positives"),
        ({"data": ["train.tsv"]}, "data is 'train.tsv'; expected Pairs or Positives"),
        ({"dev": "dev.tsv"}, "dev is 'dev.tsv'; expected Pairs"),
        ({"settings": {"epochs": 1}}, "settings is {'epochs': 1}; expected TrainingSettings"),
        ({"matryoshka": 16}, "matryoshka is one int; expected a list of dimensions"),
    ],
)
def test_arguments_of_another_type(bert: Path, changed: dict[str, Any], problem: str) -> None:
    arguments: dict[str, Any] = {"data": [TRAIN], "dev": DEV, "out": "out", "model": bert}
    with pytest.raises(InputError, match=re.escape(problem)):
        train_bi_encoder(**{**arguments, **changed})
    if "matryoshka" not in changed:
        with pytest.raises(InputError, match=re.escape(problem.removesuffix(" or Positives"))):
            train_cross_encoder(**{**arguments, **changed})


def test_sets_with_other_negatives(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="triplets has 1 columns of negatives; expected 0, as pos"):
        train_bi_encoder([POSITIVES, TRIPLETS], DEV, tmp_path / "out", model=bert, loss="in-batch")


def test_matryoshka(bert: Path, files: dict[str, Path], tmp_path: Path, run: Run) -> None:
    """Oracles: sentence-transformers' truncate_dim with scipy, and `truncate:N` in a recipe."""
    command = ["train", "bi-encoder", files["triplets"], "--dev", files["dev"], "-m", bert]
    command += ["--loss", "in-batch", "--matryoshka", 4, 32, 16, "--device", "cpu"]
    command += ["--learning-rate", 3e-3, "--evaluations", 1, "--out", tmp_path / "out"]
    rows = run(*command, "--epochs", 8, "--json").json["matryoshka"]
    assert [row["dimension"] for row in rows] == [4, 32, 16]
    card = (tmp_path / "out" / "README.md").read_text()
    for row in rows:
        size = row["dimension"]
        for when, folder in (("before", bert), ("after", tmp_path / "out")):
            recipe = f"mean/truncate:{size}/normalize"
            ours = Embedder.from_pretrained(folder, recipe, device="cpu")
            assert spearman(ours) == pytest.approx(row[when], abs=1e-4)
            theirs = SentenceTransformer(str(folder), device="cpu", truncate_dim=size)
            left, right = (theirs.encode(list(x)) for x in (DEV.sentence1, DEV.sentence2))
            norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            value = scipy.stats.spearmanr((left * right).sum(1) / norms, DEV.scores).statistic
            assert value == pytest.approx(row[when], abs=1e-4)
        assert row["difference"]["value"] == pytest.approx(row["after"] - row["before"])
        assert row["after"] > row["before"] + 0.2
        assert f"| {size} | {100 * row['before']:.2f} | {100 * row['after']:.2f} | +" in card
    table = run(*command, "--epochs", 1, "--overwrite", "--lang", "ko").out
    assert re.search(rf"차원 +학습 전 +학습 후.*\n.*\n +4 +{100 * rows[0]['before']:.2f} ", table)
