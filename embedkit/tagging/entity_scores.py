"""Entity scores: precision, recall and F1 of spans, and KLUE's F1 of characters, with intervals."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import check_type
from embedkit.data.entities import Span, TaggedText, TaggedTexts
from embedkit.errors import InputError
from embedkit.evaluation.bootstrap import SEED, bootstrap_means, interval, why_no_interval
from embedkit.evaluation.metric_delta import MetricDelta
from embedkit.evaluation.report import formatting
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.results import Result, Scored
from embedkit.evaluation.significance import difference

if TYPE_CHECKING:
    from rich.console import Console

    from embedkit.tagging.tagger import Tagger

_Array = NDArray[np.float64]
_HEADINGS = {
    "en": ("", "precision", "recall", "F1", "95 % interval", "entities"),
    "ko": ("", "정밀도", "재현율", "F1", "95% 구간", "개체명 수"),
}
_NAMES = {
    "en": {"entity": "all entities", "entity_macro": "mean of types", "char": "characters"},
    "ko": {"entity": "개체명 전체", "entity_macro": "유형 평균", "char": "글자"},
}


@dataclass(frozen=True)
class EntityResult:
    """A score of all sentences of a data set, or of the entities of one type."""

    dataset: str
    metric: str  # {entity,label}_{precision,recall,f1}, entity_macro_f1 or char_f1
    label: str | None  # the type
    n: int  # entities, or characters
    value: float
    ci95: tuple[float, float] | None  # None where some resamples have no value
    reason: str | None = None  # why there is no interval


@dataclass(frozen=True)
class EntityReport:
    """The scores of a token classifier on one data set."""

    model: str
    dataset: str
    unit: str  # "word" or "character"
    sentences: int
    results: tuple[EntityResult, ...]  # overall ones, then those of each type
    warnings: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(
        cls, model: str, data: TaggedTexts, predicted: Sequence[Sequence[Span]], *, seed: int = SEED
    ) -> EntityReport:
        """The report on the predictions of a model."""
        results = score_entities(data, predicted, seed=seed)
        return cls(model, data.name, data.unit, len(data.rows), results)

    def __getitem__(self, metric: str) -> EntityResult:
        """The result of a metric of all entities, such as `entity_f1`."""
        return next(one for one in self.results if one.metric == metric)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `embedkit evaluate --json` prints them."""
        return asdict(self)

    def grid(self, lang: str = "en") -> Grid:
        """The table, in English or Korean."""
        rows: dict[str, list[str]] = {}
        for one in self.results:
            kind, _, measure = one.metric.rpartition("_")
            cells = rows.setdefault(one.label or _NAMES[lang][kind], ["", "", "", "", ""])
            cells[("precision", "recall", "f1").index(measure)] = formatting.number(
                one.value, one.metric
            )
            if measure == "f1":
                cells[3] = formatting.interval(one.ci95, one.metric) or "-"
                cells[4] = f"{one.n:,}" if kind != "entity_macro" else ""
        table = tuple((name, *cells) for name, cells in rows.items())
        return Grid(_HEADINGS[lang], table, frozenset([0]), expendable=((5,), (1, 2)))

    def print(self, console: Console, lang: str = "en") -> None:
        """What was scored, and the table, on a console of rich's."""
        console.print(self.caption(lang), markup=False, highlight=False)
        self.grid(lang).print(console)

    def caption(self, lang: str = "en") -> str:
        """What was scored."""
        if lang == "ko":
            korean = {"word": "단어", "character": "글자"}[self.unit]
            return f"{self.dataset}: 문장 {self.sentences:,}개, 태그 단위는 {korean}."
        return f"{self.dataset}: {self.sentences:,} sentences, each {self.unit} has a tag."


def evaluate_tagger(
    tagger: Tagger, data: TaggedTexts, *, seed: int = SEED, show_progress: bool | None = None
) -> EntityReport:
    """Score a token classifier on a data set.

    Args:
        tagger: the model.
        data: texts with entities.
        seed: of the bootstrap over sentences.
        show_progress: on stderr; None shows it where stderr is a terminal.

    Example:
        >>> from embedkit import Span, TaggedText, TaggedTexts, Tagger
        >>> rows = (TaggedText("서울의 비", (Span(0, 2, "LC"),)),)
        >>> tagger = Tagger.untrained("minilm", ["LC"], "character")
        >>> report = evaluate_tagger(tagger, TaggedTexts("made", "character", rows))
        >>> 0 <= report["entity_f1"].value <= 1
        True
    """
    check_type("data", data, TaggedTexts, "TaggedTexts, such as read_entities gives")
    if not hasattr(tagger, "predict"):
        raise InputError(f"tagger is {reprlib.repr(tagger)}; expected a Tagger")
    predicted = tagger.predict(data.rows, show_progress=show_progress)
    return EntityReport.of(tagger.name, data, predicted, seed=seed)


