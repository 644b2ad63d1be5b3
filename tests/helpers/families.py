"""The encoder families that embedkit is tested on.

One row makes a tiny random model of a family for the tests, and a row of the READMEs' table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers import tiny_tokenizers


@dataclass(frozen=True)
class Family:
    """A family as it is tested.

    Attributes:
        model_type: what its config.json says.
        example: a model of it on the hub.
        tokenizer: makes a small one of its kind.
        packed: whether embedkit runs it itself, and so cuts it.
        pooler: whether a checkpoint can have one.
        sizes: its names for the width, the layers, the heads and the width inside a layer.
        config: what else its config.json says.
        positions: how the places of tokens are found: by counting all `tokens`, by counting `words`
            (from padding_idx + 1, pads left out), or `relative` to one another.
        limited: whether a text can be too long.
        model: transformers' class, where it is not AutoModel's.
    """

    model_type: str
    example: str
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    packed: bool = False
    pooler: bool = False
    sizes: tuple[str, str, str, str] = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    )
    config: Mapping[str, Any] = field(default_factory=dict)
    positions: Literal["tokens", "words", "relative"] = "tokens"
    limited: bool = True
    model: str = "AutoModel"

    def make(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        pooler: bool,
        max_positions: int,
        **config: Any,
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A model, its weights not yet set, and its tokenizer; `config` goes into config.json."""
        tokenizer = self.tokenizer()
        said: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **dict(zip(self.sizes, (width, layers, heads, 2 * width), strict=True)),
        }
        if self.limited:
            said["max_position_embeddings"] = max_positions + 2 * (self.positions == "words")
        model_config = transformers.AutoConfig.for_model(
            self.model_type, **said | dict(self.config) | config
        )
        if self.model != "AutoModel":
            return getattr(transformers, self.model)(model_config), tokenizer
        options = {"add_pooling_layer": pooler} if self.pooler else {}
        return transformers.AutoModel.from_config(model_config, **options), tokenizer


_T5 = ("d_model", "num_layers", "num_heads", "d_ff")

FAMILIES: dict[str, Family] = {
    "bert": Family("bert", "klue/bert-base", tiny_tokenizers.bert, packed=True, pooler=True),
    "roberta": Family(
        "roberta",
        "FacebookAI/roberta-base",
        tiny_tokenizers.roberta,
        packed=True,
        pooler=True,
        positions="words",
    ),
    "klue-roberta": Family(
        "roberta",
        "klue/roberta-base",
        tiny_tokenizers.klue,
        packed=True,
        pooler=True,
        config={"type_vocab_size": 1, "layer_norm_eps": 1e-5},
        positions="words",
    ),
    "xlm-roberta": Family(
        "xlm-roberta",
        "BAAI/bge-m3",
        tiny_tokenizers.xlm_roberta,
        packed=True,
        pooler=True,
        config={"type_vocab_size": 1},
        positions="words",
    ),
    "camembert": Family(
        "camembert",
        "almanach/camembert-base",
        tiny_tokenizers.camembert,
        packed=True,
        pooler=True,
        positions="words",
    ),
    "electra": Family(
        "electra",
        "monologg/koelectra-base-v3-discriminator",
        tiny_tokenizers.electra,
        packed=True,
        config={"embedding_size": 16},
    ),
    "distilbert": Family(
        "distilbert",
        "distilbert/distilbert-base-multilingual-cased",
        tiny_tokenizers.distilbert,
        packed=True,
        sizes=("dim", "n_layers", "n_heads", "hidden_dim"),
    ),
    "mpnet": Family(
        "mpnet",
        "sentence-transformers/all-mpnet-base-v2",
        tiny_tokenizers.mpnet,
        pooler=True,
        positions="words",
    ),
    "albert": Family(
        "albert",
        "albert/albert-base-v2",
        tiny_tokenizers.albert,
        pooler=True,
        config={"embedding_size": 16},
    ),
    "deberta-v2": Family(
        "deberta-v2",
        "microsoft/deberta-v3-base",
        tiny_tokenizers.deberta,
        config={
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
        positions="relative",
    ),
    "modernbert": Family(
        "modernbert",
        "answerdotai/ModernBERT-base",
        tiny_tokenizers.modernbert,
        config={"local_attention": 16, "cls_token_id": 2, "sep_token_id": 3},
        positions="relative",
    ),
    "nomic_bert": Family(
        "nomic_bert",
        "nomic-ai/nomic-embed-text-v1.5",
        tiny_tokenizers.bert,
        positions="relative",
    ),
    "t5": Family(
        "t5",
        "sentence-transformers/sentence-t5-base",
        tiny_tokenizers.t5,
        sizes=_T5,
        config={"d_kv": 8},
        positions="relative",
        limited=False,
        model="T5EncoderModel",
    ),
    "mt5": Family(
        "mt5",
        "google/mt5-base",
        tiny_tokenizers.t5,
        sizes=_T5,
        config={"d_kv": 8},
        positions="relative",
        limited=False,
        model="MT5EncoderModel",
    ),
    "qwen3": Family(
        "qwen3",
        "Qwen/Qwen3-Embedding-0.6B",
        tiny_tokenizers.qwen,
        config={"num_key_value_heads": 2, "head_dim": 8},
        positions="relative",
    ),
}
PACKED = tuple(name for name, family in FAMILIES.items() if family.packed)
OTHERS = tuple(name for name, family in FAMILIES.items() if not family.packed)
WITH_POOLER = tuple(name for name, family in FAMILIES.items() if family.pooler)


def encoder_table(language: str = "en") -> str:
    """The table as Markdown, as the READMEs show it, in English (en) or Korean (ko)."""
    korean = language == "ko"
    lines = [
        "| 계열 | 모델 예 | 실행 | pooler | 아래층까지만 저장할 때 |"
        if korean
        else "| family | such as | run by | pooler | a lower layer is saved |",
        "| --- | --- | --- | --- | --- |",
    ]
    whole = "모델 전체와 층 가중치" if korean else "whole, with layer weights"
    cut = "그 층까지만" if korean else "as the encoder cut there"
    may, none = ("있을 수 있음", "없음") if korean else ("if its weights are there", "none")
    for family in FAMILIES.values():
        by, saved = ("embedkit", cut) if family.packed else ("transformers", whole)
        pooler = may if family.pooler else none
        lines.append(f"| `{family.model_type}` | {family.example} | {by} | {pooler} | {saved} |")
    return "\n".join(lines)
