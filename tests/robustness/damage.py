"""Made-up damage to model folders and data files: what a hostile or broken one can hold.

`DAMAGES` is a table: kind of damage -> a function of random numbers, a model folder, which it
changes, and a `Trap` for code to fall into.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors.torch import load_file, save_file


class Trap(NamedTuple):
    """Where hostile folders lead.

    Attributes:
        marker: a file that appears where code of a folder is run.
        outside: a folder that no model folder may reach into.
    """

    marker: Path
    outside: Path


Damage: TypeAlias = Callable[[Random, Path, Trap], None]
DAMAGES: dict[str, Damage] = {}
REFUSED: set[str] = set()  # kinds for which a result would be wrong


def kind(*, refused: bool = False) -> Callable[[Damage], Damage]:
    def register(damage: Damage) -> Damage:
        DAMAGES[damage.__name__] = damage
        if refused:
            REFUSED.add(damage.__name__)
        return damage

    return register


# Values


SCRIPTS = (
    *("the cat reads", "그는 책을 읽고 있다", "мальчик читает", "ο άνθρωπος", "قطة تقرأ كتابا"),
    *("חתול קורא ספר", "猫在读书", "猫が本を読む", "बिल्ली पढ़ती है", "แมวอ่านหนังสือ", "ድመት", "ཞི་མི"),
    *(
        "👩\u200d👩\u200d👧\u200d👦🇰🇷👍🏽",
        "𝔣𝔯𝔞𝔨𝔱𝔲𝔯",
        "\U0001f600" * 50,
        "e" + "\u0301" * 300,
        "Z̸̧̛a̵l̶g̷o",
    ),
    *("\u202edesrever\u202c", "\u200f\u200e\u2066\u2069", "a\u2028b\u2029c\u0085d", "\ufeffbom"),
    *("\0", "a\0b", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "\r\n\t\v\f\b\x7f", ""),
    *("\ufffe\uffff", "\U0010ffff", "\ue000\U000f0000", "ｆｕｌｌ", "ﷺ" * 20, "İıŞß", "ᄒ" * 50),
    *(" " * 1000, "[CLS] [SEP] [MASK] [PAD] <s> </s> <pad>", "x" * 5000, "a b " * 3000, "…—“”‘’"),
)
BROKEN_TEXTS = ("\ud800", "a\udfffb", "\udc80", "ok \ud83d")


def text(random: Random) -> str:
    """A text that is valid Unicode."""
    if random.random() < 0.5:
        return random.choice(SCRIPTS)
    pools = ((0, 0x80), (0x80, 0x3000), (0x3000, 0xD800), (0xE000, 0x110000), (0x300, 0x370))
    low, high = random.choice(pools)
    return "".join(chr(random.randrange(low, high)) for _ in range(random.randrange(200)))


def long_text(random: Random, characters: int = 1_000_000) -> str:
    """A million characters: one word, many, or of one script."""
    piece = random.choice(
        ("a", "a b ", "한국어 ", "가", "😀", "e\u0301", "the cat ", "\u0301", "  ")
    )
    return (piece * (characters // len(piece) + 1))[:characters]


NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 33, 255, 10**4, 10**6, 10**9, 10**12, 10**30, -(10**9), 2**31, 2**32 - 1),
    *(2**63, -(2**63), 0.5, -2.5, 1e-320, 1e300, float("inf"), float("nan"), True, False),
)
STRINGS = (
    *("", "32", "x", "x" * 100_000, "\x1b[31mred", "\ud800", "\0", "../../etc", "/etc/passwd"),
    *("os.system", "builtins.eval", "org/kernel", "C:\\x", "a\nb\u2028c", "\u202e", "가" * 1000),
    *("torch.nn.modules.activation.Tanh", "gelu", "bert", "float16", "eager", "nonsense", "NaN"),
)


def junk(random: Random, depth: int = 0) -> Any:
    """Any value that JSON has, and some that it has only in Python."""
    pick = random.random()
    if pick < 0.4:
        return random.choice(NUMBERS)
    if pick < 0.75:
        return random.choice(STRINGS)
    if pick < 0.8 or depth > 3:
        return None
    if pick < 0.9:
        return [junk(random, depth + 1) for _ in range(random.randrange(4))]
    if pick < 0.98:
        return {
            str(random.choice(STRINGS))[:20]: junk(random, depth + 1)
            for _ in range(random.randrange(4))
        }
    deep: Any = 0
    for _ in range(200):
        deep = [deep] if random.random() < 0.5 else {"a": deep}
    return deep


# Files of a folder


def _files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def _pick(random: Random, folder: Path, pattern: str = "*") -> Path:
    return random.choice(_files(folder, pattern))


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(change(content)), encoding="utf-8")


def _set(path: Path, **values: Any) -> None:
    _edit(path, lambda content: {**content, **values})


def _encoder_weights(folder: Path) -> Path:
    return folder / "model.safetensors"


@kind()
def bytes_of_a_file(random: Random, folder: Path, trap: Trap) -> None:
    path = _pick(random, folder)
    data = bytearray(path.read_bytes()) or bytearray(b"\0")
    place = random.randrange(min(len(data), random.choice((16, 2000, 10**9))))
    match random.randrange(7):
        case 0:
            data = data[:place]
        case 1:
            for _ in range(random.randrange(1, 20)):
                data[random.randrange(len(data))] = random.randrange(256)
        case 2:
            data[place:place] = random.randbytes(random.randrange(1, 100))
        case 3:
            data[place : place + random.randrange(1, 5000)] = b""
        case 4:
            data = data + data
        case 5:
            data[place] = random.randrange(256)
        case 6:
            bom = random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\x1f\x8b"))
            data = bytearray(bom) + data
    path.write_bytes(data)


@kind()
def a_file_is_missing(random: Random, folder: Path, trap: Trap) -> None:
    for _ in range(random.choice((1, 1, 2))):
        _pick(random, folder).unlink(missing_ok=True)


@kind()
def json_value(random: Random, folder: Path, trap: Trap) -> None:
    """Replace, remove or add values anywhere in a JSON file."""
    path = _pick(random, folder, "*.json")

    def change(content: Any) -> Any:
        for _ in range(random.choice((1, 1, 1, 3))):
            node = content
            while isinstance(node, dict | list) and node:
                keys = list(node) if isinstance(node, dict) else range(len(node))
                key = random.choice(keys)
                if not isinstance(node[key], dict | list) or random.random() < 0.4:
                    if random.random() < 0.25:
                        del node[key]
                    else:
                        node[key] = junk(random)
                    break
                node = node[key]
        return content

    _edit(path, change)


_NUMBERS_OF_CONFIG = (
    *("hidden_size", "dim", "num_hidden_layers", "n_layers", "num_attention_heads", "n_heads"),
    *("intermediate_size", "hidden_dim", "vocab_size", "max_position_embeddings", "pad_token_id"),
    *("type_vocab_size", "embedding_size", "num_hidden_groups", "inner_group_num", "num_labels"),
    *("layer_norm_eps", "relative_attention_num_buckets", "chunk_size_feed_forward", "num_layers"),
    *("d_model", "d_kv", "d_ff", "head_dim", "num_key_value_heads", "initializer_range"),
)


@kind()
def absurd_config(random: Random, folder: Path, trap: Trap) -> None:
    known = [name for name in _NUMBERS_OF_CONFIG if name in (folder / "config.json").read_text()]
    for _ in range(random.choice((1, 1, 2))):
        name = random.choice(known if random.random() < 0.8 else _NUMBERS_OF_CONFIG)
        _set(folder / "config.json", **{name: random.choice((*NUMBERS, junk(random)))})


@kind()
def keys_with_power(random: Random, folder: Path, trap: Trap) -> None:
    """Keys of config.json and tokenizer_config.json that make transformers do more than read."""
    outside = trap.outside / "model.safetensors"
    (folder / "evil.py").write_text(f"open({str(trap.marker)!r}, 'w')\nclass M: pass\n")
    name = random.choice(("evil.M", "evil--evil.M", "../evil.M", f"{trap.outside}--evil.M"))
    shutil.copy(outside, folder / "shard-00001-model-00001-of-00001.safetensors")
    config: tuple[dict[str, Any], ...] = (
        {"auto_map": {"AutoConfig": name, "AutoModel": name, "AutoTokenizer": [name, name]}},
        {"auto_map": junk(random)},
        {"attn_implementation": random.choice(("org/kernel", "kernels-community/x:f", "nope"))},
        {"_attn_implementation": random.choice(("org/kernel", "flash_attention_2", 3))},
        {"quantization_config": {"quant_method": random.choice(("gptq", "fp8", "torchao", "x"))}},
        {"quantization_config": junk(random)},
        {"transformers_weights": random.choice(("../outside/model.safetensors", str(outside)))},
        {"transformers_weights": junk(random)},
        {"fusion_config": {"patch_embeddings": True}},
        {"_name_or_path": "org/other"},
        {"name_or_path": str(trap.outside)},
        {"architectures": ["os.system", "evil.M"]},
        {"tokenizer_class": "evil.M"},
        {"num_labels": 10**9},
        {"id2label": junk(random)},
        {"layer_types": junk(random)},
        {"dtype": junk(random)},
        {"torch_dtype": junk(random)},
        {"is_decoder": True, "add_cross_attention": True},
        {"is_encoder_decoder": True},
        {"text_config": {"model_type": "bert", "num_hidden_layers": 10**9}},
        {"output_attentions": True},
        {"return_dict": False, "use_return_dict": False},
        {"gradient_checkpointing": True, "pruned_heads": {"0": [0]}},
        {"model_type": random.choice(("gpt2", "t5", "clip", "albert", "rag", "timm_wrapper"))},
    )
    tokenizer: tuple[dict[str, Any], ...] = (
        {"auto_map": {"AutoTokenizer": [name, name]}},
        {"tokenizer_class": random.choice(("evil.M", "BertTokenizer", "T5Tokenizer", "os"))},
        {"tokenizer_class": random.choice(("BertJapaneseTokenizer", "RagTokenizer", "AutoTok"))},
        {"tokenizer_file": "/etc/passwd", "vocab_file": "/etc/passwd"},
        {"tokenizer_file": "../outside/tokenizer.json"},
        {"fast_tokenizer_files": ["../outside/tokenizer.json", "tokenizer.9.0.json"]},
        {"added_tokens_decoder": {str(10**9): {"content": "x"}}},
        {"added_tokens_decoder": junk(random)},
        {"extra_special_tokens": junk(random)},
        {"chat_template": "{{ ''.__class__.__mro__ }}" * random.choice((1, 10_000))},
        {"init_inputs": junk(random)},
        {"mask_token": {"__type": "AddedToken", "content": "x" * 10**6}},
        {"cls_token": junk(random)},
        {"model_max_length": random.choice(NUMBERS)},
        {"name_or_path": "/etc", "special_tokens_map_file": "/etc/passwd"},
    )
    if random.random() < 0.6:
        _set(folder / "config.json", **random.choice(config))
    else:
        _set(folder / "tokenizer_config.json", **random.choice(tokenizer))


# Weights


@kind()
def header_of_weights(random: Random, folder: Path, trap: Trap) -> None:
    """A safetensors header that lies."""
    path = _pick(random, folder, "*.safetensors")
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = random.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    claims = length
    match random.randrange(9):
        case 0:
            entry["shape"] = [
                random.choice((*NUMBERS[:14], 10**5)) for _ in range(random.randrange(4))
            ]
        case 1:
            entry["data_offsets"] = [random.choice(NUMBERS[:14]) for _ in range(2)]
        case 2:
            entry["dtype"] = random.choice(
                ("F64", "F16", "I8", "BOOL", "F8_E4M3", "C64", "F4", "X")
            )
        case 3:
            header["__metadata__"] = junk(random)
        case 4:
            header[random.choice(STRINGS)] = dict(entry)
        case 5:
            header[name] = junk(random)
        case 6:
            del header[name]
        case 7:
            entry["shape"] = [1] * random.choice((70, 3000)) + entry["shape"]
        case 8:
            claims = random.choice((0, 1, length - 1, length + 1, 10**8, 10**12, 2**64 - 1))
    text = json.dumps(header).encode()
    claims = len(text) if claims == length else claims
    path.write_bytes(struct.pack("<Q", claims) + text + body)


@kind()
def tensors(random: Random, folder: Path, trap: Trap) -> None:
    """Whole safetensors files with other tensors in them."""
    path = _pick(random, folder, "*.safetensors")
    found = load_file(path)
    name = random.choice(sorted(found))
    tensor = found[name]
    match random.randrange(10):
        case 0:
            del found[name]
        case 1:
            found[random.choice(("x", "bert." + name, "encoder." + name, "x" * 10**5))] = found.pop(
                name
            )
        case 2:
            found[name] = tensor.flatten()[: random.randrange(len(tensor.flatten()) + 1)].clone()
        case 3:
            kinds = (torch.int64, torch.float64, torch.bfloat16, torch.bool, torch.complex64)
            found[name] = tensor.to(random.choice((*kinds, torch.float8_e4m3fn, torch.uint8)))
        case 4:
            found[name] = torch.full_like(tensor, random.choice((float("nan"), float("inf"), 3e38)))
        case 5:
            found[name] = tensor.unsqueeze(0)
        case 6:
            found[name] = torch.zeros(0)
        case 7:
            found = {}
        case 8:
            found[name] = tensor.t().contiguous() if tensor.ndim == 2 else tensor.reshape(1, -1)
        case 9:
            found[name] = torch.zeros(())
    save_file(found, path, random.choice(({"format": "pt"}, {"format": "tf"}, None)))


class _Call:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._said = function, arguments

    def __reduce__(self) -> Any:
        return self._said


@kind(refused=True)
def pickle_with_code(random: Random, folder: Path, trap: Trap) -> None:
    path = _pick(random, folder, "model.safetensors")
    path.unlink()
    marker = str(trap.marker)
    calls = (
        _Call(open, marker, "w"),
        _Call(os.system, f"touch {marker}"),
        _Call(eval, f"open({marker!r}, 'w')"),
        _Call(exec, f"open({marker!r}, 'w')"),
        _Call(getattr, Path, "unlink"),
        _Call(torch.load, marker),
        _Call(shutil.rmtree, str(trap.outside)),
        _Call(__import__, "antigravity"),
    )
    content = {"embeddings.word_embeddings.weight": torch.zeros(2), "x": random.choice(calls)}
    target = path.with_name("pytorch_model.bin")
    if random.random() < 0.4:
        plain = {"x": content["x"]}
        target.write_bytes(pickle.dumps(plain, protocol=random.randrange(6)))
    else:
        torch.save(content, target, _use_new_zipfile_serialization=random.random() < 0.6)


def _to_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, which is taken away."""
    found: dict[str, torch.Tensor] = load_file(path)
    path.unlink()
    return found


