"""Calibrate int8: what the input of each linear is divided by, its range, and which stay float.

Smoothing moves the range of activations into the weights (Xiao et al. 2023). Its strength is chosen
for each linear by the error of its outputs, on inputs as the layers before it, already int8, give
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from embedkit.encoders.devices import one_thread
from embedkit.encoders.linear import Affine, PlainLinear
from embedkit.encoders.network import Network
from embedkit.encoders.openvino_graph import PARTS, Part, Quantized, quantize_weights
from embedkit.errors import InputError, first_line
from embedkit.files import parse_json
from embedkit.tokenization.token_batch import TokenBatch

if TYPE_CHECKING:
    from embedkit.encoders.packed import PackedEncoder

FILE = "quantization.safetensors"
_SCHEMA = 1
MEAN_COSINE = 0.998  # to float32, that is asked of int8
_STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # alpha of Xiao et al., equation 4
_ROWS = 1024  # of the inputs, that the error is measured on
_LEAST = 1e-5  # of a largest value: one of 0 would be divided by


def _levels(low: float, high: float) -> tuple[float, float]:
    """A range of 256 levels that holds this one, and of which one is 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    return float(np.float32(-zero * step)), float(np.float32((255 - zero) * step))


class Int8Linear(PlainLinear):
    """A linear as OpenVINO computes it in int8, in float32: calibrated by its first input.

    That holds the tokens twice: as float32 computes them, and as the layers before this one do.
    """

    def __init__(self, affine: Affine) -> None:
        super().__init__(affine)
        self.quantized: Quantized | None = None
        self.exact = False  # whether it runs in float32
        self._weight = affine.weight

    def run_as(self, how: Quantized | None) -> None:
        """Run in int8, or in float32 for None."""
        self.quantized, self.exact = how, how is None
        if how is not None:
            self._weight = rounded_weight(self._affine.weight, how)

    @property
    def cost(self) -> int:
        """Multiply-adds of a token."""
        return self._affine.weight.numel()

    def __call__(self, x: Tensor) -> Tensor:
        if self.exact:
            return super().__call__(x)
        if self.quantized is not None:
            return self._run(x, self.quantized, self._weight)
        exact, rough = x.chunk(2)
        target = super().__call__(exact)
        self.calibrate(rough, target)
        return torch.cat([target, self(rough)])

    def calibrate(self, x: Tensor, target: Tensor) -> None:
        """Choose smoothing and range for inputs (tokens, in) and outputs (tokens, out)."""
        weight, stride = self._affine.weight, max(1, len(x) // _ROWS)
        largest, of_weight = (values.abs().amax(0).clamp(min=_LEAST) for values in (x, weight))
        errors: dict[float, tuple[Quantized, Tensor]] = {}
        for strength in _STRENGTHS:
            smoothing = largest**strength / of_weight ** (1 - strength)
            smoothing /= smoothing.log().mean().exp()
            smoothing = smoothing.half().float().clamp(min=_LEAST)
            smoothed = x / smoothing
            ends = _levels(float(smoothed.min()), float(smoothed.max()))
            quantized = Quantized(smoothing.numpy(), *ends)
            rounded = rounded_weight(weight, quantized)
            outputs = self._run(x[::stride], quantized, rounded)
            error = float((outputs - target[::stride]).square().sum())
            errors[error] = quantized, rounded
        self.quantized, self._weight = errors[min(errors)]

    def _run(self, x: Tensor, how: Quantized, weight: Tensor) -> Tensor:
        step = (how.high - how.low) / 255
        clipped = (x / torch.from_numpy(how.smoothing)).clamp(how.low, how.high)
        levels = ((clipped - how.low) / step).round()
        return torch.nn.functional.linear(levels * step + how.low, weight, self._affine.bias)


def rounded_weight(weight: Tensor, how: Quantized) -> Tensor:
    """The smoothed weight, (out, in), as its int8 values stand for it."""
    levels, scales = quantize_weights(weight.numpy() * how.smoothing)
    return torch.from_numpy(levels * scales)


@one_thread()  # more of them add up in another order
@torch.inference_mode()
def calibrate(encoder: PackedEncoder, batch: TokenBatch, few: TokenBatch) -> dict[Part, Quantized]:
    """The quantization of an encoder of the CPU by the tokens of some texts, on one thread.

    The linears whose int8 alone changes the mean states of a `few` texts the most, per
    multiply-add, are left out one by one, until the rest leaves these states a cosine of
    `MEAN_COSINE` in the mean: they stay float.
    """
    network, linears = emulated(encoder)
    twice = TokenBatch(
        batch.token_ids.repeat(2),
        torch.cat([batch.offsets, batch.offsets[1:] + batch.offsets[-1]]),
        batch.special.repeat(2),
    )
    network(twice, [encoder.num_layers])

    def means(changed: Collection[Part]) -> Tensor:
        """(texts, dim): mean states where these parts alone are int8."""
        for part, linear in linears.items():
            linear.exact = part not in changed
        last = network(few, [encoder.num_layers]).only
        sums = torch.zeros(len(few.lengths), encoder.dim)
        return sums.index_add_(0, few.segments, last)

    exact = means(())

    def loss(changed: Collection[Part]) -> float:
        return float(1 - torch.cosine_similarity(exact, means(changed)).double().mean())

    worth = {part: loss([part]) / linear.cost for part, linear in linears.items()}
    taken = sorted(linears, key=lambda part: worth[part])
    while taken and loss(taken) > 1 - MEAN_COSINE:
        taken.pop()
    return {
        part: linear.quantized
        for part, linear in linears.items()
        if part in taken and linear.quantized is not None
    }


def emulated(
    encoder: PackedEncoder, parts: Mapping[Part, Quantized] | None = None
) -> tuple[Network, dict[Part, Int8Linear]]:
    """The network with linears that compute in float32 what OpenVINO does in int8.

    Without `parts` they are calibrated by their first input.
    """
    network = encoder.network(Int8Linear)
    linears: dict[Part, Int8Linear] = {
        (index, part): getattr(layer, part)
        for index, layer in enumerate(network.layers)
        for part in PARTS
    }
    if parts is not None:
        for part, linear in linears.items():
            linear.run_as(parts.get(part))
    return network, linears


def of_tensors(
    tensors: Mapping[str, NDArray[Any]], encoder: PackedEncoder, path: Path
) -> dict[Part, Quantized]:
    """What the tensors of a file say of this encoder; a linear without any stays float."""
    left = dict(tensors)
    parts = {}
    for layer in range(encoder.num_layers):
        for part, (_, width) in zip(PARTS, encoder.linear_shapes, strict=True):
            name = f"{layer}.{part}"
            given = [left.pop(f"{name}.{end}", None) for end in ("smoothing", "range")]
            if all(one is None for one in given):
                continue
            absent: NDArray[Any] = np.empty(0)
            smoothing, ends = (absent if one is None else one for one in given)
            shapes = (smoothing.shape, ends.shape) == ((width,), (2,))
            types = smoothing.dtype == ends.dtype == np.float32
            finite = np.isfinite(smoothing).all() and np.isfinite(ends).all()
            if not (shapes and types and finite and smoothing.min() > 0 and _spans(*ends)):
                raise InputError(
                    f"{path}: {name} has no usable smoothing and range; expected float32 of shapes "
                    f"({width},), above 0, and (2,), around 0, all finite"
                )
            parts[layer, part] = Quantized(smoothing, float(ends[0]), float(ends[1]))
    if left:
        raise InputError(
            f"{path}: has {min(left)!r}, which is of no linear of the encoder; expected such as "
            "'0.qkv.smoothing'"
        )
    return parts


def _spans(low: float, high: float) -> bool:
    return bool(low <= 0 <= high and low < high)


@dataclass(frozen=True, eq=False)
class Quantization:
    """How an encoder becomes int8, and what is known of it."""

    parts: Mapping[Part, Quantized]  # without those that stay float
    certificate: Mapping[str, Any]  # JSON values

    def uncertified(self) -> Quantization:
        """The same without the changes that data have shown of one recipe, and without a bound."""
        kept = {k: v for k, v in self.certificate.items() if k not in ("changes", "max_loss")}
        return Quantization(self.parts, kept)

    def digest(self, num_layers: int) -> str:
        """SHA-256 of what the first layers are quantized by, as 64 hexadecimal digits."""
        taken = hashlib.sha256()
        for name, values in sorted(self._tensors(num_layers).items()):
            taken.update(name.encode() + values.tobytes())
        return taken.hexdigest()

    def _tensors(self, num_layers: int) -> dict[str, NDArray[np.float32]]:
        tensors = {}
        for (layer, part), how in self.parts.items():
            if layer < num_layers:
                tensors[f"{layer}.{part}.smoothing"] = how.smoothing
                tensors[f"{layer}.{part}.range"] = np.array([how.low, how.high], np.float32)
        return tensors

    def save(self, folder: Path, num_layers: int) -> None:
        """Write what the first layers are quantized by into a model folder."""
        metadata = {"schema": str(_SCHEMA), "certificate": json.dumps(dict(self.certificate))}
        save_file(self._tensors(num_layers), folder / FILE, metadata)

    @classmethod
    def load(cls, folder: Path, encoder: PackedEncoder) -> Quantization:
        """Read what `save` wrote for this encoder."""
        path = folder / FILE
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            certificate = parse_json(metadata.get("certificate", "{}"))
        except (OSError, SafetensorError, TypeError, ValueError) as error:
            raise InputError(f"{path}: damaged quantization ({first_line(error)})") from error
        if metadata.get("schema") != str(_SCHEMA) or not isinstance(certificate, dict):
            raise InputError(
                f"{path}: got schema {metadata.get('schema')!r}, expected '{_SCHEMA}' and a "
                "certificate; run embedkit quantize again"
            )
        return cls(of_tensors(tensors, encoder, path), certificate)
