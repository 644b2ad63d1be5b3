"""Where the files of named sets lie: in the user's folder, in the hub's cache, or on the hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from embedkit.arguments import as_path
from embedkit.data.named_parts import PARTS
from embedkit.data.named_sets import NAMED_SETS, NamedSet
from embedkit.errors import InputError
from embedkit.hub_errors import hub_problem

FOLDER = "EMBEDKIT_DATASETS"  # the environment variable that names the user's folder
TIMEOUT = 10  # seconds until the hub answers
_SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".tsv.gz", ".csv.gz", ".jsonl.gz")


class Located(NamedTuple):
    """The files of a named set.

    Attributes:
        paths: a file of sentence pairs; a folder in BEIR's layout; or corpus, queries and qrels.
        own: whether they lie in the folder that EMBEDKIT_DATASETS names.
    """

    paths: tuple[Path, ...]
    own: bool


def find_files(name: str) -> Located | None:
    """The files of a named set that are on this machine; None if some are not.

    Raises:
        InputError: EMBEDKIT_DATASETS names no folder, or a set's file is there twice.
    """
    known = NAMED_SETS[name]
    return _own(known) or _cached(known)


def locate(names: Iterable[str]) -> dict[str, Located]:
    """The files of named sets, downloaded into the hub's cache where they are missing.

    Raises:
        InputError: some cannot be had; it names all that are missing.
    """
    files = {name: find_files(name) for name in names}
    missing = [name for name, located in files.items() if located is None]
    for name in sorted(missing, key=lambda name: bool(NAMED_SETS[name].repository)):
        files[name] = _download(NAMED_SETS[name], missing)
        missing.remove(name)
    return {name: located for name, located in files.items() if located is not None}


def _own(known: NamedSet) -> Located | None:
    if not (value := os.environ.get(FOLDER)):
        return None
    folder = as_path(FOLDER, value)
    if not folder.is_dir():
        raise InputError(f"{FOLDER} is {value!r}; expected a folder")
    if known.is_retrieval:
        return Located((folder / known.name,), True) if (folder / known.name).is_dir() else None
    for name in (known.name, *PARTS.get(known.name, ())[:1]):
        paths = [path for x in _SUFFIXES if (path := folder / f"{name}{x}").is_file()]
        if len(paths) > 1:
            raise InputError(f"{folder}: got {' and '.join(x.name for x in paths)}; expected one")
        if paths:
            return Located(tuple(paths), True)
    return None


def _patterns(known: NamedSet) -> list[tuple[str, ...]]:
    """For each file of a set, how it may be called in its repository."""
    split, config = known.split, known.config
    if known.is_retrieval:
        qrels = [f"qrels/{split}.{x}" for x in ("jsonl", "tsv")]
        qrels += [f"{folder}/{split}-*.parquet" for folder in ("qrels", "data", "default")]
        texts = [(f"{x}.jsonl", f"{x}.jsonl.gz", f"{x}/*.parquet") for x in ("corpus", "queries")]
        return [*texts, tuple(qrels)]
    if config:
        files = (f"{split}/{config}.jsonl.gz", f"{config}/{split}.jsonl.gz")
        return [(*files, f"{config}/{split}-*.parquet")]
    return [(f"{split}.jsonl.gz", f"data/{split}-*.parquet", f"default/{split}-*.parquet")]


def _cached(known: NamedSet) -> Located | None:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if not known.repository:
        return None
    repository = repo_folder_name(repo_id=known.repository, repo_type="dataset")
    folder = Path(constants.HF_HUB_CACHE) / repository / "snapshots" / known.revision
    paths = []
    for names in _patterns(known):
        matches = [path for name in names for path in sorted(folder.glob(name)) if path.is_file()]
        if not matches:
            return None
        paths.append(matches[0])
    for path in paths:
        _check_hash(path)
    return Located(tuple(paths), False)


def _check_hash(path: Path) -> None:
    """Refuse a damaged file: the cache names files by their SHA-256, or by git's SHA-1."""
    blob = path.resolve()
    content = blob.read_bytes()
    if len(blob.name) == 64:
        digest = hashlib.sha256(content).hexdigest()
    elif len(blob.name) == 40:
        header = f"blob {len(content)}\0".encode()
        digest = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    else:
        return
    if digest != blob.name:
        raise InputError(
            f"{path}: got the hash {digest[:12]}..., expected {blob.name[:12]}...; "
            "delete the file and try again"
        )


def _download(known: NamedSet, missing: list[str]) -> Located:
    """Download a set; an error names all that are missing."""
    folder = os.environ.get(FOLDER) or None
    where = f"the folder that {FOLDER} names" if folder is None else f"{folder} ({FOLDER})"
    suffix = "" if known.is_retrieval else ".tsv, .csv, .jsonl or .parquet"
    elsewhere = f"put {known.name}{suffix} into {where}"
    several = f"{', '.join(missing)} are missing; " if len(missing) > 1 else ""
    if not known.repository:
        raise InputError(
            f"{several}{known.name}: is not on the hub in this form; {elsewhere}, with the columns "
            f"sentence1, sentence2 and score of {known.source}"
        )
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    http_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP client
    repository, revision = known.repository, known.revision
    try:
        info = HfApi().dataset_info(repository, revision=revision, timeout=TIMEOUT)
        files = [file.rfilename for file in info.siblings or ()]
        for names in _patterns(known):
            matches = [file for name in names for file in files if fnmatch(file, name)]
            for file in matches[:1]:
                hf_hub_download(repository, file, repo_type="dataset", revision=revision)
    except (OSError, http_error) as error:
        problem = hub_problem(error, repository, revision, kind="data set", elsewhere=elsewhere)
        raise InputError(
            f"{several}{known.name} ({repository}): there is no copy of it, {problem}"
        ) from error
    located = _cached(known)
    if located is None:
        raise InputError(
            f"{known.name}: {repository} at {revision} lacks the files of the split "
            f"{known.split}; {elsewhere}"
        )
    return located
