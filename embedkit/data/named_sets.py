"""Data sets by name: public tasks, whose table is named_sets.tsv, suites, and derived versions."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embedkit.arguments import is_built_in
from embedkit.data.tables import read_rows


@dataclass(frozen=True)
class NamedSet:
    """A public data set.

    Metrics are computed over all of its pairs or queries, as MTEB does, and a suite's value is the
    plain mean of its sets.
    """

    name: str
    mteb: str  # its name in MTEB, or "" where MTEB does not have it
    repository: str  # of the hub, or "" where the hub does not have it in this form
    revision: str  # a commit of the repository
    config: str  # of the repository
    split: str
    rows: int  # sentence pairs, or judged queries
    documents: int  # 0 for sentence pairs
    scale: tuple[float, float] | None  # of the scores; None for a retrieval set
    score: str  # its column; the others are sentence1 and sentence2
    languages: str  # ISO 639-1
    licence: str
    source: str  # where to get a set that is not on the hub

    @property
    def is_retrieval(self) -> bool:
        """Whether it is a retrieval set; else it is sentence pairs."""
        return self.scale is None

    def size_problem(self, rows: int, documents: int = 0) -> str | None:
        """What is wrong with the size of a copy of the set, if anything is."""
        if (rows, documents) == (self.rows, self.documents):
            return None
        if self.is_retrieval:
            got = f"got {rows:,} judged queries and {documents:,} documents"
            return f"{got}; {self.name} has {self.rows:,} and {self.documents:,}"
        return f"got {rows:,} pairs; {self.name} has {self.rows:,}"


def _read_table() -> dict[str, NamedSet]:
    table = {}
    for _, cells in read_rows(Path(__file__).with_name("named_sets.tsv"), {}, others=True):
        row: dict[str, Any] = {key: "" if cell == "-" else cell for key, cell in cells.items()}
        low, high = row.pop("low"), row.pop("high")
        row |= {key: int(row[key]) for key in ("rows", "documents")}
        table[row["name"]] = NamedSet(**row, scale=(float(low), float(high)) if low else None)
    return table


# Names in MTEB, revisions and numbers of rows are those of mteb 2.26.
NAMED_SETS = _read_table()

_MTEB_EN = "biosses sickr sts12 sts13 sts14 sts15 sts17-en sts22-en stsb"
SUITES: dict[str, tuple[str, ...]] = {
    "sts7": ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr-test"),  # SimCSE
    "mteb-sts-en": tuple(_MTEB_EN.split()),  # MTEB(eng, v2)
    "mteb-sts-ko": ("klue-sts", "korsts-mteb", "sts17-ko"),  # MTEB(kor, v2)
    "retrieval-en": ("scifact", "nfcorpus"),
    "retrieval-ko": ("ko-strategyqa",),
}


class Expanded(NamedTuple):
    """What a list of data sets names."""

    items: list[Any]  # the sets of suites in place of these, and each named set once
    suites: dict[str, tuple[str, ...]]  # those that were named, with their sets


def expand(data: Iterable[Any]) -> Expanded:
    """Replace suites by their data sets; `./sts7` is a path, and what is no name stays.

    Example:
        >>> expand(["mteb-sts-ko", "klue-sts", "mine.tsv"]).items
        ['klue-sts', 'korsts-mteb', 'sts17-ko', 'mine.tsv']
    """
    items: list[Any] = []
    suites: dict[str, tuple[str, ...]] = {}
    for item in data:
        names: tuple[Any, ...] = (item,)
        if isinstance(item, str) and is_built_in(item, SUITES):
            names = suites[item] = SUITES[item]
        items += [x for x in names if not (isinstance(x, str) and x in NAMED_SETS and x in items)]
    return Expanded(items, suites)


class Row(NamedTuple):
    """A scored sentence pair."""

    sentence1: str
    sentence2: str
    score: float


def sick_test(rows: Sequence[Row]) -> list[Row]:
    """SICK without the pairs of its training and trial splits, whose digests lie in sick.npy."""
    others = Counter(np.load(Path(__file__).with_name("sick.npy")).tolist())
    others.subtract(map(digest, rows))
    return [row for row in rows if others[digest(row)] < 0]


def digest(row: Row) -> int:
    """Four bytes that tell a pair from others, whatever its case, spaces and punctuation."""
    letters = "".join(filter(str.isalnum, f"{row.sentence1}{row.sentence2}".lower()))
    digest = hashlib.blake2b(f"{letters} {row.score:.2f}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def korsts_mteb(rows: Sequence[Row]) -> list[Row]:
    """KorSTS as MTEB has it: three pairs are lost, because `"` was taken for a quote."""
    lines = [f"{row.sentence1}\t{row.sentence2}" for row in rows]
    read = zip(rows, csv.reader(lines, delimiter="\t"), strict=True)
    return [Row(pair[0], pair[1], row.score) for row, pair in read if len(pair) == 2]


# Versions of public sets that are made from others: by their names, the other and how.
PARTS: dict[str, tuple[str, Callable[[Sequence[Row]], list[Row]]]] = {
    "sickr-test": ("sickr", sick_test),
    "korsts-mteb": ("korsts", korsts_mteb),
}