@kind()
def pickle_bytes(random: Random, folder: Path, trap: Trap) -> None:
    path = _pick(random, folder, "model.safetensors")
    target = path.with_name("pytorch_model.bin")
    torch.save(_to_pickle(path), target, _use_new_zipfile_serialization=random.random() < 0.6)
    data = bytearray(target.read_bytes())
    head = random.choice((200, 3000, len(data)))
    for _ in range(random.choice((0, 1, 3, 30))):
        place = random.randrange(min(head, len(data)))
        if random.random() < 0.2:
            place = len(data) - 1 - random.randrange(min(3000, len(data)))
        data[place] = random.choice((random.randrange(256), ord("."), ord("0"), ord("R"), 0x80))
    if random.random() < 0.2:
        data = data[: random.randrange(len(data))]
    target.write_bytes(data)


@kind()
def pickle_claims(random: Random, folder: Path, trap: Trap) -> None:
    """Pickled tensors that are more, or other, than the bytes of the file."""
    path = _pick(random, folder, "model.safetensors")
    target = path.with_name("pytorch_model.bin")
    found: dict[Any, Any] = dict(_to_pickle(path))
    name = random.choice(sorted(found))
    tensor = found[name]
    match random.randrange(9):
        case 0:
            found[name] = torch.zeros(1).expand(10**6, 10**6)
        case 1:
            found[name] = torch.empty(10**7, 10**7, device="meta")
        case 2:
            found[name] = tensor.to_sparse()
        case 3:
            found[name] = torch.nn.Parameter(tensor)
        case 4:
            found[name] = random.choice((3, "x", None, [tensor], {"a": tensor}))
        case 5:
            found[random.choice((3, None, ("a",), "\ud800"))] = tensor
        case 6:
            width = tensor.shape[-1]
            found = {n: torch.zeros(1).expand(t.shape) for n, t in found.items()}
            found[name] = torch.zeros(1).expand(10**5, width)
        case 7:
            torch.save(found, target)
            packed = path.with_name("packed.zip")
            with zipfile.ZipFile(target) as old, zipfile.ZipFile(packed, "w", 8) as new:
                for record in old.namelist():
                    content = old.read(record)
                    if record.endswith("data/0"):
                        content = bytes(random.choice((len(content), 3 * 10**8)))
                    new.writestr(record, content)
            packed.replace(target)
            return
        case 8:
            found = random.choice(([tensor], tensor, {"state_dict": found}, {}))
    torch.save(found, target)


