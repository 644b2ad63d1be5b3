"""Run batches in streams of a CPU: Python threads that each take the next batch.

One thread to a batch wastes less than many threads that wait for each other in every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Barrier, Lock, Thread
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
    ends it after the batches that are under way, and no thread outlives the call.
    """
    coming = iter(batches)
    under_way: dict[Future[_U], _T] = {}
    pool = ThreadPoolExecutor(streams, "stream")
    try:
        _limit_threads(pool, streams, threads)
        while True:
            for batch in islice(coming, 2 * streams - len(under_way)):
                under_way[pool.submit(function, batch)] = batch
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                land(under_way.pop(future), future.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _limit_threads(pool: ThreadPoolExecutor, streams: int, count: int) -> None:
    """Threads of torch for each thread of the pool, which is new.

    A new thread gets what any thread has set last, so another one sets that again at the end.
    """
    started = Barrier(streams)  # so that each of them gets one call

    def limit(_: int) -> None:
        torch.get_num_threads()  # else torch's first use of its number in this thread resets it
        torch.set_num_threads(count)
        started.wait()

    with _changing:
        everywhere = torch.get_num_threads()
        try:
            list(pool.map(limit, range(streams)))
        finally:
            other = Thread(target=torch.set_num_threads, args=(everywhere,))
            other.start()
            other.join()
