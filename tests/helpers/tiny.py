"""Makers of tiny models with random weights: real folders, nothing downloaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from embedkit.encoders.linear import Affine
from embedkit.encoders.states import TokenStates
from embedkit.tokenization.token_batch import TokenBatch
from helpers.families import FAMILIES
from helpers.tiny_tokenizers import VOCAB

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TEXTS = (
    "a man plays guitar in the park",
    "the cat reads a book slowly",
    "rain",
    "Two birds, one city: the sun is not in it!",
    "그는 책을 읽고 있다",
    "한국어 문장",
    "zebra quickly runs to the train and the dog eats news of 1984; she is playing on it.",
    "",
)


def make_tokenizer_files(
    folder: Path,
    *,
    lowercase: bool = True,
    vocab: tuple[str, ...] = VOCAB,
    model_max_length: int | None = None,
) -> Path:
    """Write a BERT WordPiece tokenizer as transformers saves it."""
    kwargs = {} if model_max_length is None else {"model_max_length": model_max_length}
    ids = {token: index for index, token in enumerate(vocab)}
    transformers.BertTokenizer(ids, do_lower_case=lowercase, **kwargs).save_pretrained(folder)
    return folder


def make_bert(
    folder: Path,
    *,
    layers: int = 3,
    width: int = 32,
    heads: int = 4,
    pooler: bool = True,
    seed: int = 0,
    max_positions: int = 512,
    **config: Any,
) -> Path:
    """Save a random BertModel with its tokenizer; `pooler=False` leaves out those weights."""
    return make_model(
        folder,
        "bert",
        layers=layers,
        width=width,
        heads=heads,
        pooler=pooler,
        seed=seed,
        max_positions=max_positions,
        **config,
    )


def make_model(
    folder: Path,
    family: str,
    *,
    layers: int = 3,
    width: int = 32,
    heads: int = 4,
    pooler: bool = True,
    seed: int = 0,
    max_positions: int = 512,
    **config: Any,
) -> Path:
    """Save a random model of a family of `families` with its tokenizer.

    A family that has no pooler has none anyway; `config` goes into config.json.
    """
    model, tokenizer = FAMILIES[family].make(
        width=width,
        layers=layers,
        heads=heads,
        pooler=pooler,
        max_positions=max_positions,
        **config,
    )
    randomise(model, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def randomise(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Give every parameter values that show: no bias is 0, no scale of a layer norm is 1."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(getattr(m, "weight", None)) for m in model.modules() if "Norm" in type(m).__name__}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
            if id(parameter) in norms:
                parameter.add_(1)
    return model.eval()


def pack(texts: Iterable[Sequence[int]]) -> TokenBatch:
    """Token ids of texts as one packed batch, no token of which is special."""
    rows = [torch.tensor(text, dtype=torch.int64) for text in texts]
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return TokenBatch(torch.cat(rows), offsets, torch.zeros(int(offsets[-1]), dtype=torch.bool))


class PositionEncoder:
    """A fake whose hidden state k of the token t at place i (from 1) is [k, i, t].

    Its pooler_output is [-1, tokens of the text, its first token]. It notes what it is asked for.
    """

    engine = "torch"
    family = "position"
    cuts = True
    dim = 3
    vocab_size = 1000
    max_positions = None
    device = torch.device("cpu")

    def __init__(self, num_layers: int = 3) -> None:
        self.num_layers = num_layers
        self.identity = {"family": self.family}
        self.pooler = Affine(torch.eye(3), torch.zeros(3))
        self.batches: list[TokenBatch] = []
        self.asked: list[tuple[tuple[int, ...], bool]] = []

    def to(self, device: torch.device, dtype: torch.dtype) -> PositionEncoder:
        return self

    def __call__(
        self, batch: TokenBatch, layers: Collection[int], *, pooler: bool = False
    ) -> TokenStates:
        self.batches.append(batch)
        self.asked.append((tuple(layers), pooler))
        place, token = (batch.positions + 1).float(), batch.token_ids.float()
        states: dict[int, Tensor] = {
            k: torch.stack([torch.full_like(place, k), place, token], 1) for k in layers
        }
        first = token[batch.offsets[:-1]]
        lengths = batch.offsets.diff().float()
        pooled = torch.stack([torch.full_like(first, -1), lengths, first], 1)
        return TokenStates(states, batch, pooled if pooler else None)

    def tensors(self, num_layers: int) -> dict[str, Tensor]:
        return {}

    def save(self, folder: Path, *, num_layers: int, output_hidden_states: bool) -> Any:
        raise NotImplementedError