@kind()
def index_of_shards(random: Random, folder: Path, trap: Trap) -> None:
    path = _encoder_weights(folder)
    found = load_file(path)
    path.unlink()
    save_file(found, folder / "part.safetensors", {"format": "pt"})
    files = (
        *("part.safetensors", "../outside/model.safetensors", str(trap.outside), "..", ".", ""),
        *("absent.safetensors", "config.json", "a/b", "\0", "\ud800", "x" * 300, "C:\\x", "/etc"),
        *(3, None, ["part.safetensors"], {"a": "b"}, "model.safetensors.index.json", "\x1b[31m"),
    )
    weight_map: Any = dict.fromkeys(found, "part.safetensors")
    if random.random() < 0.8:
        weight_map[random.choice(sorted(found))] = random.choice(files)
    else:
        weight_map = random.choice((junk(random), {}, {f"x{i}": f"{i}" for i in range(5000)}))
    index = {"metadata": junk(random), "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


# What stands in a folder


@kind(refused=True)
def link_out(random: Random, folder: Path, trap: Trap) -> None:
    """A link to a place outside; where it leads there may be the very same file."""
    path = _pick(random, folder)
    same = trap.outside / f"same-{path.name}"
    shutil.copy(path, same)
    targets = (same, os.path.relpath(same, path.parent), "/etc/passwd", "/dev/zero", "/dev/stdin")
    path.unlink()
    path.symlink_to(random.choice((*targets, "/proc/self/environ", trap.outside, path.name, "/")))


@kind(refused=True)
def no_plain_file(random: Random, folder: Path, trap: Trap) -> None:
    path = _pick(random, folder)
    path.unlink()
    if random.random() < 0.6:
        os.mkfifo(path)
    else:
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)  # a socket's name must be short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)


