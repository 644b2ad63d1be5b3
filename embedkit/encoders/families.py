"""The families that we run ourselves, one table: names of their sizes and their tensors.

All are BERT's network (Devlin et al. 2019), with norms after the residuals. Keys, defaults and
tensor names are those of transformers. What a family has no key for, its network does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from embedkit.errors import InputError

# Tensors that have the same name in all families.
WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
NORM = "embeddings.LayerNorm"
PROJECTION = "embeddings_project"
POOLER = "pooler.dense"

# Field of EncoderConfig -> key in config.json, and the value where the file has none.
Keys = Mapping[str, tuple[str, int | float | str]]


_BERT_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}


class Family(NamedTuple):
    """A family of encoders."""

    architecture: str  # transformers' class of the encoder alone
    prefix: str  # in front of the names in a checkpoint with a head
    keys: Keys  # of config.json, by the fields of EncoderConfig
    layer: str = "encoder.layer.{}."  # in front of the names of a layer, its number in place of {}
    names: Mapping[str, str] = _BERT_LAYER  # the tensors of one layer
    has_pooler: bool = True  # whether a checkpoint may have one

    def layer_names(self, index: int) -> dict[str, str]:
        """The names of a layer, in full."""
        return {part: self.layer.format(index) + name for part, name in self.names.items()}


_BERT: Keys = {
    "dim": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "inner": ("intermediate_size", 3072),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "types": ("type_vocab_size", 2),
    "eps": ("layer_norm_eps", 1e-12),
    "activation": ("hidden_act", "gelu"),
}

_ROBERTA: Keys = {**_BERT, "padding": ("pad_token_id", 1)}

_ELECTRA: Keys = {
    **_BERT,
    "embedding": ("embedding_size", 128),
    "dim": ("hidden_size", 256),
    "heads": ("num_attention_heads", 4),
    "inner": ("intermediate_size", 1024),
}

_DISTILBERT: Keys = {
    "dim": ("dim", 768),
    "layers": ("n_layers", 6),
    "heads": ("n_heads", 12),
    "inner": ("hidden_dim", 3072),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "activation": ("activation", "gelu"),
}

_DISTILBERT_LAYER = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm": "output_layer_norm",
}

FAMILIES: dict[str, Family] = {
    "bert": Family("BertModel", "bert.", _BERT),
    "roberta": Family(
        "RobertaModel", "roberta.", {**_ROBERTA, "vocabulary": ("vocab_size", 50265)}
    ),
    "xlm-roberta": Family("XLMRobertaModel", "roberta.", _ROBERTA),
    "camembert": Family("CamembertModel", "roberta.", _ROBERTA),
    "electra": Family("ElectraModel", "electra.", _ELECTRA, has_pooler=False),
    "distilbert": Family(
        "DistilBertModel",
        "distilbert.",
        _DISTILBERT,
        layer="transformer.layer.{}.",
        names=_DISTILBERT_LAYER,
        has_pooler=False,
    ),
}


@dataclass(frozen=True)
class EncoderConfig:
    """The part of config.json that the forward pass needs."""

    dim: int  # of the hidden states
    layers: int
    heads: int
    inner: int  # the dim inside a layer
    vocabulary: int
    positions: int
    activation: str
    types: int = 0  # 0: there is no such table
    embedding: int = 0  # the dim of the tables; another than `dim` is projected
    padding: int | None = None  # the token id that RoBERTa's positions are counted from
    eps: float = 1e-12  # of the layer norms

    @classmethod
    def from_json(cls, config: dict[str, Any], family: Family, source: str) -> EncoderConfig:
        """Read and check the numbers of a config.json."""
        values: dict[str, Any] = {}
        for name, (key, default) in family.keys.items():
            values[name] = value = config.get(key, default)
            if isinstance(default, str):  # the activation, which `packed.runs` looks at
                continue
            kinds = int if isinstance(default, int) else (int, float)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            may_be_0 = name in ("layers", "padding") and value == 0
            if not is_number or not (may_be_0 or 0 < value < float("inf")):
                raise InputError(
                    f"{source}/config.json: {key} is {value!r}; expected a positive number"
                )
        values.setdefault("embedding", values["dim"])
        self = cls(**values)
        if self.dim % self.heads:
            dim, heads = (family.keys[name][0] for name in ("dim", "heads"))
            raise InputError(
                f"{source}/config.json: {dim} {self.dim} is not a multiple of {heads} {self.heads}"
            )
        if self.max_positions < 1:
            raise InputError(
                f"{source}/config.json: pad_token_id {self.padding} leaves none of the "
                f"{self.positions} positions; expected a smaller one"
            )
        return self

    @property
    def max_positions(self) -> int:
        """Tokens that a text may have; RoBERTa's count starts after `padding`."""
        return self.positions if self.padding is None else self.positions - self.padding - 1

    def shapes(self, family: Family, *, pooler: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The tensors by name, one at a time: a config.json may ask for a million layers."""

        def affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{name}.weight", shape
            yield f"{name}.bias", shape[:1]

        dim, inner = self.dim, self.inner
        of_layer = {
            **dict.fromkeys(("query", "key", "value", "attention_output"), (dim, dim)),
            **dict.fromkeys(("attention_norm", "norm"), (dim,)),
            "up": (inner, dim),
            "down": (dim, inner),
        }
        tables = {WORDS: self.vocabulary, POSITIONS: self.positions, TYPES: self.types}
        yield from ((name, (rows, self.embedding)) for name, rows in tables.items() if rows)
        yield from affine(NORM, self.embedding)
        if self.embedding != dim:
            yield from affine(PROJECTION, dim, self.embedding)
        for index in range(self.layers):
            for part, name in family.layer_names(index).items():
                yield from affine(name, *of_layer[part])
        if pooler:
            yield from affine(POOLER, dim, dim)
