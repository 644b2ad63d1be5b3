"""A pool of Ray actors with an embedder each; where one dies, others repeat its work."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from embedkit.arguments import check_count, check_type
from embedkit.embedder.one_pass import Encoded
from embedkit.errors import InputError, first_line
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.embedder.embedder import Embedder

_FROM_0 = "a number from 0"
_DEPTH = 2  # chunks that an actor has at a time, so that it never waits for the next one
_AHEAD = 4  # times as many chunks as actors are under way, or wait for an earlier one
_ATTEMPTS = 4  # deaths of actors over one chunk, or in a row before one is ready
_PATIENCE = 60.0  # seconds without any actor until a warning


class ActorError(OSError):
    """What the actors of a cluster could not do, in one sentence."""


@dataclass(frozen=True)
class Actors:
    """How many actors there are, and what each reserves of its node.

    Attributes:
        size: how many; None for as many as the nodes have room for at the start.
        num_cpus: CPUs of each, and threads of torch.
        num_gpus: GPUs of each, 0.5 where two share one; None for 1 if the cluster has any, else 0.
    """

    size: int | None = None
    num_cpus: int = 1
    num_gpus: float | None = None

    def __post_init__(self) -> None:
        check_count("num_cpus", self.num_cpus)
        if self.size is not None:
            check_count("size", self.size)
        if self.num_gpus is not None:
            check_type("num_gpus", self.num_gpus, (int, float), _FROM_0)
            if not self.num_gpus >= 0:
                raise InputError(f"num_gpus is {self.num_gpus}; expected {_FROM_0}")

    def fitted(self) -> Actors:
        """These actors in the cluster that this process is connected to."""
        if not ray.is_initialized():
            raise InputError(
                "this process is connected to no cluster of Ray; expected a block of `connected()`"
            )
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = self.num_gpus
        if gpus is None:
            gpus = int(any("GPU" in node for node in nodes))
        needs = {"CPU": self.num_cpus} | ({"GPU": gpus} if gpus else {})
        room = sum(int(min(node.get(x, 0) / need for x, need in needs.items())) for node in nodes)
        if not room:
            wanted = " and ".join(f"{need:g} {kind}s" for kind, need in needs.items())
            raise InputError(f"no node of the cluster has the {wanted} of an actor; expected fewer")
        return replace(self, size=self.size or room, num_gpus=gpus)

    @property
    def resources(self) -> dict[str, Any]:
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}


@dataclass(frozen=True)
class Job:
    """What an actor needs to encode."""

    embedder: tuple[ray.ObjectRef]  # in a tuple, else Ray would load it before `load` runs
    recipes: Sequence[BoundRecipe]
    options: dict[str, Any]  # of `encode_recipes`
    actors: Actors
    version: str = __version__

    def load(self) -> Embedder:
        """In an actor: its embedder, in as many threads as it has CPUs."""
        if self.version != __version__:
            raise InputError(
                f"node {ray.util.get_node_ip_address()}: has embedkit {__version__}, expected "
                f"{self.version} as on the machine of the command"
            )
        import torch

        os.environ["RAYON_NUM_THREADS"] = str(self.actors.num_cpus)  # the tokenizer's
        torch.set_num_threads(self.actors.num_cpus)
        embedder: Embedder = ray.get(self.embedder[0])
        return embedder.to("cuda" if self.actors.num_gpus else "cpu")


class Actor:
    """An embedder in a process of the cluster."""

    def load(self, job: Job) -> None:
        self._job, self._embedder = job, job.load()

    def encode(self, texts: Sequence[str]) -> Encoded:
        job = self._job
        return self._embedder.encode_recipes(texts, job.recipes, **job.options, show_progress=False)


def in_actors(job: Job, parts: Iterable[Sequence[str]]) -> Iterator[Encoded]:
    """Each list of texts, encoded, in order."""
    chunks = iter(parts)
    if (first := next(chunks, None)) is not None:
        pool = _Pool(job)
        try:
            yield from pool.encode(first, chunks)
        finally:
            pool.end()


class _Pool:
    """Actors by number; one that dies is replaced, and its chunks go to those that are ready."""

    def __init__(self, job: Job) -> None:
        self._job = ray.put(job)
        self._start = ray.remote(Actor).options(**job.actors.resources).remote
        self._numbers = count()
        self._actors: dict[int, Any] = {}
        self._loads: dict[int, int] = {}  # chunks that each actor has, if it is ready
        # Calls under way: the actor, and the number of the chunk, or None while the actor loads.
        self._calls: dict[Any, tuple[int, int | None]] = {}
        self._waiting: deque[int] = deque()  # chunks for the next actor
        self._done: dict[int, Encoded] = {}
        self._deaths: Counter[int | None] = Counter()
        for _ in range(job.actors.size or 0):
            self._add()

    def _add(self) -> None:
        number = next(self._numbers)
        actor = self._actors[number] = self._start()
        self._calls[actor.load.remote(self._job)] = number, None

    def end(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)

    def encode(self, first: Sequence[str], chunks: Iterator[Sequence[str]]) -> Iterator[Encoded]:
        texts = {0: first}  # of the chunks that are not yielded
        self._waiting.append(0)
        following = 0
        while texts:
            while len(texts) < _AHEAD * len(self._actors) and (chunk := next(chunks, None)):
                number = following + len(texts)
                texts[number] = chunk
                self._waiting.append(number)
            self._hand_out(texts)
            if following in self._done:
                yield self._done.pop(following)
                del texts[following]
                following += 1
            else:
                self._wait()

    def _hand_out(self, texts: dict[int, Sequence[str]]) -> None:
        while self._waiting and self._loads:
            number = min(self._loads, key=self._loads.__getitem__)
            if self._loads[number] == _DEPTH:
                return
            chunk = self._waiting.popleft()
            self._loads[number] += 1
            self._calls[self._actors[number].encode.remote(texts[chunk])] = number, chunk

    def _wait(self) -> None:
        """Take a result, or note a death."""
        calls, _ = ray.wait(list(self._calls), timeout=None if self._loads else _PATIENCE)
        if not calls:
            problem = f"no actor has started for {_PATIENCE:g} s; `ray status` shows what is free"
            warnings.warn(problem, stacklevel=1)
            return
        number, chunk = self._calls.pop(calls[0])
        try:
            result = ray.get(calls[0])
        except RayTaskError as error:
            raise user_error(error) from None
        except RayError as error:
            self._replace(number, chunk, error)
            return
        self._deaths.pop(chunk, None)
        if chunk is None:
            self._loads[number] = 0
            return
        self._done[chunk] = result
        if number in self._loads:  # else it died since
            self._loads[number] -= 1

    def _replace(self, number: int, chunk: int | None, error: RayError) -> None:
        self._deaths[chunk] += 1
        most = _ATTEMPTS * len(self._actors) if chunk is None else _ATTEMPTS
        if self._deaths[chunk] >= most:
            what = "before one was ready" if chunk is None else "over the same texts"
            reason = str(error).strip().splitlines()[-1].strip()
            raise ActorError(f"actors of Ray died {most} times {what}: {reason}")
        if chunk is not None:
            self._waiting.appendleft(chunk)
        if number in self._actors:  # else its other chunk told already
            warnings.warn("an actor of Ray died; others repeat its texts", stacklevel=1)
            ray.kill(self._actors.pop(number))
            self._loads.pop(number, None)
            self._add()


def user_error(error: RayTaskError) -> Exception:
    """The error of an actor as the caller's own, in one sentence."""
    cause = error.cause
    if isinstance(cause, InputError):
        return InputError(cause)
    return ActorError(f"an actor of Ray failed: {type(cause).__name__}: {first_line(cause)}")
