"""Encode in several processes of one machine: one for each GPU, or some that share a CPU."""

from __future__ import annotations

import copy
import multiprocessing
import os
import reprlib
import shutil
import signal
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any, Self

import numpy as np
import torch

from embedkit.arguments import check_count, check_list
from embedkit.data.texts import as_texts
from embedkit.embedder.embedder import Embedder
from embedkit.embedder.one_pass import Distinct, Encoded
from embedkit.encoders.devices import on_device, unusable
from embedkit.errors import InputError
from embedkit.files import disk_errors
from embedkit.progress import progress
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.tokenization.tokenizer import Tokenized

_ATTEMPTS = 3  # processes that may die at the same texts
# Characters of a piece of work. Eight pieces a worker keep all workers busy to the end. Smaller
# pieces than _LEAST fill no batch; of larger ones than _MOST much is lost when a process dies.
_PIECES = 8
_LEAST, _MOST = 1 << 14, 1 << 18
_SPECIAL = 8  # characters that the special tokens of a text count as
_UNGUARDED = 86  # exit code of a worker that imports a script which starts workers
_SPAWN = multiprocessing.get_context("spawn")


def check_devices(devices: int | str | Sequence[str | torch.device]) -> list[str]:
    """The device of each worker; refuses those that torch cannot use here."""
    if isinstance(devices, int):
        return ["cpu"] * check_count("workers", devices)
    if devices == "all":
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if not devices:
            raise InputError(
                "devices is all, and torch sees no GPU here; expected a number of CPU workers"
            )
    check_list("devices", devices, "a list of devices, all, or a number of CPU workers")
    names = []
    for device in devices:
        with on_device(device) as target:
            names.append(str(target))
        if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
            raise unusable(device)
    if not names:
        raise InputError("devices is empty; expected at least one")
    return names


class EmbedderPool(Embedder):
    """An embedder that encodes in worker processes; see `Embedder.workers`.

    It is a context, which ends the processes. After it, and in pickled copies, the embedder encodes
    in its own process.

    Attributes:
        devices: of the workers.
    """

    def __init__(
        self, embedder: Embedder, devices: int | str | Sequence[str | torch.device]
    ) -> None:
        vars(self).update(vars(embedder))
        self.devices = check_devices(devices)
        sent = copy.copy(embedder)
        sent._asked = sent.precision  # chosen once, for all workers
        self._workers = _Workers(sent, self.devices)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def to(self, device: str | torch.device) -> Embedder:
        """Refused while there are workers, which stay on their devices."""
        if self._workers.closed:
            return super().to(device)
        raise InputError(
            f"got device {str(device)!r}, and workers run on {', '.join(self.devices)}; "
            "expected no device"
        )

    def encode_recipes(
        self,
        texts: Iterable[str],
        recipes: Sequence[BoundRecipe],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool | None = None,
        **others: Any,
    ) -> Encoded:
        others["prompt"] = self.prompt_text(prompt, prompt_name)
        if self._workers.closed:
            return super().encode_recipes(texts, recipes, show_progress=show_progress, **others)
        distinct = Distinct.of(as_texts(texts))
        pieces = _pieces(distinct.texts, len(self.devices))
        parts = []
        with progress(len(distinct.texts), "texts", show=show_progress) as advance:
            for part in self.encode_each(pieces, recipes, **others):
                parts.append(part)
                advance(len(part.distinct.texts))
        of_recipes = zip(*(part.vectors for part in parts), strict=True)
        tokens = Tokenized.joined([part.tokens for part in parts])
        return Encoded([np.concatenate(vectors) for vectors in of_recipes], distinct, tokens)

    def encode_each(
        self,
        parts: Iterable[Sequence[str]],
        recipes: Sequence[BoundRecipe],
        *,
        prompt: str,
        batch_tokens: int | None = None,
    ) -> Iterator[Encoded]:
        if self._workers.closed:
            return super().encode_each(parts, recipes, prompt=prompt, batch_tokens=batch_tokens)
        for bound in recipes:
            bound.check_fitted()
        options = {"recipes": recipes, "prompt": prompt, "batch_tokens": batch_tokens}
        return self._workers.each(parts, self.precision, options)


