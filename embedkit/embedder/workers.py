"""Encode in several processes of one machine: one for each GPU, or some that share a CPU."""

from __future__ import annotations

import copy
import multiprocessing
import os
import reprlib
import shutil
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
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
from embedkit.progress import progress
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.tokenization.tokenizer import Tokenized

_ATTEMPTS = 3  # processes that may die at the same texts
# Characters of a piece of work. Eight pieces a worker keep all workers busy to the end. Smaller
# pieces than _LEAST fill no batch; of larger ones than _MOST much is lost when a process dies.
_PIECES = 8
_LEAST, _MOST = 1 << 14, 1 << 18
_SPECIAL = 8  # characters that the special tokens of a text count as
_SPAWN = multiprocessing.get_context("spawn")


def check_devices(devices: int | str | Sequence[str | torch.device]) -> list[str]:
    """The device of each worker; refuses those that torch cannot use here."""
    if isinstance(devices, int):
        return ["cpu"] * check_count("workers", devices)
    gpus = torch.cuda.device_count()
    if devices == "all":
        if gpus == 0:
            raise InputError(
                "devices is all, and torch sees no GPU here; expected a number of CPU workers"
            )
        return [f"cuda:{index}" for index in range(gpus)]
    check_list("devices", devices, "a list of devices, all, or a number of CPU workers")
    names = []
    for device in devices:
        with on_device(device) as target:
            names.append(str(target))
        if target.type == "cuda" and (target.index or 0) >= gpus:
            raise unusable(device)
    if not names:
        raise InputError("devices is empty; expected at least one")
    return names


class EmbedderPool(Embedder):
    """An embedder that encodes in worker processes; see `Embedder.workers`.

    It is a context, which ends the processes. After it, and in pickled copies and forked processes,
    the embedder encodes in its own process.

    Attributes:
        devices: of the workers.
    """

    def __init__(self, embedder: Embedder, devices: list[str]) -> None:
        vars(self).update(vars(embedder))
        self.devices = devices
        sent = copy.copy(embedder)
        sent.asked_precision = sent.precision  # chosen once, for all workers
        self._workers = _Workers(sent, devices)

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
        show_progress: bool | None = None,
        **options: Any,
    ) -> Encoded:
        if self._workers.closed:
            return super().encode_recipes(texts, recipes, show_progress=show_progress, **options)
        distinct = Distinct.of(as_texts(texts))
        pieces = _pieces(distinct.texts, len(self.devices))
        parts = []
        with progress(len(distinct.texts), "texts", show=show_progress) as advance:
            for part in self.encode_each(pieces, recipes, **options):
                parts.append(part)
                advance(len(part.distinct.texts))
        of_recipes = zip(*(part.vectors for part in parts), strict=True)
        tokens = Tokenized.joined([part.tokens for part in parts])
        return Encoded([np.concatenate(vectors) for vectors in of_recipes], distinct, tokens)

    def encode_each(
        self,
        parts: Iterable[Sequence[str]],
        recipes: Sequence[BoundRecipe],
        **options: Any,
    ) -> Iterator[Encoded]:
        if self._workers.closed:
            return super().encode_each(parts, recipes, **options)
        for bound in recipes:
            bound.check_fitted()
        return self._workers.each(parts, self.precision, {"recipes": recipes, **options})


