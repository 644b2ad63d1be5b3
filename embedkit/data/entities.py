"""Texts with entities, which are spans of characters, and the tags of their words or characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, TypeAlias, get_args
from unicodedata import category

from embedkit.data.texts import as_texts, check_text
from embedkit.errors import InputError
from embedkit.files import rows_sha256

Unit: TypeAlias = Literal["word", "character"]
TAG = re.compile(r"O|[BIESLU]-\S+")


@dataclass(frozen=True, order=True)
class Span:
    """An entity: the index of its first character and the one after its last, and its type.

    `score` is the mean probability of the labels of its tokens, if a model found it; it is not
    compared.

    Example:
        >>> Span(0, 2, "LC") == Span(0, 2, "LC", score=0.9)
        True
    """

    start: int
    end: int
    label: str
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TaggedText:
    """A text, its entities in order, which do not overlap, and start and end of its words.

    `words` is None where the units are characters.

    Raises:
        InputError: the text is not a str; or a span is not a `Span`, is empty, overlaps another,
            ends after the text, or cuts a word.

    Example:
        >>> TaggedText("서울의 비", (Span(0, 2, "LC"),)).tags
        ['B-LC', 'I-LC', 'O', 'O', 'O']
    """

    text: str
    spans: tuple[Span, ...] = ()
    words: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        check_text("text", self.text)
        end = 0
        starts, ends = zip(*self.words or [(0, 0)], strict=True)
        for span in self.spans:
            if not isinstance(span, Span) or not type(span.start) is type(span.end) is int:
                raise InputError(f"got {span!r}; expected a Span from one whole number to another")
            if not end <= span.start < span.end <= len(self.text):
                raise InputError(
                    f"got the span {span.start} to {span.end} of {span.label!r} after {end}; "
                    f"expected spans in order, without overlap, in a text of {len(self.text)} "
                    "characters"
                )
            if self.words is not None and (span.start not in starts or span.end not in ends):
                raise InputError(
                    f"got the span {span.start} to {span.end} of {span.label!r}, which cuts a "
                    "word; expected whole words, or the unit character"
                )
            end = span.end

    @property
    def units(self) -> Sequence[tuple[int, int]]:
        """Start and end of each word or character."""
        if self.words is not None:
            return self.words
        return [(index, index + 1) for index in range(len(self.text))]

    @property
    def tags(self) -> list[str]:
        """The IOB2 tag of each unit."""
        return tags_at([start for start, _ in self.units], self)


@dataclass(frozen=True)
class TaggedTexts:
    """A data set of texts with entities: what token classifiers learn from and are scored on."""

    name: str
    unit: Unit  # whether words or characters have a tag each
    rows: tuple[TaggedText, ...]
    # Of the tags in the file that they came from; `tags` are IOB2.
    scheme: str = field(default="IOB2", compare=False)

    @classmethod
    def untagged(cls, texts: Iterable[str], unit: Unit = "character") -> TaggedTexts:
        """Texts without entities; words are runs of letters, digits and marks, or one other sign.

        Example:
            >>> TaggedTexts.untagged(["서울, 2024"], "word").rows[0].words
            ((0, 2), (2, 3), (4, 8))
        """
        check_unit(unit)
        rows = (TaggedText(text, (), words_of(text, unit)) for text in as_texts(texts))
        return cls("texts", unit, tuple(rows))

    @property
    def types(self) -> list[str]:
        """The types of the entities, sorted."""
        return sorted({span.label for row in self.rows for span in row.spans})

    @property
    def sha256(self) -> str:
        """Of texts, words and entities."""
        spans = ([(s.start, s.end, s.label) for s in row.spans] for row in self.rows)
        parts = ((row.text, row.words) for row in self.rows)
        return rows_sha256([*part, of] for part, of in zip(parts, spans, strict=True))


def check_unit(unit: object) -> None:
    """Refuse what is no unit."""
    if unit not in get_args(Unit):
        raise InputError(f"unit is {unit!r}; expected {' or '.join(get_args(Unit))}")


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type: `B` and `PS` of `B-PS`. A type alone, as some models have it, is inside."""
    if tag == "O":
        return "O", ""
    return (tag[0], tag[2:]) if TAG.fullmatch(tag) else ("I", tag)


def entities(tags: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """First unit, last unit and type of each entity, as conlleval reads IOB1, IOB2 and BIOES.

    Example:
        >>> list(entities(["B-PS", "I-PS", "O", "I-LC", "B-LC"]))
        [(0, 1, 'PS'), (3, 3, 'LC'), (4, 4, 'LC')]
    """
    start, current, index = 0, "", -1
    for index, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        if prefix in "BSU" or kind != current:
            if current:
                yield start, index - 1, current
            start, current = index, kind
        if prefix in "ESLU":
            yield start, index, current
            current = ""
    if current:
        yield start, index, current


def tags_at(starts: Iterable[int], row: TaggedText) -> list[str]:
    """The IOB2 tags at ascending characters: the first one in an entity gets `B-`."""
    spans, tags = list(reversed(row.spans)), list[str]()
    begun = None
    for start in starts:
        while spans and spans[-1].end <= start:
            spans.pop()
        if not spans or start < spans[-1].start:
            tags.append("O")
            continue
        tags.append(f"{'I' if spans[-1] is begun else 'B'}-{spans[-1].label}")
        begun = spans[-1]
    return tags


def words_of(text: str, unit: Unit) -> tuple[tuple[int, int], ...] | None:
    """Start and end of each word of a plain text; None for the unit character."""
    if unit == "character":
        return None

    def group(index: int) -> tuple[bool, int]:
        """Equal for neighbours in one word."""
        wordlike = category(text[index])[0] in "LMN"
        return wordlike, 0 if wordlike or text[index].isspace() else index + 1

    runs = [list(run) for _, run in groupby(range(len(text)), key=group)]
    return tuple((run[0], run[-1] + 1) for run in runs if not text[run[0]].isspace())
