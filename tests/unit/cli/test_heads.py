"""`train head`, `score`, and heads in `compare` and `evaluate`, from the command line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from helpers import tiny
from helpers.command import Run, refused
from huggingface_hub import ModelCard
from numpy.typing import NDArray
from sklearn.metrics import f1_score, mean_squared_error
from sklearn.model_selection import KFold

from embedkit import Embedder, PairRegressor, Pairs, evaluate, load_head, save_head
from embedkit.scoring.cross_encoder import CrossEncoder

FIRST = ("a man", "the cat", "two birds", "she", "he")
SECOND = ("a woman", "the dog", "rain")
PAIRS = [
    (f"{first} {verb}", f"{second} {verb} slowly")
    for first in FIRST
    for second in SECOND
    for verb in ("runs", "eats")
]
SCORES = np.random.default_rng(5).uniform(0, 5, len(PAIRS)).round(1)
DEV = [(f"{first} reads", f"{second} plays") for first in FIRST for second in SECOND]
DEV_SCORES = np.random.default_rng(6).uniform(0, 5, len(DEV)).round(1)
CELLS = [{"id": f"n{i}", "sentence1": a, "sentence2": b} for i, (a, b) in enumerate(DEV)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16, seed=4)


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Embedder:
    return Embedder.from_pretrained(bert, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv and dev.tsv."""
    folder = tmp_path_factory.mktemp("data")
    for name, pairs, scores in (("train", PAIRS, SCORES), ("dev", DEV, DEV_SCORES)):
        rows = [f"{a}\t{b}\t{score}" for (a, b), score in zip(pairs, scores, strict=True)]
        text = "\n".join(["sentence1\tsentence2\tscore", *rows, ""])
        (folder / f"{name}.tsv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "head"
    save_head(PairRegressor(embedder).fit(PAIRS, SCORES), folder)
    return folder


def vectors_of(embedder: Embedder, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    return np.stack([embedder.encode([pair[side] for pair in pairs]) for side in (0, 1)], axis=1)


def expected_of(predictions: NDArray[Any], threshold: float | None = None) -> dict[str, float]:
    """Metrics of predictions for the dev pairs."""
    found = {
        "spearman": scipy.stats.spearmanr(predictions, DEV_SCORES).statistic,
        "pearson": scipy.stats.pearsonr(predictions, DEV_SCORES).statistic,
        "mse": mean_squared_error(DEV_SCORES, predictions),
    }
    if threshold is not None:
        found["f1"] = f1_score(threshold <= DEV_SCORES, predictions >= threshold)
    return {metric: float(value) for metric, value in found.items()}


def values(report: dict[str, Any], **only: str) -> dict[str, float]:
    rows = [r for r in report["results"] if all(r[key] == want for key, want in only.items())]
    return {row["metric"]: row["value"] for row in rows}


# train head


@pytest.mark.parametrize("kind", ["ridge", "mlp", "isotonic"])
def test_train_head(kind: str, run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        *("train", "head", data / "train.tsv", "-m", bert, "--recipe", "mean@1"),
        *("--head", kind, "--seed", 3, "--dev", data / "dev.tsv", "--out", out, "--json"),
    )
    by_hand = PairRegressor(
        Embedder.from_pretrained(bert, "mean@1", device="cpu"), head=kind, seed=3
    ).fit(PAIRS, SCORES)
    expected = by_hand.predict(DEV)
    np.testing.assert_allclose(load_head(out, device="cpu").predict(DEV), expected, atol=1e-4)
    assert (done.json["schema"], done.json["head"]) == (1, kind)
    assert done.json["recipe"] == "mean@1"
    assert values(done.json["dev"]) == pytest.approx(expected_of(expected), abs=1e-3)
    card = (out / "README.md").read_text()
    assert f"- head: {kind}\n" in card
    assert "- trained on: train (30 pairs)\n" in card
    assert f"- predictions are clipped to {SCORES.min():g} to {SCORES.max():g}\n" in card
    spearman = values(done.json["dev"])["spearman"]
    cosine = scipy.stats.spearmanr(
        Embedder.from_pretrained(bert, "mean@1", device="cpu")
        .similarity([a for a, _ in DEV], [b for _, b in DEV])
        .diagonal(),
        DEV_SCORES,
    ).statistic
    assert f"- on dev: spearman {100 * spearman:.2f} [" in card
    assert f"] ({100 * cosine:.2f} by the cosine), pearson " in card
    verdict = done.json["verdict"]
    assert verdict["before"] == pytest.approx(cosine, abs=1e-4)
    assert verdict["difference"] == pytest.approx(spearman - cosine, abs=1e-4)
    on_hub = {one.metric_type: one for one in ModelCard.load(out / "README.md").data.eval_results}
    assert {name: one.metric_value for name, one in on_hub.items()} == values(done.json["dev"])
    assert {one.dataset_name for one in on_hub.values()} == {"dev"}


def test_train_head_prints_a_table(run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    done = run(
        *("train", "head", data / "train.tsv", "-m", bert, "--out", tmp_path / "out"),
        *("--features", "cosine |u-v|", "--label-range", "0 5", "--dev", data / "dev.tsv"),
    )
    assert done.code == 0, done.err
    assert "mse" in done.out
    assert done.out.startswith("The head ")
    assert f"Saved the head in {tmp_path / 'out'}" in done.err
    loaded = load_head(tmp_path / "out", device="cpu")
    assert (loaded.features_, loaded.range_) == (("|u-v|", "cosine"), (0, 5))


def test_train_head_without_dev_is_cross_validated(
    run: Run, bert: Path, data: Path, tmp_path: Path
) -> None:
    """In the terminal, in JSON and in the card; all pairs with one verb are connected."""
    command = ("train", "head", data / "train.tsv", "-m", bert, "--out", tmp_path / "out")
    done = run(*command, "--json").json
    assert refused(run(*command)) == (
        f"--out: {tmp_path / 'out'} exists; expected a new path, or --overwrite to replace it"
    )
    command = (*command, "--overwrite")
    scores = values(done["cross_validation"])
    predictions = np.empty(30)
    for learnt, predicted in KFold(5, shuffle=True, random_state=0).split(PAIRS):
        head = PairRegressor(Embedder.from_pretrained(bert, device="cpu"))
        head.fit([PAIRS[row] for row in learnt], SCORES[learnt])
        predictions[predicted] = head.predict([PAIRS[row] for row in predicted])
    assert scores["mse"] == pytest.approx(mean_squared_error(SCORES, predictions), abs=1e-3)
    assert done["dev"] is None
    assert done["verdict"]["dataset"] == "train (cross-validated)"
    note = "Scored by 5-fold cross-validation on the training pairs; the folds share sentences"
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"- scores: {note}" in card
    assert f"- on train (cross-validated): spearman {100 * scores['spearman']:.2f} [" in card
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    assert {one.metric_type: one.metric_value for one in results} == scores
    said = run(*command).out
    assert note in said
    assert f"{100 * scores['spearman']:.2f}" in said
    korean = run(*command, "--lang", "ko").out
    assert "학습용 문장 쌍을 5겹 교차 검증하여" in korean
    assert korean.startswith("train (cross-validated)에서 헤드 성능이 ")


def test_train_head_on_two_files(run: Run, bert: Path, data: Path, tmp_path: Path) -> None:
    files = (data / "train.tsv", data / "dev.tsv")
    done = run("train", "head", *files, "-m", bert, "--out", tmp_path / "out", "--json")
    assert done.json["notes"]["trained on"] == "train (30 pairs), dev (15 pairs)"
    assert done.json["dev"] is None
    assert done.json["cross_validation"]["results"][0]["n"] == 45
    by_hand = PairRegressor(Embedder.from_pretrained(bert, device="cpu"))
    by_hand.fit(PAIRS + DEV, np.concatenate([SCORES, DEV_SCORES]))
    found = load_head(tmp_path / "out", device="cpu").predict(DEV)
    np.testing.assert_allclose(found, by_hand.predict(DEV), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--head", "rigde"), "unknown head 'rigde'; choose from ridge, mlp, isotonic"),
        (("--features", "u-v"), "unknown feature 'u-v'; choose from"),
        (("--features", ""), "features is []; expected some of"),
        (("--head", "isotonic", "--features", "u*v"), "an isotonic head calibrates the cosine"),
        (("--label-range", "0"), "--label-range is '0'; expected two numbers such as '0 5'"),
        (("--label-range", "0 3"), "expected 0 to 3, the declared range"),
        (
            ("--label-range", "nan 5"),
            "--label-range is 'nan 5'; expected two numbers such as '0 5'",
        ),
        (("--recipe", "maen"), "unknown pooling 'maen' (did you mean mean?)"),
        (("--dev", "nowhere.tsv"), "nowhere.tsv"),
        (("--lang", "de"), "unknown language 'de'; choose from en, ko"),
        (("--score-column", "label"), "expected 'label' among them"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_train_head_refuses_before_a_model_is_loaded(
    options: tuple[str, ...], message: str, run: Run, data: Path, tmp_path: Path
) -> None:
    done = run("train", "head", data / "train.tsv", "--out", tmp_path / "out", *options)
    assert message in refused(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
def test_train_head_keeps_a_folder_that_is_not_its_own(
    run: Run, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    done = run("train", "head", data / "train.tsv", "--out", tmp_path)
    assert "embedkit did not write" in refused(done)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("no_model")
def test_train_head_refuses_too_few_pairs(run: Run, data: Path, tmp_path: Path) -> None:
    lines = (data / "train.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "few.tsv").write_text("".join(lines[:10]))
    done = run("train", "head", tmp_path / "few.tsv", "--out", tmp_path / "out")
    assert "at least 10" in refused(done)


# score


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text_file = io.StringIO()
        delimiter = "," if name.endswith(".csv") else "\t"
        writer = csv.DictWriter(text_file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = text_file.getvalue()
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    return parsed(path.name, gzip.decompress(content) if path.suffix == ".gz" else content)


def parsed(name: str, content: bytes) -> list[dict[str, Any]]:
    name = name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return pq.read_table(pa.BufferReader(content)).to_pylist()
    text = content.decode()
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    delimiter = "," if name.endswith(".csv") else "\t"
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    return [row | {"prediction": float(row["prediction"])} for row in rows]


def check(rows: list[dict[str, Any]], expected: NDArray[Any], atol: float = 1e-4) -> None:
    """Each row is the input's, in its order of columns, with its prediction."""
    assert [list(row) for row in rows] == [["id", "sentence1", "sentence2", "prediction"]] * 15
    kept = [{key: row[key] for key in CELLS[0]} for row in rows]
    assert kept == CELLS
    np.testing.assert_allclose([row["prediction"] for row in rows], expected, atol=atol)


SUFFIXES = ("tsv", "csv", "jsonl", "parquet", "tsv.gz", "csv.gz", "jsonl.gz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_score_a_file_by_a_head(suffix: str, run: Run, head: Path, tmp_path: Path) -> None:
    out = tmp_path / f"scored.{suffix}"
    source = write(tmp_path / f"pairs.{suffix}", CELLS)
    done = run("score", source, "-m", head, "--out", out)
    assert (done.code, done.out) == (0, "")
    assert f"Scored 15 pairs in {out}." in done.err
    check(read(out), load_head(head, device="cpu").predict(DEV))


@pytest.mark.parametrize("source", ["tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("target", ["csv.gz", "jsonl", "parquet"])
def test_the_outs_name_says_its_format(
    source: str, target: str, run: Run, head: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"scored.{target}"
    assert run("score", write(tmp_path / f"p.{source}", CELLS), "-m", head, "--out", out).code == 0
    check(read(out), load_head(head, device="cpu").predict(DEV))


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "tsv.gz"])
def test_scores_go_to_stdout_in_the_inputs_format(
    suffix: str, run: Run, head: Path, tmp_path: Path
) -> None:
    done = run("score", write(tmp_path / f"pairs.{suffix}", CELLS), "-m", head)
    assert done.code == 0, done.err
    check(parsed(f".{suffix}", done.out.encode()), load_head(head, device="cpu").predict(DEV))


def test_parquet_goes_to_stdout_as_json(run: Run, head: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.parquet", CELLS)
    done = run("score", source, "-m", head, "--json")
    check(parsed(".jsonl", done.out.encode()), load_head(head, device="cpu").predict(DEV))


def test_score_by_a_plain_model_is_the_cosine(
    run: Run, bert: Path, embedder: Embedder, tmp_path: Path
) -> None:
    source = write(tmp_path / "pairs.tsv", CELLS)
    done = run("score", source, "-m", bert, "--json")
    matrix = embedder.similarity([a for a, _ in DEV], [b for _, b in DEV])
    check(parsed(".jsonl", done.out.encode()), matrix.diagonal(), atol=1e-6)
    done = run("score", source, "-m", bert, "--json", "--prompt", "query: ")
    prompted = [[f"query: {pair[side]}" for pair in DEV] for side in (0, 1)]
    expected = embedder.similarity(*prompted).diagonal()
    check(parsed(".jsonl", done.out.encode()), expected, atol=1e-6)


def test_chunks_are_one_file(
    run: Run, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.cli.score._CHUNK", 4)
    source = write(tmp_path / "pairs.csv", CELLS)
    assert run("score", source, "-m", head, "--out", tmp_path / "scored.csv").code == 0
    check(read(tmp_path / "scored.csv"), load_head(head, device="cpu").predict(DEV))


def test_parquet_keeps_its_types(run: Run, head: Path, tmp_path: Path) -> None:
    rows = [row | {"weight": i} for i, row in enumerate(CELLS)]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(3, "weight", table["weight"].cast(pa.int8()))
    pq.write_table(table, tmp_path / "pairs.parquet")
    out = tmp_path / "scored.parquet"
    assert run("score", tmp_path / "pairs.parquet", "-m", head, "--out", out).code == 0
    found = pq.read_table(out)
    assert found.schema.field("weight").type == pa.int8()
    assert found.schema.field("prediction").type == pa.float64()
    assert found["weight"].to_pylist() == list(range(15))


def test_other_column_names(run: Run, head: Path, tmp_path: Path) -> None:
    rows = [{"sentence2": "kept", "left": a, "right": b} for a, b in DEV]
    source = write(tmp_path / "pairs.jsonl", rows)
    columns = ("--sentence1-column", "left", "--sentence2-column", "right")
    done = run("score", source, "-m", head, *columns)
    found = parsed(".jsonl", done.out.encode())
    assert [{**row, "prediction": None} for row in found] == [
        {**row, "prediction": None} for row in rows
    ]
    np.testing.assert_allclose(
        [row["prediction"] for row in found],
        load_head(head, device="cpu").predict(DEV),
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{**row, "prediction": 1} for row in CELLS],
            (),
            "'prediction' already, which would",
        ),
        ([*CELLS, {**CELLS[0], "prediction": 1}], (), "row 16"),
        ([*CELLS, {**CELLS[0], "sentence2": None}], (), "row 16"),
        ([*CELLS, {"sentence1": "a", "id": "x"}], (), "row 16"),
        ([*CELLS, {**CELLS[0], "more": 1}], ("--out", "scored.csv"), "row 16 (line 16): got colum"),
        ([{"sentence1": "a"}], (), "'sentence2'"),
        ([], (), "expected rows"),
        (CELLS, ("--sentence1-column", "left"), "'left'"),
        (CELLS, ("--out", "scored.xlsx"), "scored.xlsx: got an unknown suffix"),
        (CELLS, ("--out", "scored.tsv", "--json"), "got --json and --out"),
        (CELLS, ("--out", "scored.parquet.gz"), "scored.parquet.gz"),
    ],
)
@pytest.mark.usefixtures("no_model")
def test_score_refuses_before_a_model_is_loaded(
    rows: list[dict[str, Any]],
    options: tuple[str, ...],
    message: str,
    run: Run,
    head: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "pairs.jsonl", rows)
    assert message in refused(run("score", source, "-m", head, *options))
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.usefixtures("no_forward")
def test_parquet_is_not_for_stdout(run: Run, head: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.parquet", CELLS)
    assert "Parquet cannot be printed" in refused(run("score", source, "-m", head))


def test_a_prompt_is_not_for_heads(run: Run, head: Path, data: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.tsv", CELLS)
    message = "got a prompt for a head; it uses the one that it was trained with"
    assert "got a prompt for a head" in refused(run("score", source, "-m", head, "--prompt", "q"))
    assert refused(run("evaluate", data / "dev.tsv", "-m", head, "--prompt", "a")) == message


def test_a_damaged_head_is_one_sentence(run: Run, head: Path, tmp_path: Path) -> None:
    shutil.copytree(head, tmp_path / "copy")
    (tmp_path / "copy" / "head.skops").write_bytes(b"PK")
    source = write(tmp_path / "pairs.tsv", CELLS)
    assert "head.skops: is not the estimator that head.json describes" in refused(
        run("score", source, "-m", tmp_path / "copy")
    )


# compare and evaluate


def test_compare_fits_each_recipe_a_head(run: Run, bert: Path, data: Path) -> None:
    recipes = ("mean", "cls@1", "pooler")
    report = run(
        *("compare", data / "dev.tsv", "-m", bert, "--recipes", " ".join(recipes), "--json"),
        *("--head", "ridge", "--train", data / "train.tsv", "--threshold", 3),
    ).json
    best = {}
    for recipe in recipes:
        embedder = Embedder.from_pretrained(bert, recipe, device="cpu")
        train, dev = vectors_of(embedder, PAIRS), vectors_of(embedder, DEV)
        predictions = PairRegressor().fit(train, SCORES).predict(dev)
        cosines = [embedder.similarity(both[:, 0], both[:, 1]).diagonal() for both in (train, dev)]
        line = np.polyval(np.polyfit(cosines[0], SCORES, 1), cosines[1])
        line = line.clip(SCORES.min(), SCORES.max())
        of_head, of_line = expected_of(predictions, 3), expected_of(line, 3)
        found = values(report, recipe=recipe, similarity="head")
        assert found == pytest.approx(of_head, abs=1e-3)
        assert values(report, recipe=recipe, similarity="line") == pytest.approx(of_line, abs=1e-3)
        expected = expected_of(cosines[1])["spearman"]
        of_cosine = values(report, recipe=recipe, similarity="cosine")
        assert of_cosine.keys() == {"spearman", "pearson"}
        assert of_cosine["spearman"] == pytest.approx(expected, abs=1e-3)
        for row in report["results"]:
            if (row["recipe"], row["similarity"]) == (recipe, "head"):
                of_row = row["difference"]
                expected = of_head[row["metric"]] - of_line[row["metric"]]
                assert of_row["to"] == "line"
                assert of_row["value"] == pytest.approx(expected, abs=2e-3)
                if of_row["ci95"] is None:  # a few pairs: some resamples have no F1 score
                    assert row["metric"] == "f1"
                    assert of_row["reason"] == "some resamples have no value"
                else:
                    assert of_row["ci95"][0] <= of_row["value"] <= of_row["ci95"][1]
            else:
                assert row["similarity"] == "head" or "difference" not in row
        best[recipe] = of_head["spearman"]
    assert report["decided_by"] == "head"
    assert report["best"] == max(best, key=best.__getitem__)


def test_compare_prints_heads(run: Run, bert: Path, data: Path) -> None:
    options = ("--head", "isotonic", "--train", data / "train.tsv")
    done = run("compare", data / "dev.tsv", "-m", bert, "--recipes", "mean max", *options)
    assert done.code == 0, done.err
    for by in ("cosine", "line", "head"):
        assert len([line for line in done.out.splitlines() if f" {by} " in line]) >= 2, by
    assert "mse" in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--head", "ridge"), "head and train go together"),
        (("--train", "train.tsv"), "head and train go together"),
        (("--head", "rigde", "--train", "train.tsv"), "unknown head 'rigde'; choose from ridge"),
        (("--head", "ridge", "--train", "nowhere.tsv"), "nowhere.tsv"),
        (("--threshold", "3"), "threshold was given without a head"),
        (("--head", "ridge", "--train", "train.tsv", "--save-best", "x"), "--head and --save-best"),
    ],
)
@pytest.mark.usefixtures("no_forward")
def test_compare_refuses_before_anything_is_encoded(
    options: tuple[str, ...],
    message: str,
    run: Run,
    bert: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    assert message in refused(run("compare", "dev.tsv", "-m", bert, *options))


def test_evaluate_a_head(run: Run, head: Path, data: Path) -> None:
    report = run("evaluate", data / "dev.tsv", "-m", head, "--threshold", 3, "--json").json
    expected = expected_of(load_head(head, device="cpu").predict(DEV), 3)
    assert values(report) == pytest.approx(expected, abs=1e-4)
    assert {row["similarity"] for row in report["results"]} == {"head"}
    assert {row["n"] for row in report["results"]} == {15}


def test_a_similarity_is_not_for_heads(run: Run, head: Path, data: Path) -> None:
    done = run("evaluate", data / "dev.tsv", "-m", head, "--similarity", "dot")
    assert "similarity" in refused(done)  # silently left out, a user would believe it


@pytest.mark.slow
def test_heads_on_real_pairs(run: Run, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    lines = shared_data("sts_en/stsb_train.tsv").read_text(encoding="utf-8").splitlines(True)
    train = tmp_path / "train.tsv"
    train.write_text("".join(lines[:1501]), encoding="utf-8")
    report = run(
        *("compare", shared_data("sts_en/stsb_dev.tsv"), "--recipes", "mean mean@3 pooler"),
        *("--head", "ridge", "--train", train, "--json"),
    ).json
    found = {
        (row["recipe"], row["similarity"]): row["value"]
        for row in report["results"]
        if row["metric"] == "spearman"
    }
    for recipe in ("mean@3", "pooler"):
        assert found[recipe, "head"] > found[recipe, "cosine"], recipe
    assert found["mean", "cosine"] == pytest.approx(0.8672, abs=5e-3)


@pytest.fixture
def unit_dev(data: Path, tmp_path: Path) -> Path:
    """The dev pairs with labels from 0 to 1."""
    lines = (data / "dev.tsv").read_text().splitlines()
    rows = [line.rpartition("\t")[::2] for line in lines[1:]]
    path = tmp_path / "unit.tsv"
    path.write_text("\n".join([lines[0], *(f"{a}\t{float(b) / 5}" for a, b in rows), ""]))
    return path


def on_another_scale(low: float, high: float) -> str:
    unit = DEV_SCORES / 5
    return (
        f"The labels of unit range from {unit.min():g} to {unit.max():g}, the training labels from "
        f"{low:g} to {high:g}. If their scales differ, MSE and F1 are meaningless; only the "
        "correlations are valid."
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_scales_labels_on_another_scale_are_told(
    as_json: bool, run: Run, bert: Path, data: Path, head: Path, unit_dev: Path, tmp_path: Path
) -> None:
    note = on_another_scale(SCORES.min(), SCORES.max())
    train, more = data / "train.tsv", ["--json"] * as_json
    commands = (
        [
            "train",
            "head",
            train,
            "-m",
            bert,
            "--dev",
            unit_dev,
            "--out",
            tmp_path / "head",
            "--overwrite",
        ],
        ["evaluate", unit_dev, "-m", head],
        ["compare", unit_dev, "-m", bert, "--recipes", "mean", "--head", "ridge", "--train", train],
    )
    for command in commands:
        done = run(*command, *more)
        assert done.code == 0
        assert f"warning: {note}\n" in done.err
        if as_json:
            report = done.json["dev"] if command[0] == "train" else done.json
            assert note in report["notes"]
        else:
            assert note in " ".join(done.out.split())
        same = run(*(data / "dev.tsv" if part == unit_dev else part for part in command), *more)
        assert (same.code, "warning" in same.err) == (0, False)


def test_scales_a_cross_encoder_tells_labels_on_another_scale(bert: Path, unit_dev: Path) -> None:
    for low, high, notes in ((0, 5, [on_another_scale(0, 5)]), (0, 1, [])):
        model = CrossEncoder.untrained(bert, "mean", (low, high))
        assert evaluate(model, unit_dev, show_progress=False).warnings == notes


@pytest.mark.parametrize(
    ("labels", "trained", "told"),
    [
        ((0, 5), (0, 5), False),
        ((0.2, 4.6), (0, 5), False),
        ((1, 4), (0, 5), False),
        ((0, 1), (0, 5), True),
        ((0, 5), (0, 1), True),
        ((1, 5), (0, 4), False),
        ((0, 100), (0, 5), True),
        ((-1, 1), (0, 1), True),
        ((0, 1e-3), (0, 1e-3), False),
    ],
)
def test_scales_ranges_are_apart_by_a_quarter_of_the_wider_one(
    labels: tuple[float, float], trained: tuple[float, float], told: bool, embedder: Embedder
) -> None:
    scores = np.linspace(*trained, len(PAIRS))
    regressor = PairRegressor(embedder).fit(PAIRS, scores)
    firsts, seconds = zip(*DEV, strict=True)
    dev = Pairs.from_columns("dev", firsts, seconds, np.linspace(*labels, len(DEV)))
    report = evaluate(regressor, dev, show_progress=False)
    assert bool(report.warnings) == told
    assert ("정답 점수의 범위" in " ".join(report.notes_in("ko"))) == told