def _pieces(texts: list[str], workers: int) -> list[list[str]]:
    """Neighbouring texts of about equally many characters."""
    ends = np.cumsum([len(text) + _SPECIAL for text in texts])
    size = min(_MOST, max(_LEAST, int(ends[-1]) // (_PIECES * workers)))
    starts = np.flatnonzero(np.diff(ends // size, prepend=-1)).tolist()
    return [texts[start:end] for start, end in pairwise([*starts, len(texts)])]


class _Workers:
    """Processes, and for each a thread here that hands it work and waits for the answer."""

    def __init__(self, embedder: Embedder, devices: Sequence[str]) -> None:
        self._closed, self._process = False, os.getpid()
        self._lock = Lock()
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(len(devices))
        self._folder = TemporaryDirectory(prefix="embedkit-")
        # The workers map this file, so they share one copy of the weights.
        path = Path(self._folder.name) / "embedder.pt"
        threads = max(1, torch.get_num_threads() // len(devices))
        self._all = [_Worker(device, path, threads) for device in devices]
        try:
            _save(embedder, path)
            for worker in self._all:
                worker.start()
            for worker in self._all:
                worker.wait_until_loaded()
                self._idle.put(worker)
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"_closed": True}

    @property
    def closed(self) -> bool:
        """Also in a forked process, which has none of the threads."""
        return self._closed or self._process != os.getpid()

    def close(self) -> None:
        """End the processes, whatever they do."""
        if not self.closed:
            with self._lock:
                self._closed = True
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
            for deaths in range(1, _ATTEMPTS + 1):
                try:
                    if not worker.process.is_alive():
                        with self._lock:
                            if self.closed:
                                raise CancelledError
                            worker.start()
                        worker.wait_until_loaded()
                    worker.connection.send((texts, *request))
                    answer: Encoded | Exception = worker.connection.recv()
                    break
                except (EOFError, ConnectionError, ChildProcessError):
                    if self.closed:
                        raise CancelledError from None
                    end = worker.end()
                if deaths < _ATTEMPTS:
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
        return answer


def _save(embedder: Embedder, path: Path) -> None:
    try:
        torch.save(embedder, path)
    except (OSError, RuntimeError) as error:  # torch's, and often without the reason
        raise OSError(
            f"{path.parent}: the model for the workers cannot be written here; expected free space "
            "in the temporary folder, which TMPDIR names"
        ) from error


class _Worker:
    """A process that has the embedder on a device."""

    process: Any = None
    connection: Connection

    def __init__(self, device: str, path: Path, threads: int) -> None:
        self._device, self._arguments = device, (device, path, threads)

    def start(self) -> None:
        """Start it, out of reach of Ctrl-C and of the script that runs here.

        A child inherits the mask of signals. It would import `__main__`, and start workers itself
        where the script has no `if __name__ == "__main__":`.
        """
        self.connection, theirs = _SPAWN.Pipe()
        arguments = (theirs, *self._arguments)
        process = _SPAWN.Process(target=_serve, args=arguments, daemon=True)
        main = vars(sys.modules["__main__"])
        hidden = {name: main[name] for name in ("__file__", "__spec__") if main.get(name)}
        resource_tracker.ensure_running()  # its start would lift the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            main.update(dict.fromkeys(hidden))
            with theirs:
                process.start()
            self.process = process
        finally:
            main.update(hidden)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def wait_until_loaded(self) -> None:
        try:
            problem = self.connection.recv()
        except (EOFError, ConnectionError):
            raise ChildProcessError(f"{self.end()} while it loaded the model") from None
        if problem is not None:
            raise problem

    def end(self) -> str:
        """How it ended, once it has; another thread may have been told first."""
        while (code := self.process.exitcode) is None:
            time.sleep(0.01)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"a worker on {self._device} ended with {how}{memory}"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


def _serve(connection: Connection, device: str, path: Path, threads: int) -> None:
    """A worker: loads the embedder, and encodes what comes; it answers None, texts or errors."""
    Thread(target=_end_with_parent, args=(path.parent,), daemon=True).start()
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizer
    with suppress(EOFError, ConnectionError):  # the pipe is closed
        try:
            embedder = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
            embedder = embedder.to(device)
        except Exception as error:
            connection.send(error)
            return
        answer: object = None
        while True:
            connection.send(answer)
            texts, precision, options = connection.recv()
            try:
                if precision != embedder.precision:
                    embedder._settle(precision=precision)
                answer = embedder.encode_recipes(texts, **options, show_progress=False)
            except Exception as error:
                answer = error


def _end_with_parent(folder: Path) -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
