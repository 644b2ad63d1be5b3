"""The folder in which a training can be killed at any moment and taken up again.

It lies beside the folder that the model goes to, which appears when all is done. Each checkpoint
gets a list of its files with their checksums after they are written; one without, or with other
files than it says, was being written or removed when the process was killed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.errors import InputError
from embedkit.files import check_own, check_target, lock_of, sole_writer
from embedkit.manifest import FileEntry, read_manifest, write_manifest

_PLAN = "training.json"
_EVALUATIONS = "eval"  # that sentence-transformers makes beside its checkpoints
_FILES = "files.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint of transformers' Trainer.

    Attributes:
        folder: of its files.
        stopped: the training was over when it was written.
    """

    folder: Path
    stopped: bool

    @property
    def step(self) -> int:
        """After which it was written."""
        return step_of(self.folder)


@dataclass(frozen=True)
class Checkpoints:
    """Those of one training.

    Attributes:
        folder: where they are.
    """

    folder: Path

    @classmethod
    @contextmanager
    def beside(cls, out: Path, plan: Mapping[str, Any]) -> Iterator[Checkpoints]:
        """The folder OUT.training, new or of the same training; it goes when all went well.

        Args:
            out: the folder that the model goes to.
            plan: all that makes the training what it is, in words of JSON.

        Raises:
            InputError: `out` cannot be written, another process trains there, or another training
                was begun there.
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
            for path in (*checkpoints._folders(), folder / _EVALUATIONS):
                shutil.rmtree(path, ignore_errors=path.name == _EVALUATIONS)
            for name in (_PLAN, lock_of(_PLAN)):
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # files of others stay
                folder.rmdir()

    def sweep(self) -> None:
        """Remove what is no whole checkpoint."""
        for folder in self._folders():
            if _read(folder) is None:
                shutil.rmtree(folder)

    def last(self) -> Checkpoint | None:
        """The one to go on from."""
        found = (_read(folder) for folder in self._folders())
        return max((one for one in found if one), key=lambda one: one.step, default=None)

    def _folders(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if _CHECKPOINT.fullmatch(path.name)]


def commit(folder: Path, *, stopped: bool) -> None:
    """Say that a checkpoint is whole."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [FileEntry.of(path, path.relative_to(folder).as_posix()) for path in paths]
    write_manifest(folder / _FILES, {"files": files, "stopped": stopped})


def _read(folder: Path) -> Checkpoint | None:
    try:
        said = read_manifest(folder, _FILES, "a checkpoint", dict)
        for entry in said["files"]:
            FileEntry(*entry).check(folder)
    except InputError:
        return None
    return Checkpoint(folder, bool(said["stopped"]))


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    found = _CHECKPOINT.fullmatch(folder.name)
    if found is None:
        raise ValueError(f"{folder} is no checkpoint")
    return int(found[1])
