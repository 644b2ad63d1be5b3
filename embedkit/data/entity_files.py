"""Read and write texts with entities: CoNLL files of words or characters, and JSONL."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from embedkit.arguments import as_path
from embedkit.data.entities import (
    TAG,
    Span,
    TaggedText,
    TaggedTexts,
    Unit,
    check_unit,
    entities,
    words_of,
)
from embedkit.data.tables import read_lines, read_rows
from embedkit.data.texts import check_text
from embedkit.data.writers import open_writer, output_file
from embedkit.errors import InputError

_SUFFIXES = (".conll", ".bio", ".iob", ".iob2", ".bioes")
_COMMENTS = ("# ", "## ")
_DOCUMENT = "-DOCSTART-"  # CoNLL-2003's line between documents


def holds_entities(path: str | Path) -> bool:
    """Whether a file is of the CoNLL format by its suffix, or JSONL whose first row has `spans`."""
    path = Path(path)
    if _is_jsonl(path) and path.is_file():
        first = next(read_rows(path, {}, others=True), None)
        return first is not None and "spans" in first.cells
    return is_conll(path)


def is_conll(path: Path) -> bool:
    """Whether a file is of the CoNLL format by its suffix."""
    return path.name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def read_entities(
    path: str | Path, unit: Unit | None = None, encoding: str = "utf-8"
) -> TaggedTexts:
    """Texts with entities from a JSONL file, or from a CoNLL file of any other suffix; or as .gz.

    - JSONL: `text`, and `spans`, a list of `{"start", "end", "label"}` in characters.
    - CoNLL: a word or character, columns that are not read, and its tag, separated by tabs or
      spaces; an empty line ends a sentence. All tags of a file are IOB2, IOB1, BIOES (IOBES) or
      BILOU; the attribute `scheme` says which. Comments (`# ` without a tag) and `-DOCSTART-` are
      left out. Words are joined by a space, characters by nothing.

    Args:
        path: the file.
        unit: "word" or "character"; None takes characters for JSONL and for a CoNLL file in which
            every unit is one character, else words.
        encoding: of the file.

    Raises:
        InputError: what is wrong, with its line.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("made.conll").write_text("Ada\\tB-PS\\nLovelace\\tI-PS\\nsleeps\\tO\\n")
        >>> made = read_entities("made.conll")
        >>> made.unit, made.rows[0].text, made.rows[0].spans[0].end
        ('word', 'Ada Lovelace sleeps', 12)
    """
    path = as_path("path", path)
    if unit is not None:
        check_unit(unit)
    name = path.name.removesuffix(".gz")
    name = name[: name.rfind(".")] if "." in name[1:] else name
    if not _is_jsonl(path):
        return _read_conll(path, name, unit, encoding)
    unit = unit or "character"
    columns = {"text": check_text, "spans": _as_spans}
    rows = []
    for location, cells in read_rows(path, columns, encoding=encoding):
        try:
            rows.append(TaggedText(cells["text"], cells["spans"], words_of(cells["text"], unit)))
        except InputError as error:
            raise InputError(f"{location}: {error}") from None
    return TaggedTexts(name, unit, tuple(rows))


def write_entities(data: TaggedTexts, path: str | Path | None, *, conll: bool = False) -> None:
    """Write JSONL or a CoNLL file of IOB2 tags, which `read_entities` reads; None is stdout.

    Raises:
        InputError: see `check_conll`; or the file cannot be written.

    Example:
        >>> write_entities(TaggedTexts.untagged(["It rains."], "word"), "made.conll", conll=True)
        >>> read_entities("made.conll").rows[0].text
        'It rains .'
    """
    if not conll:
        with open_writer(path, "jsonl", ["text", "spans"]) as writer:
            writer.write(
                {
                    "text": row.text,
                    "spans": [
                        {name: x for name, x in vars(span).items() if x is not None}
                        for span in row.spans
                    ],
                }
                for row in data.rows
            )
        return
    check_conll(data)
    with output_file(path) as file:
        for row in data.rows:
            for (start, end), tag in zip(row.units, row.tags, strict=True):
                file.write(f"{row.text[start:end]}\t{tag}\n".encode())
            file.write(b"\n")


def check_conll(data: TaggedTexts) -> None:
    """Refuse texts that a CoNLL file cannot hold: without units, or with tabs or line breaks."""
    for index, row in enumerate(data.rows, start=1):
        units = [row.text[start:end] for start, end in row.units] or [""]
        unfit = next((x for x in units if not x or {"\t", "\n", "\r"}.intersection(x)), None)
        if unfit is not None:
            raise InputError(
                f"text {index}: has {unfit!r}, which a CoNLL file cannot hold; write JSONL"
            )


def _is_jsonl(path: Path) -> bool:
    return path.name.lower().endswith((".jsonl", ".jsonl.gz"))


def _as_spans(where: str, value: object) -> tuple[Span, ...]:
    try:
        spans = [Span(one["start"], one["end"], one["label"]) for one in cast("list[Any]", value)]
    except (TypeError, KeyError, AttributeError):
        spans = [Span(0, 0, "")]
    for span in spans:
        whole = type(span.start) is type(span.end) is int
        if not whole or not isinstance(span.label, str) or span.label.split() != [span.label]:
            raise InputError(
                f"{where}: got {reprlib.repr(value)}; expected a list of objects with start and "
                "end, whole numbers, and label, a text without spaces"
            )
        check_text(where, span.label)
    return tuple(sorted(spans))


class _Line(NamedTuple):
    location: str
    unit: str
    tag: str


def _read_conll(path: Path, name: str, unit: Unit | None, encoding: str) -> TaggedTexts:
    sentences = list(_sentences(path, encoding))
    if not sentences:
        raise InputError(f"{path}: has no sentence; expected units and tags, one a line")
    scheme = _scheme_of(sentences)
    long = next((line for lines in sentences for line in lines if len(line.unit) > 1), None)
    if long is not None and unit == "character":
        raise InputError(
            f"{long.location}: got the unit {long.unit!r}; expected one character a line"
        )
    unit = unit or ("character" if long is None else "word")
    joint, rows = " " if unit == "word" else "", []
    for lines in sentences:
        bounds, start = [], 0
        for line in lines:
            bounds.append((start, start + len(line.unit)))
            start += len(line.unit) + len(joint)
        spans = tuple(
            Span(bounds[first][0], bounds[last][1], kind)
            for first, last, kind in entities(line.tag for line in lines)
        )
        text = joint.join(line.unit for line in lines)
        rows.append(TaggedText(text, spans, tuple(bounds) if unit == "word" else None))
    return TaggedTexts(name, unit, tuple(rows), scheme)


def _sentences(path: Path, encoding: str) -> Iterator[list[_Line]]:
    sentence: list[_Line] = []
    for location, cell in read_lines(path, encoding):
        line = cast("str", cell["text"])
        cells = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        tagged = len(cells) > 1 and TAG.fullmatch(cells[-1])
        if cells == [""]:
            if sentence:
                yield sentence
            sentence = []
        elif line.startswith(_COMMENTS) and not tagged:
            continue
        elif not tagged or not cells[0]:
            raise InputError(
                f"{location}: got {line!r}; expected a unit and its tag, which is O or a type "
                "after B-, I-, E-, S-, L- or U-, separated by a tab or a space"
            )
        elif cells[0] != _DOCUMENT:
            sentence.append(_Line(location, cells[0], cells[-1]))
    if sentence:
        yield sentence


def _continues(before: str, tag: str) -> bool:
    return before[0] in "BI" and before[2:] == tag[2:]


def _ends(before: str, tag: str, last: str, single: str) -> bool:
    """Whether a tag may follow where the last unit of an entity has a prefix of its own."""
    if tag[0] in ("I", last):
        return _continues(before, tag)
    return tag[0] in ("O", "B", single) and before[0] not in "BI"


_SCHEMES: dict[str, Callable[[str, str], bool]] = {
    "IOB2": lambda before, tag: tag[0] in "OB" or (tag[0] == "I" and _continues(before, tag)),
    "IOB1": lambda before, tag: tag[0] in "OI" or (tag[0] == "B" and _continues(before, tag)),
    "BIOES": partial(_ends, last="E", single="S"),
    "BILOU": partial(_ends, last="L", single="U"),
}


def _scheme_of(sentences: Iterable[list[_Line]]) -> str:
    """The first scheme that fits all tags; refuses the first tag after which none does."""
    left = list(_SCHEMES)
    for lines in sentences:
        before = "O"
        for location, _, tag in [*lines, _Line(lines[-1].location, "", "O")]:
            fitting = [scheme for scheme in left if _SCHEMES[scheme](before, tag)]
            if not fitting:
                raise InputError(
                    f"{location}: got the tag {tag!r} after {before!r}; expected "
                    f"{' or '.join(left)}, as the tags before are"
                )
            left, before = fitting, tag
    return left[0]