@kind()
def a_folder_for_a_file(random: Random, folder: Path, trap: Trap) -> None:
    path = _pick(random, folder)
    path.unlink()
    path.mkdir()


@kind()
def other_peoples_files(random: Random, folder: Path, trap: Trap) -> None:
    """Files that other tools would run or follow."""
    code = f"open({str(trap.marker)!r}, 'w')\n"
    names = ("modeling", "torch", "transformers", "sitecustomize", "config", "tokenizers", "json")
    for name in names:
        (folder / f"{name}.py").write_text(code)
    (folder / "__init__.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    others: dict[str, Any] = {
        "adapter_config.json": {"base_model_name_or_path": str(trap.outside), "peft_type": "LORA"},
        "generation_config.json": junk(random),
        "special_tokens_map.json": junk(random),
        "added_tokens.json": {"x": random.choice((5, 10**9, -1, "a"))},
        "chat_template.jinja": "{{ cycler.__init__.__globals__.os.popen('id') }}",
        "preprocessor_config.json": {"auto_map": {"AutoProcessor": "modeling.P"}},
        "quantize_config.json": junk(random),
        "sentence_bert_config.json": {"max_seq_length": 16, "model_args": {"x": "evil"}},
        "vocab.txt": "\n".join(SCRIPTS),
        "merges.txt": "a b\n" * 1000,
    }
    for name, content in random.sample(sorted(others.items()), random.randrange(1, 4)):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")


