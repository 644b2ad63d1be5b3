"""The baseline of token classifiers: look up the entities of the training data in other texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from embedkit.data.entities import Span, TaggedText, TaggedTexts


def look_up(data: Iterable[TaggedTexts], rows: Iterable[TaggedText]) -> list[tuple[Span, ...]]:
    """The entities of each text, as by the baseline of CoNLL-2003 (Tjong Kim Sang and De Meulder).

    An entity of the training data is found if it has one type there; of several, the longest is.

    Example:
        >>> row = TaggedText("서울의 비", (Span(0, 2, "LC"),))
        >>> look_up([TaggedTexts("made", "character", (row,))], [TaggedText("눈 오는 서울")])
        [(Span(start=5, end=7, label='LC', score=None),)]
    """
    types: dict[str, set[str]] = {}
    for row in (row for one in data for row in one.rows):
        for span in row.spans:
            types.setdefault(row.text[span.start : span.end], set()).add(span.label)
    known = {text: next(iter(labels)) for text, labels in types.items() if len(labels) == 1}
    longest = max(map(len, known), default=0)
    return [tuple(_found(known, longest, row)) for row in rows]


def _found(known: dict[str, str], longest: int, row: TaggedText) -> Iterator[Span]:
    units, end = list(row.units), 0
    for index, (start, _) in enumerate(units):
        if start < end:
            continue
        ends = [stop for _, stop in units[index : index + longest] if stop <= start + longest]
        for stop in reversed(ends):
            if (label := known.get(row.text[start:stop])) is not None:
                yield Span(start, stop, label)
                end = stop
                break
