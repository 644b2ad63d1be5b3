"""The device that networks run on, and the settings of torch while they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch

from embedkit.arguments import check_type
from embedkit.errors import InputError


class _Process(NamedTuple):
    """Settings of torch that all threads of a process share."""

    dtype: torch.dtype = torch.float32
    deterministic: bool = False
    warns: bool = False
    products: str = "highest"

    @classmethod
    def read(cls) -> _Process:
        return cls(
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
        )

    def write(self) -> None:
        torch.set_default_dtype(self.dtype)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warns)
        torch.set_float32_matmul_precision(self.products)


_WITHOUT_NUMBERS = "meta"  # torch's device for shapes alone
_lock = Lock()
_replaced: list[_Process] = []  # the caller's settings, once for each block that is under way
_ran_in: list[int] = []  # the process that ran an encoder first


@contextmanager
def standard_torch() -> Iterator[None]:
    """torch and numpy with their initial settings, so that a caller's settings change no vector.

    Settings of the thread are the default device, autocast, inference and grad mode, and numpy's
    floating-point errors. Settings of the process are restored when the last such block ends.
    """
    with ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if not _default_is_cpu():
            stack.enter_context(torch.device("cpu"))
        with _lock:
            settings = _replaced[0] if _replaced else _Process.read()
            _replaced.append(settings)
            if settings != _Process():
                _Process().write()
        try:
            yield
        finally:
            with _lock:
                _replaced.pop()
                if not _replaced and settings != _Process():
                    settings.write()


def check_fork() -> None:
    """Refuse to run a network in a forked process, which would wait for threads it lost."""
    if not _ran_in:
        _ran_in.append(os.getpid())
    if _ran_in[0] != os.getpid() and torch.get_num_threads() > 1:
        raise InputError(
            "this process was forked from one that ran an encoder, whose threads of torch it does "
            "not have; expected torch.set_num_threads(1) in it, or a process started by spawn"
        )


def _default_is_cpu() -> bool:
    try:
        return torch.empty(0).device.type == "cpu"
    except (RuntimeError, AssertionError):  # a device that is not there
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the `with` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def on_device(device: str | torch.device | None) -> Iterator[torch.device]:
    """The device, for moving a network there; None is a GPU where there is one."""
    if device is not None:
        check_type("device", device, (str, torch.device), "a name such as cpu or cuda:0")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(chosen)
        if target.type == _WITHOUT_NUMBERS:
            raise unusable(chosen)
        yield target
    except (RuntimeError, AssertionError) as error:
        raise unusable(chosen) from error


def unusable(device: str | torch.device) -> InputError:
    """The error for a device that torch cannot use."""
    return InputError(
        f"device is {str(device)!r}, which torch cannot use here; expected cpu, or cuda "
        "where there is a GPU that this torch was built for"
    )