# sentence-transformers' files


@kind()
def modules_json(random: Random, folder: Path, trap: Trap) -> None:
    ours = "sentence_transformers.models."
    kinds = (
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
        "Dropout",
        "WeightedLayerPooling",
        "CNN",
    )
    types = (
        *(ours + name for name in kinds * 3),
        *("os.system", "evil.Pooling", "builtins.exec", "torch.hub.load", "", 3, None, ["x"]),
        *("sentence_transformers.models.Pooling.__init__", "\x1b[31m", "\ud800", "x" * 10**5),
        "sentence_transformers.base.modules.transformer.Transformer",
    )
    paths = (
        *("", "1_Pooling", "2_Dense", "3_Normalize", ".", "./1_Pooling", "1_Pooling/../1_Pooling"),
        *(
            "..",
            "../outside",
            "/etc",
            str(trap.outside),
            "\0",
            "\ud800",
            "x" * 5000,
            "C:\\x",
            "a:b",
        ),
        *("1_Pooling/config.json", 3, None, "\\\\server\\x", "\x1b[31m", "nowhere", "~", "~root"),
    )

    def change(content: Any) -> Any:
        modules: list[Any] = list(content) if isinstance(content, list) else []
        match random.randrange(5):
            case 0:
                random.shuffle(modules)
            case 1:
                return [
                    {
                        "idx": i,
                        "name": str(i),
                        "path": random.choice(paths),
                        "type": random.choice(types),
                    }
                    for i in range(random.choice((1, 2, 4, 1000)))
                ]
            case 2 if modules:
                random.choice(modules)[random.choice(("path", "type", "kwargs"))] = junk(random)
            case 3 if modules:
                entry = random.choice(modules)
                entry["path"], entry["type"] = (
                    random.choice(paths),
                    random.choice((entry["type"], *types)),
                )
            case _:
                return junk(random)
        return modules

    _edit(folder / "modules.json", change)


