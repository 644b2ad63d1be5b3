"""The order in which training reads its examples: random batches of similar lengths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer

_NEIGHBOURS = 16  # batches that are sorted together; fewer would be more random, and pad more


class ByLength(Sampler[int]):
    """Random batches of examples of similar length, with little padding: half the work on STS-B.

    The order depends on seed and epoch alone, so that a resumed training continues where it was.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],  # tokens of the examples to train on, then of those held out
        batch_size: int,
        seed: int,
        trained: int | None = None,  # how many are to train on; None for all
    ) -> None:
        trained = len(lengths) if trained is None else trained
        self._lengths = lengths[:trained]
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 0
        # The held-out examples, by length.
        self.held_out: list[int] = (np.argsort(lengths[trained:], kind="stable") + trained).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self._seed, self.epoch])
        order = generator.permutation(len(self))
        together = self._batch_size * _NEIGHBOURS
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), together):
            near = order[start : start + together]
            near = near[np.argsort(self._lengths[near], kind="stable")]
            batches += np.split(near, range(self._batch_size, len(near), self._batch_size))
        # The last batch may be short, and the loader counts: it stays at the end.
        for index in (*generator.permutation(len(batches) - 1), len(batches) - 1):
            yield from batches[index].tolist()


class ByLengthTrainer(Trainer):
    """A trainer that reads its examples in an order of ours."""

    def __init__(self, *, order: ByLength, **options: Any) -> None:
        self._order = order
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return self._order

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Keep the network's own names, because resuming skips those that transformers renames."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        state = cast("nn.Module", self.model).state_dict()
        weights = {name: value.cpu().clone() for name, value in state.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
