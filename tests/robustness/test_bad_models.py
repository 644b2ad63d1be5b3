"""Damaged and hostile model folders: one clear sentence, and nothing of theirs is executed."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny
from helpers.command import Run, refused
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, files
from embedkit.scoring.regressor_folder import load_head

LAYERS, WIDTH = 2, 32
TEXTS = ["a man plays guitar", "rain"]
FOREIGN = "not_imported_by_anyone"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with each kind of module."""
    root = tmp_path_factory.mktemp("source")
    embedder = Embedder.from_pretrained(tiny.make_bert(root / "bert", layers=LAYERS, width=WIDTH))
    embedder.with_recipe("pooler/normalize").save_pretrained(root / "saved")
    return root / "saved"


@pytest.fixture
def model(source: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(source, tmp_path / "model")


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_model(tmp_path_factory.mktemp("distilbert"), "distilbert", layers=LAYERS)


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a family that transformers runs."""
    return tiny.make_model(tmp_path_factory.mktemp("albert"), "albert", layers=LAYERS)


def refuse(folder: str | Path, message: str, **options: Any) -> None:
    """Loading fails with one sentence: `message` is found in it, and it has no second line."""
    with pytest.raises(InputError, match=message) as caught:
        Embedder.from_pretrained(folder, **options)
    assert "\n" not in str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_the_undamaged_model_loads(model: Path) -> None:
    assert str(Embedder.from_pretrained(model).recipe) == "pooler/normalize"


# Names


def test_a_file_instead_of_a_folder(model: Path) -> None:
    refuse(model / "config.json", r"config\.json' is a file; expected a folder or a hub id$")


@pytest.mark.parametrize(
    "name", ["./nowhere", "../nowhere", "/nowhere/at/all", "a/b/c", "a b", "가"]
)
def test_no_folder_and_no_hub_id(name: str) -> None:
    refuse(name, f"^model {name!r}: there is no such folder, and this is not a hub id$")


def test_a_name_too_long_for_a_file() -> None:
    refuse("x" * 5000, "there is no such folder")


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-" + "x" * 40])
def test_an_unknown_hub_id_without_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refuse(name, f"^model '{name}': .* not in the local cache", local_files_only=True)


def test_an_unknown_hub_id_offline(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user runs it with HF_HUB_OFFLINE=1: one line on stderr, exit code 2."""
    data = tmp_path / "pairs.tsv"
    data.write_text("sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\ne\tf\t3\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = refused(run("compare", data, "-m", "nobody/nothing"))
    assert message.startswith("model 'nobody/nothing': there is no such folder, it is ")
    assert "HF_HUB_OFFLINE forbids asking the hub" in message


@pytest.mark.parametrize("name", ["nobody/nothing--x", "-nobody/x", "nobody/..x", "a..b"])
def test_an_invalid_hub_id(name: str) -> None:
    refuse(name, f"model {name!r}.* no", local_files_only=True)


# config.json


def test_without_config(model: Path) -> None:
    (model / "config.json").unlink()
    refuse(model, r"config\.json: cannot be read \(No such file or directory\); expected a file$")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"config\.json: is not JSON"),
        (b"{", r"config\.json: is not JSON"),
        (b"\xff\xfe{}", r"config\.json: is not JSON"),
        (b"[" * 100_000, r"config\.json: is not JSON"),
        (b"[]", r"config\.json: got a JSON list, expected an object$"),
        (b"3", r"config\.json: got a JSON int, expected an object$"),
        (b"{}", r"config\.json: has no model_type; expected one such as bert$"),
        (b'{"model_type": ["bert"]}', r"config\.json: has no model_type; expected one such as"),
        (b'{"model_type": "nonsense"}', r"transformers cannot load this model \(.*nonsense"),
    ],
    ids=["empty", "cut", "utf-16", "deep", "list", "number", "no-type", "type-is-list", "unknown"],
)
def test_config_is_wrong(model: Path, content: bytes, message: str) -> None:
    (model / "config.json").write_bytes(content)
    refuse(model, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**12}, r"has shape \(\d+, 32\), expected \(\d+, 1000000000000\) by con"),
        ({"hidden_size": 0}, r"config\.json: hidden_size is 0; expected a positive number$"),
        ({"hidden_size": -32}, r"config\.json: hidden_size is -32; expected a positive number$"),
        ({"hidden_size": "32"}, r"config\.json: hidden_size is '32'; expected a positive number$"),
        ({"hidden_size": 32.5}, r"config\.json: hidden_size is 32\.5; expected a positive number$"),
        ({"hidden_size": None}, r"config\.json: hidden_size is None; expected a positive number$"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5$"),
        ({"num_hidden_layers": 10**9}, r"no tensor 'encoder\.layer\.2\.attention\.self\.query"),
        ({"vocab_size": 10**12}, r"word_embeddings\.weight' has shape .*, expected \(10{12}, 32\)"),
        ({"intermediate_size": 7}, r"'encoder\.layer\.0\.intermediate\.dense\.weight' has shape"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'; expected a positive number$"),
    ],
)
def test_config_has_absurd_numbers(model: Path, changes: dict[str, Any], message: str) -> None:
    edit(model / "config.json", **changes)
    refuse(model, message)


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 10**12},
        {"dim": 0},
        {"dim": "32"},
        {"dim": 33},
        {"vocab_size": 10**12},
        {"vocab_size": -1},
        {"n_layers": -1},
        {"n_layers": "two"},
        {"n_layers": 9},
        {"activation": "nonsense"},
        {"max_position_embeddings": -4},
    ],
    ids=str,
)
def test_config_of_another_family(
    distilbert: Path, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(distilbert, tmp_path / "model")
    edit(folder / "config.json", **changes)
    refuse(folder, "model")


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_code_of_the_folder_does_not_run(family: str, tmp_path: Path) -> None:
    """auto_map is transformers' way to name classes in the folder."""
    source = tiny.make_model(tmp_path / "source", family, layers=LAYERS)
    folder = shutil.copytree(source, tmp_path / "model")
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto_map = {
        "AutoConfig": "modeling.C",
        "AutoModel": "modeling.M",
        "AutoTokenizer": "modeling.T",
    }
    edit(folder / "config.json", auto_map=auto_map)
    edit(folder / "tokenizer_config.json", auto_map=auto_map)
    want = Embedder.from_pretrained(source).encode(TEXTS)
    assert np.array_equal(Embedder.from_pretrained(folder).encode(TEXTS), want)
    edit(folder / "config.json", model_type="special")
    refuse(folder, "transformers cannot load this model")
    assert not (tmp_path / "ran").exists()


# Weights


def test_without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    refuse(model, r"has no weights; expected model\.safetensors \(or model\.safetensors\.index\.js")


def header(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


LYING = json.dumps({"x": {"dtype": "F32", "shape": [10**6], "data_offsets": [0, 4 * 10**6]}})
SHAPE = json.dumps({"x": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}})
NEGATIVE = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        header(b"{}", 10**18),
        header(b"{", 1),
        header(LYING.encode()) + b"\0" * 4,
        header(SHAPE.encode()) + b"\0" * 4,
        header(NEGATIVE.encode()) + b"\0" * 4,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90\n",
    ],
    ids=["empty", "short", "long-header", "no-json", "offsets", "shape", "negative", "lfs-pointer"],
)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_safetensors_is_damaged(
    source: Path, distilbert: Path, family: str, content: bytes, tmp_path: Path
) -> None:
    folder = shutil.copytree(source if family == "bert" else distilbert, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    refuse(folder, r"model\.safetensors: damaged weights \(")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_safetensors_is_truncated(model: Path, share: float) -> None:
    path = model / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refuse(model, r"model\.safetensors: damaged weights \(")


def test_weights_lack_a_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, model / "model.safetensors")
    refuse(model, r"the weights have no tensor 'encoder\.layer\.1\.output\.dense\.bias'$")