_MODULE_KEYS = (
    *("word_embedding_dimension", "pooling_mode", "pooling_mode_cls_token", "include_prompt"),
    *("pooling_mode_mean_tokens", "pooling_mode_max_tokens", "activation_function", "bias"),
    *("in_features", "out_features", "layer_start", "num_hidden_layers", "module_input_name"),
    *("max_seq_length", "do_lower_case", "prompts", "default_prompt_name", "similarity_fn_name"),
    *("embedding_dimension", "use_residual", "model_args", "output_hidden_states"),
)


@kind()
def module_configs(random: Random, folder: Path, trap: Trap) -> None:
    named = [p for p in _files(folder, "*.json") if p.parent != folder or "sentence" in p.name]
    path = random.choice(named or [folder / "config_sentence_transformers.json"])
    for _ in range(random.choice((1, 2))):
        name = random.choice(_MODULE_KEYS)
        hostile = {
            "prompts": {"query": random.choice((*BROKEN_TEXTS, *SCRIPTS)), "\ud800": "x"},
            "activation_function": random.choice(("os.system", "evil.A", "torch.hub.load")),
        }
        value = hostile[name] if name in hostile and random.random() < 0.5 else junk(random)
        _set(path, **{name: value})
    if random.random() < 0.3:
        general = {"prompts": {"query": random.choice(STRINGS)}, "default_prompt_name": "query"}
        _set(folder / "config_sentence_transformers.json", **general)


# Tokenizers


def _regex(random: Random) -> str:
    patterns = ("", ".*", "(a+)+$", "(", "\\", "(?:a|aa)+b", "^", "(?=a)", "[", "\\p{L}", "(.*)*x")
    return random.choice(
        (*patterns, "a" * 10**5, "(" * 5000, "(a{1,1000}){1,1000}", "\\G", "(?<=a*)")
    )


