"""What the page shows, taken out of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.evaluation.error_analysis import MAX_CHARACTERS, Evidence
from embedkit.evaluation.report.html_words import labels
from embedkit.evaluation.results import MAIN, OTHERS, RETRIEVAL, Difference, Result
from embedkit.evaluation.run_metadata import DataUsed, PairsUsed, Protocol

if TYPE_CHECKING:
    from embedkit.evaluation.report.report import Report


POINTS = 1500  # pairs of a dataset in the page at most


_DIGITS = 4  # of a prediction in the page


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what people read.
        value: what the column sorts by; None last.
        marks: words beside the text.
    """

    text: str
    value: float | str | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultTable:
    """The results on one dataset; a row's recipe is its first cell."""

    dataset: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(report: Report, words: dict[str, str]) -> list[ResultTable]:
    """A table for each dataset: a row for each recipe and similarity, best first."""
    return [_table(report, dataset, words) for dataset in _datasets(report)]


def _table(report: Report, dataset: str, words: dict[str, str]) -> ResultTable:
    by_place: dict[tuple[str, str], dict[str, Result]] = {}
    metrics: dict[str, None] = {}
    for metric in dict.fromkeys(row.metric for row in report.results):
        for row in report.deciding(metric):
            if row.dataset == dataset:
                by_place.setdefault((row.recipe, row.similarity), {})[metric] = row
                metrics[metric] = None
    first, *others = metrics
    order = {recipe: place for place, recipe in enumerate(report.ranking())}
    similarities = list(dict.fromkeys(similarity for _, similarity in by_place))
    similarities.sort(key=lambda name: name != report.decided_by)
    several = len(similarities) > 1
    compared = report.baseline is not None
    of_pairs = first != RETRIEVAL.main
    # A recipe that the model does not have has no subsets.
    subsets = list(
        dict.fromkeys(name for of in by_place.values() for name in of[first].subsets or {})
    )
    headings = [words["recipe"], *[words["similarity"]] * several]
    headings += [words.get(first, first), words["interval"]]
    if compared:
        headings += [words["difference"], words["p_holm"], words["best_in"]]
    headings += [*subsets, *(words.get(name, name) for name in others)]
    headings += [words["ties"]] * of_pairs
    rows = []
    for recipe, similarity in sorted(
        by_place, key=lambda place: (similarities.index(place[1]), order[place[0]])
    ):
        found = by_place[recipe, similarity]
        main = found[first]
        cells = [Cell(recipe, recipe, _marks(report, recipe, similarity, words))]
        cells += [Cell(similarity, similarity)] * several
        cells += [_number(main.value, first), Cell(_interval(main, first), _low(main))]
        if compared:
            cells += _against(main, first)
        parts = [(main.subsets or {}).get(name) for name in subsets]
        cells += [_number(None if part is None else part.value, first) for part in parts]
        cells += [_number(found[name].value if name in found else None, name) for name in others]
        cells += [_share(main.ties)] * of_pairs
        rows.append(tuple(cells))
    return ResultTable(dataset, tuple(headings), tuple(rows))


def _marks(report: Report, recipe: str, similarity: str, words: dict[str, str]) -> tuple[str, ...]:
    if similarity != report.decided_by:
        return ()
    baseline = ["baseline"] * (recipe == report.baseline)
    return tuple(words[mark] for mark in (*report.marks(recipe), *baseline))


def _scale(metric: str) -> int:
    return 100 if metric in (*MAIN, *OTHERS) else 1


def _number(value: float | None, metric: str) -> Cell:
    if value is None:
        return Cell("-")
    scale = _scale(metric)
    return Cell(f"{scale * value:.{2 if scale == 100 else 3}f}", value)


def _interval(row: Result | Difference, metric: str, sign: str = "") -> str:
    if row.ci95 is None:
        return ""
    digits = 3 if _scale(metric) == 1 else 2 if sign else 1
    low, high = (f"{_scale(metric) * end:{sign}.{digits}f}" for end in row.ci95)
    return f"[{low}, {high}]"


def _low(row: Result) -> float | None:
    return None if row.ci95 is None else row.ci95[0]