def _pieces(texts: list[str], workers: int) -> list[list[str]]:
    """Neighbouring texts of about equally many characters."""
    ends = np.cumsum([len(text) + _SPECIAL for text in texts])
    size = min(_MOST, max(_LEAST, int(ends[-1]) // (_PIECES * workers)))
    starts = np.flatnonzero(np.diff(ends // size, prepend=-1)).tolist()
    return [texts[start:end] for start, end in pairwise([*starts, len(texts)])]


class _Workers:
    """Processes, and for each a thread here that hands it work and waits for the answer."""

    def __init__(self, embedder: Embedder, devices: Sequence[str]) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(_UNGUARDED)  # this is a worker, which imports its parent's script
        self.closed = False
        self._lock = Lock()
        self._all: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(len(devices))
        self._folder = TemporaryDirectory(prefix="embedkit-")
        try:
            # The workers map this file, so they share one copy of the weights.
            path = Path(self._folder.name) / "embedder.pt"
            with disk_errors("the temporary folder (TMPDIR)"), path.open("wb") as file:
                torch.save(embedder, file)
            threads = max(1, torch.get_num_threads() // len(devices))
            self._all += [_Worker(device, path, threads) for device in devices]
            for worker in self._all:
                worker.start()
            for worker in self._all:
                worker.wait_until_loaded()
                self._idle.put(worker)
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"closed": True}

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self.closed:
            return
        with self._lock:
            self.closed = True
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def each(
        self, parts: Iterable[Sequence[str]], precision: str, options: dict[str, Any]
    ) -> Iterator[Encoded]:
        """The answer for each list of texts, in order; two lists a worker are read ahead."""
        coming: deque[Future[Encoded]] = deque()
        try:
            for texts in parts:
                coming.append(self._threads.submit(self._work, texts, precision, options))
                if len(coming) > 2 * len(self._all):
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()

    def _work(self, texts: Sequence[str], *request: object) -> Encoded:
        """The answer of an idle worker, which starts again where it dies."""
        worker = self._idle.get()
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    if not worker.is_alive:
                        self._start_again(worker)
                    worker.connection.send((texts, *request))
                    answer = worker.connection.recv()
                    break
                except (EOFError, OSError):
                    if self.closed:
                        raise CancelledError from None
                    end = worker.end()
                if attempt < _ATTEMPTS:
                    warnings.warn(f"{end}; it starts again and repeats its work", stacklevel=1)
            else:
                raise ChildProcessError(
                    f"{end}, as did {_ATTEMPTS - 1} before it, at the same {len(texts):,} texts, "
                    f"{reprlib.repr(texts[0])} to {reprlib.repr(texts[-1])}; where memory is "
                    "short, take fewer workers or a smaller batch_tokens"
                )
        finally:
            self._idle.put(worker)
        if isinstance(answer, Exception):
            raise answer
        encoded: Encoded = answer
        return encoded

    def _start_again(self, worker: _Worker) -> None:
        with self._lock:
            if self.closed:
                raise CancelledError
            worker.start()
        worker.wait_until_loaded()


class _Worker:
    """A process that has the embedder on a device."""

    connection: Connection

    def __init__(self, device: str, path: Path, threads: int) -> None:
        self._device, self._arguments = device, (device, path, threads)
        self._process: Any = None

    def start(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        arguments = (theirs, *self._arguments)
        self._process = _SPAWN.Process(target=_serve, args=arguments, daemon=True)
        with theirs, _interrupts_held():
            self._process.start()

    @property
    def is_alive(self) -> bool:
        return bool(self._process.is_alive())

    def wait_until_loaded(self) -> None:
        try:
            problem = self.connection.recv()
        except (EOFError, OSError):
            end = self.end()
            if self._process.exitcode == _UNGUARDED:
                raise InputError(
                    "this script starts workers, and each of them imports it and would start "
                    'workers too; expected its work under if __name__ == "__main__":'
                ) from None
            raise ChildProcessError(f"{end} while it loaded the model") from None
        if problem is not None:
            raise problem

    def end(self) -> str:
        """How it ended, once it has; another thread may have been told first."""
        while (code := self._process.exitcode) is None:
            time.sleep(0.01)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"a worker on {self._device} ended with {how}{memory}"

    def kill(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.kill()
            self._process.join()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C reach this process alone: one that starts now inherits the mask."""
    resource_tracker.ensure_running()  # its start would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, device: str, path: Path, threads: int) -> None:
    """A worker: loads the embedder, answers None or why it could not, and then each request."""
    Thread(target=_end_with_parent, args=(path.parent,), daemon=True).start()
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizer
    with suppress(EOFError, OSError):  # the pipe is closed
        try:
            embedder = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
            embedder = embedder.to(device)
        except Exception as error:
            connection.send(error)
            return
        connection.send(None)
        while True:
            texts, precision, options = connection.recv()
            answer: Encoded | Exception
            try:
                if precision != embedder.precision:
                    embedder._settle(precision=precision)
                answer = embedder.encode_recipes(texts, **options, show_progress=False)
            except Exception as error:
                answer = error
            connection.send(answer)


def _end_with_parent(folder: Path) -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