@kind()
def tokenizers(random: Random, folder: Path, trap: Trap) -> None:
    """Normalizers, pre-tokenizers, tokens and ids that no tokenizer has."""
    pattern = random.choice(
        ({"String": random.choice(("a", "", " ", "\0"))}, {"Regex": _regex(random)})
    )
    long = random.choice(("a" * 10**6, "aa", "", "\0", "a" * 300))
    normalizers = (
        {"type": "Replace", "pattern": pattern, "content": long},
        {
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}]
            * 30,
        },
        {"type": "Prepend", "prepend": long},
        {
            "type": "Precompiled",
            "precompiled_charsmap": random.choice(("", "AAAA", "!", "A" * 1000, "/////w==" * 9)),
        },
        {"type": "Nonsense"},
        {"type": "Sequence", "normalizers": []},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "StripAccents"},
        {"type": "NFKD"},
        junk(random),
    )
    pre_tokenizers = (
        {
            "type": "Split",
            "pattern": pattern,
            "behavior": random.choice(("Removed", "Isolated", "MergedWithNext")),
            "invert": random.random() < 0.5,
        },
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {
            "type": "Metaspace",
            "replacement": random.choice(("▁", "", "ab")),
            "prepend_scheme": "always",
            "split": True,
        },
        {"type": "Punctuation", "behavior": "Removed"},
        {"type": "FixedLength", "length": random.choice((0, 1, 10**9))},
        {"type": "Digits", "individual_digits": True},
        junk(random),
        None,
    )

    def change(content: Any) -> Any:
        model = content["model"]
        vocabulary = model["vocab"]
        for _ in range(random.choice((1, 1, 2))):
            match random.randrange(13):
                case 0 | 1:
                    content["normalizer"] = random.choice(normalizers)
                case 2 | 3:
                    content["pre_tokenizer"] = random.choice(pre_tokenizers)
                case 4:
                    content["post_processor"] = random.choice(
                        (None, junk(random), _template(random))
                    )
                case 5:
                    token = random.choice(("a", " ", "", "\0", "x" * 10**6, "the cat"))
                    number = random.choice((0, 5, 10**5, 2**31, 2**32 - 1, 2**32, -1))
                    entry = {"id": number, "content": token, "special": random.random() < 0.5}
                    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
                    content["added_tokens"] = [*content["added_tokens"], {**entry, **flags}]
                case 6:
                    content["truncation"] = {
                        "direction": "Left",
                        "max_length": random.choice(NUMBERS[:14]),
                        "strategy": "LongestFirst",
                        "stride": random.choice((0, 7, 10**9)),
                    }
                case 7:
                    content["padding"] = {
                        "strategy": random.choice(("BatchLongest", {"Fixed": 10**12})),
                        "direction": "Left",
                        "pad_to_multiple_of": random.choice((None, 0, 10**9)),
                        "pad_id": 0,
                        "pad_type_id": 0,
                        "pad_token": "x",
                    }
                case 8 if isinstance(vocabulary, dict):
                    for token in random.sample(sorted(vocabulary), 5):
                        vocabulary[token] = random.choice(
                            (2**31, 2**32 - 1, 10**6, 0, -1, 2**40, "1", 1.5)
                        )
                case 8:
                    vocabulary[random.randrange(len(vocabulary))] = junk(random)
                case 9:
                    model["vocab"] = random.choice(({}, [], junk(random)))
                case 10:
                    name = random.choice(
                        (
                            "unk_token",
                            "max_input_chars_per_word",
                            "continuing_subword_prefix",
                            "unk_id",
                            "dropout",
                            "merges",
                            "byte_fallback",
                        )
                    )
                    model[name] = random.choice((junk(random), 0, 10**9, 1.0))
                case 11:
                    content["model"] = random.choice(
                        (
                            {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
                            {"type": "WordLevel", "vocab": {}, "unk_token": ""},
                            {"type": "Unigram", "vocab": [], "unk_id": 0},
                            {
                                "type": "Unigram",
                                "vocab": [["a", float("nan")], ["b", -1e308]],
                                "unk_id": 0,
                            },
                            {"type": "BPE", "vocab": {"a": 0}, "merges": []},
                            {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]]},
                        )
                    )
                    break
                case 12:
                    content["added_tokens"] = []
                    content["post_processor"] = None
                    content["normalizer"] = {
                        "type": "Replace",
                        "pattern": {"Regex": "."},
                        "content": "",
                    }
        return content

    _edit(folder / "tokenizer.json", change)