def score_entities(
    data: TaggedTexts, predicted: Sequence[Sequence[Span]], *, seed: int = SEED
) -> tuple[EntityResult, ...]:
    """Scores with 95 % intervals, of resamples of the sentences.

    Entities are scored as by seqeval: one is right if start, end and type are. For characters there
    is KLUE's F1 too (Park et al. 2021): the mean over all IOB2 tags, O included, of the F1 of
    characters that are no space; a tag that neither side has counts 1. The mean of a
    resample is over the types or tags that occur in it.

    Raises:
        InputError: neither the data nor the predictions have an entity.
    """
    types = sorted({span.label for row in predicted for span in row}.union(data.types))
    if not types:
        raise InputError(f"{data.name}: has no entity, and none was predicted; expected some")
    gold = [row.spans for row in data.rows]

    def of(kind: str, rows: Sequence[Sequence[Span]]) -> list[list[Span]]:
        return [[span for span in row if span.label == kind] for row in rows]

    by_type = [_counts(of(kind, gold), of(kind, predicted)) for kind in types]
    counts = np.stack(by_type, 1)  # (sentences, types, right predicted gold)
    sums, drawn = counts.sum(0), _resampled(counts, seed)
    results: list[EntityResult] = []

    def add(metric: str, label: str | None, n: float, value: _Array, resampled: _Array) -> None:
        ci95, one = interval(resampled), float(np.nan_to_num(value))
        reason = why_no_interval(len(data.rows)) if ci95 is None else None
        results.append(EntityResult(data.name, metric, label, int(n), one, ci95, reason))

    def add_ratios(name: str, label: str | None, own: _Array, resampled: _Array) -> None:
        ratios = _ratios(resampled)
        for ratio, value in _ratios(own).items():
            add(f"{name}_{ratio}", label, own[2], value, ratios[ratio])

    add_ratios("entity", None, sums.sum(0), drawn.sum(0))
    both = (_mean_f1(counts) for counts in (sums.T, drawn.transpose(1, 0, 2)))
    add("entity_macro_f1", None, sums[:, 2].sum(), *both)
    if data.unit == "character":
        characters = _characters(data.rows, predicted, types)
        total, resampled = characters.sum(0), _resampled(characters, seed)
        absent = (total == 0).all(1).mean()
        both = (_mean_f1(counts) for counts in (total.T, resampled.transpose(1, 0, 2)))
        add("char_f1", None, total[:, 2].sum(), *((1 - absent) * one + absent for one in both))
    for of_type in zip(types, sums, drawn, strict=True):
        add_ratios("label", *of_type)
    return tuple(results)


def entity_f1(rows: Sequence[TaggedText], predicted: Sequence[Sequence[Span]]) -> float:
    """F1 of all entities; 0 where nothing is right."""
    counts = _counts([row.spans for row in rows], predicted).sum(0)
    return float(np.nan_to_num(_ratios(counts)["f1"]))


def f1_delta(
    data: TaggedTexts,
    before: Sequence[Sequence[Span]],
    after: Sequence[Sequence[Span]],
    name: str,
    seed: int = SEED,
) -> MetricDelta:
    """What the F1 of all entities gains over other predictions (`name`), on the same resamples."""
    scored = []
    for predicted in (before, after):
        counts = _counts([row.spans for row in data.rows], predicted)
        value, resampled = entity_f1(data.rows, predicted), _resampled(counts[:, None], seed)[0]
        n = int(counts[:, 2].sum())
        result = Result(name, data.name, n, "token-classifier", "entity_f1", "all", value)
        scored.append(Scored(result, _ratios(resampled)["f1"]))
    one, two = scored
    values = one.result.value, two.result.value
    return MetricDelta(data.name, "entity_f1", *values, difference(two, one, name))


def _counts(gold: Iterable[Sequence[Span]], own: Iterable[Sequence[Span]]) -> _Array:
    """(sentences, 3) how many entities are right, predicted and in the data."""
    both = ((set(left), set(right)) for left, right in zip(gold, own, strict=True))
    return np.array([[len(x & y), len(y), len(x)] for x, y in both], np.float64)


def _resampled(counts: _Array, seed: int) -> _Array:
    """(labels, 3, resamples) means of counts (sentences, labels, 3)."""
    flat = bootstrap_means(counts.reshape(len(counts), -1).T, seed=seed)
    return flat.reshape(*counts.shape[1:], -1)


def _ratios(counts: _Array) -> dict[str, _Array]:
    """(...) each of counts (right predicted gold, ...); NaN where there is nothing to divide by."""
    right, found, gold = counts
    with np.errstate(invalid="ignore"):
        return {
            "precision": right / found,
            "recall": right / gold,
            "f1": 2 * right / (found + gold),
        }


def _mean_f1(counts: _Array) -> _Array:
    """(...) the mean F1 of counts (3, labels, ...) over the labels that have some."""
    values = _ratios(counts)["f1"]
    with np.errstate(invalid="ignore"):
        mean: _Array = np.nansum(values, 0) / np.isfinite(values).sum(0)
    return mean


def _characters(
    rows: Sequence[TaggedText], predicted: Sequence[Sequence[Span]], types: Sequence[str]
) -> _Array:
    """(sentences, IOB2 tags, 3) counts as of entities, of characters."""
    tags = {tag: i for i, tag in enumerate(["O", *(f"{x}-{kind}" for kind in types for x in "BI")])}
    counts = np.zeros((len(rows), len(tags), 3))
    for row, own, cells in zip(rows, predicted, counts, strict=True):
        both = zip(row.text, TaggedText(row.text, tuple(own)).tags, row.tags, strict=True)
        for character, found, gold in both:
            if character != " ":
                cells[tags[found], :2] += (found == gold, 1)
                cells[tags[gold], 2] += 1
    return counts
