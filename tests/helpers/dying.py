"""An embedder whose process dies at certain texts, as one does that runs out of memory."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from embedkit import Embedder
from embedkit.tokenization.tokenizer import TextTokenizer, Tokenized

DEADLY = "deadly"


class _Dying(TextTokenizer):
    """Kills its process at a text that begins with DEADLY, so often as `folder` has files."""

    folder: Path

    def __call__(self, texts: Sequence[str]) -> Tokenized:
        if any(text.startswith(DEADLY) for text in texts):
            for file in self.folder.iterdir():
                file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(texts)


def dying(embedder: Embedder, folder: Path, times: int) -> Embedder:
    """The embedder with a tokenizer that kills its process at DEADLY texts, `times` times."""
    folder.mkdir()
    for index in range(times):
        (folder / str(index)).touch()
    tokenizer = object.__new__(_Dying)
    vars(tokenizer).update(vars(embedder.tokenizer), folder=folder)
    other = copy.copy(embedder)
    other.tokenizer = tokenizer
    return other
