"""Makers of tiny models with random weights: real folders, nothing downloaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from string import ascii_letters, ascii_lowercase, digits, punctuation
from typing import Any
from unicodedata import normalize

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from embedkit.encoder.packed import Affine
from embedkit.states import TokenBatch, TokenStates

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("a", "the", "one", "two", "is", "not", "and", "in", "on", "of", "to", "it", "he", "she"),
    *("man", "woman", "cat", "dog", "bird", "city", "rain", "sun", "music", "book", "plays"),
    *("runs", "reads", "eats", "flies", "slowly", "quickly", "guitar", "park", "train", "news"),
    *("query", "passage", "play", "##ing", "##s", "##ed", "##er", "##ly"),
)
HANGUL = "한국어문장그는책을읽고있다비가온사람음악듣"
# A tokenizer that lower-cases also strips accents, which takes syllables apart into jamo.
JAMO = "".join(dict.fromkeys(normalize("NFD", HANGUL)))
VOCAB = tuple(
    dict.fromkeys(
        (
            *SPECIAL,
            *digits,
            *punctuation,
            *ascii_letters,  # capitals are for tokenizers that keep the case
            *WORDS,
            *HANGUL,
            *JAMO,
            *(f"##{c}" for c in ascii_letters + digits + HANGUL + JAMO),
        )
    )
)
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

PACKED_FAMILIES = ("bert", "roberta", "distilbert", "electra")
OTHER_FAMILIES = ("mpnet", "albert")
FAMILIES = (*PACKED_FAMILIES, *OTHER_FAMILIES)
POOLER_FAMILIES = ("bert", "roberta", "mpnet", "albert")


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
    """Save a random model of a family with its fast tokenizer; `config` goes into config.json.

    A family outside `POOLER_FAMILIES` has no pooler anyway.
    """
    tokenizer = _tokenizer(family)
    names = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * width,
    }
    if family == "distilbert":
        names = {"dim": width, "n_layers": layers, "n_heads": heads, "hidden_dim": 2 * width}
    elif family in ("albert", "electra"):
        names["embedding_size"] = 16
    if family in ("roberta", "mpnet"):
        max_positions += 2  # they count from padding_idx + 1
    model_config = transformers.AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        max_position_embeddings=max_positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **names,
        **config,
    )
    kwargs = {"add_pooling_layer": pooler} if family in POOLER_FAMILIES else {}
    model = transformers.AutoModel.from_config(model_config, **kwargs)
    randomise(model, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def randomise(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Give every parameter values that show: no bias is 0, no scale of a layer norm is 1."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.LayerNorm)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2, generator=generator)
            if id(parameter) in norms:
                parameter.add_(1)
    return model.eval()


def _tokenizer(family: str) -> PreTrainedTokenizerBase:
    if family == "roberta":
        tokens = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet()))
        merges = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("i", "n")]
        tokens += tuple(a + b for a, b in merges)
        return transformers.RobertaTokenizer(
            {token: index for index, token in enumerate(tokens)}, merges
        )
    if family == "albert":
        pieces = (*ascii_lowercase, *digits, *punctuation, *HANGUL, "▁", "▁the", "▁a", "ing")
        scores = [("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
        scores += [(piece, -float(len(scores) + place)) for place, piece in enumerate(pieces)]
        return transformers.AlbertTokenizer(scores)
    if family == "mpnet":
        tokens = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>", *VOCAB[len(SPECIAL) :])
        return transformers.MPNetTokenizer({token: index for index, token in enumerate(tokens)})
    classes = {
        "bert": transformers.BertTokenizer,
        "distilbert": transformers.DistilBertTokenizer,
        "electra": transformers.ElectraTokenizer,
    }
    return classes[family]({token: index for index, token in enumerate(VOCAB)})


def pack(texts: Iterable[Sequence[int]]) -> TokenBatch:
    """Token ids of texts as one packed batch, no token of which is special."""
    rows = [torch.tensor(text, dtype=torch.int64) for text in texts]
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return TokenBatch(torch.cat(rows), offsets, torch.zeros(int(offsets[-1]), dtype=torch.bool))


class PositionEncoder:
    """A fake whose hidden state k of the token t at place i (from 1) is [k, i, t].

    Its pooler_output is [-1, tokens of the text, its first token]. It notes what it is asked for.
    """

    family = "position"
    cuts = True
    width = 3
    vocab_size = 1000
    max_positions = None

    def __init__(self, num_layers: int = 3) -> None:
        self.num_layers = num_layers
        self.identity = {"family": self.family}
        self.pooler = Affine(torch.eye(3), torch.zeros(3))
        self.batches: list[TokenBatch] = []
        self.asked: list[tuple[tuple[int, ...], bool]] = []

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        pass

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
