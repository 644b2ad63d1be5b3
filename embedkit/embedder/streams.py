"""Run batches in streams of a CPU: Python threads that each take the next batch.

One thread to a batch wastes less than many threads that wait for each other in every operation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Lock, Thread, get_ident
from typing import TypeVar

import torch

_T = TypeVar("_T")
_U = TypeVar("_U")
_changing = Lock()  # the number of threads that torch gives to new ones


def streams_for(threads: int, batches: int) -> tuple[int, int]:
    """Streams, and the threads of each: one, while there is a batch for every thread.

    Example:
        >>> streams_for(4, 100), streams_for(4, 2), streams_for(4, 1)
        ((4, 1), (2, 2), (1, 4))
    """
    each = -(-threads // max(1, batches))
    return threads // each, each


def run_streams(
    function: Callable[[_T], _U],  # called by `streams` threads at once, with `threads` of torch
    batches: Iterable[_T],
    land: Callable[[_T, _U], None],  # told each batch and its result, by the calling thread
    streams: int,
    threads: int,
) -> None:
    """land(batch, function(batch)) of all batches, in the order in which they are done.

    Settings of torch that belong to a thread are the initial ones, as in `standard_torch`. An error
    of a stream is raised here, and no thread outlives the call.
    """
    coming, lock = iter(batches), Lock()
    running: set[int] = set()  # idents of the threads that have begun, and not ended
    done: SimpleQueue[tuple[_T, _U] | BaseException | None] = SimpleQueue()

    def take() -> _T | None:
        with lock:
            running.add(get_ident())
            return next(coming, None)

    def work() -> None:
        try:
            _limit_threads(threads)
            while (batch := take()) is not None:
                done.put((batch, function(batch)))
            done.put(None)
        except BaseException as error:
            done.put(error)
        finally:
            with lock:
                running.discard(get_ident())

    workers = [Thread(target=work, name=f"stream {index}") for index in range(streams)]
    try:
        for worker in workers:
            worker.start()
        while streams:
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                streams -= 1
            else:
                land(*result)
    except BaseException:
        with lock:
            coming = iter(())
            for ident in running:  # a batch may take long; this ends it between two operations
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(ident), ctypes.py_object(SystemExit)
                )
        raise
    finally:
        for worker in workers:
            if worker.ident is not None:
                worker.join()


def _limit_threads(count: int) -> None:
    """Threads of torch for the calling thread alone, which is new.

    A new thread gets what any thread has set last, so another one sets that again.
    """
    with _changing:
        everywhere = torch.get_num_threads()
        if count != everywhere:
            try:
                torch.set_num_threads(count)
            finally:
                other = Thread(target=torch.set_num_threads, args=(everywhere,))
                other.start()
                other.join()
