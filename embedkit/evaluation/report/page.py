"""The contents of report.html: its tables, run metadata, and the data that the script draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedkit.evaluation.error_analysis import MAX_CHARACTERS, PairPredictions
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.formatting import delta, interval, number, p_value, percent
from embedkit.evaluation.report.locale import catalogue
from embedkit.evaluation.results import MAIN_METRICS, RETRIEVAL, Result
from embedkit.evaluation.run_metadata import DataUsed, ModelRun, PairsUsed
from embedkit.evaluation.significance import significant

POINTS = 1500  # pairs of a data set in the page at most
_DIGITS = 4  # of a prediction in the page
STANDINGS = ("best", "baseline", "better", "worse", "other")  # of a recipe; a colour each


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    value: float | str | None = None  # what the column sorts by; None last
    marks: tuple[str, ...] = ()  # words beside the text
    kind: str = ""  # better or worse, of a significant difference


@dataclass(frozen=True)
class ResultTable:
    """The results on one data set; a row's recipe is its first cell."""

    dataset: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def result_table(report: ReportData, dataset: str, words: dict[str, str]) -> ResultTable:
    """A row for each recipe and similarity, best first."""
    by_row: dict[tuple[str, str], dict[str, Result]] = {}
    for row in report.deciding(*{row.metric for row in report.results}):
        if row.dataset == dataset and row.candidate not in report.equal:
            by_row.setdefault((row.candidate, row.similarity), {})[row.metric] = row
    first, *others = dict.fromkeys(metric for of_row in by_row.values() for metric in of_row)
    similarities = sorted(
        dict.fromkeys(name for _, name in by_row), key=lambda name: name != report.decided_by
    )
    order = report.rows()
    # A recipe that the model does not have has no subsets.
    subsets = [*dict.fromkeys(name for of in by_row.values() for name in of[first].subsets or {})]
    rows = []
    for recipe, similarity in sorted(
        by_row, key=lambda key: (similarities.index(key[1]), order.index(key[0]))
    ):
        by_metric = by_row[recipe, similarity]
        main = by_metric[first]
        marks = _marks(report, recipe, words) if similarity == report.decided_by else ()
        if equals := report.equals(recipe):
            marks = (*marks, f"= {', '.join(equals)}")
        cells = [(words[report.kind], Cell(recipe, recipe, marks))]
        if len(similarities) > 1:
            cells.append((words["similarity"], Cell(similarity, similarity)))
        cells.append((words.get(first, first), _value(main.value, first)))
        low = main.ci95 and main.ci95[0]
        cells.append((words["interval"], Cell(interval(main.ci95, first), low)))
        if report.baseline is not None:
            headings = (words[name] for name in ("difference", "p_holm", "best_in"))
            tested = _difference(main, first, report.run_metadata.resamples)
            cells += zip(headings, tested, strict=True)
        for name in subsets:
            part = (main.subsets or {}).get(name)
            cells.append((name, _value(part.value if part else None, first)))
        for name in others:
            value = by_metric[name].value if name in by_metric else None
            cells.append((words.get(name, name), _value(value, name)))
        if first != RETRIEVAL.main:
            cells.append((words["ties"], Cell(percent(main.ties), main.ties)))
        rows.append(cells)
    shown = tuple(tuple(cell for _, cell in cells) for cells in rows)
    return ResultTable(dataset, tuple(heading for heading, _ in rows[0]), shown)


def _marks(report: ReportData, recipe: str, words: dict[str, str]) -> tuple[str, ...]:
    baseline = ["baseline"] * (recipe == report.row_of(report.baseline or ""))
    return tuple(words[mark] for mark in (*report.marks(recipe), *baseline))


def _value(value: float | None, metric: str) -> Cell:
    return Cell(number(value, metric), value)


