"""Positive pairs and hard negatives: which columns are read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import InputError
from embedkit.data.positives import PositiveColumns, Positives, read_positives


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_positives(tmp_path: Path) -> None:
    nli = write(
        tmp_path / "nli.csv",
        'label,sentence1,sentence2\nentailment,"a, b",한국어\nneutral,c,d\nentailment,e,f\n',
    )
    found = read_positives(nli)
    assert (found.name, found.sentence1, found.sentence2) == ("nli", ("a, b", "e"), ("한국어", "f"))
    duplicates = write(
        tmp_path / "d.jsonl",
        '{"q": "a", "r": "b", "same": 1}\n{"q": "c", "r": "d", "same": 0}\n'
        '{"q": "e", "r": "f", "same": 1}\n',
    )
    assert read_positives(duplicates, PositiveColumns("q", "r", "same", "1")).sentence2 == (
        "b",
        "f",
    )
    plain = write(tmp_path / "plain.tsv", "sentence1\tsentence2\na\tb\nc\td\n")
    assert read_positives(plain).sentence1 == ("a", "c")


@pytest.mark.parametrize(
    ("content", "columns", "problem"),
    [
        ("sentence1\tsentence2\na\tb\n", {}, "got 1 positive pairs; expected at least 2"),
        ("label\tsentence1\tsentence2\nno\ta\tb\n", {}, "no row is 'entailment', got 'no'"),
        ("sentence1\tsentence2\na\tb\n", {"label": "gold"}, "gold"),
        ("sentence1\tother\na\tb\n", {}, "sentence2"),
        ("sentence1\tsentence2\na\tb\n", {"label": "sentence1"}, "column 'sentence1' twice"),
    ],
)
def test_wrong_positives(
    tmp_path: Path, content: str, columns: dict[str, str], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        read_positives(write(tmp_path / "x.tsv", content), PositiveColumns(**columns))


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=4)


@given(
    numbers=st.lists(st.integers(1, 12), unique=True, max_size=3),
    plain=st.booleans(),
    names=st.permutations(["anchor", "positive"]),
    rows=st.lists(st.lists(TEXT, min_size=6, max_size=6), min_size=2, max_size=4),
)
def test_negatives_by_their_numbers(
    numbers: list[int],
    plain: bool,
    names: list[str],
    rows: list[list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Oracle: the columns that were written, in any order."""
    negatives = ["negative"] * plain + [f"negative_{number}" for number in sorted(numbers)]
    header = [*(f"negative_{number}" for number in numbers), *names, *["negative"] * plain]
    # A letter of its own for each column: no negative is the positive.
    columns = {
        name: tuple(f"{name[-1]}{name}{row[index]}" for row in rows)
        for index, name in enumerate(header)
    }
    path = tmp_path_factory.getbasetemp() / "made.jsonl"
    objects = [
        dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, objects)) + "\n", encoding="utf-8")
    made = read_positives(path)
    assert made.columns == tuple(columns[name] for name in ("anchor", "positive", *negatives))
    tsv = path.with_suffix(".tsv")
    lines = ["\t".join(columns), *("\t".join(row.values()) for row in objects)]
    tsv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_positives(tsv) == made


def test_negatives_beside_other_names(tmp_path: Path) -> None:
    """Korean triplets; the label chooses rows of them, too."""
    rows = "질문,답,negative,label\n비가 오나요?,비가 와요,눈이 와요,entailment\n가,나,다,neutral\n"
    path = write(tmp_path / "x.csv", rows + "어디예요?,서울이에요,부산이에요,entailment\n")
    made = read_positives(path, PositiveColumns("질문", "답"))
    assert made.sentence1 == ("비가 오나요?", "어디예요?")
    assert made.negatives == (("눈이 와요", "부산이에요"),)
    assert made.sha256 != Positives("x", made.sentence1, made.sentence2).sha256


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.tsv", "anchor\tpositive\tnegatives\na\tb\tc\n", "got column 'negatives'; expected"),
        ("x.tsv", "anchor\tpositive\tNegative_1\na\tb\tc\n", "got column 'Negative_1'; expected"),
        ("x.tsv", "anchor\tpositive\thard_negative\na\tb\tc\n", "got column 'hard_negative'; exp"),
        (
            "x.tsv",
            "anchor\tpositive\tNeg 1\na\tb\tc\n",
            "got column 'Neg 1'; expected negative, or",
        ),
        ("x.tsv", "anchor\tpositive\tnegative\na\tb\t\nc\td\te\n", "row 1: a negative is empty"),
        ("x.tsv", "anchor\tnegative\na\tb\n", "expected 'positive' among them"),
        (
            "x.tsv",
            "anchor\tpositive\tnegative\na\tb\tc\nd\te\te\n",
            "row 2: the negative 'e' equals the positive",
        ),
        (
            "x.jsonl",
            '{"anchor": "a", "positive": "b"}\n{"anchor": "a", "positive": "b", "negative": "c"}\n',
            r"row 2 \(line 2\): got the negatives \['negative'\], expected \[\] as before",
        ),
        (
            "x.jsonl",
            '{"anchor": "a", "positive": "b", "negative": null}\n',
            "column 'negative': got None, expected a str",
        ),
        (
            "x.jsonl",
            '{"anchor": "a", "positive": "b", "negative": "c"}\n{"anchor": "d", "positive": "e"}\n',
            "expected 'negative' among them",
        ),
    ],
)
def test_wrong_negatives(tmp_path: Path, name: str, content: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_positives(write(tmp_path / name, content))


def test_columns_of_other_lengths() -> None:
    with pytest.raises(InputError, match="got columns of 2, 2, 1 texts; expected as many in each"):
        Positives("made", ["a", "b"], ["c", "d"], (["e"],))  # type: ignore[arg-type]