def _share(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{100 * value:.1f} %", value)


def _against(row: Result, metric: str) -> list[Cell]:
    """Difference, p and best share."""
    held, scale = row.baseline, _scale(metric)
    difference = p = Cell("")
    if held is not None:
        difference = p = Cell("-")
        if held.value is not None:
            shown = f"{scale * held.value:+.{2 if scale == 100 else 3}f}"
            difference = Cell(f"{shown} {_interval(held, metric, '+')}".rstrip(), held.value)
        if held.p_holm is not None:
            p = Cell(f"{held.p_holm:.4f}", held.p_holm)
    return [difference, p, _share(row.best_share)]


def _datasets(report: Report) -> list[str]:
    return list(dict.fromkeys(row.dataset for row in report.results))


def protocol_rows(report: Report, words: dict[str, str]) -> list[tuple[str, str]]:
    """The protocol as names and values."""
    said = report.protocol
    rows = [
        (words["command"], said.command or words["python_call"]),
        (words["model"], report.model["name"]),
        (words["model_sha256"], said.model_sha256),
    ]
    rows += [
        (f"{words['data']}: {used.name} ({words['role_' + used.role]})", _used(used, words))
        for used in said.data
    ]
    if report.fit is not None:
        source = words["scored_texts"] if report.fit["on_data"] else report.fit["source"]
        read = f"{source}, {report.fit['texts']:,} {words['texts']}, SHA-256 {report.fit['sha256']}"
        rows.append((words["fitted_on"], read))
    rows += [
        (words["similarity"], ", ".join(said.similarities)),
        (words["aggregation"], said.aggregation),
        *_prompts(said, words),
        (words["max_length"], str(said.max_length)),
        (words["device"], said.device),
        (words["precision"], said.precision),
        (words["resamples"], f"{said.resamples:,}"),
        (words["seed"], str(said.seed)),
    ]
    if said.head is not None:
        rows.append((words["head"], said.head))
    versions = ", ".join(f"{name} {version}" for name, version in said.versions.items())
    return [*rows, (words["versions"], versions)]


def _used(used: DataUsed, words: dict[str, str]) -> str:
    """One set of data, in a line."""
    if isinstance(used, PairsUsed):
        sizes = f"{used.pairs:,} {words['pairs']}, {used.distinct_sentences:,} {words['distinct']}"
        ties = f"{words['tied_scores']} {100 * used.tied_scores:.1f} %, "
    else:
        sizes = (
            f"{used.queries:,} {words['queries']}, {used.documents:,} {words['documents']}, "
            f"{used.distinct_texts:,} {words['distinct_texts']}"
        )
        ties = f"{used.left_out:,} {words['left_out']}, " if used.left_out else ""
    cut = f"{words['truncated']} {100 * used.truncated_share:.1f} %"
    return f"{sizes}, {cut}, {ties}SHA-256 {used.sha256}"


def _prompts(said: Protocol, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What was put in front of texts, and how retrieval sets were searched."""
    prompts = {}
    if any(isinstance(used, PairsUsed) for used in said.data):
        prompts["prompt"] = said.prompt
    if said.search is not None:
        prompts["query_prompt"] = said.search.query_prompt
        prompts["document_prompt"] = said.search.document_prompt
    for name, prompt in prompts.items():
        yield words[name], repr(prompt) if prompt else words["none"]
    if said.search is not None:
        yield words["index"], said.search.index
        yield words["depth"], f"{said.search.depth:,}"


def page_data(report: Report, language: str) -> dict[str, Any]:
    """What the script draws from."""
    main = report.deciding(*MAIN)
    metrics = {row.dataset: row.metric for row in main}
    words = labels(language)
    evidence = {of_set.pairs.name: of_set for of_set in report.evidence}
    diagnoses = {diagnosis.dataset: diagnosis for diagnosis in report.diagnoses}
    datasets = [
        {
            "name": name,
            "metric": words.get(metrics[name], metrics[name]),
            "scores": [
                {
                    "recipe": row.recipe,
                    "value": row.value,
                    "ci95": row.ci95,
                    "difference": row.baseline and row.baseline.value,
                    "difference_ci95": row.baseline and row.baseline.ci95,
                }
                for row in main
                if row.dataset == name and row.similarity == report.decided_by
            ],
            # Of pairs only.
            "points": _points(evidence[name]) if name in evidence else None,
            "diagnosis": asdict(diagnoses[name]) if name in diagnoses else None,
        }
        for name in _datasets(report)
    ]
    return {
        "words": words,
        "best": report.best_name,
        "baseline": report.baseline,
        "ranking": report.ranking(),
        "layers": _layers(report),
        "datasets": datasets,
    }


def _points(evidence: Evidence) -> dict[str, Any]:
    """Pairs and their predictions, a seeded sample where there are many."""
    pairs = evidence.pairs
    n = len(pairs.scores)
    places = np.arange(n)
    if n > POINTS:
        places = np.sort(np.random.default_rng(0).choice(n, POINTS, replace=False))
    return {
        "n": n,
        "scores": pairs.scores[places].tolist(),
        "sentence1": [pairs.sentence1[place][:MAX_CHARACTERS] for place in places],
        "sentence2": [pairs.sentence2[place][:MAX_CHARACTERS] for place in places],
        "predictions": {
            recipe: [float(f"{x:.{_DIGITS}g}") for x in values[places]]
            for recipe, values in evidence.predictions.items()
            if np.isfinite(values).all()
        },
    }


def _layers(report: Report) -> dict[str, tuple[str, int]]:
    """Pooling and hidden state of the recipes that have one of each, and no step."""
    top = int(report.model["layers"])
    return {
        name: (recipe.poolings[0], recipe.layers[0] % (top + 1))
        for name, recipe in report.compared.items()
        if len(recipe.poolings) == len(recipe.layers) == 1
        and not recipe.steps
        and recipe.poolings != ("pooler",)
    }