def _difference(row: Result, metric: str, resamples: int) -> list[Cell]:
    """Difference to the baseline, p and best share."""
    held = row.baseline
    share = Cell(percent(row.best_share), row.best_share)
    if held is None:
        return [Cell(""), Cell(""), share]
    p = Cell(p_value(held, resamples), held.p_holm)
    return [Cell(delta(held, metric), held.value, kind=_significance(row)), p, share]


def _significance(row: Result) -> str:
    """Whether a main metric is significantly `better` or `worse` than the baseline's; or empty."""
    held = row.baseline
    if not significant(held) or held is None or held.value is None:
        return ""
    return "better" if held.value > 0 else "worse"


def _standing(report: ReportData, row: Result) -> str:
    """What the colour of a recipe says: baseline, best, better, worse, or other."""
    if row.candidate == report.row_of(report.baseline or ""):
        return "baseline"
    return "best" if row.candidate == report.best_name else _significance(row) or "other"


def legend(report: ReportData, dataset: str, words: dict[str, str]) -> dict[str, str]:
    """What each colour in the plots of a data set says, and what the best recipe is worth."""
    best = words["best" if report.selection is None else "selected"]
    texts: dict[str, list[str]] = {}
    for row in _drawn(report, dataset):
        key = _standing(report, row)
        tested = row.baseline is not None and row.baseline.p_holm is not None
        worth = words[(_significance(row) or "other") if tested else "untested"]
        if key == "baseline":
            text = f"{words[key]}, {best}" if row.candidate == report.best_name else words[key]
        else:
            text = f"{best}: {worth}" if key == "best" else worth
        texts.setdefault(key, []).append(text)
    return {key: " / ".join(dict.fromkeys(texts[key])) for key in STANDINGS if key in texts}


def _drawn(report: ReportData, dataset: str) -> list[Result]:
    """The values in the plots of a data set, best first."""
    rows = report.scores(dataset)
    drawn = [rows[recipe] for recipe in report.rows() if recipe in rows]
    return [row for row in drawn if row.value is not None]


