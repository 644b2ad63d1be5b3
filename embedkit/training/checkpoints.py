"""Checkpoints of a training, which can be killed at any moment and resumed.

They lie beside the folder that the model goes to, which appears when all is done. Each checkpoint
gets a list of its files with checksums after they are written. A checkpoint without that list, or
with other files, was being written or removed when the process was killed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from embedkit.errors import InputError
from embedkit.files import check_own, check_target, lock_of, sole_writer
from embedkit.manifest import FileEntry, read_manifest, write_manifest

_PLAN = "training.json"
_EVALUATIONS = "eval"  # that sentence-transformers makes beside its checkpoints
_FILES = "files.json"
_PREFIX = "checkpoint-"  # before the number of the step


class Checkpoint(NamedTuple):
    """A whole checkpoint of transformers' Trainer."""

    folder: Path
    stopped: bool  # whether the training was over when it was written


@dataclass(frozen=True)
class Checkpoints:
    """Those of one training, in a folder."""

    folder: Path

    @classmethod
    @contextmanager
    def beside(cls, out: Path, plan: Mapping[str, Any]) -> Iterator[Checkpoints]:
        """The folder OUT.training, new or of the same plan; removed when all went well.

        An InputError says that `out` cannot be written, that another process trains there, or that
        another training was begun there.
        """
        check_target(out)
        folder = out.absolute().parent / f"{out.name}.training"
        check_own(folder, _PLAN, "checkpoints")
        with sole_writer(folder, _PLAN):
            if (folder / _PLAN).is_file():
                begun = read_manifest(folder, _PLAN, "a folder of checkpoints", dict)["plan"]
                for name, value in plan.items():
                    if begun.get(name) != value:
                        raise InputError(
                            f"{folder}: holds a training with another {name}, {begun.get(name)!r}, "
                            f"got {value!r}; finish that one, or remove the folder"
                        )
            else:
                write_manifest(folder / _PLAN, {"plan": dict(plan)})
            checkpoints = cls(folder)
            yield checkpoints
            checkpoints.remove()

    def remove(self) -> None:
        """Remove all, the latest first, so that a kill in between leaves the best one."""
        for path in (*self._folders(), self.folder / _EVALUATIONS):
            shutil.rmtree(path, ignore_errors=path.name == _EVALUATIONS)
        for name in (_PLAN, lock_of(_PLAN)):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # files of others stay
            self.folder.rmdir()

    def last(self) -> Checkpoint | None:
        """The whole checkpoint of the latest step; folders that are not whole are removed."""
        whole = []
        for folder in self._folders():
            if (checkpoint := _read(folder)) is None:
                shutil.rmtree(folder)
            else:
                whole.append(checkpoint)
        return whole[0] if whole else None

    def _folders(self) -> list[Path]:
        """The latest step first."""
        paths = self.folder.glob(f"{_PREFIX}*")
        own = [path for path in paths if path.name.removeprefix(_PREFIX).isdecimal()]
        return sorted(own, key=step_of, reverse=True)


def commit(folder: Path, *, stopped: bool) -> None:
    """Mark a checkpoint as whole."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [FileEntry.of(path, path.relative_to(folder).as_posix()) for path in paths]
    write_manifest(folder / _FILES, {"files": files, "stopped": stopped})


def _read(folder: Path) -> Checkpoint | None:
    try:
        content = read_manifest(folder, _FILES, "a checkpoint", dict)
        for entry in content["files"]:
            FileEntry(*entry).check(folder)
    except InputError:
        return None
    return Checkpoint(folder, bool(content["stopped"]))


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(folder.name.removeprefix(_PREFIX))
