"""Texts are checked once: wrong ones are named, and what was checked is taken as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit import Pairs
from embedkit.data.texts import Texts, as_pairs, as_texts, check_id, check_label
from embedkit.errors import InputError


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("rain", r"^sentences is one str; expected a list of str$"),
        ([], r"^sentences is empty; expected at least one str$"),
        (["a", None], r"^sentences\[1\]: got None, expected a str$"),
        (["a\udc00"], r"^sentences\[0\]: got the lone surrogate '\\udc00' at index 1, expected"),
    ],
)
def test_wrong_texts_are_named(texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_texts(texts, "sentences")


@given(st.lists(st.text(), min_size=1))
def test_all_valid_unicode_is_taken(texts: list[str]) -> None:
    assert list(as_texts(texts)) == texts


def test_checked_texts_are_taken_as_they_are() -> None:
    texts = as_texts(text for text in ("a", "b", "c"))
    assert as_texts(texts) is texts
    pairs = Pairs("p", texts, texts, np.arange(3.0))
    assert pairs.sentence1 is texts
    assert isinstance(pairs.texts["sentence"], Texts)


def test_pairs_that_are_none_are_named() -> None:
    assert as_pairs(iter([("a", "b"), ["c", "d"]])) == (("a", "c"), ("b", "d"))
    with pytest.raises(InputError, match=r"^pairs\[1\]: got \('c',\), expected two texts$"):
        as_pairs([("a", "b"), ("c",)])
    with pytest.raises(InputError, match=r"^second texts of pairs\[0\]: got the lone surrogate"):
        as_pairs([("a", "\ud800")])


@pytest.mark.parametrize("value", [None, True, 1.5, b"x", "\ud800"])
def test_ids_and_labels_are_texts_or_whole_numbers(value: Any) -> None:
    for check in (check_id, check_label):
        assert (check("x", "a"), check("x", -7)) == ("a", -7)
        with pytest.raises(InputError, match=r"^x: got "):
            check("x", value)
    assert (check_label("x", ""), check_label("x", 2**63)) == ("", 2**63)
    for wrong in ("", 2**63):
        with pytest.raises(InputError, match=r"^x: got "):
            check_id("x", wrong)
