"""The data set that ships in the package is what its card says."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from embedkit.datasets import SHIPPED
from embedkit.evaluation.data import read_pairs

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