def test_weights_lack_a_tensor_of_a_family_of_transformers(tmp_path: Path) -> None:
    """transformers would make one up."""
    folder = tiny.make_model(tmp_path, "mpnet", layers=2)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refuse(
        folder,
        r"the weights lack 1 tensors of the encoder, or have them in another shape, "
        r"'encoder\.layer\.1\.output\.dense\.we",
    )


def test_weights_of_another_model(model: Path) -> None:
    save_file({"x": torch.zeros(1)}, model / "model.safetensors")
    refuse(model, "no tensor 'embeddings.word_embeddings.weight'; expected those of a BertModel$")


def test_weights_are_integers(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, model / "model.safetensors")
    refuse(model, f"tensor '{name}' is torch.int8, expected floats$")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "index.json: is not JSON"),
        ("{}", "weight_map must map tensors to files of this folder$"),
        ('{"weight_map": {"x": 3}}', "weight_map must map tensors to files of this folder$"),
        ('{"weight_map": {"x": "../model.safetensors"}}', "weight_map must map tensors to files"),
        ('{"weight_map": {"x": "/etc/passwd"}}', "weight_map must map tensors to files of this"),
        ('{"weight_map": {"x": "absent.safetensors"}}', r"absent\.safetensors: damaged weights \("),
    ],
)
def test_shards_are_wrong(model: Path, index: str, message: str) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(index)
    refuse(model, message)


