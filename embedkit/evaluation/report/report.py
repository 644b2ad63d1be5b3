"""The report that compare and evaluate return: values that print, export and name the best."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import as_path
from embedkit.dataframe import dataframe
from embedkit.errors import InputError, printable
from embedkit.evaluation.error_analysis import WORST
from embedkit.evaluation.report.columns import report_columns, report_csv
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.grid import Grid
from embedkit.evaluation.report.locale import catalogue, check_language, note
from embedkit.evaluation.report.notes import label_notes, notes_in
from embedkit.evaluation.report.query_tables import query_tables
from embedkit.evaluation.report.tables import table_of, title_of
from embedkit.evaluation.results import Result
from embedkit.files import write_text
from embedkit.markdown import in_markdown
from embedkit.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SCHEMA = 1
# Files and their formats; the results first, which need no drawing.
FILES = {"report.json": "json", "report.md": "markdown", "report.html": "html"}
_WORST_SHOWN = 5  # queries, in a terminal
_PASSES = ("sentences", "forward_passes", "truncated", "cached", "seconds")
_OPTIONAL = ("reason", "subsets", "ties", "difference", "baseline", "best_share", "equal_to")


@dataclass(frozen=True)
class Report(ReportData):
    """What compare and evaluate return; see `ReportData` for its fields.

    Example:
        >>> from embedkit import compare
        >>> report = compare("minilm", "first_look", ["mean", "max"], show_progress=False)
        >>> report.verdict.decision, report.verdict.recipe, report.to_dict()["schema"]
        ('keep', 'mean', 1)
    """

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the numbers, in sentences."""
        return self.notes_in("en")

    def notes_in(self, language: str) -> list[str]:
        """The notes in English (en) or Korean (ko)."""
        return notes_in(self, language)

    @property
    def warnings(self) -> list[str]:
        """The notes on labels that may have another scale than those of the training."""
        return [note(key, **values) for key, values in label_notes(self)]

    @property
    def title(self) -> str:
        """The model, and what the numbers are."""
        return title_of(self, "en")

    def grid(self, language: str = "en") -> Grid:
        """The table that people see."""
        return table_of(self, language)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, the contents of report.json."""
        selection = self.selection
        return {
            "schema": SCHEMA,
            "embedkit": __version__,
            "model": self.model,
            **({"models": self._models()} if self.models else {}),
            "results": self._as_dicts(self.results),
            "averages": self._as_dicts(self.averages, "suite"),
            "verdict": {**asdict(self.verdict), "text": self.verdict.text},
            "best": self.best_name if len(self.compared) > 1 else None,
            "fit": self.fit,
            "decided_by": self.decided_by,
            "aggregation": self.aggregation,
            "baseline": self.baseline,
            "selection": selection
            and {**asdict(selection), "results": self._as_dicts(selection.results)},
            "protocol": asdict(self.run_metadata),
            "diagnosis": [asdict(analysis) for analysis in self.error_analyses],
            "published": [{**asdict(x), "difference": x.difference} for x in self.published],
            "retrieval_diagnosis": [asdict(one) for one in self.retrieval_error_analyses],
            "notes": self.notes,
            **{key: getattr(self, key) for key in _PASSES},
        }

    def _as_dicts(
        self, results: Iterable[Result], dataset: str = "dataset"
    ) -> list[dict[str, Any]]:
        """Results without the fields that do not apply; `dataset` is what to call theirs."""
        hidden = () if self.models else ("model", "candidate")
        return [
            {
                dataset if key == "dataset" else key: value
                for key, value in asdict(result).items()
                if key not in hidden and (value is not None or key not in _OPTIONAL)
            }
            for result in results
        ]

    def _models(self) -> list[dict[str, Any]]:
        """The models of a report of several, by the names that its results use."""
        return [
            {
                **run.described,
                "name": name,
                "source": run.described["name"],
                "prompts": dict(run.prompts),
                **run.used._asdict(),
                **{key: getattr(run, key) for key in _PASSES},
            }
            for name, run in self.models.items()
        ]

    def with_command(self, command: str) -> Report:
        """The report with the command that made it in its metadata."""
        return replace(self, run_metadata=replace(self.run_metadata, command=command))

    def to_json(self) -> str:
        """report.json as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, lang: str = "en") -> str:
        """report.md: the verdict, the table and the notes, in English (en) or Korean (ko)."""
        check_language(lang)
        title = in_markdown(title_of(self, lang))
        verdict, body = self.markdown_parts(title, lang=lang)
        errors = "".join(
            f"\n## {in_markdown(heading)}\n\n{grid.markdown()}\n"
            for heading, grid in query_tables(self, lang, WORST)
        )
        return f"# {verdict}\n\n{body}{errors}"

    def markdown_parts(
        self, *above: str, more: Iterable[str] = (), lang: str = "en"
    ) -> tuple[str, str]:
        """The verdict, and the table with the notes and `more` of them below, as Markdown.

        What is `above` the table is Markdown already.
        """
        notes = "\n".join(f"- {in_markdown(text)}" for text in (*self.notes_in(lang), *more))
        body = "\n\n".join((*above, self.grid(lang).markdown(), notes))
        return in_markdown(self.verdict.in_words(lang)), f"{body}\n"

    def to_latex(self, lang: str = "en") -> str:
        """The table as a `tabular` of LaTeX, for the package booktabs; the rest is in comments.

        The highest value of each data set is bold, and `*` marks a significant difference to the
        baseline. Korean needs XeLaTeX, LuaLaTeX or the package kotex.
        """
        check_language(lang)
        above = (self.verdict.in_words(lang), title_of(self, lang), r"\usepackage{booktabs}")
        lines = [f"% {printable(text)}" for text in above]
        lines += [self.grid(lang).latex(), *(f"% {printable(x)}" for x in self.notes_in(lang))]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """A row for each of `results`, and for each average; see `report_columns`."""
        return report_csv(self)

    def to_format(self, name: str, lang: str = "en") -> str:
        """The report as text: table, markdown, latex, csv, json or html.

        Raises:
            InputError: another format or language.
        """
        check_language(lang)
        formats: dict[str, Callable[[], str]] = {
            "table": self.__str__,
            "markdown": partial(self.to_markdown, lang),
            "latex": partial(self.to_latex, lang),
            "csv": self.to_csv,
            "json": self.to_json,
            "html": partial(self.to_html, lang),
        }
        if name not in formats:
            raise InputError(f"unknown format {name!r}; choose from {', '.join(formats)}")
        return formats[name]()

    def to_html(self, lang: str = "en") -> str:
        """report.html: one self-contained page, in English (en) or Korean (ko).

        Raises:
            InputError: another language.
        """
        from embedkit.evaluation.report.html import render

        return render(self, lang)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each of `results`, as a pandas DataFrame; a missing value is NaN.

        Raises:
            InputError: pandas is not installed.
        """
        return dataframe(report_columns(self))

    def __repr__(self) -> str:
        return f"Report({str(self.verdict)!r})"

    def _repr_html_(self) -> str:
        """What notebooks show: the verdict, the table, the notes, and the worst queries."""
        notes = "".join(f"<li>{escape(text)}</li>" for text in self.notes)
        verdict, title = escape(str(self.verdict)), escape(self.title)
        errors = "".join(
            f"<p>{escape(heading)}</p>{grid.html()}"
            for heading, grid in query_tables(self, "en", _WORST_SHOWN)
        )
        return f"<p><b>{verdict}</b></p><p>{title}</p>{self.grid().html()}<ul>{notes}</ul>{errors}"

    def print(self, console: Console, lang: str = "en") -> None:
        """The verdict, the table and the notes on a console of rich's."""
        check_language(lang)

        def show(text: str, style: str | None = None) -> None:
            console.print(printable(text), style=style, markup=False, highlight=False)

        show(self.verdict.in_words(lang), "bold")
        show(title_of(self, lang))
        notes = self.notes_in(lang)
        if left_out := self.grid(lang).print(console):
            too_narrow = catalogue(lang)["table"]["too_narrow"]
            notes = [too_narrow.format(columns=", ".join(left_out)), *notes]
        console.print()
        for text in notes:
            show(text)
        for heading, grid in query_tables(self, lang, _WORST_SHOWN):
            console.print()
            show(heading)
            grid.print(console)

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=100))
        return text.getvalue()

    def save(self, folder: str | Path, lang: str = "en") -> None:
        """Write report.json, report.md and report.html into a folder, which is made if need be.

        Args:
            folder: its path.
            lang: of report.md and report.html: en or ko.

        Raises:
            InputError: the folder cannot be written, or an unknown language.
        """
        check_language(lang)
        as_path("folder", folder)
        for name in FILES:
            self.write(folder, name, lang)

    def write(self, folder: str | Path, name: str, lang: str = "en") -> None:
        """Write one of `FILES`; see `save`."""
        text = self.to_format(FILES[name], lang).rstrip("\n") + "\n"
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            write_text(target / name, text)
        except OSError as error:
            reason = f"the report cannot be written ({error.strerror})"
            raise InputError(f"{target}: {reason}") from error
