"""The examples as a user runs them, on small data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import tiny
from helpers.command import Run
from helpers.paths import ROOT
from sentence_transformers import SentenceTransformer

from embedkit import Embedder
from embedkit.data.builtin import SHIPPED

EXAMPLES = ROOT / "examples"
Example = Callable[..., list[str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_bert(tmp_path_factory.mktemp("bert"), layers=2, width=16)


@pytest.fixture
def example(run_script: Run) -> Example:
    """The lines that an example prints."""

    def call(name: str, *arguments: object) -> list[str]:
        done = run_script(EXAMPLES / name, *arguments)
        assert done.code == 0, done.err
        return done.out.splitlines()

    return call


def test_similarity_search_over_a_csv(example: Example, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "docs.csv"
    texts = [*tiny.TEXTS[:3], *tiny.TEXTS[4:7]]  # without commas, which CSV quotes
    path.write_text("text\n" + "".join(f'"{text}"\n' for text in texts), encoding="utf-8")
    printed = example("similarity_search.py", path, texts[4], "--model", model)
    assert printed[:2] == ["6 rows: 6 encoded, 0 kept", f"1.000  row 4: {texts[4]}"]
    assert len(printed) == 4
    again = example("similarity_search.py", path, texts[0], "--model", model)
    assert again[:2] == ["6 rows: 0 encoded, 6 kept", f"1.000  row 0: {texts[0]}"]


def test_scoring_a_file_of_pairs(example: Example, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2\na cat,a dog\nrain,rain\n", encoding="utf-8")
    embedder = Embedder.from_pretrained(model, device="cpu")
    cosine = embedder.similarity(["a cat"], ["a dog"])[0, 0]
    assert example("score_pairs.py", path, "--model", model) == [
        "1.000  rain | rain",
        f"{cosine:.3f}  a cat | a dog",
    ]


def test_comparing_poolings_and_keeping_the_best(
    example: Example, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.tsv"
    rows = [
        (a, b, n * 7 % 5) for n, (a, b) in enumerate(zip(tiny.TEXTS, tiny.TEXTS[1:], strict=False))
    ]
    path.write_text(
        "sentence1\tsentence2\tscore\n" + "".join(f"{a}\t{b}\t{s}\n" for a, b, s in rows),
        encoding="utf-8",
    )
    saved = tmp_path / "saved"
    printed = example("compare_klue.py", path, "--model", model, "--save", saved)
    for recipe in ("cls", "pooler", "mean", "max", "mean@1,-1", "mean@1", "cls+mean"):
        assert any(f" {recipe} " in f" {line} " for line in printed), recipe
    best = printed[-1].split()[1]
    assert printed[-1] == f"Saved {best} in {saved}."
    vectors = Embedder.from_pretrained(model, best, device="cpu").encode(tiny.TEXTS)
    theirs = SentenceTransformer(str(saved), device="cpu").encode(list(tiny.TEXTS))
    assert abs(vectors - theirs).max() < 1e-5


@pytest.mark.parametrize("recipe", ["attention/normalize", "mean@mix"])
def test_finetuning_with_a_pooling(
    example: Example, model: Path, tmp_path: Path, recipe: str
) -> None:
    path = tmp_path / "pairs.tsv"
    shipped = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(shipped[:41]), encoding="utf-8")
    printed = example("finetune_with_pooling.py", model, recipe, path, "3e-3")
    errors = [float(line.split()[-1]) for line in printed]
    assert [line.split(":")[0] for line in printed] == ["epoch 1", "epoch 2", "epoch 3"]
    assert errors[2] < 0.8 * errors[0]


def test_the_loss_and_what_the_classifier_reads(example: Example) -> None:
    assert example("regression_loss.py") == [
        "BertForSequenceClassification, logits (2, 1)",
        "is its loss MSELoss(logits, labels)? True",
        "does its classifier read tanh(W cls + b)? True",
        "with reads='cls', does it read cls? True",
    ]


def test_a_model_without_pooler_is_refused_in_a_sentence(run_script: Run, tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path / "bert", pooler=False)
    done = run_script(EXAMPLES / "regression_loss.py", folder)
    assert done.code == 1
    assert "finds no weights there for bert.pooler.dense.bias" in done.err


def test_cls_or_pooler_answers_in_ten_lines(example: Example, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    shipped = SHIPPED["first_look"].read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(shipped[:41]), encoding="utf-8")
    lines = example("cls_or_pooler.py", "minilm", path)
    assert len(lines) <= 10
    printed = "\n".join(lines)
    assert "cls    (80, 384)" in printed
    assert "the same? False" in printed
    assert "is the pooler tanh(W cls + b)? True" in printed


def test_cls_or_pooler_says_when_there_is_no_such_model(run_script: Run) -> None:
    done = run_script(EXAMPLES / "cls_or_pooler.py", "./nowhere")
    assert done.code == 1
    assert done.err.startswith("error: model './nowhere': there is no such folder")


def test_a_grid_search_over_recipes(
    example: Example, run_script: Run, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.tsv"
    pairs = [(a, b) for a in tiny.TEXTS[:6] for b in tiny.TEXTS[:6]]
    rows = [f"{a}\t{b}\t{'same' if a == b else 'other'}\n" for a, b in pairs]
    path.write_text("sentence1\tsentence2\tlabel\n" + "".join(rows), encoding="utf-8")
    options = ("--label", "label", "--model", model, "--recipes", "mean", "cls", "mean/pca:2")
    printed = example("grid_search.py", path, path, *options)
    assert printed[0] == "36 pairs, 3 folds"
    table = {line.split("`")[1]: float(line.split("|")[2]) for line in printed[4:7]}
    assert table.keys() == {"mean", "cls", "mean/pca:2"}
    assert list(table.values()) == sorted(table.values(), reverse=True)
    assert min(table.values()) >= 83.3  # that of the most frequent label
    assert printed[-1].endswith("the most frequent label 83.3")
    done = run_script(EXAMPLES / "grid_search.py", path, path, "--model", model)
    assert done.code == 2
    columns = "sentence1, sentence2, label"
    assert done.err == f"error: {path}: has no column 'entailment', only {columns}\n"


def test_rag_with_langchain_is_offline(example: Example, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("langchain_core", reason="not installed: langchain-core")
    folder = tmp_path / "texts"
    folder.mkdir()
    texts = [text for text in tiny.TEXTS if text.strip()][:6]
    for name in ("one.md", "two.txt"):
        own = texts[:3] if name == "one.md" else texts[3:]
        (folder / name).write_text("\n\n".join(own), encoding="utf-8")
    printed = example("rag_langchain.py", folder, texts[4], "--model", model)
    assert printed[0] == "6 paragraphs"
    assert f"[two.txt#2] {texts[4]}" == next(line for line in printed if line.startswith("["))
    assert printed[-3:] == [
        f"Question: {texts[4]}",
        "",
        "(here answers the chat model that you choose)",
    ]
    (folder / "one.md").write_text("a new paragraph", encoding="utf-8")
    where = ("--where", "source = 'one.md' AND paragraph = 1")
    again = example("rag_langchain.py", folder, texts[4], "--model", model, *where)
    assert [line for line in again if line.startswith("[")] == ["[one.md#1] a new paragraph"]
    again = example("rag_langchain.py", folder, texts[1], "--model", model)
    assert not any(texts[1] in line for line in again if line.startswith("["))  # it is gone
