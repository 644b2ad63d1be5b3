"""Entity scores, compared with seqeval and with KLUE's use of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import f1_score as class_f1

from embedkit import InputError
from embedkit.data.entities import Span, TaggedText, TaggedTexts, entities
from embedkit.tagging.entity_scores import EntityReport, entity_f1, score_entities

TAGS = st.sampled_from(["O", "O", "B-PS", "I-PS", "B-LC", "I-LC"])
ROWS = st.lists(
    st.lists(st.tuples(TAGS, TAGS, st.booleans()), min_size=1, max_size=8), min_size=1, max_size=5
)


def spans(tags: list[str]) -> tuple[Span, ...]:
    return tuple(Span(first, last + 1, kind) for first, last, kind in entities(tags))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@given(ROWS)
def test_values(rows: list[list[tuple[str, str, bool]]]) -> None:
    """Oracles: seqeval for entities, and for characters scikit-learn as KLUE calls it."""
    oracle = pytest.importorskip("seqeval.metrics", reason="not installed: seqeval")
    texts = ["".join(" " if space else "가" for *_, space in row) for row in rows]
    gold, own = ([spans([cells[i] for cells in row]) for row in rows] for i in (0, 1))
    assume(any(gold) or any(own))
    data = TaggedTexts("made", "character", tuple(map(TaggedText, texts, gold)))
    results = score_entities(data, own)
    report = EntityReport("model", "made", "character", len(rows), results)
    # seqeval reads tags as they are; ours are IOB2.
    tags = [row.tags for row in data.rows]
    found = [TaggedText(text, one).tags for text, one in zip(texts, own, strict=True)]
    assert report["entity_precision"].value == pytest.approx(oracle.precision_score(tags, found))
    assert report["entity_recall"].value == pytest.approx(oracle.recall_score(tags, found))
    assert report["entity_f1"].value == pytest.approx(oracle.f1_score(tags, found))
    assert entity_f1(data.rows, own) == pytest.approx(oracle.f1_score(tags, found))
    assert report["entity_macro_f1"].value == pytest.approx(
        oracle.f1_score(tags, found, average="macro")
    )
    types = sorted({span.label for row in (*gold, *own) for span in row})
    each = [one.value for one in results if one.metric == "label_f1"]
    assert each == pytest.approx(oracle.f1_score(tags, found, average=None))
    assert [one.label for one in results if one.metric == "label_recall"] == types
    labels = ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
    flat = [
        [
            tag
            for text, row in zip(texts, part, strict=True)
            for c, tag in zip(text, row, strict=True)
            if c != " "
        ]
        for part in (tags, found)
    ]
    if flat[0]:
        expected = class_f1(*flat, labels=labels, average="macro", zero_division=1)
        assert report["char_f1"].value == pytest.approx(expected)


def made(n: int) -> tuple[TaggedTexts, list[tuple[Span, ...]]]:
    """Every sentence has one entity; every fourth is found with a wrong end, every tenth not."""
    rows = tuple(TaggedText("가나다 라마", (Span(0, 2, "LC"),)) for _ in range(n))
    found = [() if i % 10 == 0 else (Span(0, 2 + (i % 4 == 0), "LC"),) for i in range(n)]
    return TaggedTexts("made", "character", rows), found  # type: ignore[return-value]


def test_intervals() -> None:
    """Oracle: a plain bootstrap over sentences, which draws other numbers."""
    data, found = made(80)
    report = EntityReport("model", "made", "character", 80, score_entities(data, found))
    right = np.array([span == row.spans for row, span in zip(data.rows, found, strict=True)])
    any_found = np.array([bool(span) for span in found])
    drawn = np.random.default_rng(7).integers(80, size=(10_000, 80))
    f1 = 2 * right[drawn].sum(1) / (any_found[drawn].sum(1) + 80)
    assert report["entity_f1"].ci95 == pytest.approx(np.percentile(f1, [2.5, 97.5]), abs=0.01)
    assert report["entity_f1"].value == pytest.approx(2 * right.sum() / (any_found.sum() + 80))
    low, high = report["char_f1"].ci95 or (0, 0)
    assert low < report["char_f1"].value < high
    again, other = (score_entities(data, found, seed=seed) for seed in (0, 1))
    assert again == report.results
    assert other[2].value == again[2].value
    assert other[2].ci95 != again[2].ci95


def test_character_intervals_with_rare_tags() -> None:
    """A tag that a resample lacks would raise its mean, if it counted 1 there."""
    rows = tuple(TaggedText("가나다라", (Span(0, 2, f"T{i}"),)) for i in range(20))
    found = [row.spans if i % 2 else () for i, row in enumerate(rows)]
    for n in (20, 5):
        data = TaggedTexts("made", "character", rows[:n])
        report = EntityReport("model", "made", "character", n, score_entities(data, found[:n]))
        one = report["char_f1"]
        low, high = one.ci95 or (np.nan, np.nan)
        assert (low < one.value < high) == (n == 20)
    assert (one.ci95, one.reason) == (None, "fewer than 6 samples are too few")


def test_no_interval_and_no_entity() -> None:
    rows = (TaggedText("가나", (Span(0, 1, "LC"),)), *[TaggedText("가나")] * 5)
    results = score_entities(TaggedTexts("made", "character", rows), [()] * 6)
    f1 = next(one for one in results if one.metric == "entity_f1")
    assert (f1.value, f1.ci95, f1.reason) == (0, None, "some resamples have no value")
    with pytest.raises(InputError, match="made: has no entity, and none was predicted"):
        score_entities(TaggedTexts("made", "character", rows[1:]), [()] * 5)
    few = score_entities(TaggedTexts("made", "character", rows[:5]), [()] * 5)
    assert few[2].reason == "fewer than 6 samples are too few"


def test_words_have_no_character_score() -> None:
    row = TaggedText("가 나", (Span(0, 1, "LC"),), ((0, 1), (2, 3)))
    results = score_entities(TaggedTexts("made", "word", (row,)), [row.spans])
    assert [(one.metric, one.value) for one in results] == [
        *(("entity_" + name, 1) for name in ("precision", "recall", "f1", "macro_f1")),
        *(("label_" + name, 1) for name in ("precision", "recall", "f1")),
    ]


def test_tables() -> None:
    data, found = made(80)
    report = EntityReport("model", "made", "character", 80, score_entities(data, found))
    names = [row[0] for row in report.grid().rows]
    assert names == ["all entities", "mean of types", "characters", "LC"]
    assert report.grid().rows[0][3] == f"{100 * report['entity_f1'].value:.2f}"
    assert report.grid("ko").headings[1] == "정밀도"
    assert report.caption() == "made: 80 sentences, each character has a tag."
    assert report.caption("ko") == "made: 문장 80개, 태그 단위는 글자."
    assert report.to_dict()["results"][2]["metric"] == "entity_f1"
