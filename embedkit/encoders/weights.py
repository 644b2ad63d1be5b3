"""The weights of a model folder, from safetensors or pickles; nothing in it is ever executed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import InputError, first_line
from embedkit.files import read_json

if TYPE_CHECKING:
    from torch import Tensor
_TIED = 4  # names that a large tensor of a pickle may have: T5 has an embedding four times


class Weights:
    """The tensors of safetensors, else pickles, in one file or shards; read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: Mapping[str, Tensor] = {}
        self._files: dict[str, tuple[Path, Any]] = {}  # by tensor: of safetensors, open
        from safetensors import safe_open

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
            with _damaged(shard):
                file: Any = safe_open(shard, framework="pt")
                self._files |= dict.fromkeys(list(file.keys()), (shard, file))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files) | frozenset(self._tensors)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._tensors:
            return self._tensors[name]
        if name not in self._files:
            raise InputError(f"{self._folder}: the weights have no tensor {name!r}")
        path, file = self._files[name]
        with _damaged(path):
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def count(self) -> int:
        """Numbers in all tensors together, without reading those of safetensors."""
        total = sum(tensor.numel() for tensor in self._tensors.values())
        for name, (path, file) in self._files.items():
            with _damaged(path):
                total += math.prod(file.get_slice(name).get_shape())
        return total


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
def _damaged(path: Path) -> Iterator[None]:
    """Name a safetensors file that it refuses; it checks that the tensors lie within the file."""
    from safetensors import SafetensorError

    try:
        yield
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
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        for name, value in content.items()
    ):
        raise InputError(f"{path}: expected a dict of tensors by name")
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > _TIED * path.stat().st_size:
        raise InputError(
            f"{path}: claims tensors of {claimed:,} bytes and has {path.stat().st_size:,}"
        )
    return {name: value.detach() for name, value in content.items()}


def _check_packed(path: Path) -> None:
    """Refuse a zip file with compressed records, which torch never writes: they may be bombs."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # how torch recognizes a zip file
                return
            with zipfile.ZipFile(file) as records:
                packed = any(record.compress_type for record in records.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: cannot be read as plain tensors ({first_line(error)})"
        ) from error
    if packed:
        raise InputError(f"{path}: has packed records; expected a file that torch wrote")
