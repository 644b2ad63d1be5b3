"""OpenVINO and onnxruntime as a user would drive them, with exports of their own.

The graph is transformers' network with mean pooling; texts are sorted by tokens, and padded in
batches of 32. All take as many threads as torch has. They need `pip install embedkit[bench]`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedkit import Embedder
from embedkit.benchmark import AbsentError, Contestant
from embedkit.recipes.steps import Float32Array

BATCH, CALIBRATION = 32, 150
_Arrays = list[np.ndarray[Any, np.dtype[np.int64]]]


class Pooled(torch.nn.Module):
    """Token ids, mask and token types, each int64 (n, longest) -> mean (n, dim)."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        super().__init__()
        self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        states = self.model(
            input_ids=ids, attention_mask=mask, token_type_ids=types
        ).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


EXAMPLE = tuple(torch.ones(2, 9, dtype=torch.int64) for _ in range(3))


class Batches:
    """Texts, sorted and padded."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._longest = Embedder.from_pretrained(folder, device="cpu").tokenizer.max_length

    def __call__(self, texts: list[str]) -> Iterator[tuple[Any, _Arrays]]:
        """The texts' indices, and ids, mask and types of each batch; longest first."""
        rows = self._tokenizer(texts, truncation=True, max_length=self._longest)["input_ids"]
        order = np.argsort([-len(row) for row in rows], kind="stable")
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            ids = np.zeros((len(batch), len(rows[batch[0]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for line, index in enumerate(batch):
                ids[line, : len(rows[index])] = rows[index]
                mask[line, : len(rows[index])] = 1
            yield batch, [ids, mask, np.zeros_like(ids)]


@cache
def openvino_graph(folder: Path) -> Any:
    import openvino

    with torch.no_grad():
        return openvino.convert_model(Pooled(folder), example_input=EXAMPLE)


@cache
def openvino_int8(folder: Path, calibration: tuple[str, ...]) -> Any:
    """Quantized by NNCF with SmoothQuant, calibrated on batches of 32 texts."""
    import nncf

    inputs = [arrays for _, arrays in Batches(folder)(list(calibration))]
    return nncf.quantize(
        openvino_graph(folder).clone(),
        nncf.Dataset(inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(inputs),
    )


def openvino(
    folder: Path,
    device: str | None,
    *,
    precision: str,
    graph: Callable[[Path], Any] = openvino_graph,
) -> Contestant:
    """One stream a thread, and a queue of twice as many requests."""
    try:
        import openvino as ov

        model = graph(folder)
    except ImportError as error:
        raise AbsentError(f"{error}; pip install embedkit[bench]") from error
    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    queue = ov.AsyncInferQueue(compiled, 2 * threads)
    batches = Batches(folder)
    dim = compiled.output(0).partial_shape[1].get_length()

    def encode(texts: list[str]) -> Float32Array:
        vectors = np.empty((len(texts), dim), dtype=np.float32)

        def land(request: Any, rows: Any) -> None:
            vectors[rows] = request.get_output_tensor(0).data

        queue.set_callback(land)
        for rows, arrays in batches(texts):
            queue.start_async(arrays, rows)
        queue.wait_all()
        return vectors

    return Contestant(encode)


@cache
def onnx_file(folder: Path, *, int8: bool) -> Path:
    """Exported by torch; int8 is dynamic, per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = Path(tempfile.mkdtemp()) / "model.onnx"
    names = ["ids", "mask", "types"]
    with torch.no_grad():
        torch.onnx.export(
            Pooled(folder),
            EXAMPLE,
            path,
            input_names=names,
            output_names=["vectors"],
            dynamic_axes={name: {0: "n", 1: "longest"} for name in names} | {"vectors": {0: "n"}},
            dynamo=False,
        )
    if not int8:
        return path
    quantized = path.with_name("int8.onnx")
    quantize_dynamic(path, quantized, per_channel=True, weight_type=QuantType.QInt8)
    return quantized


def onnxruntime(folder: Path, device: str | None, *, int8: bool) -> Contestant:
    try:
        import onnxruntime as ort

        file = onnx_file(folder, int8=int8)
    except ImportError as error:
        raise AbsentError(f"{error}; pip install embedkit[bench]") from error
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    batches = Batches(folder)

    def encode(texts: list[str]) -> Float32Array:
        parts: list[tuple[Any, Float32Array]] = []
        for rows, arrays in batches(texts):
            inputs = dict(zip(("ids", "mask", "types"), arrays, strict=True))
            given = {name: array for name, array in inputs.items() if name in names}
            parts.append((rows, session.run(None, given)[0]))
        vectors = np.empty((len(texts), parts[0][1].shape[1]), dtype=np.float32)
        for rows, values in parts:
            vectors[rows] = values
        return vectors

    return Contestant(encode)


def peers(texts: list[str]) -> dict[str, Callable[[Path, str | None], Contestant]]:
    """By name; int8 of OpenVINO is calibrated on the first texts."""
    calibration = tuple(texts[: BATCH * CALIBRATION])
    return {
        "OpenVINO float32": partial(openvino, precision="f32"),
        "OpenVINO bfloat16": partial(openvino, precision="bf16"),
        "OpenVINO int8 (NNCF)": partial(
            openvino, precision="f32", graph=partial(openvino_int8, calibration=calibration)
        ),
        "onnxruntime float32": partial(onnxruntime, int8=False),
        "onnxruntime int8": partial(onnxruntime, int8=True),
    }
