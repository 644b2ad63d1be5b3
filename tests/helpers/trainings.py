"""Data of trainings, and trainings from the command line that are killed on their way."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from embedkit import Pairs
from helpers.processes import exit_code


def write_pairs(folder: Path, pairs: Pairs) -> Path:
    """NAME.tsv."""
    rows = zip(pairs.sentence1, pairs.sentence2, pairs.scores, strict=True)
    lines = ["sentence1\tsentence2\tscore", *("\t".join(map(str, row)) for row in rows)]
    file = folder / f"{pairs.name}.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def kill(arguments: list[object], out: Path, *, batch: int) -> None:
    """Run `embedkit` in another process, which gets SIGKILL when it begins this batch, from 0."""
    log, folder = out.parent / f"{out.name}.log", out.parent / f"{out.name}.training"
    code = exit_code(log, _train_until, [*map(str, arguments), "--out", str(out)], batch)
    assert code == -signal.SIGKILL, log.read_text(encoding="utf-8")
    log.unlink()
    assert any(folder.glob("checkpoint-*/files.json"))
    assert not out.exists()


def _train_until(arguments: list[str], batch: int) -> None:
    from transformers import Trainer

    from embedkit.cli import main

    train, done = Trainer.training_step, 0

    def training_step(self: Trainer, *inputs: Any, **options: Any) -> Any:
        nonlocal done
        if done == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return train(self, *inputs, **options)

    Trainer.training_step = training_step
    sys.argv = ["embedkit", *arguments]
    main()
