"""Published values beside measured ones; the table is published.tsv."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from embedkit.data.named_sets import PARTS
from embedkit.data.tables import read_rows
from embedkit.data.texts import check_number
from embedkit.errors import InputError
from embedkit.evaluation.results import MAIN_METRICS
from embedkit.files import DEFAULT_MODEL
from embedkit.similarity import SIMILARITIES

if TYPE_CHECKING:
    from embedkit.evaluation.report.data import ReportData

TOLERANCE = 0.0005  # a value is reproduced within 0.05 points

_ALIASES = {
    DEFAULT_MODEL: "sentence-transformers/all-MiniLM-L6-v2",
    "google-bert/bert-base-uncased": "bert-base-uncased",
}
# The other version of a data set, such as `sickr` of `sickr-test`.
OTHER_VERSIONS = {name: whole for name, (whole, _) in PARTS.items()}
OTHER_VERSIONS |= {whole: name for name, whole in OTHER_VERSIONS.items()}


class Published(NamedTuple):
    """A published value: cosine Spearman over all pairs, or nDCG@10."""

    model: str
    recipe: str  # "" for the model's own
    dataset: str  # a name of NAMED_SETS
    value: float  # in [-1, 1]
    prompt: str  # of sentences, or of queries
    document_prompt: str
    source: str


@dataclass(frozen=True)
class Comparison:
    """A measured value beside the published one; values are in [-1, 1]."""

    model: str  # as the report names it
    recipe: str
    dataset: str
    measured: float
    published: float
    published_dataset: str  # the version of the data set that it was published for
    prompts: tuple[str, str]  # that were published: of sentences or queries, and of documents
    source: str
    verdict: str  # reproduced, explained, differs (no reason was looked for) or not_reproduced
    explanation: str | None = None  # the first difference of protocol that explains it
    tried: dict[str, float | None] | None = None  # values by protocol; None where data are missing

    @property
    def difference(self) -> float:
        """Measured minus published."""
        return self.measured - self.published

    @property
    def is_explained(self) -> bool:
        """Whether the value is reproduced, or its difference explained."""
        return self.verdict in ("reproduced", "explained")


@cache
def published_values() -> tuple[Published, ...]:
    """The table."""
    path = Path(__file__).with_name("published.tsv")
    rows = []
    for _, cells in read_rows(path, {"value": check_number}, others=True):
        texts = {name: "" if cell == "-" else cell for name, cell in cells.items()}
        rows.append(Published(**{**texts, "value": cells["value"] / 100}))
    return tuple(rows)


def published_model(name: str) -> str | None:
    """The model of the table that a name is certain to mean: a hub id, or `minilm`."""
    name = _ALIASES.get(name, name)
    return name if any(row.model == name for row in published_values()) else None


def check_published(model: str, datasets: Iterable[str]) -> None:
    """Refuse a model, or data sets, for which no value is published."""
    known = published_model(model)
    if known is None:
        names = sorted({row.model for row in published_values()})
        near = get_close_matches(model, names, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
        raise InputError(
            f"no published values are known for {model!r}; name the model that it is with "
            f"--published, in Python published=...{hint}"
        )
    own = {row.dataset for row in published_values() if row.model == known}
    if not any(name in own or OTHER_VERSIONS.get(name) in own for name in datasets):
        raise InputError(
            f"no value of {known} is known for these data sets; expected one of "
            f"{', '.join(sorted(own))}"
        )


def find_published(model: str, recipe: str, dataset: str, *, is_own: bool) -> Published | None:
    """The published value of a recipe on a data set, or else on another version of this one."""
    rows = {
        row.dataset: row
        for row in published_values()
        if row.model == model and (row.recipe == recipe or (not row.recipe and is_own))
    }
    return rows.get(dataset) or rows.get(OTHER_VERSIONS.get(dataset, dataset))


def compare_with_published(
    report: ReportData, published: str | None = None, *, any_recipe: bool = False
) -> tuple[Comparison, ...]:
    """The values of a report that were published; `published` says which model it is of.

    With `any_recipe`, the value of the model's own recipe stands beside those of others too.
    """
    if report.decided_by not in SIMILARITIES:
        return ()
    comparisons = []
    for row in report.deciding(*MAIN_METRICS):
        run = report.models.get(row.model or "")
        described = report.model if run is None else run.described
        model = published_model(published or described["name"])
        if model is None or row.value is None or row.similarity != report.decided_by:
            continue
        is_own = any_recipe or row.candidate in report.own
        known = find_published(model, row.recipe, row.dataset, is_own=is_own)
        if known is None:
            continue
        same = known.dataset == row.dataset and abs(row.value - known.value) <= TOLERANCE
        comparisons.append(
            Comparison(
                model=row.model or described["name"],
                recipe=row.recipe,
                dataset=row.dataset,
                measured=row.value,
                published=known.value,
                published_dataset=known.dataset,
                prompts=(known.prompt, known.document_prompt),
                source=known.source,
                verdict="reproduced" if same else "differs",
            )
        )
    return tuple(comparisons)