def test_shards_of_pickles(model: Path, tmp_path: Path) -> None:
    want = Embedder.from_pretrained(model).encode(TEXTS)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    index = model / "pytorch_model.bin.index.json"
    parts = {"pytorch_model-1.bin": names[:9], "pytorch_model-2.bin": names[9:]}
    for file, of_file in parts.items():
        torch.save({name: tensors[name] for name in of_file}, model / file)
    weight_map = {name: file for file, of_file in parts.items() for name in of_file}
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert np.array_equal(Embedder.from_pretrained(model).encode(TEXTS), want)
    torch.save({"x": Bomb(tmp_path / "ran")}, model / "pytorch_model-2.bin")
    refuse(model, "cannot be read as plain tensors")
    assert not (tmp_path / "ran").exists()
    (model / "pytorch_model-2.bin").unlink()
    refuse(model, r"pytorch_model-2\.bin: cannot be read as plain tensors \(.*No such file")
    index.write_text(json.dumps({"weight_map": {"x": "../pytorch_model-1.bin"}}))
    refuse(model, "weight_map must map tensors to files of this folder$")


def test_shards(model: Path) -> None:
    """The good case beside the bad ones."""
    want = Embedder.from_pretrained(model).encode(TEXTS)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[:9], "model-2-of-2.safetensors": names[9:]}
    for file, of_file in parts.items():
        save_file({name: tensors[name] for name in of_file}, model / file)
    weight_map = {name: file for file, of_file in parts.items() for name in of_file}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert np.array_equal(Embedder.from_pretrained(model).encode(TEXTS), want)


