"""Check that tokenizer.json alone reproduces AutoTokenizer.

For the classes that it knows, transformers 5 takes only the vocabulary from tokenizer.json and
builds the rest from tokenizer_config.json. The result is the tokenizer of tokenizer.json only if
both files describe the same one.
"""

from __future__ import annotations

from typing import Any

_FILE_AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")

# The class of a family whose files do not name one.
_CLASSES = {
    **dict.fromkeys(("bert", "electra", "distilbert"), "BertTokenizer"),
    "roberta": "RobertaTokenizer",
}


def matches_auto_tokenizer(content: dict[str, Any], config: dict[str, Any], family: str) -> bool:
    """Whether AutoTokenizer gives the tokenizer of tokenizer.json, which is `content`."""
    name = str(config.get("tokenizer_class", _CLASSES.get(family)))
    model = content.get("model")
    if name in _FILE_AS_IT_IS or not isinstance(model, dict) or "vocab" not in model:
        return True  # without a vocabulary, reading it fails, and transformers would invent one
    vocab = model["vocab"]
    if not isinstance(vocab, dict):
        return False
    describe = _DESCRIBED.get(name.removesuffix("Fast"))  # older versions add Fast
    if describe is None:
        return False
    expected, defaults = describe(config, vocab)
    options = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    return defaults | options == defaults and all(
        _includes(content.get(part), described) for part, described in expected.items()
    )


def _wordpiece(config: dict[str, Any], vocab: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What BertTokenizer builds: the parts, and the options of the model."""
    cls, sep = _token(config, "cls_token", "[CLS]"), _token(config, "sep_token", "[SEP]")
    parts = {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": cls, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": sep, "type_id": 0}},
            ],
            "special_tokens": {
                name: {"id": name, "ids": [vocab.get(name)], "tokens": [name]}
                for name in (cls, sep)
            },
        },
    }
    options = {
        "type": "WordPiece",
        "unk_token": _token(config, "unk_token", "[UNK]"),
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    return parts, options


def _byte_level(config: dict[str, Any], vocab: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What RobertaTokenizer builds."""
    cls, sep = _token(config, "cls_token", "<s>"), _token(config, "sep_token", "</s>")
    space = config.get("add_prefix_space", False)
    parts = {
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": space, "use_regex": True},
        "post_processor": {
            "type": "RobertaProcessing",
            "cls": [cls, vocab.get(cls)],
            "sep": [sep, vocab.get(sep)],
        },
    }
    options = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return parts, options


_DESCRIBED = {
    **dict.fromkeys(("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"), _wordpiece),
    "RobertaTokenizer": _byte_level,
}


def _token(config: dict[str, Any], key: str, default: str) -> str:
    """A special token, which the file may hold as an object."""
    value = config.get(key, default)
    return str(value.get("content") if isinstance(value, dict) else value)


def _includes(part: Any, expected: Any) -> bool:
    """Whether a part of tokenizer.json has all that is expected; it may have more."""
    if isinstance(expected, dict) and isinstance(part, dict):
        return part | expected == part
    return bool(part == expected)
