"""The packed families run by OpenVINO, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embedkit.encoders.families import EncoderConfig, Family
from embedkit.encoders.network import positions
from embedkit.encoders.openvino_graph import (
    Float32Array,
    Part,
    Quantized,
    build,
    import_openvino,
)
from embedkit.encoders.packed import PackedEncoder
from embedkit.encoders.states import TokenStates
from embedkit.errors import InputError
from embedkit.tokenization.token_batch import TokenBatch

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOEncoder(PackedEncoder):
    """An `Encoder` whose hidden states are float32, whatever the precision that it computes in."""

    engine = "openvino"

    def to(self, device: torch.device, dtype: torch.dtype) -> OpenVINOEncoder:
        if device.type != "cpu":
            raise InputError(
                f"engine is 'openvino', which runs on the CPU alone, and device is '{device}'; "
                "expected device cpu or engine torch"
            )
        _core()  # it is installed
        if dtype not in _PRECISIONS:
            name = str(dtype).removeprefix("torch.")
            raise InputError(
                f"precision is {name!r}, which OpenVINO does not compute in; expected float32 or "
                "bfloat16, or engine torch"
            )
        if dtype == torch.bfloat16 and not has_bfloat16():
            raise InputError(
                "precision is 'bfloat16', and OpenVINO finds no instructions for it on this CPU; "
                "expected float32, or engine torch"
            )
        return super().to(device, dtype)  # type: ignore[return-value]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Of the thread that makes it: streams, which run it, have some of these.
        self._threads = torch.get_num_threads()

    def _network(self) -> OpenVINONetwork:
        tensors = {name: tensor.numpy() for name, tensor in self._tensors.items()}
        parts, dtype = None, self._dtype
        if self.int8 is not None:  # the rest may run in bfloat16: int8 changes embeddings more
            parts, dtype = self.int8.parts, torch.bfloat16 if has_bfloat16() else torch.float32
        return OpenVINONetwork(self._family, self._sizes, tensors, dtype, self._threads, parts)


class OpenVINONetwork:
    """An encoder in one precision, compiled once for each set of hidden states.

    A thread that calls it gets a stream of as many threads as torch has in that thread.
    """

    def __init__(
        self,
        family: Family,
        config: EncoderConfig,
        tensors: Mapping[str, Float32Array],  # under transformers' names
        dtype: torch.dtype,
        threads: int,  # of all streams together
        int8: Mapping[Part, Quantized] | None = None,  # the linears that are
    ) -> None:
        self._family, self._config, self._tensors = family, config, tensors
        self._precision = _PRECISIONS[dtype]
        self._threads, self._int8 = threads, int8
        # With what runs them: a request of each thread that does not run one now.
        self._compiled: dict[tuple[object, ...], tuple[CompiledModel, list[InferRequest]]] = {}
        self._lock = Lock()

    @torch.inference_mode()
    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        """Hidden states `layers`, each (tokens, dim), and pooler_output; float32."""
        config = self._config
        # Rows that a table does not have are no error in OpenVINO.
        if max(batch.lengths) > config.max_positions or batch.token_ids.max() >= config.vocabulary:
            raise IndexError("a text is too long or has a token that the vocabulary has not")
        places = positions(batch, config.padding)
        rows = [values.int().numpy() for values in (batch.token_ids, places)]
        states = {layer: torch.empty(len(batch.token_ids), config.dim) for layer in layers}
        pooled = torch.empty(len(batch.lengths), config.dim) if pooler else None
        compiled, idle = self._model(tuple(states), pooler)
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        for run in batch.runs:
            inputs = [values[run.tokens].reshape(-1, run.length) for values in rows]
            if run.length == 1:  # see `build`; attention to two equal tokens is that to one
                inputs = [np.repeat(values, 2, axis=1) for values in inputs]
            outputs = request.infer(inputs, share_inputs=True, share_outputs=True)
            for index, state in enumerate(states.values()):
                block = torch.from_numpy(outputs[index])[:, : run.length]
                state[run.tokens] = block.flatten(0, 1)
            if pooled is not None:
                pooled[run.texts] = torch.from_numpy(outputs[len(states)])
        idle.append(request)  # not one that was interrupted, which may still run
        return TokenStates(states, batch, pooled)

    def _model(
        self, layers: tuple[int, ...], pooler: bool
    ) -> tuple[CompiledModel, list[InferRequest]]:
        core, threads = _core(), torch.get_num_threads()
        key, together = (layers, pooler, threads), max(threads, self._threads)
        options = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "NUM_STREAMS": together // threads,
            "INFERENCE_NUM_THREADS": together,
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
        }
        with self._lock:
            if key not in self._compiled:
                network = self._family, self._config, self._tensors, layers
                model = build(*network, pooler=pooler, quantization=self._int8)
                # No CACHE_DIR: to read a compiled model takes longer than to compile it.
                compiled = core.compile_model(model, "CPU", options)
                used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
                if used != self._precision:
                    raise RuntimeError(f"OpenVINO computes in {used}; expected {self._precision}")
                self._compiled[key] = compiled, []
            return self._compiled[key]


def _core() -> Any:
    core, process = _started()
    if process != os.getpid():
        raise InputError(
            "this process was forked from one that ran OpenVINO, whose threads it does not have; "
            "expected one that was started by spawn, or engine torch"
        )
    return core


@cache
def _started() -> tuple[Any, int]:
    return import_openvino().Core(), os.getpid()


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
