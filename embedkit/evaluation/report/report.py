"""The report that compare and evaluate return: values that print, export and name the best."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import as_path
from embedkit.errors import InputError, printable
from embedkit.evaluation.error_analysis import WORST
from embedkit.evaluation.report.columns import report_frame
from embedkit.evaluation.report.data import ReportData
from embedkit.evaluation.report.grid import Grid, in_markdown
from embedkit.evaluation.report.locale import catalogue, check_language, note
from embedkit.evaluation.report.notes import label_notes, notes_of
from embedkit.evaluation.report.query_tables import query_tables
from embedkit.evaluation.report.tables import table_of, title_of
from embedkit.evaluation.results import Result
from embedkit.files import write_text
from embedkit.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SCHEMA = 1
FILES = ("report.json", "report.md", "report.html")  # the results first, which need no drawing
_WORST_SHOWN = 5  # queries, in a terminal or a notebook
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
        return [note(key, language, **values) for key, values in notes_of(self)]

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
            "results": _as_dicts(self.results),
            "verdict": {**asdict(self.verdict), "text": self.verdict.text},
            "best": self.best_name if len(self.compared) > 1 else None,
            "fit": self.fit,
            "decided_by": self.decided_by,
            "aggregation": self.aggregation,
            "baseline": self.baseline,
            "selection": (
                None
                if selection is None
                else {**asdict(selection), "results": _as_dicts(selection.results)}
            ),
            "protocol": asdict(self.run_metadata),
            "diagnosis": [asdict(analysis) for analysis in self.error_analyses],
            "published": [{**asdict(x), "difference": x.difference} for x in self.published],
            "retrieval_diagnosis": [asdict(one) for one in self.retrieval_error_analyses],
            "notes": self.notes,
            "sentences": self.sentences,
            "forward_passes": self.forward_passes,
            "truncated": self.truncated,
            "seconds": self.seconds,
        }

    def with_command(self, command: str) -> Report:
        """The report with the command that made it in its metadata."""
        return replace(self, run_metadata=replace(self.run_metadata, command=command))

    def to_json(self) -> str:
        """report.json as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, lang: str = "en") -> str:
        """report.md: the verdict, the table and the notes, in English (en) or Korean (ko)."""
        check_language(lang)
        notes = "\n".join(f"- {in_markdown(text)}" for text in self.notes_in(lang))
        verdict, title = self.verdict.in_words(lang), title_of(self, lang)
        table = self.grid(lang).markdown()
        errors = "".join(
            f"\n## {in_markdown(heading)}\n\n{grid.markdown()}\n"
            for heading, grid in query_tables(self, lang, WORST)
        )
        return f"# {in_markdown(verdict)}\n\n{in_markdown(title)}\n\n{table}\n\n{notes}\n{errors}"

    def to_html(self, lang: str = "en") -> str:
        """report.html: one self-contained page, in English (en) or Korean (ko).

        Raises:
            InputError: another language.
        """
        from embedkit.evaluation.report.html import render

        return render(self, lang)

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each of `results`, as a pandas DataFrame; see `report_frame`.

        Raises:
            InputError: pandas is not installed.
        """
        return report_frame(self)

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
        console.print(
            printable(self.verdict.in_words(lang)), style="bold", markup=False, highlight=False
        )
        console.print(printable(title_of(self, lang)), markup=False, highlight=False)
        notes = self.notes_in(lang)
        if left_out := self.grid(lang).print(console):
            too_narrow = catalogue(lang)["table"]["too_narrow"]
            notes = [too_narrow.format(columns=", ".join(left_out)), *notes]
        console.print()
        for text in notes:
            console.print(printable(text), markup=False, highlight=False)
        for heading, grid in query_tables(self, lang, _WORST_SHOWN):
            console.print(f"\n{printable(heading)}", markup=False, highlight=False)
            grid.print(console)

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        self.print(Console(file=text, width=100))
        return text.getvalue()

    def save(self, folder: str | Path, lang: str = "en") -> None:
        """Write report.json, report.md and report.html into a folder, which is made if need be.

        Args:
            folder: where.
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
        renderers: dict[str, Callable[[], str]] = {
            "report.json": self.to_json,
            "report.md": partial(self.to_markdown, lang),
            "report.html": partial(self.to_html, lang),
        }
        text = renderers[name]().rstrip("\n") + "\n"
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            write_text(target / name, text)
        except OSError as error:
            raise InputError(
                f"{target}: the report cannot be written ({error.strerror})"
            ) from error


def _as_dicts(results: tuple[Result, ...]) -> list[dict[str, Any]]:
    """Results without the fields that do not apply."""
    return [
        {
            key: value
            for key, value in asdict(result).items()
            if key != "model" and (value is not None or key not in _OPTIONAL)
        }
        for result in results
    ]