# Pickles


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_the_bomb_works(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran"))).close()  # noqa: S301
    assert (tmp_path / "ran").exists()


def plain_pickle(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps({"x": bomb}, protocol=2))


def torch_zip(bomb: Bomb, path: Path) -> None:
    torch.save({"embeddings.word_embeddings.weight": torch.zeros(2), "x": bomb}, path)


def torch_legacy(bomb: Bomb, path: Path) -> None:
    torch.save({"x": bomb}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [plain_pickle, torch_zip, torch_legacy])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_pickle_with_code(
    source: Path,
    distilbert: Path,
    family: str,
    write: Callable[[Bomb, Path], None],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(source if family == "bert" else distilbert, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    write(Bomb(tmp_path / "ran"), folder / "pytorch_model.bin")
    refuse(folder, r"pytorch_model\.bin: cannot be read as plain tensors \(.*convert it to safeten")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_with_code_in_a_dense(model: Path) -> None:
    path = model / "2_Dense"
    (path / "model.safetensors").unlink()
    torch_zip(Bomb(model.parent / "ran"), path / "pytorch_model.bin")
    refuse(model, r"2_Dense/pytorch_model\.bin: cannot be read as plain tensors \(")
    assert not (model.parent / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"PK\x03\x04", b"\x80\x02]q\x00."],
    ids=["empty", "text", "zip", "list"],
)
def test_a_broken_pickle(model: Path, content: bytes) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(content)
    refuse(model, r"pytorch_model\.bin: (cannot be read as plain tensors|expected a dict of ten)")


def test_a_pickle_of_other_things(model: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"epoch": 3}, model / "pytorch_model.bin")
    refuse(model, r"pytorch_model\.bin: expected a dict of tensors by name$")


def test_a_plain_pickle(model: Path) -> None:
    """The good case beside the bad ones."""
    want = Embedder.from_pretrained(model).encode(TEXTS)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    assert np.array_equal(Embedder.from_pretrained(model).encode(TEXTS), want)


# modules.json


def set_module(model: Path, number: int, **changes: str) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[number].update(changes)
    (model / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../model/1_Pooling",
        "1_Pooling/../../elsewhere",
        "/etc",
        "//server/share",
        "C:\\models\\1_Pooling",
        "C:1_Pooling",
        "\\\\server\\share",
        "..\\elsewhere",
        "\\etc",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_path_out_of_the_folder(model: Path, number: int, path: str) -> None:
    set_module(model, number, path=path)
    refuse(
        model,
        rf"modules\.json, module {number}: path '.*' leads out of the model's folder$",
    )


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "builtins.exec",
        "subprocess.Popen",
        "Pooling",
        "",
        f"{FOREIGN}.Pooling",
        f"{FOREIGN}.Dropout",
        "sentence_transformers.models.CNN",
        "sentence_transformers.models.Pooling.__init__",
        "sentence_transformers.models.Pooling ",
    ],
)
def test_a_foreign_class(model: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / f"{FOREIGN}.py").write_text(f"open({str(model / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(model)
    monkeypatch.chdir(model)
    for number in range(4):
        set_module(model, number, type=name)
        refuse(model, rf"modules\.json, module 0: '{name}' is not a module that embedkit can read")
    assert FOREIGN not in sys.modules
    assert not (model / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"modules\.json: is not JSON"),
        ("{", r"modules\.json: is not JSON"),
        ("[" * 100_000, r"modules\.json: is not JSON"),
        ("{}", r"modules\.json: expected a list of modules$"),
        ('["Transformer"]', r"modules\.json: expected a list of modules$"),
        ("3", r"modules\.json: expected a list of modules$"),
        ("[]", r"modules\.json: got .*, expected a Transformer first$"),
        ("[{}]", r"modules\.json, module 0: expected a type and a path, both text$"),
        (
            '[{"type": "sentence_transformers.models.Transformer", "path": 3}]',
            r"modules\.json, module 0: expected a type and a path, both text$",
        ),
        (
            '[{"type": "sentence_transformers.models.Transformer", "path": ""}]',
            r"modules\.json: got Transformer, expected a Pooling$",
        ),
        (
            '[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]',
            r"modules\.json: got Pooling, expected a Transformer first$",
        ),
    ],
)
def test_modules_json_is_wrong(model: Path, content: str, message: str) -> None:
    (model / "modules.json").write_text(content)
    refuse(model, message)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer", "Dense"], "got Transformer > Dense, expected a Pooling$"),
        (["Transformer", "Transformer", "Pooling"], "expected a Transformer first$"),
        (["Transformer", "Pooling", "Pooling"], "expected only Dense, LayerNorm, Normalize after"),
        (["Transformer", "Pooling", "Transformer"], "expected a Transformer first$"),
        (["Pooling", "Transformer"], "expected a Transformer first$"),
        (["Transformer", "Normalize", "Pooling"], "expected a Pooling$"),
        (["Transformer", "Pooling", "Normalize", "Normalize"], "expected one Normalize at a time$"),
    ],
)
def test_modules_in_another_order(model: Path, kinds: list[str], message: str) -> None:
    folders = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense"}
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": folders.get(kind, "3_Normalize")}
        for kind in kinds
    ]
    (model / "modules.json").write_text(json.dumps(modules))
    refuse(model, message)


def test_the_pooling_is_missing(model: Path) -> None:
    shutil.rmtree(model / "1_Pooling")
    refuse(model, r"1_Pooling/config\.json: cannot be read \(No such file or directory\); expected")


@pytest.mark.parametrize("mode", ["median", ["mean", "median"], 3, {"mean": True}, [["mean"]]])
def test_an_unknown_pooling(model: Path, mode: Any) -> None:
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    refuse(model, r"1_Pooling/config\.json: pooling_mode is .*; expected some of cls, max, mean, m")


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.print",
        f"{FOREIGN}.Tanh",
        "torch.nn.modules.activation.Nonsense",
        "torch.hub.load",
        "Tanh",
        None,
        3,
        ["torch.nn.modules.activation.Tanh"],
    ],
)
def test_a_foreign_activation(model: Path, name: Any) -> None:
    edit(model / "2_Dense" / "config.json", activation_function=name)
    refuse(
        model, r"2_Dense/config\.json: activation_function is .*; expected one of torch\.nn\.mod"
    )
    assert FOREIGN not in sys.modules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_residual": True}, "has a residual connection; expected|reads and writes"),
        (
            {"module_input_name": "token_embeddings"},
            "has a residual connection; expected|reads and writes",
        ),
    ],
)
def test_a_dense_of_another_kind(model: Path, changes: dict[str, Any], message: str) -> None:
    edit(model / "2_Dense" / "config.json", **changes)
    refuse(model, message)


