"""Run the encoder once over the texts and reduce its states to embeddings of every recipe."""

from __future__ import annotations

import reprlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.embedder.streams import run_streams, streams_for
from embedkit.encoders.auto import AutoModelEncoder
from embedkit.encoders.encoder import Encoder
from embedkit.errors import InputError
from embedkit.pooling import POOLINGS
from embedkit.recipes.bound_recipe import BoundRecipe
from embedkit.recipes.steps import Float32Array
from embedkit.tokenization.batching import (
    GPU_TOKEN_BUDGET,
    STREAM_BUDGET,
    TOKEN_BUDGET,
    Batches,
    equal_batches,
    stream_budget,
)
from embedkit.tokenization.token_batch import TokenBatch
from embedkit.tokenization.tokenizer import Tokenized

# A GPU computes these while the next ones are tokenized.
_TEXTS_ON_GPU = 32_768
_STREAM_TOKENS = 512  # fewer are no work for a stream
_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True)
class Distinct:
    """Texts without repetition."""

    texts: list[str]  # each distinct text once, in order of first appearance
    inverse: NDArray[np.int64]  # (n,) int64; text i of the original is `texts[inverse[i]]`

    @classmethod
    def of(cls, texts: Sequence[str]) -> Distinct:
        indices: dict[str, int] = {}
        inverse = [indices.setdefault(text, len(indices)) for text in texts]
        return cls(list(indices), np.array(inverse, dtype=np.int64))


@dataclass(frozen=True)
class Encoded:
    """What one pass over texts gives."""

    vectors: list[Float32Array]  # for each recipe float32 (distinct texts, dim)
    distinct: Distinct  # the distinct texts, and where each text is among them
    tokens: Tokenized  # of the distinct texts, prompt included


