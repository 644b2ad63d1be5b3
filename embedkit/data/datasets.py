"""Data sets of an evaluation: files of sentence pairs, and folders of retrieval sets."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from embedkit.arguments import as_path, is_built_in
from embedkit.data.builtin import SHIPPED
from embedkit.data.pairs import PairColumns, Pairs, read_pairs
from embedkit.data.retrieval_set import RetrievalSet, read_retrieval
from embedkit.errors import InputError

DataSet: TypeAlias = Pairs | RetrievalSet
Data: TypeAlias = "str | Path | DataSet | Sequence[str | Path | DataSet]"

HEADS = "a head is trained and scored on sentence pairs"  # why retrieval sets are refused


def read_sets(
    data: Data,
    columns: PairColumns | None = None,
    encoding: str = "utf-8",
    *,
    argument: str = "data",
) -> list[DataSet]:
    """Reads what is not read yet: a folder as a retrieval set, anything else as sentence pairs.

    Raises:
        InputError: see `read_pairs` and `read_retrieval`; or two sets have one name.
    """
    if not isinstance(data, str | Path | DataSet | Sequence) or isinstance(data, bytes):
        raise InputError(
            f"{argument} is {reprlib.repr(data)}; expected files of sentence pairs, folders of "
            "retrieval sets, Pairs or a RetrievalSet"
        )
    items = [data] if isinstance(data, str | Path | DataSet) else list(data)
    if not items:
        raise InputError(f"{argument} is empty; expected at least one file or folder")
    sets: list[DataSet] = []
    for index, item in enumerate(items):
        if isinstance(item, DataSet):
            sets.append(item)
        elif is_built_in(item, SHIPPED) or not as_path(f"{argument}[{index}]", item).is_dir():
            sets.append(read_pairs(item, columns or PairColumns(), encoding))
        else:
            sets.append(read_retrieval(item, encoding))
    check_names(sets)
    return sets


def check_names(sets: Sequence[DataSet]) -> None:
    """Refuse two sets of one name."""
    names = [data.name for data in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two data sets are called {name!r}; expected different names, "
                "because results are filed under them"
            )


def only_pairs(sets: Sequence[DataSet], reason: str = HEADS) -> list[Pairs]:
    """The sets, if none is a retrieval set; the reason ends the error message."""
    for data in sets:
        if isinstance(data, RetrievalSet):
            raise InputError(f"{data.name} is a retrieval set; {reason}")
    return [data for data in sets if isinstance(data, Pairs)]
