"""Versions of public sets that are made from others: the test split of SICK, KorSTS as in MTEB."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


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
    """KorSTS as MTEB has it, where the file was read as if `"` were quoting.

    Three pairs are lost so, and quotes around the beginning of a sentence.
    """
    lines = [f"{row.sentence1}\t{row.sentence2}" for row in rows]
    cells = csv.reader(lines, delimiter="\t")
    read = zip(rows, cells, strict=True)
    return [Row(pair[0], pair[1], row.score) for row, pair in read if len(pair) == 2]


# By the name of the part, the set that holds it and how it is made.
PARTS: dict[str, tuple[str, Callable[[Sequence[Row]], list[Row]]]] = {
    "sickr-test": ("sickr", sick_test),
    "korsts-mteb": ("korsts", korsts_mteb),
}
