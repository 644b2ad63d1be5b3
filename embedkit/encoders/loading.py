"""Load models with transformers from folders that are not trusted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from embedkit.encoders.weights import Weights
from embedkit.errors import InputError, first_line
from embedkit.files import read_json

_LOADING = logging.getLogger("transformers.modeling_utils")
_COUNT = re.compile(r"^(num|n)_|_num$|layers?$")
_MOST = 10**6  # layers, labels, ...

# A model may have more numbers than its weights: T5 has one embedding under three names, poolers
# are invented, buffers are not stored.
_COPIES, _SLACK = 4, 1 << 20


def load_pretrained(
    kind: Callable[[Any], Any],
    folder: Path,
    *,
    weights: Weights | None = None,  # where they were opened before
    decoder: bool = False,  # whether the model may have a decoder beside its encoder
    resize: bool = False,  # whether weights of another shape are drawn anew too, or refused
    **changes: Any,
) -> tuple[Any, set[str]]:
    """A float32 model of transformers, and the names of its weights that the folder lacks.

    transformers gets the tensors that we read: of the folder's files it looks at config.json alone,
    and it runs no code of the folder's. The folder may lack weights of a head or a pooler; they are
    drawn from torch's generator. `changes` are of the configuration.
    """
    import transformers

    _check_config(folder)
    weights = weights or Weights(folder)
    most = _SLACK + _COPIES * weights.count()
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **changes
        )
        config.output_attentions = False  # they would take memory, and cannot be saved
        layers = getattr(config, "num_hidden_layers", 0)
        if layers > len(weights.names):
            raise InputError(
                f"{folder}: config.json asks for {layers:,} layers, and the weights have "
                f"{len(weights.names):,} tensors"
            )
        with torch.device("meta"), _growing_to(most, folder):
            empty = kind(config)
        with without_bars(), _report_held() as report:
            model, info = type(empty).from_pretrained(
                None,
                config=config,
                state_dict={name: weights[name] for name in weights.names},
                dtype=torch.float32,
                ignore_mismatched_sizes=resize,
                output_loading_info=True,
            )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a wrong config.json makes transformers raise
        raise InputError(
            f"{folder}: transformers cannot load this model ({first_line(error)})"
        ) from error
    if model.config.is_encoder_decoder and not decoder:
        raise InputError(
            f"{folder}: {type(model).__name__} has a decoder beside its encoder; expected an "
            "encoder alone"
        )
    missing = set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    lost = sorted(name for name in missing if name.startswith(prefix) and not of_pooler(name))
    if lost:
        raise InputError(
            f"{folder}: the weights lack {len(lost)} tensors of the encoder, or have them in "
            f"another shape, {lost[0]!r} first"
        )
    children = dict(model.base_model.named_children())
    unused = [name.removeprefix(f"{model.base_model_prefix}.") for name in info["unexpected_keys"]]
    if any(name.split(".")[0] in children and not of_pooler(name) for name in unused):
        for record in report:  # tensors of the encoder that it does not use, not of another head
            _LOADING.handle(record)
    return model, missing


def of_pooler(name: str) -> bool:
    """Whether a tensor of this name is a pooler's."""
    return "pooler" in name.split(".")


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of transformers."""
    from transformers.utils import logging

    bars: Any = logging  # these functions have no types
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@contextmanager
def _report_held() -> Iterator[list[logging.LogRecord]]:
    """Hold back what transformers reports of the weights that folder and model do not share."""
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        message = record.getMessage()  # the second: of tied weights of a head
        is_report = "LOAD REPORT" in message or "checkpoint seem corrupted" in message
        if is_report:
            held.append(record)
        return not is_report

    _LOADING.addFilter(hold)
    try:
        yield held
    finally:
        _LOADING.removeFilter(hold)


def _check_config(folder: Path) -> None:
    """Refuse what transformers would act on before it looks at a tensor."""
    config = read_json(folder / "config.json")
    if config.get("quantization_config") is not None:
        raise InputError(f"{folder}: the weights are quantized; expected plain ones")
    left: list[tuple[str, object]] = list(config.items())
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, int | float) and _COUNT.search(name) and abs(value) > _MOST:
            # transformers makes lists of layers and names of labels.
            raise InputError(
                f"{folder}/config.json: {name} is {value!r}; expected at most {_MOST:,}"
            )
        elif name.endswith("_implementation") and "/" in str(value):
            raise InputError(
                f"{folder}/config.json: {name} is {value!r}, code on the hub, which "
                "embedkit does not run"
            )


@contextmanager
def _growing_to(most: int, folder: Path) -> Iterator[None]:
    """Stop building a model, on the meta device, at so many numbers."""
    count = 0

    def add(module: torch.nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal count
        count += 0 if tensor is None else tensor.numel()
        if count > most:
            raise InputError(
                f"{folder}: config.json asks for more than {most:,} numbers, "
                f"over {_COPIES} times those in the weights"
            )

    hooks = (
        register_module_parameter_registration_hook(add),
        register_module_buffer_registration_hook(add),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
