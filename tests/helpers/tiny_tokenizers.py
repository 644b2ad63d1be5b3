"""Tokenizers of each kind, with vocabularies of a few hundred tokens."""

from __future__ import annotations

from string import ascii_letters, ascii_lowercase, digits, punctuation
from unicodedata import normalize

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase

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
_MERGES = [("t", "h"), ("th", "e"), ("Ġ", "a"), ("i", "n")]


def _ids(tokens: tuple[str, ...]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _bytes(*special: str) -> dict[str, int]:
    merged = (a + b for a, b in _MERGES)
    return _ids((*special, *sorted(ByteLevel.alphabet()), *merged))


def _unigram(*special: str) -> list[tuple[str, float]]:
    pieces = (*ascii_lowercase, *digits, *punctuation, *HANGUL, "▁", "▁the", "▁a", "ing")
    scores = [(token, 0.0) for token in special]
    return scores + [(piece, -float(len(scores) + place)) for place, piece in enumerate(pieces)]


def bert() -> PreTrainedTokenizerBase:
    return transformers.BertTokenizer(_ids(VOCAB))


def klue() -> PreTrainedTokenizerBase:
    """RoBERTa's numbers of the special tokens in BERT's tokenizer, as KLUE has it."""
    tokens = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *VOCAB[len(SPECIAL) :])
    return transformers.BertTokenizer(_ids(tokens), do_lower_case=False)


def distilbert() -> PreTrainedTokenizerBase:
    return transformers.DistilBertTokenizer(_ids(VOCAB))


def electra() -> PreTrainedTokenizerBase:
    return transformers.ElectraTokenizer(_ids(VOCAB))


def mpnet() -> PreTrainedTokenizerBase:
    tokens = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>", *VOCAB[len(SPECIAL) :])
    return transformers.MPNetTokenizer(_ids(tokens))


def roberta() -> PreTrainedTokenizerBase:
    vocab = _bytes("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return transformers.RobertaTokenizer(vocab, _MERGES)


def xlm_roberta() -> PreTrainedTokenizerBase:
    return transformers.XLMRobertaTokenizer(_unigram("<s>", "<pad>", "</s>", "<unk>", "<mask>"))


def camembert() -> PreTrainedTokenizerBase:
    special = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<mask>")
    return transformers.CamembertTokenizer(vocab=_unigram(*special))


def albert() -> PreTrainedTokenizerBase:
    return transformers.AlbertTokenizer(_unigram("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))


def deberta() -> PreTrainedTokenizerBase:
    return transformers.DebertaV2Tokenizer(_unigram("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"))


def t5() -> PreTrainedTokenizerBase:
    return transformers.T5Tokenizer(_unigram("<pad>", "</s>", "<unk>"), extra_ids=1)


def modernbert() -> PreTrainedTokenizerBase:
    """Bytes as in RoBERTa, special tokens as in BERT, and no class of its own."""
    backend = Tokenizer(models.BPE(_bytes(*SPECIAL), _MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **dict(zip(names, SPECIAL, strict=True))
    )


def qwen() -> PreTrainedTokenizerBase:
    """Pads on the left and ends each text with a token to pool, as Qwen3-Embedding does."""
    end = "<|endoftext|>"
    tokenizer = transformers.Qwen2Tokenizer(_bytes(end), _MERGES, padding_side="left")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, 0)]
    )
    return tokenizer
