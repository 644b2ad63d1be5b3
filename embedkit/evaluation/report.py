"""The report: a value that prints, exports and names the best recipe."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedkit.errors import InputError
from embedkit.evaluation.sts import Result
from embedkit.recipe import Recipe
from embedkit.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
_Column: TypeAlias = tuple[str, str, str | None]  # dataset, similarity, subset
OPTIMISTIC = (
    "The best of several recipes was chosen on the same pairs that score it, so its score is "
    "optimistic."
)


@dataclass(frozen=True)
class Report:
    """What compare and evaluate return.

    Attributes:
        model: what was compared: name, family, layers, width, own recipe, maximum length, ...
        results: a row for each recipe, dataset, similarity, metric and aggregation.
        aggregation: the one that decides and that tables show.
        sentences: in the pairs.
        forward_passes: sentences that the encoder ran: each distinct one once.
        truncated: distinct sentences that were cut to the maximum length.
        seconds: spent loading, encoding and scoring.
    """

    model: dict[str, Any]
    results: tuple[Result, ...]
    aggregation: str
    sentences: int
    forward_passes: int
    truncated: int
    seconds: dict[str, float]

    @cached_property
    def recipes(self) -> list[str]:
        """In the order in which they were compared."""
        return list(dict.fromkeys(result.recipe for result in self.results))

    @property
    def best(self) -> Recipe | None:
        """The recipe of the highest Spearman correlation, averaged over the datasets.

        Of recipes that agree to six digits the model's own comes first. None where no recipe has a
        value on every dataset.
        """
        name = self._best
        return None if name is None else _parse_printed(name)

    @cached_property
    def _best(self) -> str | None:
        scores: dict[str, float] = {}
        for recipe in self.recipes:
            values = [result.value for result in self._headline(recipe)]
            defined = [value for value in values if value is not None]
            if len(defined) == len(values):
                scores[recipe] = round(sum(defined) / len(defined), 6)
        own = self.model["recipe"]
        return max(scores, key=lambda recipe: (scores[recipe], recipe == own), default=None)

    def _headline(self, recipe: str) -> list[Result]:
        """One result a dataset: the first similarity, Spearman, the deciding aggregation."""
        first = self.results[0].similarity
        rows = [
            result
            for result in self.results
            if (result.recipe, result.similarity, result.metric) == (recipe, first, "spearman")
        ]
        with_subsets = {result.dataset for result in rows if result.aggregation != "all"}
        return [
            result
            for result in rows
            if result.aggregation == (self.aggregation if result.dataset in with_subsets else "all")
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, the contents of report.json."""
        best = self._best
        return {
            "schema": SCHEMA,
            "embedkit": __version__,
            "model": self.model,
            "results": [
                {key: value for key, value in asdict(result).items() if _is_said(key, value)}
                for result in self.results
            ],
            "best": best if len(self.recipes) > 1 else None,
            "notes": self.notes,
            "sentences": self.sentences,
            "forward_passes": self.forward_passes,
            "truncated": self.truncated,
            "seconds": self.seconds,
        }

    def to_json(self) -> str:
        """report.json as text; see the README for its fields."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the numbers, in sentences."""
        share = 100 * self.truncated / self.forward_passes
        notes = [
            f"{self.forward_passes:,} distinct of {self.sentences:,} sentences were encoded, each "
            f"once; {self.truncated:,} of them ({share:.1f} %) were cut to "
            f"{self.model['max_length']} tokens."
        ]
        for aggregation in sorted({row.aggregation for row in self._columns_of_best}):
            if aggregation != "all":
                notes.append(f"Subsets are aggregated as {aggregation}.")
        reasons = {
            result.recipe: result.reason
            for recipe in self.recipes
            for result in self._headline(recipe)
            if result.reason
        }
        notes += [f"{recipe} has no value: {reason}." for recipe, reason in reasons.items()]
        if len(self.recipes) > 1:
            notes.append(OPTIMISTIC)
        return notes

    @property
    def _columns_of_best(self) -> list[Result]:
        return self._headline(self.recipes[0])

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table that people see: headings, and a row of texts for each recipe.

        Spearman and Pearson times 100 for each dataset, similarity and aggregation; subsets apart.
        """
        if len(self.recipes) > 1:
            return self._comparison()
        return self._evaluation()

    def _comparison(self) -> tuple[list[str], list[list[str]]]:
        columns: dict[_Column, str] = {}
        cells: dict[str, dict[_Column, float | None]] = {}
        several = len({result.dataset for result in self.results}) > 1
        similarities = list(dict.fromkeys(result.similarity for result in self.results))
        for result in self.results:
            is_shown = result.metric == "spearman" and result.aggregation in self._shown(result)
            if not is_shown:
                continue
            row = cells.setdefault(result.recipe, {})
            key: _Column = (result.dataset, result.similarity, None)
            parts = [result.dataset if several else ""]
            parts += [result.similarity if len(similarities) > 1 else ""]
            parts += [result.aggregation if result.subsets else ""]
            columns.setdefault(key, " ".join(filter(None, parts)) or "spearman")
            row[key] = result.value
            if len(similarities) == 1:
                for name, subset in (result.subsets or {}).items():
                    key = (result.dataset, result.similarity, name)
                    columns.setdefault(key, " ".join(filter(None, [parts[0], name])))
                    row[key] = subset.value
        best, own = self._best, self.model["recipe"]
        table = []
        for recipe in self._ranked:
            marks = [mark for mark, on in (("best", best), ("own", own)) if recipe == on]
            values = [_percent(cells[recipe].get(key)) for key in columns]
            table.append([recipe, *values, ", ".join(marks)])
        return ["recipe", *columns.values(), ""], table

    def _shown(self, result: Result) -> tuple[str, ...]:
        return (self.aggregation,) if result.subsets or self._has_subsets(result) else ("all",)

    def _has_subsets(self, result: Result) -> bool:
        return any(r.dataset == result.dataset and r.subsets for r in self.results)

    @property
    def _ranked(self) -> list[str]:
        """Recipes from best to worst; those without a value last."""

        def key(recipe: str) -> tuple[bool, float]:
            values = [result.value for result in self._headline(recipe)]
            defined = [value for value in values if value is not None]
            whole = len(defined) == len(values)
            return not whole, -sum(defined) if whole else 0.0

        return sorted(self.recipes, key=key)

    def _evaluation(self) -> tuple[list[str], list[list[str]]]:
        by_row: dict[tuple[str, str, str], dict[str, Result]] = {}
        for result in self.results:
            key = (result.dataset, result.similarity, result.aggregation)
            by_row.setdefault(key, {})[result.metric] = result
        table = []
        for (dataset, similarity, aggregation), metrics in by_row.items():
            both = metrics["spearman"], metrics["pearson"]
            values = [_percent(result.value) for result in both]
            table.append([dataset, f"{both[0].n:,}", similarity, aggregation, *values])
            if aggregation == "all":
                for name, subset in (both[0].subsets or {}).items():
                    other = (both[1].subsets or {})[name]
                    values = [_percent(subset.value), _percent(other.value)]
                    table.append([f"  {name}", f"{subset.n:,}", similarity, "", *values])
        return ["dataset", "pairs", "similarity", "aggregation", "spearman", "pearson"], table

    @property
    def title(self) -> str:
        own = self.model["recipe"]
        recipe = f", recipe {self.recipes[0]}" if len(self.recipes) == 1 else ""
        metric = "" if len(self.recipes) == 1 else ", Spearman"
        kind = f"{self.model['family']}, {self.model['layers']} layers"
        described = "" if own else ", no recipe of its own"
        return f"{self.model['name']} ({kind}{described}){recipe}{metric} x 100"

    def to_markdown(self) -> str:
        """report.md: the table and the notes."""
        headings, table = self.rows()
        left = 1 if len(self.recipes) > 1 else 0
        align = ["---"] + ["---:" if left else "---"] * (len(headings) - 1)
        lines = [f"# {self.title}", ""]
        for row in (headings, align, *table):
            lines.append(f"| {' | '.join(_escape(cell) for cell in row)} |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def table(self) -> Table:
        """The table for a terminal; it knows the widths of Korean letters."""
        from rich.table import Table
        from rich.text import Text

        headings, rows = self.rows()
        table = Table(title=Text(self.title), title_justify="left", header_style="bold")
        for place, heading in enumerate(headings):
            is_text = place == 0 or (len(self.recipes) == 1 and place in (2, 3)) or not heading
            justify = "left" if is_text else "right"
            table.add_column(Text(heading), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in rows:
            style = "bold" if row[-1].startswith("best") else None
            table.add_row(*(Text(cell) for cell in row), style=style)
        return table

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        console = Console(file=text, width=100)
        console.print(self.table())
        for note in self.notes:
            console.print(note, style=None, markup=False, highlight=False)
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


def _is_said(key: str, value: object) -> bool:
    return value is not None or key not in ("reason", "subsets")


def _parse_printed(recipe: str) -> Recipe:
    """A recipe as it prints; a model's own may have the step dense, which cannot be typed."""
    head, *steps = recipe.split("/")
    plain = Recipe.parse(head)
    return Recipe(plain.poolings, plain.layers, tuple(steps))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _escape(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")