def test_a_dense_without_weights(model: Path) -> None:
    (model / "2_Dense" / "model.safetensors").unlink()
    refuse(model, "2_Dense: has no weights; expected model.safetensors")


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((8, 7), (8,)), ((8, WIDTH), (9,)), ((8,), (8,)), ((8, WIDTH), (8, 1)), ((1,) * 70, (1,))],
    ids=["too-narrow", "long-bias", "one-dimension", "bias-matrix", "more-than-numpy-has"],
)
def test_a_dense_that_does_not_fit(
    model: Path, weight: tuple[int, ...], bias: tuple[int, ...]
) -> None:
    """Found when the folder is loaded, not when the first text is encoded."""
    tensors = {"linear.weight": torch.zeros(weight), "linear.bias": torch.zeros(bias)}
    save_file(tensors, model / "2_Dense" / "model.safetensors")
    refuse(model, "2_Dense|dense")


# The other files of sentence-transformers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"similarity_fn_name": "jaccard"}, "similarity_fn_name is 'jaccard'; expected one of cos"),
        ({"similarity_fn_name": ["cosine"]}, "similarity_fn_name is .*; expected one of cosine"),
        ({"prompts": ["query: "]}, r"prompts is \['query: '\]; expected names and texts"),
        ({"prompts": {"query": 3}}, "prompts: got 3, expected a str"),
        ({"default_prompt_name": "query"}, r"the default prompt 'query' is not among the prompts"),
        ({"default_prompt_name": ["query"]}, "default prompt"),
    ],
)
def test_config_sentence_transformers(model: Path, changes: dict[str, Any], message: str) -> None:
    edit(model / "config_sentence_transformers.json", **changes)
    refuse(model, message)


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True, [8]])
def test_max_seq_length_is_wrong(model: Path, value: Any) -> None:
    edit(model / "sentence_bert_config.json", max_seq_length=value)
    refuse(model, "max_seq_length of the model's folder is .*; expected a whole number from 1$")


@pytest.mark.parametrize("value", [513, 514, 1e30, int(1e30), 600.0])
def test_a_folders_length_above_the_positions_is_clamped(model: Path, value: float) -> None:
    want = SentenceTransformer(str(model), device="cpu").encode(["the cat"])
    edit(model / "sentence_bert_config.json", max_seq_length=value)
    embedder = Embedder.from_pretrained(model, precision="float32")
    assert embedder.tokenizer.max_length == 512
    np.testing.assert_allclose(embedder.encode(["the cat"]), want, atol=1e-5 * abs(want).max())
    with pytest.raises(InputError, match=r"^max_length is 513, but the encoder has 512 positions"):
        Embedder.from_pretrained(model, max_length=513)
    assert Embedder.from_pretrained(model, max_length=512).tokenizer.max_length == 512


def test_a_whole_float_is_a_folders_length(model: Path) -> None:
    edit(model / "sentence_bert_config.json", max_seq_length=64.0)
    assert Embedder.from_pretrained(model).tokenizer.max_length == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_start": "1"}, "layer_start"),
        ({"layer_start": -1}, "layer"),
        ({"layer_start": 5}, "layer 5 is not in this model"),
    ],
)
def test_layer_weights_do_not_fit(
    source: Path, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    Embedder.from_pretrained(source, recipe="mean@1,-1").save_pretrained(tmp_path / "model")
    edit(tmp_path / "model" / "1_WeightedLayerPooling" / "config.json", **changes)
    refuse(tmp_path / "model", message)


# Tokenizers


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"model": 3}', '{"version": "9.9", "model": {"type": "Nonsense"}}'],
)
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_tokenizer_json_is_broken(
    source: Path, distilbert: Path, family: str, content: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(source if family == "bert" else distilbert, tmp_path / "model")
    (folder / "tokenizer.json").write_text(content)
    refuse(folder, "tokenizer")


def test_tokenizer_json_is_cut(model: Path) -> None:
    path = model / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-100])
    refuse(model, r"tokenizer\.json: is not JSON")