def _template(random: Random) -> dict[str, Any]:
    special = {
        "id": "X",
        "ids": [random.choice((0, 10**6, 2**32 - 1))] * random.choice((1, 10**5)),
        "tokens": ["X"],
    }
    token = {"SpecialToken": {"id": "X", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": random.choice((0, 10**9))}}
    single = random.choice(([], [text], [token, text] * 3, [token] * 10**4, [token, text, token]))
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [text],
        "special_tokens": {"X": special},
    }


@kind()
def old_tokenizer_files(random: Random, folder: Path, trap: Trap) -> None:
    """vocab.txt and its like instead of tokenizer.json."""
    (folder / "tokenizer.json").unlink()
    contents = (
        b"",
        b"\n" * 1000,
        b"[UNK]\n[CLS]\n[SEP]\na\n",
        random.randbytes(3000),
        b"a" * 10**6,
    )
    json_contents = (b"{}", b'{"a": 0}', b'{"a": 4294967295, "<unk>": 0}', b"[]", b'{"a": -1}')
    for name in ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"):
        if random.random() < 0.5:
            options = json_contents if name.endswith(".json") else contents
            (folder / name).write_bytes(random.choice(options))


@kind()
def bombs(random: Random, folder: Path, trap: Trap) -> None:
    """JSON that is huge, deep or of another encoding."""
    path = _pick(random, folder, "*.json")
    contents: tuple[Callable[[], str], ...] = (
        lambda: "[" * 10**6,
        lambda: '{"a":' * 10**5 + "1" + "}" * 10**5,
        lambda: "[" + "[]," * 10**6 + "1]",
        lambda: '{"hidden_size": ' + "9" * 10**6 + "}",
        lambda: "{" + ",".join(f'"{i}": {i}' for i in range(2 * 10**5)) + "}",
        lambda: '{"model_type": "' + "x" * 10**7 + '"}',
        lambda: "\ufeff" + path.read_text(),
        lambda: path.read_text().replace("{", '{"x": "\ud800", ', 1),
        lambda: path.read_text() + " " * 10**7,
        lambda: path.read_text().replace("{", '{"x": NaN, "y": -Infinity, "z": 1e999, ', 1),
        lambda: path.read_text().replace("{", "{" + path.read_text().strip("{} \n") + ",", 1),
    )
    path.write_bytes(random.choice(contents)().encode("utf-8", "surrogatepass"))


@kind()
def texts_only(random: Random, folder: Path, trap: Trap) -> None:
    """The folder is whole; the texts are not."""


# Data files


def data_file(random: Random, folder: Path) -> list[str]:
    """Write a hostile file of pairs; the arguments of a command that reads it."""
    name = random.choice(("pairs", "pairs", "pairs", "\x1b[31mred", "a\nb", "\u202e", "가"))
    suffix = random.choice((".tsv", ".csv", ".jsonl", ".tsv.gz", ".csv.gz", ".parquet", ".txt"))
    path = folder / f"{name}{suffix}"
    columns = ["sentence1", "sentence2", "score"]
    columns += random.choice(([], ["subset"], ["\x1b[31m"], ["score"], [""], ["x" * 10**5]))
    if random.random() < 0.03:
        columns += [f"c{number}" for number in range(10**5)]
    rows: list[list[Any]] = []
    for number in range(random.choice((3, 6, 6, 40))):
        cells = [random.choice(("a", "b", "\x1b[31m", "\x9b2J"))] * (len(columns) - 3)
        rows.append([text(random), text(random), number % 6, *cells])
    match random.randrange(20):
        case 0:
            rows[-1][0] = long_text(random)
        case 1 | 2 | 3:
            scores = (*NUMBERS, "", "x", "1_0", "٣", "nan", "\x1b[31m")
            rows[-1][2] = random.choice(scores)
        case 4:
            del rows[-1][-1]
        case 5:
            rows[-1][0] = random.choice(BROKEN_TEXTS)
    data = _WRITERS[suffix.removesuffix(".gz")](random, columns, rows)
    if suffix.endswith(".gz"):
        data = gzip.compress(data)
    if random.random() < 0.25:
        broken = bytearray(data)
        for _ in range(random.choice((1, 5))):
            broken[random.randrange(len(broken))] = random.randrange(256)
        data = bytes(broken[: random.choice((len(broken), random.randrange(len(broken))))])
    path.write_bytes(data)
    column = random.choice(("sentence1", "sentence1", "\x1b[31m"))
    commands = (
        ["score", str(path)],
        ["score", str(path), "--json"],
        ["evaluate", str(path)],
        ["compare", str(path), "--recipes", random.choice(("mean", "mean cls max", "\x1b[31m"))],
        ["encode", str(path), "--out", str(folder / "vectors"), "--text-column", column, "--texts"],
    )
    extra = random.choice(([], [], ["--max-length", "8"], ["--prompt", "\x1b[31m"]))
    return [*random.choice(commands), *extra]


Rows: TypeAlias = list[list[Any]]


def _tsv(random: Random, columns: list[str], rows: Rows) -> bytes:
    breaks = str.maketrans("\t\n\r", "   ") if random.random() < 0.8 else {}
    lines = ("\t".join(str(cell).translate(breaks) for cell in row) for row in [columns, *rows])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _csv(random: Random, columns: list[str], rows: Rows) -> bytes:
    lines = (
        ",".join('"{}"'.format(str(cell).replace('"', '""')) for cell in row)
        for row in [columns, *rows]
    )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _jsonl(random: Random, columns: list[str], rows: Rows) -> bytes:
    lines = (json.dumps(dict(zip(columns, row, strict=False))) for row in rows)
    return "\n".join(lines).encode()


def _txt(random: Random, columns: list[str], rows: Rows) -> bytes:
    return "\n".join(str(row[0]) for row in rows).encode("utf-8", "surrogatepass")


def _parquet(random: Random, columns: list[str], rows: Rows) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {}
    for place, name in enumerate(columns[:5]):
        cells = [row[place] if place < len(row) else None for row in rows]
        if place != 2:
            cells = [str(cell).encode("utf-8", "replace").decode() for cell in cells]
        try:
            table[name] = pa.array(cells)
        except (pa.ArrowException, OverflowError):
            table[name] = pa.array([str(cell) for cell in cells])
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    return file.getvalue()


_WRITERS = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl, ".txt": _txt, ".parquet": _parquet}
