"""The report: a value that prints, exports and names the best recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import as_path
from embedkit.errors import InputError, printable
from embedkit.evaluation.error_analysis import Diagnosis, Evidence
from embedkit.evaluation.exact_search import EXACT
from embedkit.evaluation.fitting import ON_DATA
from embedkit.evaluation.report.notes import check_language, in_words
from embedkit.evaluation.report.tables import Grid, comparison, evaluation, heads, in_markdown
from embedkit.evaluation.results import (
    CROSS_ENCODER,
    KINDS,
    MAIN,
    PAIRS,
    RETRIEVAL,
    Kind,
    Result,
    averages,
    deciding,
    ranked,
)
from embedkit.evaluation.run_metadata import Protocol, RetrievalUsed
from embedkit.evaluation.selection import Selection
from embedkit.files import write_text
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.recipe import Recipe
from embedkit.version import __version__

if TYPE_CHECKING:
    from rich.console import Console


SCHEMA = 1


FILES = ("report.json", "report.md", "report.html")  # the results first, which need no drawing


_INTERVALS = {
    (PAIRS,): "intervals",
    (RETRIEVAL,): "intervals_queries",
    (PAIRS, RETRIEVAL): "intervals_both",
}


_LEVEL = 0.05  # of significance, where a sentence speaks of it


_APART = 0.25  # of the wider range: labels whose ends differ by more may be on another scale


@dataclass(frozen=True)
class Report:
    """What compare and evaluate return; it prints as a table.

    Attributes:
        model: what was scored: name, family, layers, width, own recipe, maximum length, ...
        results: a row for each recipe, dataset, similarity, metric and aggregation.
        compared: recipes by the names that `results` uses.
        fitted: of these, the ones that were fitted for the report, for `Embedder.with_recipe`.
        decided_by: the similarity that decides what is best; `head` for heads, and `cross-encoder`
            for one.
        protocol: how the numbers came about.
        sentences: in the data, queries and documents among them.
        forward_passes: sentences that the encoder ran: each distinct one once.
        truncated: distinct sentences that were cut to the maximum length.
        seconds: spent encoding and scoring.
        evidence: for each set of pairs these and each recipe's predictions; not in report.json.
        diagnoses: for each set of pairs.
        baseline: the recipe that the others are held against, where there are others.
        selection: how the best was chosen, where it was not on the data that scores it.
    """

    model: dict[str, Any]
    results: tuple[Result, ...]
    compared: dict[str, Recipe]
    fitted: dict[str, BoundRecipe]
    decided_by: str
    protocol: Protocol
    sentences: int
    forward_passes: int
    truncated: int
    seconds: dict[str, float]
    evidence: tuple[Evidence, ...]
    diagnoses: tuple[Diagnosis, ...]
    baseline: str | None = None
    selection: Selection | None = None

    @property
    def aggregation(self) -> str:
        """Of data with subsets, the aggregation that decides and that tables show."""
        return self.protocol.aggregation

    @property
    def best(self) -> Recipe | None:
        """The recipe that was selected, or else the one of the highest main metric (see `MAIN`).

        The metric is averaged over the datasets; the first similarity and the report's aggregation
        decide; of recipes that agree to six digits the model's own wins. None where no recipe has a
        value on every dataset.
        """
        return None if self.best_name is None else self.compared[self.best_name]

    @cached_property
    def best_name(self) -> str | None:
        """`best` as results name it."""
        if self.selection is not None:
            return self.selection.recipe
        first = self.ranking()[0]
        return None if self._averages[first] is None else first

    def ranking(self) -> list[str]:
        """The names of the recipes from best to worst here; those without a value last."""
        return ranked(self._averages, self.model["recipe"])

    @cached_property
    def _averages(self) -> dict[str, float | None]:
        return averages(self.results, self.compared, self.decided_by, self.aggregation)

    def marks(self, recipe: str) -> list[str]:
        """What tables say beside a recipe: best or selected, own, fitted, fitted_on_the_data.

        One recipe alone is the best of nothing.
        """
        chosen = "best" if self.selection is None else "selected"
        best = self.best_name if len(self.compared) > 1 else None
        marks = {chosen: best, "own": self.model["recipe"]}
        found = [mark for mark, name in marks.items() if name == recipe]
        if self.fit is not None and recipe in self.fitted:
            found.append("fitted_on_the_data" if self.fit["on_data"] else "fitted")
        return found

    def deciding(self, *metrics: str) -> list[Result]:
        """Results of metrics in the report's aggregation, or `all` where there are no subsets."""
        return deciding(self.results, metrics, self.aggregation)

    @property
    def kinds(self) -> list[Kind]:
        """Those of the data."""
        metrics = {result.metric for result in self.results}
        return [kind for kind in KINDS if kind.main in metrics]

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the numbers, in sentences."""
        return self.notes_in("en")

    def notes_in(self, language: str) -> list[str]:
        """The notes in English (en) or Korean (ko)."""
        return [in_words(key, language, **values) for key, values in self._notes()]

    def _notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        encoded = "encoded" if self.protocol.search is None else "encoded_texts"
        yield (
            "read_together" if self.decided_by == CROSS_ENCODER else encoded,
            {
                "distinct": self.forward_passes,
                "sentences": self.sentences,
                "truncated": self.truncated,
                "share": 100 * self.truncated / self.forward_passes,
                "max_length": self.protocol.max_length,
            },
        )
        yield from self._search_notes(self.protocol)
        rows = self.deciding(*MAIN)
        if self.aggregation != "all" and any(row.aggregation != "all" for row in rows):
            yield "aggregation", {"aggregation": self.aggregation}
        missing = [row for row in rows if row.reason]
        for key, recipe, reason in dict.fromkeys(
            ("no_value" if row.value is None else "no_interval", row.recipe, row.reason)
            for row in missing
        ):
            yield key, {"recipe": recipe, "reason": reason}
        yield from self._fit_notes(self.fit)
        yield from self._label_notes()
        if self._has_heads:
            yield "lines", {}
        if any(row.ci95 for row in rows):
            yield (
                _INTERVALS[tuple(self.kinds)],
                {"resamples": self.protocol.resamples, "seed": self.protocol.seed},
            )
        if self.baseline is not None:
            yield "baseline", {"baseline": self.baseline}
            tested = [row.baseline.p_holm for row in rows if row.baseline and row.baseline.ci95]
            if tested and all(p is not None and p >= _LEVEL for p in tested):
                yield "same", {"baseline": self.baseline}
        if self.selection is not None:
            yield from self._selection_notes(self.selection)
        elif len(self.compared) > 1:
            if len(winners := self._winners()) > 1:
                said = (f"{dataset} {recipe}" for dataset, recipe in winners.items())
                yield "winners", {"winners": ", ".join(said)}
            yield "optimistic", {}

    @property
    def warnings(self) -> list[str]:
        """The notes on labels that may be on another scale than those of the training."""
        return [in_words(key, **values) for key, values in self._label_notes()]

    def _label_notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if (trained := self.protocol.label_range) is None:
            return
        for pairs in (of_set.pairs for of_set in self.evidence):
            found = float(pairs.scores.min()), float(pairs.scores.max())
            apart = max(abs(a - b) for a, b in zip(found, trained, strict=True))
            if apart > max(high - low for low, high in (found, trained)) * _APART:
                (low, high), (first, last) = found, trained
                values = {"low": low, "high": high, "trained_low": first, "trained_high": last}
                yield "label_ranges", {"dataset": pairs.name, **values}

    def _winners(self) -> dict[str, str]:
        """The best recipe on each dataset that has one."""
        found = {}
        for dataset in dict.fromkeys(row.dataset for row in self.results):
            rows = [row for row in self.results if row.dataset == dataset]
            averaged = averages(rows, self.compared, self.decided_by, self.aggregation)
            first = ranked(averaged, self.model["recipe"])[0]
            if averaged[first] is not None:
                found[dataset] = first
        return found

    @staticmethod
    def _search_notes(protocol: Protocol) -> Iterator[tuple[str, dict[str, Any]]]:
        """How retrieval sets were searched."""
        search = protocol.search
        if search is None:
            return
        for used in protocol.data:
            if not isinstance(used, RetrievalUsed):
                continue
            yield (
                "exact" if search.index == EXACT else "approximate",
                {
                    "dataset": used.name,
                    "documents": used.documents,
                    "index": search.index,
                    "depth": search.depth,
                },
            )
            for key in ("left_out", "missing_documents", "queries_without_relevant"):
                if count := getattr(used, key):
                    yield key, {"count": count, "dataset": used.name}
        if search.query_prompt or search.document_prompt:
            prompts = {"query": search.query_prompt, "document": search.document_prompt}
            yield "prompts", prompts

    @property
    def fit(self) -> dict[str, Any] | None:
        """What recipes were fitted on, and what a reader must know of each; None if none was."""
        fits = {name: bound.fit for name, bound in self.fitted.items() if bound.fit}
        if not fits:
            return None
        first = next(iter(fits.values()))  # one reading of the texts serves all
        return {
            "source": first.source,
            "texts": first.texts,
            "sha256": first.sha256,
            "on_data": first.source == ON_DATA,
            "recipes": {name: list(fit.notes) for name, fit in fits.items()},
        }

    @staticmethod
    def _fit_notes(fit: dict[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        if fit is None:
            return
        said = {"recipes": ", ".join(fit["recipes"]), "texts": fit["texts"]}
        if fit["on_data"]:
            yield "fitted_on_data", said
        else:
            yield "fitted", {**said, "source": fit["source"]}
        for recipe, notes in fit["recipes"].items():
            for note in notes:
                yield "fit_note", {"recipe": recipe, "note": note}

    def _selection_notes(self, selection: Selection) -> Iterator[tuple[str, dict[str, Any]]]:
        datasets = ", ".join(selection.datasets)
        if selection.value is None:
            yield "selected_none", {"datasets": datasets}
            return
        yield (
            "selected",
            {
                "recipe": selection.recipe,
                "similarity": selection.similarity,
                "datasets": datasets,
                "value": 100 * selection.value,
            },
        )
        if selection.shared_pairs:
            yield "shared_pairs", {"count": selection.shared_pairs}

    @property
    def title(self) -> str:
        """The model, and what the numbers are."""
        described = f"{self.model['family']}, {self.model['layers']} layers"
        if self.model["recipe"] is None:
            described += ", no recipe of its own"
        if len(self.compared) > 1:
            titles = " and ".join(kind.title for kind in self.kinds)
            shown = "correlations" if self._has_heads else titles
            return f"{self.model['name']} ({described}): {shown} x 100"
        (recipe,) = self.compared
        kinds = " and ".join(kind.metrics for kind in self.kinds)
        if self.decided_by == CROSS_ENCODER:
            return (
                f"{self.model['name']} ({described}), a cross-encoder that reads {recipe}: "
                f"{kinds} x 100"
            )
        by = ", by its head" if self.decided_by == "head" else ""
        return f"{self.model['name']} ({described}), recipe {recipe}{by}: {kinds} x 100"

    @property
    def _has_heads(self) -> bool:
        return any(result.similarity == "line" for result in self.results)

    def grid(self) -> Grid:
        """The table that people see: recipes compared, or one recipe's datasets."""
        if self._has_heads:
            return heads(self)
        return comparison(self) if len(self.compared) > 1 else evaluation(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, the contents of report.json."""
        return {
            "schema": SCHEMA,
            "embedkit": __version__,
            "model": self.model,
            "results": [_said(asdict(result)) for result in self.results],
            "best": self.best_name if len(self.compared) > 1 else None,
            "fit": self.fit,
            "decided_by": self.decided_by,
            "aggregation": self.aggregation,
            "baseline": self.baseline,
            "selection": self._said_selection(),
            "protocol": asdict(self.protocol),
            "diagnosis": [asdict(diagnosis) for diagnosis in self.diagnoses],
            "notes": self.notes,
            "sentences": self.sentences,
            "forward_passes": self.forward_passes,
            "truncated": self.truncated,
            "seconds": self.seconds,
        }

    def _said_selection(self) -> dict[str, Any] | None:
        if self.selection is None:
            return None
        results = [_said(asdict(result)) for result in self.selection.results]
        return {**asdict(self.selection), "results": results}

    def with_command(self, command: str) -> Report:
        """The report with the command that made it in its protocol."""
        return replace(self, protocol=replace(self.protocol, command=command))

    def to_json(self) -> str:
        """report.json as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self) -> str:
        """report.md: the table and the notes."""
        notes = "\n".join(f"- {in_markdown(note)}" for note in self.notes)
        return f"# {in_markdown(self.title)}\n\n{self.grid().markdown()}\n\n{notes}\n"

    def to_html(self, lang: str = "en") -> str:
        """report.html: one self-contained page, in English (en) or Korean (ko).

        Raises:
            InputError: another language.
        """
        from embedkit.evaluation.report.html import render

        return render(self, lang)

    def _repr_html_(self) -> str:
        """What notebooks show: the table and the notes."""
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f"<p><b>{escape(self.title)}</b></p>{self.grid().html()}<ul>{notes}</ul>"

    def print(self, console: Console) -> None:
        """Table and notes on a console of rich's."""
        console.print(printable(self.title), style="bold", markup=False, highlight=False)
        notes = self.notes
        if left_out := self.grid().print(console):
            columns = ", ".join(left_out)
            notes = [f"Too narrow for: {columns}. report.md and report.json have them.", *notes]
        for note in notes:
            console.print(printable(note), markup=False, highlight=False)

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=100))
        return text.getvalue()

    def save(self, folder: str | Path, lang: str = "en") -> None:
        """Write report.json, report.md and report.html into a folder, which is made if need be.

        Args:
            folder: where.
            lang: of report.html, see `to_html`.

        Raises:
            InputError: the folder cannot be written, or an unknown language.
        """
        check_language(lang)
        as_path("folder", folder)
        for name in FILES:
            self.write(folder, name, lang)

    def write(self, folder: str | Path, name: str, lang: str = "en") -> None:
        """Write one of `FILES`; see `save`."""
        kinds: dict[str, Callable[[], str]] = {
            "json": self.to_json,
            "md": self.to_markdown,
            "html": partial(self.to_html, lang),
        }
        text = kinds[name.rpartition(".")[2]]().rstrip("\n") + "\n"
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            write_text(target / name, text)
        except OSError as error:
            raise InputError(
                f"{target}: the report cannot be written ({error.strerror})"
            ) from error


def _said(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the fields that do not apply."""
    optional = ("reason", "subsets", "ties", "difference", "baseline", "best_share")
    return {key: value for key, value in result.items() if value is not None or key not in optional}
