"""Where the files of named sets lie: in the user's folder, in the hub's cache, or on the hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from embedkit.arguments import as_path
from embedkit.data.named_sets import NAMED_SETS, PARTS, NamedSet
from embedkit.errors import InputError
from embedkit.hub_errors import hub_problem

FOLDER = "EMBEDKIT_DATASETS"  # the environment variable that names the user's folder
TIMEOUT = 10  # seconds until the hub answers
_SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet", ".tsv.gz", ".csv.gz", ".jsonl.gz")


class Located(NamedTuple):
    """The files of a named set."""

    paths: tuple[Path, ...]  # sentence pairs; a folder in BEIR's layout; or its three files
    own: bool  # whether they lie in the folder that EMBEDKIT_DATASETS names


def find_files(name: str) -> Located | None:
    """The files of a named set that are on this machine; None if some are not."""
    return _own(NAMED_SETS[name]) or _cached(NAMED_SETS[name])


def locate(names: Iterable[str]) -> dict[str, Located]:
    """The files of named sets, downloaded into the hub's cache where they are missing.

    Raises:
        InputError: some cannot be had; it names all that are missing.
    """
    here = {name: find_files(name) for name in names}
    files = {name: located for name, located in here.items() if located is not None}
    missing = [name for name in here if name not in files]
    # First what the hub does not have: nothing is downloaded in vain.
    for name in sorted(missing, key=lambda name: bool(NAMED_SETS[name].repository)):
        files[name] = _download(NAMED_SETS[name], missing)
        missing.remove(name)
    return files


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
    matches = [
        [path for name in names for path in sorted(folder.glob(name)) if path.is_file()]
        for names in _patterns(known)
    ]
    if not all(matches):
        return None
    paths = tuple(of_file[0] for of_file in matches)
    for path in paths:
        _check_hash(path)
    return Located(paths, False)


def _check_hash(path: Path) -> None:
    """Refuse a damaged file: the cache names files by their SHA-256, or by git's SHA-1."""
    from huggingface_hub.utils.sha import git_hash

    name, content = path.resolve().name, path.read_bytes()
    if len(name) not in (40, 64):
        return
    digest = hashlib.sha256(content).hexdigest() if len(name) == 64 else git_hash(content)
    if digest != name:
        raise InputError(
            f"{path}: got the hash {digest[:12]}..., expected {name[:12]}...; "
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
