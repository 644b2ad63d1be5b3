"""Texts with entities: tags and files, compared with seqeval and by round trips."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import DATA
from hypothesis import given
from hypothesis import strategies as st

from embedkit import InputError
from embedkit.data.entities import Span, TaggedText, TaggedTexts, entities
from embedkit.data.entity_files import holds_entities, read_entities, write_entities

NOT_INSTALLED = "not installed: seqeval"
TYPES = ("PS", "LC", "creative-work")
TAGS = st.lists(
    st.one_of(
        st.just("O"), st.builds("{}-{}".format, st.sampled_from("BIES"), st.sampled_from(TYPES))
    ),
    max_size=12,
)
# What a cell of a CoNLL file may hold; a space begins no comment here, and ends no line of one.
CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")) | st.sampled_from(
    "가각힣한국 #_\u1112\u1161\u11ab"
)


@given(TAGS)
def test_entities_of_any_tags(tags: list[str]) -> None:
    """Oracle: seqeval."""
    oracle = pytest.importorskip("seqeval.metrics.sequence_labeling", reason=NOT_INSTALLED)
    ours = [(kind, first, last) for first, last, kind in entities(tags)]
    assert ours == oracle.get_entities(tags)


@st.composite
def tagged_texts(draw: st.DrawFn, unit: str) -> TaggedTexts:
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        if unit == "word":
            alphabet = CHARACTERS.filter(lambda c: not c.isspace())
            units = draw(
                st.lists(st.text(alphabet, min_size=1, max_size=4), min_size=1, max_size=8)
            )
        else:
            units = draw(st.lists(CHARACTERS, min_size=1, max_size=12))
        joint = " " if unit == "word" else ""
        starts = [sum(map(len, units[:i])) + i * len(joint) for i in range(len(units) + 1)]
        bounds = [(start, start + len(own)) for start, own in zip(starts, units, strict=False)]
        cuts = sorted(draw(st.sets(st.integers(0, len(units)), max_size=6)))
        spans = tuple(
            Span(bounds[first][0], bounds[last - 1][1], draw(st.sampled_from(TYPES)))
            for first, last in pairwise(cuts)
            if draw(st.booleans())
        )
        words = tuple(bounds) if unit == "word" else None
        rows.append(TaggedText(joint.join(units), spans, words))
    return TaggedTexts("made", unit, tuple(rows))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["word", "character"])
@given(data=st.data())
def test_conll_round_trip(
    data: st.DataObject, unit: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(tagged_texts(unit))
    path = tmp_path_factory.getbasetemp() / "made.conll"
    write_entities(made, path, conll=True)
    assert read_entities(path, made.unit) == made


@given(made=tagged_texts("character"))
def test_jsonl_round_trip(made: TaggedTexts, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "made.jsonl.gz"
    write_entities(made, path)
    assert read_entities(path) == made
    assert holds_entities(path)


def read(folder: Path, text: str, unit: str | None = None) -> TaggedTexts:
    path = folder / "made.conll"
    path.write_text(text, encoding="utf-8")
    return read_entities(path, unit)  # type: ignore[arg-type]


def test_columns_comments_and_documents(tmp_path: Path) -> None:
    """CoNLL-2003 has four columns and spaces; KLUE and others have comments."""
    text = (
        "-DOCSTART- -X- -X- O\n\n# id 5\nEU NNP B-NP B-ORG\n# NN O O\n\n\n## 7\t<x:PS>\nJa N O O\n"
    )
    made = read(tmp_path, text)
    assert made.unit == "word"
    assert [row.text for row in made.rows] == ["EU #", "Ja"]
    assert made.rows[0].spans == (Span(0, 2, "ORG"),)


def test_which_unit(tmp_path: Path) -> None:
    characters = "서\tB-LC\n울\tI-LC\n \tO\n비\tO\n"
    made = read(tmp_path, characters)
    assert (made.unit, made.rows[0].text) == ("character", "서울 비")
    assert made.rows[0].tags == ["B-LC", "I-LC", "O", "O"]
    assert read(tmp_path, "서\tB-LC\n비\tO\n", "word").rows[0].text == "서 비"
    with pytest.raises(InputError, match=r"line 5: got the unit '비가'; expected one character a"):
        read(tmp_path, characters + "비가\tO\n", "character")
    with pytest.raises(InputError, match="unit is 'letter'; expected word or character"):
        read(tmp_path, characters, "letter")


SCHEMES = {
    "IOB2": "B-PS I-PS B-PS O B-LC I-LC I-LC B-PS",
    "IOB1": "I-PS I-PS B-PS O I-LC I-LC I-LC I-PS",
    "BIOES": "B-PS E-PS S-PS O B-LC I-LC E-LC S-PS",
    "BILOU": "B-PS L-PS U-PS O B-LC I-LC L-LC U-PS",
}


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes(tmp_path: Path, name: str) -> None:
    """Oracle: seqeval in its strict mode. Each scheme has two neighbours of one type."""
    oracle = pytest.importorskip("seqeval.scheme", reason=NOT_INSTALLED)
    tags = SCHEMES[name].split()
    made = read(
        tmp_path,
        "".join(f"{word}\t{tag}\n" for word, tag in zip("abcdefgh", tags, strict=True)),
        "word",
    )
    scheme = getattr(oracle, "IOBES" if name == "BIOES" else name)
    entities = [one.to_tuple() for one in oracle.Entities([tags], scheme).entities[0]]
    assert [(2 * first, 2 * end - 1, kind) for _, kind, first, end in entities] == [
        (span.start, span.end, span.label) for span in made.rows[0].spans
    ]
    assert made.scheme == name
    assert made.rows[0].tags == SCHEMES["IOB2"].split()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ab\tB-PS\nc\tO\nd\tI-PS\n", "line 3: got the tag 'I-PS' after 'O'; expected IOB2, as"),
        ("ab\tI-PS\nc\tO\nd\tB-PS\n", "line 3: got the tag 'B-PS' after 'O'; expected IOB1, as"),
        ("ab\tS-PS\nc\tB-PS\n\nd\tO\n", "line 2: got the tag 'O' after 'B-PS'; expected BIOES, as"),
        ("a\tS-PS\nb\tU-PS\n", "line 2: got the tag 'U-PS' after 'S-PS'; expected BIOES, as"),
        ("a\tB-PS\nb\tM-PS\n", "line 2: got 'b\\tM-PS'; expected a unit and its tag, which is"),
        ("ab\tB-PS\nc\tPS\n", "line 2: got 'c\\tPS'; expected a unit and its tag, which is O or"),
        ("ab\tB-PS\nc\n", "line 2: got 'c'; expected a unit and its tag"),
        ("ab\tO\n\tO\n", "line 2: got '\\tO'; expected a unit and its tag"),
        ("# only a comment\n", "made.conll: has no sentence; expected units and tags"),
        ("", "got an empty file"),
    ],
)
def test_wrong_conll(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        (
            [{"start": 0, "end": 9, "label": "LC"}],
            "got the span 0 to 9 of 'LC' after 0; expected sp",
        ),
        ([{"start": 1, "end": 1, "label": "LC"}], "got the span 1 to 1"),
        (
            [{"start": 0, "end": 2, "label": "LC"}, {"start": 1, "end": 3, "label": "PS"}],
            "got the span 1 to 3 of 'PS' after 2",
        ),
        ([{"start": 0, "end": 2}], "column 'spans': got [{'end': 2, 'start': 0}]; expected a list"),
        (
            [{"start": True, "end": 2, "label": "LC"}],
            "expected a list of objects with start and end",
        ),
        ([{"start": 0, "end": 2, "label": "L C"}], "label, a text without spaces"),
        (7, "column 'spans': got 7; expected a list"),
        ([7], "column 'spans': got [7]; expected a list"),
    ],
)
def test_wrong_jsonl(tmp_path: Path, spans: object, problem: str) -> None:
    path = tmp_path / "made.jsonl"
    rows = [{"text": "비", "spans": []}, {"text": "서울 비", "spans": spans}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError) as caught:
        read_entities(path)
    assert str(caught.value).startswith(f"{path}, row 2 (line 2)")
    assert problem in str(caught.value)


def test_words_of_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    path.write_text(
        '{"text": "in Seoul, हिन्दी", "spans": [{"start": 3, "end": 8, "label": "LC"}]}\n'
    )
    made = read_entities(path, "word")
    assert made.rows[0].words == ((0, 2), (3, 8), (8, 9), (10, 16))
    assert made.rows[0].tags == ["O", "B-LC", "O", "O"]
    path.write_text('{"text": "서울에서", "spans": [{"start": 0, "end": 2, "label": "LC"}]}\n')
    with pytest.raises(
        InputError, match=r"row 1 \(line 1\): got the span 0 to 2 of 'LC', which cuts a"
    ):
        read_entities(path, "word")


@pytest.mark.parametrize(
    ("text", "unit", "unfit"),
    [("a\nb", "character", r"'\\n'"), ("", "character", "''"), (" ", "word", "''")],
)
def test_what_conll_cannot_hold(tmp_path: Path, text: str, unit: Any, unfit: str) -> None:
    made = TaggedTexts.untagged(["a", text], unit)
    with pytest.raises(
        InputError, match=f"text 2: has {unfit}, which a CoNLL file cannot hold; write"
    ):
        write_entities(made, tmp_path / "made.conll", conll=True)
    assert list(tmp_path.iterdir()) == []


def test_which_files_hold_entities(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "made.jsonl.gz", "wt") as file:
        file.write('{"text": "a", "spans": []}\n')
    (tmp_path / "pairs.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n')
    names = ("made.jsonl.gz", "pairs.jsonl", "made.CONLL", "made.bio.gz", "pairs.tsv", "none.jsonl")
    assert [holds_entities(tmp_path / name) for name in names] == [
        True,
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.skipif(not (DATA / "ner_ko").is_dir(), reason="not installed: ../shared/data")
def test_klue_and_wnut() -> None:
    """Their sizes, and the number of entities by counting B- in the file."""
    for name, unit, rows in (
        ("ner_ko/klue_ner_dev.conll", "character", 500),
        ("ner_en/wnut17_dev.conll", "word", 1009),
    ):
        made = read_entities(DATA / name)
        begun = (DATA / name).read_text(encoding="utf-8").count("\tB-")
        assert (made.unit, len(made.rows)) == (unit, rows)
        assert sum(len(row.spans) for row in made.rows) == begun
