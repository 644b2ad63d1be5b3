"""The settings that all trainings have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from numbers import Real
from typing import Any

from embedkit.arguments import check_count, check_list, check_type
from embedkit.errors import InputError

_PACKAGES = ("accelerate", "datasets")


@dataclass(frozen=True)
class TrainingSettings:
    """How a training runs.

    Attributes:
        epochs: passes over the training data; may be a fraction.
        batch_size: examples of a forward pass.
        accumulate: forward passes whose gradients are added up for a step.
        learning_rate: of AdamW at its peak; it rises and falls linearly.
        warmup: share of the steps in which it rises.
        weight_decay: of AdamW.
        evaluations: how often the held-out data are scored and a checkpoint is written, in all.
        patience: stop after this many evaluations without a better score; None never stops early.
        seed: of new weights, of the order of the data and of dropout.
        device: cpu or cuda; None uses a GPU if there is one.

    Raises:
        InputError: a value out of range.

    Example:
        >>> TrainingSettings(epochs=1, batch_size=16).steps(examples=100)
        7
    """

    epochs: float = 3.0
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    evaluations: int = 10
    patience: int | None = None
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "evaluations", "patience", "seed"):
            if name != "patience" or self.patience is not None:
                check_count(name, getattr(self, name), 0 if name == "seed" else 1)
        for name in ("epochs", "learning_rate"):
            if not _is_number(value := getattr(self, name)) or value <= 0:
                raise InputError(f"{name} is {value!r}; expected a number above 0")
        if not _is_number(self.warmup) or not 0 <= self.warmup <= 1:
            raise InputError(f"warmup is {self.warmup!r}; expected a share from 0 to 1")
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            raise InputError(f"weight_decay is {self.weight_decay!r}; expected a number from 0")
        if self.device not in (None, "cpu", "cuda"):
            raise InputError(f"device is {self.device!r}; expected cpu or cuda")

    def check_installed(self) -> None:
        """Refuse to begin without the packages of the extra `train`, or without the device."""
        missing = [name for name in _PACKAGES if find_spec(name) is None]
        if missing:
            raise InputError(
                f"training needs {' and '.join(missing)}; install the extra train "
                '(pip install "embedkit[train]")'
            )
        if self.device == "cuda":
            import torch

            from embedkit.encoders.devices import unusable

            if not torch.cuda.is_available():
                raise unusable(self.device)

    def steps(self, examples: int) -> int:
        """Steps in all, for this many examples."""
        batches = math.ceil(examples / self.batch_size)
        return max(1, math.ceil(self.epochs * max(1, math.ceil(batches / self.accumulate))))

    @property
    def bfloat16(self) -> bool:
        """Whether products run in bfloat16: on a GPU that has it. Weights stay float32."""
        import torch

        return (
            self.device != "cpu"
            and torch.cuda.is_available()
            and torch.cuda.is_bf16_supported(including_emulation=False)
        )

    def described(self) -> dict[str, Any]:
        """The settings and the precision, as JSON values; a resumed run must have the same."""
        return {**asdict(self), "precision": "bfloat16" if self.bfloat16 else "float32"}


def check_data(data: Iterable[object], dev: object, *kinds: type) -> None:
    """Refuse other values than such data sets, for example paths; `dev` is of the first kind."""
    names = " or ".join(kind.__name__ for kind in kinds)
    check_list("data", data, f"a list of {names}")
    for one in data:
        check_type("data", one, kinds, names)
    check_type("dev", dev, kinds[0], kinds[0].__name__)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


# Devlin et al. 2019, appendix A.3; one epoch as Reimers and Gurevych 2019, section 3.
CROSS_ENCODER = TrainingSettings()
BI_ENCODER = TrainingSettings(epochs=1.0)
MASKED_LM = TrainingSettings(epochs=1.0)
TOKEN_CLASSIFIER = TrainingSettings()
