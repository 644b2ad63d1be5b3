"""The report: a value that prints, exports and names the best recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError, printable
from embedkit.evaluation.bootstrap import RESAMPLES
from embedkit.evaluation.fitted import ON_DATA
from embedkit.evaluation.kinds import KINDS, MAIN, Kind
from embedkit.evaluation.search import EXACT
from embedkit.evaluation.sts import Result
from embedkit.evaluation.tables import Grid, comparison, evaluation, heads
from embedkit.recipe import Recipe
from embedkit.steps import Bound
from embedkit.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
OPTIMISTIC = (
    "The best of several recipes was chosen on the same data that scores it, so its score is "
    "optimistic."
)


@dataclass(frozen=True)
class Report:
    """What compare and evaluate return; it prints as a table.

    Attributes:
        model: what was scored: name, family, layers, width, own recipe, maximum length, ...
        results: a row for each recipe, dataset, similarity, metric and aggregation.
        compared: recipes by the names that `results` uses.
        fitted: of these, the ones that were fitted for the report, for `Embedder.with_recipe`.
        decided_by: the similarity that decides what is best; `head` for heads.
        aggregation: of data with subsets, the one that decides and that tables show.
        retrieval: how retrieval sets were searched: index, depth of the rankings, prompts, and for
            each set its documents and the queries that were left out of their own rankings; None
            where there are only pairs.
        sentences: in the data, queries and documents among them.
        forward_passes: sentences that the encoder ran: each distinct one once.
        truncated: distinct sentences that were cut to the maximum length.
        seconds: spent encoding and scoring.
    """

    model: dict[str, Any]
    results: tuple[Result, ...]
    compared: dict[str, Recipe]
    fitted: dict[str, Bound]
    decided_by: str
    aggregation: str
    retrieval: dict[str, Any] | None
    sentences: int
    forward_passes: int
    truncated: int
    seconds: dict[str, float]

    @property
    def best(self) -> Recipe | None:
        """The recipe of the highest main metric (see `MAIN`), averaged over the datasets.

        The first similarity and the report's aggregation decide; of recipes that agree to six
        digits the model's own wins. None where no recipe has a value on every dataset.
        """
        return None if self.best_name is None else self.compared[self.best_name]

    @cached_property
    def best_name(self) -> str | None:
        """`best` as results name it."""
        first = self.ranking()[0]
        return None if self._averages[first] is None else first

    def ranking(self) -> list[str]:
        """The names of the recipes from best to worst; those without a value last."""
        own = self.model["recipe"]

        def key(recipe: str) -> tuple[bool, float, bool]:
            average = self._averages[recipe]
            return average is None, -round(average or 0, 6), recipe != own

        return sorted(self.compared, key=key)

    @cached_property
    def _averages(self) -> dict[str, float | None]:
        """What decides for each recipe: None where a dataset has no value."""
        values: dict[str, list[float | None]] = {recipe: [] for recipe in self.compared}
        for result in self.deciding(*MAIN):
            if result.similarity == self.decided_by:
                values[result.recipe].append(result.value)
        averages: dict[str, float | None] = {}
        for recipe, of_recipe in values.items():
            defined = [value for value in of_recipe if value is not None]
            whole = 0 < len(defined) == len(of_recipe)
            averages[recipe] = sum(defined) / len(defined) if whole else None
        return averages

    def deciding(self, *metrics: str) -> list[Result]:
        """Results of metrics in the report's aggregation, or `all` where there are no subsets."""
        with_subsets = {row.dataset for row in self.results if row.aggregation != "all"}
        return [
            row
            for row in self.results
            if row.metric in metrics
            and row.aggregation == (self.aggregation if row.dataset in with_subsets else "all")
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the numbers, in sentences."""
        texts = "sentences" if self.retrieval is None else "texts"
        share = 100 * self.truncated / self.forward_passes
        notes = [
            f"{self.forward_passes:,} distinct of {self.sentences:,} {texts} were encoded, each "
            f"once; {self.truncated:,} of them ({share:.1f} %) were cut to "
            f"{self.model['max_length']} tokens."
        ]
        if self.retrieval is not None:
            notes += _searched(self.retrieval)
        rows = self.deciding(*MAIN)
        if self.aggregation != "all" and any(row.aggregation != "all" for row in rows):
            notes.append(f"Subsets are aggregated as {self.aggregation}.")
        reasons = {(row.recipe, row.reason): None for row in rows if row.reason}
        notes += [f"{recipe} has no value: {reason}." for recipe, reason in reasons]
        if self.fit is not None:
            notes.append(self._fit_note(self.fit))
        if any(row.difference for row in self.results):
            notes.append(
                "Differences are of the head to a line on the cosine, both fitted on the training "
                f"pairs, with the 95 % interval of a paired bootstrap ({RESAMPLES:,} resamples)."
            )
        if any(row.ci95 for row in rows):
            units = [kind.units for kind in self.kinds]
            notes.append(
                f"Intervals are of a bootstrap over the {' or '.join(units)} ({RESAMPLES:,} "
                f"resamples{', within subsets' if 'pairs' in units else ''})."
            )
        if len(self.compared) > 1:
            notes.append(OPTIMISTIC)
        return notes

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
            "on_data": first.source == ON_DATA,
            "recipes": {name: list(fit.notes) for name, fit in fits.items()},
        }

    @staticmethod
    def _fit_note(fit: dict[str, Any]) -> str:
        note = f"{', '.join(fit['recipes'])}: fitted on {fit['texts']:,} texts ({fit['source']})."
        if fit["on_data"]:
            note += " Their scores were not used, but figures for other texts may be lower."
        dropped = (f"{name}: {note}." for name, notes in fit["recipes"].items() for note in notes)
        return " ".join((note, *dropped))

    @property
    def title(self) -> str:
        """The model, and what the numbers are."""
        described = f"{self.model['family']}, {self.model['layers']} layers"
        if self.model["recipe"] is None:
            described += ", no recipe of its own"
        if len(self.compared) > 1:
            shown = (
                "correlations"
                if self._has_heads
                else " and ".join(kind.title for kind in self.kinds)
            )
            return f"{self.model['name']} ({described}): {shown} x 100"
        (recipe,) = self.compared
        kinds = " and ".join(kind.metrics for kind in self.kinds)
        by = ", by its head" if self.decided_by == "head" else ""
        return f"{self.model['name']} ({described}), recipe {recipe}{by}: {kinds} x 100"

    @property
    def kinds(self) -> list[Kind]:
        """Those of the data."""
        metrics = {result.metric for result in self.results}
        return [kind for kind in KINDS if kind.main in metrics]

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
            "notes": self.notes,
            "retrieval": self.retrieval,
            "sentences": self.sentences,
            "forward_passes": self.forward_passes,
            "truncated": self.truncated,
            "seconds": self.seconds,
        }

    def to_json(self) -> str:
        """report.json as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self) -> str:
        """report.md: the table and the notes."""
        notes = "\n".join(f"- {printable(note)}" for note in self.notes)
        return f"# {printable(self.title)}\n\n{self.grid().markdown()}\n\n{notes}\n"

    def print(self, console: Console) -> None:
        """Table and notes on a console of rich's."""
        console.print(printable(self.title), style="bold", markup=False, highlight=False)
        console.print(self.grid().terminal())
        for note in self.notes:
            console.print(printable(note), markup=False, highlight=False)

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=100))
        return text.getvalue()

    def save(self, folder: str | Path) -> None:
        """Write report.json and report.md into a folder, which is made if need be.

        Raises:
            InputError: the folder cannot be written.
        """
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            (target / "report.json").write_text(self.to_json() + "\n", encoding="utf-8")
            (target / "report.md").write_text(self.to_markdown(), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{target}: the report cannot be written ({error.strerror})"
            ) from error


def _searched(retrieval: dict[str, Any]) -> Iterator[str]:
    """How retrieval sets were searched, in sentences."""
    index = retrieval["index"]
    for name, documents in retrieval["documents"].items():
        by = "exact search" if index == EXACT else f"an approximate index, {index}"
        yield (
            f"Each query of {name} ranks its {documents:,} documents by {by}, to the first "
            f"{retrieval['depth']:,}."
        )
        left_out = retrieval["left_out"][name]
        if left_out:
            yield (
                f"{left_out:,} queries of {name} are documents too, and were left out of their own "
                "rankings, as in BEIR."
            )
    query, document = (retrieval["prompts"][role] for role in ("query", "document"))
    if query or document:
        yield f"The prompt of queries is {query!r}, of documents {document!r}."


def _said(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the fields that do not apply."""
    optional = ("reason", "subsets", "difference")
    return {key: value for key, value in result.items() if value is not None or key not in optional}
