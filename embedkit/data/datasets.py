"""Data sets of an evaluation: files of sentence pairs, and folders of retrieval sets."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

from embedkit.arguments import as_path, is_built_in
from embedkit.data.builtin import SHIPPED
from embedkit.data.named_files import locate
from embedkit.data.named_sets import NAMED_SETS, SUITES, expand
from embedkit.data.pairs import PairColumns, Pairs, read_pairs
from embedkit.data.retrieval_set import RetrievalSet, read_retrieval
from embedkit.errors import InputError

DataSet: TypeAlias = Pairs | RetrievalSet
Data: TypeAlias = "str | Path | DataSet | Sequence[str | Path | DataSet]"

HEADS = "a head is trained and scored on sentence pairs"  # why retrieval sets are refused

_NAMES = (*NAMED_SETS, *SUITES, *SHIPPED)
_LOWER = {x.mteb.lower(): name for name, x in NAMED_SETS.items() if x.mteb}  # MTEB's names
_LOWER |= {name: name for name in _NAMES}


def read_sets(
    data: Data,
    columns: PairColumns | None = None,
    encoding: str = "utf-8",
    *,
    argument: str = "data",
) -> list[DataSet]:
    """Reads what is not read yet: a folder as a retrieval set, anything else as sentence pairs.

    Public sets and suites may be named (see `NAMED_SETS` and `SUITES`); a suite is all of its sets.
    All that are missing on this machine are downloaded before any is read.

    Raises:
        InputError: see `read_pairs` and `read_retrieval`; two sets have one name; or named sets
            cannot be had.
    """
    if not isinstance(data, str | Path | DataSet | Sequence) or isinstance(data, bytes):
        raise InputError(
            f"{argument} is {reprlib.repr(data)}; expected files of sentence pairs, folders of "
            "retrieval sets, Pairs or a RetrievalSet"
        )
    items = expand([data] if isinstance(data, str | Path | DataSet) else data).items
    if not items:
        raise InputError(f"{argument} is empty; expected at least one file or folder")
    for item in items:
        _check_name(item)
    locate(str(x) for x in items if isinstance(x, str | Path) and is_built_in(x, NAMED_SETS))
    sets: list[DataSet] = []
    for index, item in enumerate(items):
        if isinstance(item, DataSet):
            sets.append(item)
        elif is_built_in(item, NAMED_SETS):
            read = read_retrieval if NAMED_SETS[str(item)].is_retrieval else read_pairs
            sets.append(read(item))
        elif is_built_in(item, SHIPPED) or not as_path(f"{argument}[{index}]", item).is_dir():
            sets.append(read_pairs(item, columns or PairColumns(), encoding))
        else:
            sets.append(read_retrieval(item, encoding))
    check_names(sets)
    return sets


def read_named_sets(names: Sequence[str]) -> list[DataSet]:
    """Read public sets, and those of suites; what is missing on this machine is downloaded."""
    for name in names:
        if name not in _NAMES:
            raise InputError(f"{name}: there is no data set of this name; {_hint(name)}")
    return read_sets(names)


def _check_name(item: object) -> None:
    """Refuse a bare word that is neither a file nor the name of a set."""
    if not isinstance(item, str) or item in ("", *_NAMES) or "." in item or os.path.lexists(item):
        return
    raise InputError(
        f"{item}: there is no such file or folder, and no data set of this name; {_hint(item)}"
    )


def _hint(name: str) -> str:
    near = get_close_matches(name.lower(), _LOWER, n=1)
    return (
        "".join(f"did you mean {_LOWER[x]}? " for x in near) + "embedkit datasets lists the names"
    )


def check_names(sets: Sequence[DataSet]) -> None:
    """Refuse two sets of one name."""
    names = [data.name for data in sets]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two data sets are called {name!r}; expected different names, "
                "because results are stored by name"
            )


def only_pairs(sets: Sequence[DataSet], reason: str = HEADS) -> list[Pairs]:
    """The sets, if none is a retrieval set; the reason ends the error message."""
    for data in sets:
        if isinstance(data, RetrievalSet):
            raise InputError(f"{data.name} is a retrieval set; {reason}")
    return [data for data in sets if isinstance(data, Pairs)]
