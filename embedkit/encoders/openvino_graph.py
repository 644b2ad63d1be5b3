"""The forward pass of an encoder as a graph of OpenVINO, for texts of one length.

The same network as in `network`: every linear may be int8, by activations that were measured.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.families import (
    NORM,
    POOLER,
    POSITIONS,
    PROJECTION,
    TYPES,
    WORDS,
    EncoderConfig,
    Family,
)
from embedkit.encoders.linear import ACTIVATIONS
from embedkit.errors import InputError, first_line

if TYPE_CHECKING:
    from openvino import Model, Node

Float32Array: TypeAlias = NDArray[np.float32]
# A linear that may be quantized: the layer, from 0, and qkv, attention_output, up or down.
Part: TypeAlias = tuple[int, str]
PARTS = ("qkv", "attention_output", "up", "down")
_QKV = ("query", "key", "value")


class Quantized(NamedTuple):
    """How the input of a linear becomes int8; its weights follow, one scale for each output."""

    smoothing: Float32Array  # (in,) that the input is divided by and the weights are multiplied by
    low: float  # of the smoothed input; 0 is one of the 256 levels
    high: float


def import_openvino() -> Any:
    """The library, without the message that its import sends to its maker through this package."""
    telemetry = "openvino_telemetry"
    hidden = "openvino" not in sys.modules and telemetry not in sys.modules
    if hidden:
        sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        import openvino.opset13
    except ImportError as error:
        raise InputError(
            f"engine is 'openvino', which is not installed ({first_line(error)}); "
            "run pip install 'embedkit[openvino]'"
        ) from error
    finally:
        if hidden:
            del sys.modules[telemetry]
    return openvino


def build(
    family: Family,
    config: EncoderConfig,
    tensors: Mapping[str, Float32Array],  # under transformers' names
    layers: Collection[int],  # the hidden states, in the order of the outputs
    *,
    pooler: bool = False,  # whether pooler_output, (texts, dim), is the last output
    quantization: Mapping[Part, Quantized] | None = None,  # a part without one stays float
) -> Model:
    """A model of token_ids and positions, int32 (texts, length), to (texts, length, dim) each.

    `length` must be above 1: where the first texts that OpenVINO 2026.4 gets have one token, it
    computes the attention of later ones wrongly.
    """
    openvino = import_openvino()
    opset13 = openvino.opset13
    graph = _Graph(config, tensors, quantization or {})
    inputs = [
        opset13.parameter([-1, -1], np.int32, name=name) for name in ("token_ids", "positions")
    ]
    x = graph.embedded(*inputs)
    states = {0: x}
    for index in range(config.layers if pooler else max(layers)):
        x = states[index + 1] = graph.layer(index, family.layer_names(index), x)
    outputs = [states[layer] for layer in layers]
    if pooler:
        outputs.append(graph.pooled(x))
    return openvino.Model([opset13.result(output) for output in outputs], inputs, "encoder")


class _Graph:
    """Nodes of the network."""

    def __init__(
        self,
        config: EncoderConfig,
        tensors: Mapping[str, Float32Array],
        quantization: Mapping[Part, Quantized],
    ) -> None:
        self._op, self._config, self._tensors = import_openvino().opset13, config, tensors
        self._quantization = quantization

    def embedded(self, token_ids: Node, positions: Node) -> Node:
        """The input of the first layer."""
        op = self._op
        tables = ((WORDS, token_ids), (POSITIONS, positions))
        words, places = (
            op.gather(self._constant(self._tensors[name]), rows, op.constant(0))
            for name, rows in tables
        )
        x = op.add(words, places)
        if TYPES in self._tensors:
            x = op.add(x, self._constant(self._tensors[TYPES][0]))
        x = self._norm(x, NORM)
        if self._config.embedding != self._config.dim:
            (x,) = self._linears(x, None, PROJECTION)
        return x

    def layer(self, index: int, names: Mapping[str, str], x: Node) -> Node:
        op = self._op
        q, k, v = map(
            self._heads, self._linears(x, (index, "qkv"), *(names[part] for part in _QKV))
        )
        mixed = op.transpose(
            op.scaled_dot_product_attention(q, k, v), op.constant(np.array([0, 2, 1, 3]))
        )
        mixed = op.reshape(mixed, op.constant(np.array([0, 0, self._config.dim])), True)
        (mixed,) = self._linears(mixed, (index, "attention_output"), names["attention_output"])
        x = self._norm(op.add(mixed, x), names["attention_norm"])
        (inner,) = self._linears(x, (index, "up"), names["up"])
        (outer,) = self._linears(self._activated(inner), (index, "down"), names["down"])
        return self._norm(op.add(outer, x), names["norm"])

    def pooled(self, x: Node) -> Node:
        """(texts, length, dim) -> (texts, dim): tanh(W h_cls + b)"""
        op = self._op
        first = op.gather(x, op.constant(0), op.constant(1))
        (y,) = self._linears(first, None, POOLER)
        return op.tanh(y)

    def _linears(self, x: Node, part: Part | None, *names: str) -> list[Node]:
        """W x + b of each of these tensors, which share their input."""
        op = self._op
        weights = [self._tensors[f"{name}.weight"] for name in names]
        matrices = [self._constant(weight) for weight in weights]
        if part is not None and part in self._quantization:
            x, matrices = self._quantized(x, weights, self._quantization[part])
        return [
            op.add(op.matmul(x, matrix, False, True), self._constant(self._tensors[f"{name}.bias"]))
            for name, matrix in zip(names, matrices, strict=True)
        ]

    def _quantized(
        self, x: Node, weights: list[Float32Array], how: Quantized
    ) -> tuple[Node, list[Node]]:
        """x and W as int8 (Jacob et al. 2018; smoothed as by Xiao et al. 2023)."""
        op = self._op
        low, high = (op.constant(np.float32(value)) for value in (how.low, how.high))
        smoothed = op.multiply(x, self._constant(1 / how.smoothing))
        matrices = []
        for weight in weights:
            scaled, scales = quantize_weights(weight * how.smoothing)
            matrices.append(
                op.multiply(op.convert(op.constant(scaled), "f32"), self._constant(scales))
            )
        return op.fake_quantize(smoothed, low, high, low, high, 256), matrices

    def _norm(self, x: Node, name: str) -> Node:
        op = self._op
        last = op.constant(np.array([-1]))
        y = op.mvn(x, last, True, float(self._config.eps), "INSIDE_SQRT")
        y = op.multiply(y, self._constant(self._tensors[f"{name}.weight"]))
        return op.add(y, self._constant(self._tensors[f"{name}.bias"]))

    def _heads(self, x: Node) -> Node:
        """(texts, length, dim) -> (texts, heads, length, dim of a head)"""
        op, heads = self._op, self._config.heads
        shape = np.array([0, 0, heads, self._config.dim // heads])
        split = op.reshape(x, op.constant(shape), True)
        return op.transpose(split, op.constant(np.array([0, 2, 1, 3])))

    def _activated(self, x: Node) -> Node:
        how = ACTIVATIONS[self._config.activation]
        mode = {None: (), "none": ("ERF",), "tanh": ("TANH",)}[how.algorithm]
        return getattr(self._op, how.fused)(x, *mode)  # whose name is the same as in oneDNN

    def _constant(self, values: NDArray[Any]) -> Node:
        # Shared: OpenVINO would keep a copy beside the one that it lays out for its kernels.
        row_major = np.ascontiguousarray(values, dtype=np.float32)
        return self._op.constant(row_major, shared_memory=True)


def quantize_weights(weight: Float32Array) -> tuple[NDArray[np.int8], Float32Array]:
    """int8 (out, in) of -127 to 127 and float32 (out, 1), whose product is near the weight."""
    scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    return np.round(weight / scales).astype(np.int8), scales
