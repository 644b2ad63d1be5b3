"""The baseline that looks entities up, by hand and against an oracle that tries all spans."""

from __future__ import annotations

from itertools import combinations

from helpers.entities import tagged
from hypothesis import given
from hypothesis import strategies as st

from embedkit.data.entities import Span, TaggedText, TaggedTexts
from embedkit.tagging.lookup import look_up


def test_korean_characters_and_english_words() -> None:
    learnt = TaggedTexts(
        "learnt",
        "character",
        (
            TaggedText("서울의 비", (Span(0, 2, "LC"),)),
            TaggedText("서울시 한강", (Span(0, 3, "LC"), Span(4, 6, "LC"))),
            TaggedText("한강 작가", (Span(0, 2, "PS"),)),
        ),
    )
    # The longest wins; 한강 has two types.
    (found,) = look_up([learnt], [TaggedText("서울시와 서울, 한강")])
    assert found == (Span(0, 3, "LC"), Span(5, 7, "LC"))
    words = tagged(["in", "the", "city"], 1, "LC")
    other = tagged(["see", "the", "city", "the", "cityscape"], 0, "AN")
    (found,) = look_up([TaggedTexts("words", "word", (words,))], [other])
    assert found == (Span(4, 12, "LC"),)  # whole words only
    assert look_up([TaggedTexts.untagged(["비"])], [words]) == [()]


@given(st.sets(st.text("가나", min_size=1, max_size=4), max_size=5), st.text("가나다", max_size=12))
def test_longest_from_left_to_right(known: set[str], text: str) -> None:
    rows = tuple(TaggedText(one, (Span(0, len(one), "LC"),)) for one in sorted(known))
    expected, end = list[Span](), 0
    for start, stop in sorted(combinations(range(len(text) + 1), 2), key=lambda x: (x[0], -x[1])):
        if start >= end and text[start:stop] in known:
            expected.append(Span(start, stop, "LC"))
            end = stop
    (found,) = look_up([TaggedTexts("learnt", "character", rows)], [TaggedText(text)])
    assert list(found) == expected
