"""Texts with entities that follow a rule, for tests of token classifiers."""

from __future__ import annotations

from collections.abc import Sequence

from embedkit.data.entities import Span, TaggedText, TaggedTexts

_CITIES = ("한국", "문장", "책", "비")
_OTHERS = ("그는", "읽고", "있다", "온", "사람", "음악을", "듣는")


def korean(n: int) -> TaggedTexts:
    """Characters: a particle follows each city, which is an entity without it."""
    rows = []
    for number in range(n):
        words = [_OTHERS[(number * step) % 7] for step in (1, 2, 4)]
        city = _CITIES[number % 4]
        before = " ".join(words[: number % 3])
        start = len(before) + bool(before)
        text = " ".join(filter(None, [before, f"{city}는", *words[number % 3 :]]))
        rows.append(TaggedText(text, (Span(start, start + len(city), "LC"),)))
    return TaggedTexts("korean", "character", tuple(rows))


def english(n: int) -> TaggedTexts:
    """Words: `the` and the word after it are an entity, of a type by that word's first letter."""
    rows = []
    nouns = ("city", "dog", "park", "cat", "train")
    for number in range(n):
        words = ["a", "man", "reads", "in", "rain"][: 2 + number % 4]
        words += ["the", nouns[number % 5], "slowly"]
        rows.append(tagged(words, len(words) - 3, "LC" if number % 5 % 2 == 0 else "AN"))
    return TaggedTexts("english", "word", tuple(rows))


def tagged(words: Sequence[str], first: int, kind: str) -> TaggedText:
    """Words joined by a space, of which two are an entity."""
    starts = [sum(map(len, words[:i])) + i for i in range(len(words))]
    bounds = tuple((start, start + len(word)) for start, word in zip(starts, words, strict=True))
    return TaggedText(
        " ".join(words), (Span(bounds[first][0], bounds[first + 1][1], kind),), bounds
    )
