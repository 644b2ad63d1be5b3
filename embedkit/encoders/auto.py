"""Encoders that transformers runs, on texts of one length at a time, so without padding."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.encoders.devices import check_fork
from embedkit.encoders.linear import Affine
from embedkit.encoders.loading import load_pretrained, of_pooler
from embedkit.encoders.states import TokenStates
from embedkit.encoders.weights import Weights
from embedkit.errors import InputError, first_line
from embedkit.tokenization.token_batch import TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from embedkit.encoders.quantization import Quantization

# Where AutoModel would make a decoder too; sentence-transformers loads these by the same classes.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}


class AutoModelEncoder:
    """An `Encoder` that transformers runs.

    A run of texts of one length is one call: attention masks do not hide pads from every family
    (the convolutions of ConvBERT and the Fourier transforms of FNet see them).
    """

    engine = "torch"
    int8: Quantization | None = None
    cuts = False

    # `has_pooler`: whether the checkpoint had the weights of the pooler, if the model has one.
    def __init__(self, model: PreTrainedModel, *, has_pooler: bool) -> None:
        self.whole = not model.config.is_encoder_decoder
        if not self.whole:
            model, has_pooler = model.get_encoder(), False
        if not has_pooler and _pooler_of(model) is not None:
            model.register_module("pooler", None)  # it was invented: neither use nor save it
        torch.nn.Module.to(model, torch.float32)
        self.model = model.train(False)
        self._runner = self.model  # or a copy of it elsewhere or in another precision
        self.family: str = model.config.model_type
        self.dim = int(model.config.hidden_size)
        self.num_layers = int(model.config.num_hidden_layers)
        embeddings: Any = model.get_input_embeddings()
        self.vocab_size = int(embeddings.num_embeddings)
        self.max_positions = _max_positions(model)
        self.device: torch.device = model.device

    @classmethod
    def from_folder(cls, folder: Path, family: str, weights: Weights) -> AutoModelEncoder:
        """Load with AutoModel, or T5's own encoder class."""
        import transformers

        name = _ENCODER_CLASSES.get(family)
        kind = transformers.AutoModel.from_config if name is None else getattr(transformers, name)
        model, missing = load_pretrained(kind, folder, weights=weights, decoder=True)
        try:
            encoder = cls(model, has_pooler=not any(map(of_pooler, missing)))
            encoder._check_runs()
        except (InputError, MemoryError):
            raise
        except Exception as error:
            raise InputError(
                f"{folder}: a {family} with this config.json does not run as an "
                f"encoder of texts ({first_line(error)})"
            ) from error
        return encoder

    def _check_runs(self) -> None:
        """One text of one token, so that what cannot run is found before long work."""
        one = TokenBatch(
            torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1]), torch.zeros(1).bool()
        )
        states = self(one, [0, self.num_layers])
        if self.vocab_size < 1 or {tuple(s.shape) for s in states.layers.values()} != {
            (1, self.dim)
        }:
            raise ValueError(f"its hidden states are not {self.dim} numbers wide")

    @property
    def pooler(self) -> Affine | None:
        dense = _pooler_of(self.model)
        return None if dense is None else Affine(dense.weight.detach(), dense.bias.detach())

    def to(self, device: torch.device, dtype: torch.dtype) -> AutoModelEncoder:
        if (device, dtype) == (self._runner.device, self._runner.dtype):
            return self
        other = copy.copy(self)
        other._runner = self.model
        if (device, dtype) != (self.model.device, torch.float32):
            other._runner = copy.deepcopy(self.model).to(device=device, dtype=dtype)
        other.device = other._runner.device
        return other

    @torch.inference_mode()
    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        check_fork()
        batch = batch.to(self.device)
        like = {"dtype": self._runner.dtype, "device": batch.offsets.device}
        states = {index: torch.empty(len(batch.token_ids), self.dim, **like) for index in layers}
        first: list[Tensor] = []
        for run in batch.runs:
            ids = batch.token_ids[run.tokens].view(-1, run.length)
            output = self._runner(
                input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
            )
            hidden = output.hidden_states
            if len(hidden) != self.num_layers + 1:
                raise InputError(
                    f"{self.family} returns {len(hidden)} hidden states, expected "
                    f"{self.num_layers + 1}; this family is not supported"
                )
            for index, state in states.items():
                state[run.tokens] = hidden[index].flatten(0, 1)
            first.append(hidden[-1][:, 0])
        pooled = None
        if pooler:
            if (dense := _pooler_of(self._runner)) is None:
                raise ValueError("this checkpoint has no pooler")
            pooled = F.linear(torch.cat(first), dense.weight, dense.bias).tanh()
        return TokenStates(states, batch, pooled)

    @property
    def identity(self) -> dict[str, Any]:
        volatile = ("_name_or_path", "architectures", "dtype", "transformers_version")
        config = self.model.config.to_diff_dict()  # a new version may add defaults
        lasting = {name: value for name, value in config.items() if name not in volatile}
        return {**lasting, "output_hidden_states": None}

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        return dict(self.model.state_dict())

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> dict[str, Any]:
        if num_layers != self.num_layers:
            raise ValueError(f"a {self.family} encoder cannot be cut")
        self.model.config.output_hidden_states = output_hidden_states
        try:
            self.model.save_pretrained(folder)
        finally:
            self.model.config.output_hidden_states = False
        takes = inspect.signature(type(self.model)).parameters
        without = "add_pooling_layer" in takes and self.pooler is None
        return {"add_pooling_layer": False} if without else {}


def _max_positions(model: PreTrainedModel) -> int | None:
    """Tokens that a text may have; MPNet's offset (padding_idx + 1) is taken off."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    embeddings = getattr(model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return positions if padding is None else positions - padding - 1


def _pooler_of(model: PreTrainedModel) -> torch.nn.Linear | None:
    """The linear of a pooler that is tanh(W h_cls + b), as in BERT, RoBERTa, MPNet and ALBERT."""
    pooler = getattr(model, "pooler", None)
    dense = getattr(pooler, "dense", pooler)
    activation = getattr(pooler, "activation", getattr(model, "pooler_activation", None))
    if isinstance(dense, torch.nn.Linear) and isinstance(activation, torch.nn.Tanh):
        return dense
    return None