def metadata_rows(report: ReportData, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The run metadata as names and values; those of several models have a line for each."""
    metadata, search, one_model = report.run_metadata, report.run_metadata.search, not report.models
    yield words["date"], metadata.date.replace("T", " ")
    yield words["command"], metadata.command or words["python_call"]
    for name, run in report.models.items():
        yield f"{words['model']}: {name}", _model_line(run, words)
    if one_model:
        yield words["model"], report.model["name"]
        yield words["model_sha256"], metadata.model_sha256
    for used in metadata.data:
        role = words[f"role_{used.role}"]
        yield f"{words['data']}: {used.name} ({role})", _data_line(used, words)
    if report.fit is not None:
        source = words["scored_texts"] if report.fit["on_data"] else report.fit["source"]
        texts = _count(words, texts=report.fit["texts"])
        yield words["fitted_on"], f"{source}, {texts}, SHA-256 {report.fit['sha256']}"
    yield words["similarity"], ", ".join(metadata.similarities)
    yield words["aggregation"], metadata.aggregation
    prompts = {}
    if any(isinstance(used, PairsUsed) for used in metadata.data):
        prompts["prompt"] = metadata.prompt
    if search is not None:
        prompts |= {"query_prompt": search.query_prompt, "document_prompt": search.document_prompt}
    for name, prompt in prompts.items() if one_model else ():
        yield words[name], repr(prompt) if prompt else words["none"]
    if search is not None:
        yield words["index"], search.index
        yield words["depth"], f"{search.depth:,}"
    if one_model:
        yield words["max_length"], str(metadata.max_length)
        yield words["device"], metadata.device
        yield words["precision"], _computed(metadata.precision, report.model)
    yield words["resamples"], f"{metadata.resamples:,}"
    yield words["seed"], str(metadata.seed)
    if metadata.head is not None:
        yield words["head"], metadata.head
    versions = (f"{name} {version}" for name, version in metadata.versions.items())
    yield words["versions"], ", ".join(versions)


def _count(words: dict[str, str], **counts: int) -> str:
    """Such as `2 pairs, 3 distinct sentences`; the keywords name the words."""
    return ", ".join(words["count"].format(n=n, what=words[key]) for key, n in counts.items())


def _data_line(used: DataUsed, words: dict[str, str]) -> str:
    if isinstance(used, PairsUsed):
        sizes = _count(words, pairs=used.pairs, distinct=used.distinct_sentences)
        ties = f"{words['tied_scores']} {percent(used.tied_scores)}, "
    else:
        counts = ("queries", "documents", "distinct_texts")
        sizes = _count(words, **{name: getattr(used, name) for name in counts})
        ties = f"{_count(words, left_out=used.left_out)}, " if used.left_out else ""
    truncated = f"{words['truncated']} {percent(used.truncated_share)}"
    return f"{sizes}, {truncated}, {ties}SHA-256 {used.sha256}"


def _model_line(run: ModelRun, words: dict[str, str]) -> str:
    """Where one of several models is from, and what was set for it."""
    prompts = ", ".join(
        f"{words['prompt' if role == 'sentence' else f'{role}_prompt']} {prompt!r}"
        for role, prompt in run.prompts.items()
        if prompt
    )
    precision = _computed(run.used.precision, run.described)
    used = (run.used.device, precision, f"{words['max_length']} {run.used.max_length}")
    parts = (run.described["name"], *used, prompts, f"SHA-256 {run.used.sha256}")
    return ", ".join(filter(None, parts))


def _computed(precision: str, model: Mapping[str, Any]) -> str:
    """Such as `bfloat16 (openvino)`."""
    return f"{precision} ({model['engine']})" if model.get("engine") else precision


def page_data(report: ReportData, language: str) -> dict[str, Any]:
    """What the script draws from."""
    metrics = {row.dataset: row.metric for row in report.deciding(*MAIN_METRICS)}
    words = catalogue(language)["labels"]
    predictions = {of_set.pairs.name: of_set for of_set in report.pair_predictions}
    analyses = {analysis.dataset: analysis for analysis in report.error_analyses}
    queries = {analysis.dataset: analysis for analysis in report.retrieval_error_analyses}
    datasets = [
        {
            "name": name,
            "metric": words.get(metrics[name], metrics[name]),
            "scores": [
                {
                    "recipe": row.candidate,
                    "standing": _standing(report, row),
                    "value": row.value,
                    "ci95": row.ci95,
                    "difference": row.baseline and row.baseline.value,
                    "difference_ci95": row.baseline and row.baseline.ci95,
                }
                for row in _drawn(report, name)
            ],
            # Of pairs only.
            "points": _points(predictions[name]) if name in predictions else None,
            "diagnosis": asdict(analyses[name]) if name in analyses else None,
            "queries": asdict(queries[name]) if name in queries else None,
        }
        for name in report.datasets
    ]
    return {
        "words": words,
        "prediction": words.get(f"similarity_{report.decided_by}", words["prediction"]),
        "best": report.best_name,
        "baseline": report.baseline and report.row_of(report.baseline),
        "equal": report.equal,
        "ranking": report.ranking(),
        "datasets": datasets,
    }


def _points(predictions: PairPredictions) -> dict[str, Any]:
    """Pairs and their predictions, a seeded sample if there are many."""
    pairs = predictions.pairs
    n = len(pairs.scores)
    rows = np.arange(n)
    if n > POINTS:
        rows = np.sort(np.random.default_rng(0).choice(n, POINTS, replace=False))
    return {
        "n": n,
        "scores": pairs.scores[rows].tolist(),
        "sentence1": [pairs.sentence1[row][:MAX_CHARACTERS] for row in rows],
        "sentence2": [pairs.sentence2[row][:MAX_CHARACTERS] for row in rows],
        "predictions": {
            recipe: [float(f"{x:.{_DIGITS}g}") for x in values[rows]]
            for recipe, values in predictions.values.items()
            if np.isfinite(values).all()
        },
    }