def check_finite(vectors: Float32Array, texts: Sequence[str], precision: str) -> None:
    """Refuse embeddings (n, dim) of n texts that overflowed or come from damaged weights."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        advice = "another model" if precision == "float32" else "precision float32"
        raise InputError(
            f"the embedding of {reprlib.repr(texts[int(finite.argmin())])} in {precision} has "
            f"numbers that are not finite; expected finite ones, so take {advice}"
        )


def in_parts(texts: list[str], encoder: Encoder) -> list[list[str]]:
    """Texts that are run together; on a GPU, those of the next part are tokenized meanwhile."""
    size = _texts_at_once(encoder)
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _texts_at_once(encoder: Encoder) -> int:
    """How many; a CPU gains nothing from tokenizing ahead."""
    return _TEXTS_ON_GPU if encoder.device.type == "cuda" else sys.maxsize


def ahead(function: Callable[[_T], _U], items: Sequence[_T]) -> Iterator[_U]:
    """function(item) of each in turn, the next one in another thread while one is in use."""
    if len(items) == 1:
        yield function(items[0])
        return
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(function, items[0])
        for item in items[1:]:
            result, coming = coming.result(), other.submit(function, item)
            yield result
        yield coming.result()


def run(
    encoder: Encoder,  # asked for the union of the recipes' layers; states live for one batch only
    tokens: Tokenized,
    recipes: Sequence[BoundRecipe],  # resolved against `encoder`
    *,
    prompt_tokens: int = 0,  # first tokens of each text that are left out of the pooling
    reproducible: bool = False,  # the same bits for a text whatever the others; see `equal_batches`
    budget: int | None = None,  # tokens under way; None for what suits the device
    advance: Callable[[int], None] = lambda tokens: None,  # told the tokens of each batch
) -> list[Float32Array]:
    """For each recipe float32 (n, dim); each text is run through the encoder once.

    A GPU is never waited for while it has work: what it computes is copied as it comes, and the
    steps of one batch run while it is at the next. On a CPU several batches run at once, each in a
    stream of its own; the steps, and `advance`, run in the calling thread.
    """
    pool = _Pass(encoder, recipes, prompt_tokens)
    results = [
        np.empty((len(tokens.lengths), bound.dim(encoder.dim)), np.float32) for bound in recipes
    ]

    def compute(texts: NDArray[np.int64]) -> list[_Copy]:
        return pool(tokens.batch(texts, batch_invariant=reproducible))

    def land(texts: NDArray[np.int64], copies: list[_Copy]) -> None:
        for result, bound, copy in zip(results, recipes, copies, strict=True):
            result[texts] = bound.apply(copy.numpy(), batch_invariant=reproducible)
        advance(int(tokens.lengths[np.unique(texts)].sum()))

    equal = list(equal_batches(tokens.lengths)) if reproducible else None
    threads = torch.get_num_threads()
    streams, of_each = _streams(encoder, tokens.lengths, equal, threads)
    if (streams, of_each) != (1, threads):
        most = STREAM_BUDGET if budget is None else max(1, budget // streams)
        size = stream_budget(tokens.lengths, streams, most)
        run_streams(compute, equal or Batches(tokens.lengths, size), land, streams, of_each)
        return results
    if budget is None:
        budget = GPU_TOKEN_BUDGET if encoder.device.type == "cuda" else TOKEN_BUDGET
    shrinking = Batches(tokens.lengths, budget)
    under_way: deque[tuple[NDArray[np.int64], list[_Copy]]] = deque()
    for texts in equal or shrinking:
        try:
            under_way.append((texts, compute(texts)))
        except torch.OutOfMemoryError as error:
            if reproducible or len(texts) == 1:
                raise MemoryError(
                    f"that of {encoder.device} does not hold texts of "
                    f"{tokens.lengths[texts].max()} tokens; expected a smaller max_length, or "
                    "another device"
                ) from error
            shrinking.halve(texts)
            continue
        if len(under_way) > 1:
            land(*under_way.popleft())
    while under_way:
        land(*under_way.popleft())
    return results


def _streams(
    encoder: Encoder,
    lengths: NDArray[np.int64],
    equal: list[NDArray[np.int64]] | None,  # batches whose bits are promised
    threads: int,
) -> tuple[int, int]:
    """Streams, and the threads of each."""
    # transformers 5.0 replaces methods of a model while it collects hidden states.
    if encoder.device.type != "cpu" or isinstance(encoder, AutoModelEncoder):
        return 1, threads
    if equal is not None:  # a product's bits may depend on its threads, so it always has one
        return min(threads, len(equal)), 1
    return streams_for(threads, min(len(lengths), int(lengths.sum()) // _STREAM_TOKENS))


class _Copy:
    """An asynchronous copy of embeddings from the device to the CPU."""

    def __init__(self, vectors: Tensor) -> None:
        self._on_cpu = vectors.to("cpu", non_blocking=True)
        self._done: torch.cuda.Event | None = None
        if vectors.is_cuda:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def numpy(self) -> Float32Array:
        """The embeddings, once they are copied."""
        if self._done is not None:
            self._done.synchronize()
        vectors: Float32Array = self._on_cpu.numpy()
        return vectors


class _Pass:
    """The encoder and all poolings over one batch."""

    def __init__(
        self, encoder: Encoder, recipes: Sequence[BoundRecipe], prompt_tokens: int
    ) -> None:
        self._encoder, self._recipes = encoder, recipes
        self._prompt_tokens = prompt_tokens
        self._needed = [bound.recipe.states(encoder.num_layers) for bound in recipes]
        self._layers = sorted({layer for states in self._needed for layer in states})
        self._pooler = any(not states for states in self._needed)

    def __call__(self, batch: TokenBatch) -> list[_Copy]:
        """For each recipe (texts, width) float32, before its steps; each pooling computed once."""
        states = self._encoder(batch, self._layers, pooler=self._pooler)
        states = states.without_prompt(self._prompt_tokens)

        def on_device(values: Float32Array | None) -> Tensor | None:
            return None if values is None else torch.from_numpy(values).to(self._encoder.device)

        averaged = cache(lambda layers: states.average(layers) if layers else states)
        pooled: dict[tuple[object, ...], Tensor] = {}

        def pool(name: str, layers: tuple[int, ...], bound: BoundRecipe) -> Tensor:
            weights = bound.token_weights if POOLINGS[name].fitted else None
            query = bound.query if POOLINGS[name].trained else None
            mix = bound.layer_weights
            key = (name, layers, id(weights), id(query), id(mix))
            if key not in pooled:
                mixed = None if mix is None else states.average(layers, on_device(mix))
                source = mixed or averaged(layers)
                if weights is not None or query is not None:
                    source = replace(
                        source, token_weights=on_device(weights), query=on_device(query)
                    )
                pooled[key] = POOLINGS[name].reduce(source).float()
            return pooled[key]

        return [
            _Copy(torch.cat([pool(name, layers, bound) for name in bound.recipe.poolings], 1))
            for bound, layers in zip(self._recipes, self._needed, strict=True)
        ]
