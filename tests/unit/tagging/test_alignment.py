"""Tokens and characters: what every tokenizer must get right, for any text."""

from __future__ import annotations

from itertools import pairwise
from unicodedata import normalize

import numpy as np
import pytest
from helpers import tiny_tokenizers
from hypothesis import given
from hypothesis import strategies as st

from embedkit.data.entities import Span, TaggedText, TaggedTexts
from embedkit.tagging.alignment import spans_of, window_tags, windows_of
from embedkit.tokenization.loading import wrap_tokenizer
from embedkit.tokenization.tokenizer import TextTokenizer

KINDS = ("bert", "klue", "roberta", "xlm_roberta", "modernbert")
TEXTS = st.text(
    st.sampled_from("한국어문장그는책 각힣ab the éñ😀\t.,'\u3000\u200d\u1112\u1161\u11ab")
    | st.characters(exclude_categories=("Cs",)),
    max_size=30,
)


def tokenizer_of(kind: str, max_length: int) -> TextTokenizer:
    return wrap_tokenizer(getattr(tiny_tokenizers, kind)(), max_length=lambda own: max_length)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), size=st.integers(3, 12), word=st.booleans())
def test_each_token_is_in_one_window(kind: str, texts: list[str], size: int, word: bool) -> None:
    """Oracle: the same text in one window. No word or character is labelled twice or lost."""
    rows = TaggedTexts.untagged(texts, "word" if word else "character").rows
    long = windows_of(tokenizer_of(kind, 10_000), rows)
    short = list(windows_of(tokenizer_of(kind, size), rows))
    whole: dict[int, list[list[int]]] = {index: [] for index in range(len(rows))}
    parts: dict[int, list[list[int]]] = {index: [] for index in range(len(rows))}
    for window in long:
        whole[window.text] += window.bounds.tolist()
    for window in short:
        assert len(window.token_ids) <= size
        parts[window.text] += window.bounds.tolist()
    assert parts == whole
    for row, bounds in zip(rows, whole.values(), strict=True):
        flat = [end for both in bounds for end in both]
        assert flat == sorted(flat)
        assert all(
            row.text[start:end] == row.text[start:end].strip() != "" for start, end in bounds
        )
        if word:
            assert row.words is not None
            assert {*map(tuple, bounds)} <= {*row.words}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), text=TEXTS)
def test_entities_survive(kind: str, data: st.DataObject, text: str) -> None:
    """An entity whose borders are those of tokens comes back exactly, spaces within it too."""
    row = TaggedText(text)
    tokenizer = tokenizer_of(kind, 9)
    windows = list(windows_of(tokenizer, [row]))
    bounds = [both for window in windows for both in window.bounds.tolist()]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(bounds)), max_size=5)))
    spans = tuple(
        Span(bounds[first][0], bounds[last - 1][1], data.draw(st.sampled_from(["PS", "LC"])))
        for first, last in pairwise(cuts)
    )
    gold = TaggedText(text, spans)
    assert spans_of(windows, window_tags(windows, [gold]), 1) == [spans]


def test_first_tokens_only() -> None:
    """`plays` is two tokens of WordPiece, and only the first one is labelled."""
    tokenizer = tokenizer_of("bert", 20)
    row = TaggedTexts.untagged(["he plays, playing"], "word").rows[0]
    (window,) = windows_of(tokenizer, [row])
    tokens = [tokenizer.backend.id_to_token(int(token)) for token in window.token_ids]
    assert tokens == ["[CLS]", "he", "plays", ",", "play", "##ing", "[SEP]"]
    assert window.labelled.tolist() == [1, 2, 3, 4]
    assert window.bounds.tolist() == [[0, 2], [3, 8], [8, 9], [10, 17]]


def test_korean_in_forms_of_unicode() -> None:
    """The tokenizer takes syllables apart; offsets are those of the text as it is."""
    tokenizer = tokenizer_of("bert", 40)
    for form in ("NFC", "NFD"):
        text = normalize(form, "한국 책")
        end = len(normalize(form, "한국"))
        row = TaggedText(text, (Span(0, end, "LC"),))
        windows = list(windows_of(tokenizer, [row]))
        assert spans_of(windows, window_tags(windows, [row]), 1) == [row.spans]


def test_tokens_that_cross_a_border() -> None:
    """[UNK] is one token for a word: the entity grows to it, and a later one in it is lost."""
    tokenizer = tokenizer_of("klue", 20)
    row = TaggedText("힣에서 힣뷁", (Span(0, 1, "LC"), Span(5, 6, "PS")))
    windows = list(windows_of(tokenizer, [row]))
    assert np.concatenate([window.bounds for window in windows]).tolist() == [[0, 3], [4, 6]]
    assert window_tags(windows, [row]) == [["B-LC", "O"]]
    assert spans_of(windows, [["B-LC", "O"]], 1) == [(Span(0, 3, "LC"),)]


def test_first_parts_of_syllables_only() -> None:
    """A tokenizer without accents takes syllables apart; the first part has the label."""
    (window,) = windows_of(tokenizer_of("bert", 40), [TaggedText("그는")])
    assert window.labelled.tolist() == [1, 3]
    assert window.bounds.tolist() == [[0, 1], [1, 2]]


def test_the_score_is_the_mean() -> None:
    tokenizer = tokenizer_of("bert", 5)
    rows = TaggedTexts.untagged(["the cat the dog"], "word").rows
    windows = list(windows_of(tokenizer, rows))
    assert len(windows) > 1
    scores = [0.2, 0.4, 0.5, 0.9]
    left = iter(zip(["B-LC", "I-LC", "O", "I-PS"], scores, strict=True))
    parts = [[next(left) for _ in window.labelled] for window in windows]
    (found,) = spans_of(
        windows,
        [[tag for tag, _ in own] for own in parts],
        1,
        [[s for _, s in own] for own in parts],
    )
    assert [(span.label, span.score) for span in found] == [("LC", pytest.approx(0.3)), ("PS", 0.9)]
