"""What a folder holds: a model of one of our kinds, an index or stored vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from embedkit.encoders.hub import check_entries
from embedkit.errors import InputError
from embedkit.files import check_schema, read_json, read_mark, write_json
from embedkit.version import __version__

Kind: TypeAlias = Literal["cross-encoder", "head", "token-classifier", "model", "index", "vectors"]
SCHEMA = 1  # of the files that `write_record` writes


class _Row(NamedTuple):
    files: tuple[str, ...]  # one of them makes a folder one of this kind
    what: str
    made_by: str
    architecture: str = ""  # how that of config.json ends, which makes it one too
    labels: int | None = None  # that such an architecture must have


# In the order of the tests: the folder of a head or a token classifier is that of a model too.
_ROWS: dict[Kind, _Row] = {
    "cross-encoder": _Row(
        ("cross_encoder.json",),
        "a cross-encoder",
        "embedkit train cross-encoder",
        "ForSequenceClassification",
        labels=1,
    ),
    "head": _Row(("head.json",), "a regression head", "embedkit train head"),
    "token-classifier": _Row(
        ("token_classifier.json",),
        "a token classifier",
        "embedkit train token-classifier",
        "ForTokenClassification",
    ),
    "model": _Row(
        ("modules.json", "config.json"), "a model", "transformers or sentence-transformers"
    ),
    "index": _Row(("index.json",), "an index", "embedkit index build"),
    "vectors": _Row(
        ("manifest.json", "manifest.partial.json"), "stored vectors", "embedkit encode"
    ),
}


def folder_kind(folder: Path) -> Kind | None:
    """The kind of a folder, by its files; None where there is no such folder or it is another."""
    for kind, row in _ROWS.items():
        if any((folder / name).is_file() for name in row.files):
            return kind
        labels = _labels(folder, row)
        if labels is not None and row.labels in (None, labels):
            return kind
    return None


def _labels(folder: Path, row: _Row) -> int | None:
    """How many labels config.json has, if its architecture is the row's."""
    if not row.architecture or not (config := folder / "config.json").is_file():
        return None
    content = read_json(config)
    names = content.get("architectures")
    is_one = isinstance(names, list) and str([*names, ""][0]).endswith(row.architecture)
    return len(content.get("id2label") or ()) if is_one else None


def check_one_label(folder: Path) -> None:
    """Refuse a classifier that cannot score pairs, as it has several labels."""
    labels = _labels(folder, _ROWS["cross-encoder"])
    if labels is not None and labels > 1:
        raise InputError(f"{folder}: is a classifier of {labels} labels; expected one label")


def is_classifier(folder: Path, kind: Kind | None = None) -> bool:
    """Whether a cross-encoder is a folder of transformers that embedkit did not write."""
    kind = kind or folder_kind(folder)
    return kind == "cross-encoder" and not (folder / _ROWS[kind].files[0]).is_file()


def check_kind(folder: Path, expected: Kind) -> None:
    """Refuse a folder of another kind; one of no kind is left to the reader of its files."""
    kind = folder_kind(folder)
    of_model = expected == "model" and (
        kind in ("head", "token-classifier") or is_classifier(folder, kind)
    )
    if kind not in (None, expected) and not of_model:
        raise InputError(
            f"{folder}: is {_ROWS[kind].what}; expected {_ROWS[expected].what}, a folder of "
            f"{_ROWS[expected].made_by}"
        )


def read_record(folder: Path, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """The file that makes a folder one of this kind, and the JSON object in it."""
    path = folder / _ROWS[kind].files[0]
    check_kind(folder, kind)
    if not path.is_file():
        raise InputError(
            f"{folder}: has no {path.name}; expected a folder of {_ROWS[kind].made_by}"
        )
    check_entries(folder)
    read_mark(folder)
    record = read_json(path)
    check_schema(path, record.get("schema", SCHEMA), SCHEMA)  # 0.1.0 wrote none
    return path, record


def write_record(folder: Path, kind: Kind, record: Mapping[str, Any]) -> None:
    """Write what `read_record` reads, with the schema and embedkit's version."""
    full = {"schema": SCHEMA, "embedkit": __version__, **record}
    write_json(folder / _ROWS[kind].files[0], full)