def test_tokenizer_json_lacks_its_vocabulary(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    del content["model"]["vocab"]
    (model / "tokenizer.json").write_text(json.dumps(content))
    refuse(model, r"tokenizer\.json: is no tokenizer \(")


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_tokenizer_config_is_broken(model: Path, content: str) -> None:
    (model / "tokenizer_config.json").write_text(content)
    refuse(model, r"tokenizer_config\.json: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"truncation_side": "middle"},
        {"truncation_side": 3},
        {"model_max_length": float("inf")},
        {"model_max_length": -1},
        {"tokenizer_class": "Nonsense"},
        {"tokenizer_class": ["BertTokenizer"]},
    ],
    ids=str,
)
def test_tokenizer_config_is_wrong(model: Path, changes: dict[str, Any]) -> None:
    """Refused, or read as transformers reads it: never another error."""
    edit(model / "tokenizer_config.json", **changes)
    (model / "sentence_bert_config.json").unlink()
    with contextlib.suppress(InputError):
        assert Embedder.from_pretrained(model).encode(TEXTS).shape == (2, WIDTH)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "albert"])
def test_without_a_tokenizer(family: str, tmp_path: Path) -> None:
    """transformers would make one up, with an empty vocabulary."""
    folder = tiny.make_model(tmp_path / "model", family, layers=1)
    for path in folder.glob("*token*"):
        path.unlink()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    refuse(folder, "tokenizer")


def test_the_tokenizer_is_too_large_for_the_encoder(model: Path) -> None:
    tiny.make_tokenizer_files(model, vocab=(*tiny.VOCAB, "elephant"))
    with pytest.raises(
        InputError, match=r"gave token .*; the tokenizer and model vocabularies do not match$"
    ):
        Embedder.from_pretrained(model).encode(["an elephant"])


# What stands in a folder


