"""Options of the devices that encode, and of the processes that do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from embedkit.cli import options
from embedkit.errors import InputError

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder


@dataclass(frozen=True)
class Processes:
    """Where a command encodes: on one device, or in a process for each of several."""

    device: options.Device = None
    devices: Annotated[
        str | None,
        options.model_option(
            "Encode on several devices, such as cuda:0,cuda:1, in a process each; all is every GPU."
        ),
    ] = None
    workers: Annotated[
        int | None,
        options.model_option("Encode in this many processes, which share the cores of the CPU."),
    ] = None

    def check(self) -> list[str]:
        """The devices to load and encode on; none for the default one."""
        given = [
            f"--{name} {value}"
            for name in ("device", "devices", "workers")
            if (value := getattr(self, name)) is not None
        ]
        if len(given) > 1 and (self.devices is not None or self.device != "cpu"):
            raise InputError(f"got {' and '.join(given)}; expected one of them")
        if self.devices is None and self.workers is None:
            return [] if self.device is None else [self.device]
        from embedkit.embedder.workers import check_devices

        if self.devices is None:
            return check_devices(self.workers or 0)
        if self.devices == "all":
            return check_devices(self.devices)
        return check_devices(self.devices.replace(",", " ").split())

    def of(self, embedder: Embedder, devices: list[str]) -> AbstractContextManager[Embedder]:
        """The embedder, with its workers while the `with` block runs."""
        if self.devices is None and self.workers is None:
            return nullcontext(embedder)
        return embedder.workers(devices)
