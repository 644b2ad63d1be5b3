"""Options of the commands that encode a corpus: its columns, the model, and where it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from embedkit.cli import options
from embedkit.errors import InputError
from embedkit.files import DEFAULT_MODEL

if TYPE_CHECKING:
    from embedkit.data.corpus import Corpus
    from embedkit.embedder.embedder import Embedder


@dataclass(frozen=True)
class EncoderOptions:
    """How a corpus is read and encoded: on one device, or in a process for each of several."""

    model: options.Model = DEFAULT_MODEL
    text_column: options.TextColumn = None
    id_column: options.IdColumn = None
    encoding: options.Encoding = "utf-8"
    recipe: options.Recipe = None
    prompt: options.OwnDocumentPrompt = None
    prompt_name: options.PromptName = None
    max_length: options.MaxLength = None
    precision: options.Precision = "auto"
    engine: options.Engine = "auto"
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
    revision: options.Revision = None

    def corpus(self, source: Any) -> Corpus:
        """The texts; the first one is read, to find a wrong column at once."""
        return options.corpus(source, self.text_column, self.encoding, self.id_column)

    @property
    def prompts(self) -> dict[str, Any]:
        """Arguments of `encode_corpus`."""
        return {"prompt": self.prompt, "prompt_name": self.prompt_name}

    def check_devices(self) -> list[str]:
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

    def load(self, devices: list[str], **more: Any) -> Embedder:
        """The embedder, on the first of the devices; `more` are other options of `Embedder`."""
        from embedkit.embedder.embedder import Embedder

        return Embedder(
            self.model,
            self.recipe,
            max_length=self.max_length,
            precision=self.precision,
            engine=self.engine,
            device=devices[0] if devices else None,
            revision=self.revision,
            **more,
        )

    def running(self, embedder: Embedder, devices: list[str]) -> AbstractContextManager[Embedder]:
        """The embedder, with its workers while the `with` block runs."""
        if self.devices is None and self.workers is None:
            return nullcontext(embedder)
        return embedder.workers(devices)