@pytest.mark.parametrize("name", ["config.json", "README.md", "1_Pooling/config.json"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_out_of_the_folder(model: Path, name: str, relative: bool) -> None:
    """Whether the file is read or not, and although the same file is there."""
    path, outside = model / name, model.parent / "outside"
    path.rename(outside)
    path.symlink_to(os.path.relpath(outside, path.parent) if relative else outside)
    refuse(model, rf"{name}: is a symlink out of the model's folder; expected a regular file$")


@pytest.mark.parametrize("target", ["nowhere", "vocab.txt", "/proc/self/nothing"])
def test_a_link_to_no_file(model: Path, target: str) -> None:
    (model / "vocab.txt").symlink_to(target)
    refuse(model, r"vocab\.txt: is a symlink to no file$")


def test_links_within_the_folder_and_to_it(model: Path) -> None:
    """The good case beside the bad ones."""
    want = Embedder.from_pretrained(model).encode(TEXTS)
    (model / "config.json").rename(model / "real.json")
    (model / "config.json").symlink_to("real.json")
    (model.parent / "link").symlink_to(model)
    assert np.array_equal(Embedder.from_pretrained(model.parent / "link").encode(TEXTS), want)


def test_links_of_the_hubs_cache(model: Path) -> None:
    """snapshots/REVISION holds links to blobs, from its own folders too."""
    want = Embedder.from_pretrained(model).encode(TEXTS)
    cache = model.parent / "models--a--b"
    snapshot = cache / "snapshots" / ("0" * 40)
    shutil.copytree(model, snapshot)
    (cache / "blobs").mkdir()
    for number, path in enumerate(path for path in snapshot.rglob("*") if path.is_file()):
        blob = path.rename(cache / "blobs" / str(number))
        path.symlink_to(os.path.relpath(blob, path.parent))
    assert np.array_equal(Embedder.from_pretrained(snapshot).encode(TEXTS), want)
    (cache / "refs").write_text("{}")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../refs")
    refuse(snapshot, r"config\.json: is a symlink out of the model's folder")


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json"])
def test_a_pipe(model: Path, name: str) -> None:
    """Reading one would wait for ever."""
    (model / name).unlink()
    os.mkfifo(model / name)
    refuse(model, rf"{name}: is a pipe, a socket or a device; expected a file$")


def test_a_head_with_a_pipe(model: Path) -> None:
    (model / "head.json").write_text("{}")
    os.mkfifo(model / "head.skops")
    with pytest.raises(InputError, match=r"head\.skops: is a pipe, a socket or a device"):
        load_head(model)


@pytest.mark.parametrize("name", ["a\0b", "~nobody-of-this-name/model"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    refuse(name, "there is no such folder")


def test_json_is_too_large(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_JSON", 1000)
    (model / "config.json").write_text(" " * 1001)
    refuse(model, r"config\.json: has 1,001 bytes; expected at most 1,000$")


def test_an_error_is_one_printable_line(model: Path) -> None:
    """Whatever the folder says: no terminal obeys it, and it does not fill the screen."""
    edit(model / "config_sentence_transformers.json", similarity_fn_name="\x1b[31m\n\u202e\ud800")
    refuse(model, r"similarity_fn_name is '\\x1b\[31m\\n\\u202e\\ud800'; expected one of cosine")
    edit(model / "config_sentence_transformers.json", similarity_fn_name="x" * 10**6)
    with pytest.raises(InputError) as caught:
        Embedder.from_pretrained(model)
    assert len(str(caught.value)) < 2100
    assert str(caught.value).endswith("; expected one of cosine, dot, euclidean, manhattan")


# Sizes that transformers would believe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected at most 1,000,0"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; expected at most 1,000,000$"),
        ({"text_config": {"n_layers": 10**9}}, "n_layers is 1000000000; expected at most 1,000,00"),
        ({"num_hidden_layers": 10**4}, r"asks for 10,000 layers, and the weights have \d+ tensors"),
        ({"intermediate_size": 10**7}, r"asks for more than .* numbers, over 4 times those in the"),
        (
            {"hidden_size": 10**6},
            r"asks for more than .* numbers, over 4 times those in the weight",
        ),
        ({"vocab_size": 10**9}, r"asks for more than .* numbers, over 4 times those in the weight"),
        ({"num_hidden_groups": 10**6}, "asks for more than .* numbers, over 4 times those in the "),
        ({"quantization_config": {"quant_method": "fp8"}}, "the weights are quantized; expected p"),
        ({"attn_implementation": "org/kernel"}, "code on the hub, which embedkit does not run$"),
        ({"is_encoder_decoder": True}, "does not run as an encoder of texts|cannot load"),
    ],
    ids=str,
)
def test_config_asks_for_too_much(
    albert: Path, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Before any of it is allocated."""
    folder = shutil.copytree(albert, tmp_path / "model")
    edit(folder / "config.json", **changes)
    refuse(folder, message)


def test_transformers_reads_no_other_weights(albert: Path, tmp_path: Path) -> None:
    """It prefers shards of this name, and files that config.json names."""
    folder = shutil.copytree(albert, tmp_path / "model")
    want = Embedder.from_pretrained(folder).encode(TEXTS)
    other = tiny.make_model(tmp_path / "other", "albert", layers=LAYERS, seed=1)
    shard = "shard-00001-model-00001-of-00001.safetensors"
    shutil.copy(other / "model.safetensors", folder / shard)
    assert np.array_equal(Embedder.from_pretrained(folder).encode(TEXTS), want)
    edit(folder / "config.json", transformers_weights=shard)
    with contextlib.suppress(InputError):
        assert np.array_equal(Embedder.from_pretrained(folder).encode(TEXTS), want)


def test_attentions_are_not_kept(albert: Path, tmp_path: Path) -> None:
    """They are not asked for, and transformers could not save the model."""
    folder = shutil.copytree(albert, tmp_path / "model")
    want = Embedder.from_pretrained(folder).encode(TEXTS)
    edit(folder / "config.json", output_attentions=True)
    embedder = Embedder.from_pretrained(folder)
    assert np.array_equal(embedder.encode(TEXTS), want)
    embedder.save_pretrained(tmp_path / "saved")


# Pickles that claim more than they hold


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1).expand(10**6, 10**6), r"claims tensors of 4,000,000,[\d,]+ bytes and has"),
        (torch.empty(10**7, 10**7, device="meta"), "expected a dict of tensors by name$"),
        (torch.eye(3).to_sparse(), "expected a dict of tensors by name$"),
    ],
    ids=["expanded", "meta", "sparse"],
)
def test_a_pickle_that_claims_too_much(model: Path, value: torch.Tensor, message: str) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save({**tensors, "x": value}, model / "pytorch_model.bin")
    refuse(model, rf"pytorch_model\.bin: {message}")


def test_a_pickle_in_a_packed_zip(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "plain")
    (model / "model.safetensors").unlink()
    packed = zipfile.ZipFile(model / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(model / "plain") as plain, packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refuse(model, r"pytorch_model\.bin: has packed records; expected a file that torch wrote$")


def test_a_pickle_of_parameters(model: Path) -> None:
    """They ask for gradients; their values are as good as others."""
    want = Embedder.from_pretrained(model).encode(TEXTS)
    for folder in (model, model / "2_Dense"):
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        parameters = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
        torch.save(parameters, folder / "pytorch_model.bin")
    assert np.array_equal(Embedder.from_pretrained(model).encode(TEXTS), want)


# What else of sentence-transformers' files did not hold


@pytest.mark.parametrize("path", ["1_Pooling\0", "\ud800", "1_Pooling\n"])
def test_a_path_that_no_file_can_have(model: Path, path: str) -> None:
    set_module(model, 1, path=path)
    refuse(model, r"modules\.json, module 1: path '.*' leads out of the model's folder$")


def test_a_path_that_is_too_long(model: Path) -> None:
    set_module(model, 1, path="x" * 1000)
    refuse(model, r"modules\.json, module 1: path '.*' is no folder's \(File name too long\)$")


@pytest.mark.parametrize("prompts", [{"query": "\ud800"}, {"\ud800": "query"}])
def test_prompts_with_a_lone_surrogate(model: Path, prompts: dict[str, str]) -> None:
    edit(model / "config_sentence_transformers.json", prompts=prompts)
    refuse(model, r"config_sentence_transformers\.json: prompts: got the lone surrogate")


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_layer_weights_of_another_shape(
    source: Path, shape: tuple[int, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    Embedder.from_pretrained(source, recipe="mean@1,-1").save_pretrained(folder)
    place = folder / "1_WeightedLayerPooling" / "model.safetensors"
    save_file({"layer_weights": torch.ones(shape)}, place)
    refuse(folder, r"layer_weights have shape \(.*\); expected \(n,\)$")


def test_a_dense_of_no_numbers(model: Path) -> None:
    tensors = {"linear.weight": torch.zeros(0, WIDTH), "linear.bias": torch.zeros(0)}
    save_file(tensors, model / "2_Dense" / "model.safetensors")
    refuse(model, "weight and bias do not fit")


# Tokenizers that are no tokenizers


def replace(content: str, times: int = 1) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * times}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": replace("a" * 10**4)}, "its normalizers make more than 1000 characters of"),
        ({"normalizer": replace("aaaa", 30)}, "its normalizers make more than 1000 characters of "),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}}, "its normalizers make more"),
        ({"model": 3}, "model is 3; expected an object$"),
        ({"post_processor": [1]}, r"post_processor is \[1\]; expected an object$"),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}},
            r"(is no tokenizer|no tokenizer that can be read) \(",  # a panic
        ),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_tokenizer_that_would_run_wild(
    model: Path, albert: Path, family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = model if family == "bert" else shutil.copytree(albert, tmp_path / "albert")
    edit(folder / "tokenizer.json", **changes)
    refuse(folder, message)


@pytest.mark.parametrize("changes", [{"model_max_length": "512"}, {"truncation_side": "middle"}])
def test_tokenizer_config_of_a_family_of_transformers(
    albert: Path, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(albert, tmp_path / "model")
    edit(folder / "tokenizer_config.json", **changes)
    refuse(
        folder, r"tokenizer_config\.json: (model_max_length is '512'|truncation_side is 'middle')"
    )


def test_words_may_not_be_too_long(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["max_input_chars_per_word"] = 10**9
    (model / "tokenizer.json").write_text(json.dumps(content))
    refuse(model, r"max_input_chars_per_word is 1000000000; expected at most 1000$")


def test_an_id_of_more_than_31_bits(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["vocab"]["rain"] = 2**32 - 1
    (model / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"largest of id 4294967295; expected .* up to 2147483647$"
    ):
        Embedder.from_pretrained(model).encode(TEXTS)


def test_a_tokenizer_that_gives_more_than_the_longest_text(model: Path) -> None:
    """Truncation counts a text once; this post-processor repeats it."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [text] * 3, "pair": [text]}
    edit(model / "tokenizer.json", post_processor={**template, "special_tokens": {}})
    edit(model / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(InputError, match=r"gave \d+ tokens.*; expected at most 8,"):
        Embedder.from_pretrained(model, max_length=8).encode(["the cat reads a book in the city"])


def test_a_tokenizer_that_fails_at_a_text(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[NO]"}
    (model / "tokenizer.json").write_text(json.dumps({**content, "model": words}))
    edit(model / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(InputError, match=r"^a text cannot be tokenized \(.*Missing \[UNK\]"):
        Embedder.from_pretrained(model).encode(TEXTS)
