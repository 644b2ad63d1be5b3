"""Masked-language-model training: perplexity, masks, the pooler, kills, and wrong input."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from helpers import tiny
from helpers.command import Run, refused, replaced
from helpers.tiny_tokenizers import HANGUL
from helpers.trainings import kill
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from embedkit import Embedder, InputError, evaluate
from embedkit.tokenization.tokenizer import Tokenized
from embedkit.training.arguments import TrainingSettings
from embedkit.training.masked_lm import Adaptation, train_masked_lm
from embedkit.training.mlm_data import Masking
from embedkit.training.order import ByLength

FAST = TrainingSettings(epochs=6, batch_size=8, learning_rate=3e-3, evaluations=4, device="cpu")
SHORT = replace(FAST, epochs=1)  # where it matters little how well it learns


def make_texts(n: int, seed: int = 0) -> list[str]:
    """A language in which each word tells the next one."""
    generator = np.random.default_rng(seed)
    words = ("man", "reads", "book", "in", "park", "and", "cat", "eats", "bird", "slowly", "책")
    texts = []
    for number in range(n):
        start, length = generator.integers(0, 11), 4 + number % 7
        texts.append(" ".join(words[(start + place) % 11] for place in range(length)))
    # A number makes each text another one.
    return [f"{number} {text}" for number, text in enumerate(texts)]


TEXTS = make_texts(200)


def make_masked_lm(folder: Path, kind: type = transformers.BertForPreTraining) -> Path:
    """A BERT with a masked-LM head; of pre-training, as on the hub, it has a pooler too."""
    tiny.make_bert(folder, layers=2, seed=1)
    config = transformers.BertConfig.from_pretrained(folder)
    tiny.randomise(kind(config), 1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_masked_lm(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def adapted(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adaptation, Path]:
    folder = tmp_path_factory.mktemp("adapted") / "out"
    return train_masked_lm(TEXTS, folder, model=bert, settings=FAST), folder


def test_it_learns(adapted: tuple[Adaptation, Path]) -> None:
    result, folder = adapted
    assert (result.texts, result.held_out, result.left_out, result.truncated) == (190, 10, 0, 0)
    assert result.after < 0.2 * result.before
    assert not result.new_head
    card = (folder / "README.md").read_text()
    for said in (f"{result.before:.2f} before", f"{result.after:.2f} after", "from before; masked"):
        assert said in card
    assert "the weights from before" in card
    assert [row["step"] for row in result.curve] == [36, 72, 108, 144]
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert math.exp(min(row["held_out_loss"] for row in result.curve)) == pytest.approx(
        result.after, rel=0.1
    )
    (score,) = ModelCard.load(folder / "README.md").data.eval_results
    assert (score.metric_type, score.metric_value) == ("perplexity", result.after)


def test_perplexity(bert: Path, adapted: tuple[Adaptation, Path]) -> None:
    """Oracle: cross-entropy over the masked tokens of every held-out text, one text at a time."""
    result, folder = adapted
    held_out = TEXTS[::20]
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    ids = [tokenizer(text)["input_ids"] for text in held_out]
    lengths = np.array([len(row) for row in ids])
    order = np.argsort(lengths, kind="stable")
    learnt = [tokenizer(text)["input_ids"] for text in TEXTS if text not in held_out]
    tokens = tokenized([*learnt, *ids])
    masking = Masking(tokens, tokenizer, ByLength(tokens.lengths[:190], 8, 0), 0)
    for model, expected in ((bert, result.before), (folder, result.after)):
        network = transformers.AutoModelForMaskedLM.from_pretrained(model).eval()
        losses: list[float] = []
        for start in range(0, 10, 8):
            batch = masking((order[start : start + 8] + 190).tolist())
            for row in range(len(batch["labels"])):
                length = int(batch["attention_mask"][row].sum())
                with torch.no_grad():
                    logits = network(input_ids=batch["input_ids"][row : row + 1, :length]).logits[0]
                for place, label in enumerate(batch["labels"][row, :length].tolist()):
                    if label >= 0:
                        losses.append(-float(logits[place].log_softmax(0)[label]))
        assert math.exp(np.mean(losses)) == pytest.approx(expected, rel=1e-4)


def tokenized(ids: list[list[int]]) -> Tokenized:
    lengths = np.array([len(row) for row in ids])
    special = np.concatenate([[True, *[False] * (len(row) - 2), True] for row in ids])
    return Tokenized(
        np.concatenate(ids).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        special.astype(bool),
        np.zeros(len(ids), dtype=bool),
    )


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=12),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_masks(bert: Path, sizes: list[int], seed: int, epoch: int) -> None:
    """They cover tokens that are not special only, at least one; the rest is as it was."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    ids = [[2, *range(20, 20 + size), 3] for size in sizes]
    tokens = tokenized(ids)
    learnt = len(sizes) // 2
    order = ByLength(tokens.lengths[:learnt], 4, seed)
    masking = Masking(tokens, tokenizer, order, seed)
    order.set_epoch(epoch)
    for texts in (list(range(learnt)), list(range(learnt, len(sizes)))):
        made = masking(texts)
        asked = made["labels"] >= 0
        assert asked.any()
        for row, text in enumerate(texts):
            length = len(ids[text])
            assert made["attention_mask"][row].tolist() == [1] * length + [0] * (
                made["input_ids"].shape[1] - length
            )
            assert not asked[row, [0, *range(length - 1, asked.shape[1])]].any()
            for place in range(length):
                if asked[row, place]:
                    assert int(made["labels"][row, place]) == ids[text][place]
                else:
                    assert int(made["input_ids"][row, place]) == ids[text][place]
        again = masking(texts)
        assert torch.equal(again["input_ids"], made["input_ids"])


def test_masks_are_of_an_epoch_but_for_held_out_texts(bert: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    tokens = tokenized([[2, *range(20, 50), 3]] * 8)
    order = ByLength(tokens.lengths[:4], 4, 0)
    masking = Masking(tokens, tokenizer, order, 0)
    first = masking([0, 1, 2, 3])["labels"], masking([4, 5, 6, 7])["labels"]
    order.set_epoch(1)
    second = masking([0, 1, 2, 3])["labels"], masking([4, 5, 6, 7])["labels"]
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    share = float((torch.cat([*first, *second]) >= 0).float().mean())
    assert 0.1 < share < 0.2  # 15 % of 30 tokens in 32


def test_the_pooler_stays_and_the_encoder_does_not(
    bert: Path, adapted: tuple[Adaptation, Path]
) -> None:
    result, folder = adapted
    assert result.pooler
    before, after = (transformers.BertModel.from_pretrained(path) for path in (bert, folder))
    for name, weights in before.named_parameters():
        same = torch.equal(weights, after.get_parameter(name))
        assert same is name.startswith("pooler."), name
    old, new = (Embedder.from_pretrained(path, "pooler", device="cpu") for path in (bert, folder))
    assert not np.allclose(old.encode(TEXTS[:5]), new.encode(TEXTS[:5]), atol=1e-2)


def test_it_is_a_folder_of_masked_lm(adapted: tuple[Adaptation, Path], tmp_path: Path) -> None:
    """Training goes on with it, and begins where the first one ended."""
    result, folder = adapted
    network, info = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert info["missing_keys"] == set()
    again = train_masked_lm(
        TEXTS, tmp_path / "out", model=folder, settings=TrainingSettings(epochs=1, batch_size=8)
    )
    assert again.before == pytest.approx(result.after, rel=1e-6)
    assert network.config.vocab_size > 100


def test_a_folder_without_pooler(tmp_path: Path) -> None:
    model = make_masked_lm(tmp_path / "model", transformers.BertForMaskedLM)
    result = train_masked_lm(TEXTS, tmp_path / "out", model=model, settings=SHORT)
    assert not result.pooler
    assert "- pooler: none" in (tmp_path / "out" / "README.md").read_text()
    assert Embedder.from_pretrained(tmp_path / "out").encoder.pooler is None


@pytest.mark.slow
def test_no_head_in_the_checkpoint(tmp_path: Path, run: Run) -> None:
    model = tiny.make_bert(tmp_path / "model", layers=2)
    with pytest.raises(InputError, match=r"has no weights for a masked-LM head \(cls.predictions"):
        train_masked_lm(TEXTS, tmp_path / "out", model=model)
    settings = {"model": model, "new_head": True, "settings": FAST, "show_progress": False}
    result = train_masked_lm(TEXTS, tmp_path / "out", **settings)
    assert result.new_head
    assert result.after < 0.5 * result.before
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- masked-LM head: new; it began with random weights" in card
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    command = ["train", "mlm", "--texts", texts, "-m", model, "--out", tmp_path / "other"]
    assert "or --new-head to begin with a random one" in refused(run(*command))
    done = run(*command, "--new-head", "--device", "cpu")
    assert done.code == 0
    assert "before, with a head that was drawn at random" in done.out


def test_a_folder_of_sentence_transformers_stays_one(bert: Path, tmp_path: Path) -> None:
    """With its recipe, its prompts and its maximum length."""
    start = Embedder.from_pretrained(
        bert, "mean@1,-1/normalize", prompts={"query": "query: "}, max_length=40, device="cpu"
    )
    start.save_pretrained(tmp_path / "start")
    source = tmp_path / "start"
    train_masked_lm(TEXTS, tmp_path / "out", model=source, new_head=True, settings=SHORT)
    out = Embedder.from_pretrained(tmp_path / "out", device="cpu")
    assert str(out.recipe) == "mean@1,-1/normalize"
    assert out.settings.prompts["query"] == "query: "
    assert out.tokenizer.max_length == 40
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert np.allclose(theirs.encode(TEXTS[:9]), out.encode(TEXTS[:9]), atol=1e-5)


@pytest.mark.slow
def test_only_what_modules_read_is_copied(bert: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    Embedder.from_pretrained(bert, "mean/normalize", device="cpu").save_pretrained(start)
    modules = json.loads((start / "modules.json").read_text())
    modules[2]["path"] = modules[1]["path"]  # Normalize has no files
    (start / "modules.json").write_text(json.dumps(modules))
    nested = start / modules[1]["path"] / "nested"
    nested.mkdir()
    (tmp_path / "private").write_text("not of the model")
    (nested / "link").symlink_to(tmp_path / "private")
    train_masked_lm(TEXTS, tmp_path / "out", model=start, new_head=True, settings=FAST)
    assert [path for path in (tmp_path / "out").rglob("*") if path.name in ("nested", "link")] == []
    out = Embedder.from_pretrained(tmp_path / "out", device="cpu")
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert len(theirs) == 3
    assert np.allclose(theirs.encode(TEXTS[:9]), out.encode(TEXTS[:9]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    ["roberta", "xlm-roberta", "distilbert", "electra", "albert", "modernbert", "mpnet"],
)
def test_other_families(tmp_path: Path, family: str) -> None:
    """A pooler stays where there is one, under whatever name."""
    model = tiny.make_model(tmp_path / "model", family, layers=2)
    result = train_masked_lm(TEXTS, tmp_path / "out", model=model, new_head=True, settings=FAST)
    assert result.after < 0.8 * result.before
    before, after = (Embedder.from_pretrained(path, "mean") for path in (model, tmp_path / "out"))
    assert result.pooler is (before.encoder.pooler is not None)
    assert not np.allclose(before.encode(TEXTS[:5]), after.encode(TEXTS[:5]), atol=1e-2)
    if before.encoder.pooler is not None:
        assert after.encoder.pooler is not None
        assert torch.equal(before.encoder.pooler.weight, after.encoder.pooler.weight)
        assert torch.equal(before.encoder.pooler.bias, after.encoder.pooler.bias)


def test_texts_that_cannot_be_learnt_from(bert: Path, tmp_path: Path) -> None:
    result = train_masked_lm(
        [*TEXTS, "", "  ", TEXTS[3], "man " * 60],
        tmp_path / "out",
        model=bert,
        max_length=30,
        settings=SHORT,
    )
    assert (result.left_out, result.truncated) == (3, 1)
    assert result.texts + result.held_out == 201
    few = [f"{number}" for number in range(39)]
    with pytest.raises(InputError, match="got 37 distinct texts to train on and 2 held out; expec"):
        train_masked_lm(few, tmp_path / "x", model=bert)
    with pytest.raises(InputError, match="got 0 distinct texts to train on and 200 held out"):
        train_masked_lm(TEXTS, tmp_path / "x", held_out=TEXTS, model=bert)
    with pytest.raises(InputError, match=r"texts\[1\]: got 3, expected a str"):
        train_masked_lm(["a", 3], tmp_path / "x", model=bert)  # type: ignore[list-item]


def test_no_mask_token(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["mask_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="its tokenizer has no mask token"):
        train_masked_lm(TEXTS, tmp_path / "out", model=folder)


@pytest.mark.slow
def test_killed_and_taken_up_again(bert: Path, tmp_path: Path, run: Run) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    command = ["train", "mlm", "--texts", texts, "-m", bert, "--epochs", 2, "--batch-size", 4]
    command += ["--accumulate", 2, "--learning-rate", 1e-4, "--evaluations", 4, "--device", "cpu"]
    kill(command, tmp_path / "out", batch=67)
    said = {}
    for name in ("out", "whole"):
        said[name] = run(*command, "--out", tmp_path / name, "--json").json
        del said[name]["seconds"]
    again, whole = (
        transformers.BertForPreTraining.from_pretrained(tmp_path / name).state_dict()
        for name in ("out", "whole")
    )
    assert all(torch.equal(again[name], whole[name]) for name in whole if "seq_rel" not in name)
    assert said["out"]["after"] == said["whole"]["after"]


@pytest.mark.slow
def test_from_the_command_line(bert: Path, tmp_path: Path, run: Run) -> None:
    """compare's table before and after, on the set that comes with embedkit or on others."""
    texts = tmp_path / "texts.csv"
    rows = [f'{number},"{text}"' for number, text in enumerate(TEXTS)]
    texts.write_text("\n".join(["id,body", *rows]), encoding="utf-8")
    others = tmp_path / "others.jsonl"
    others.write_text("".join(f'{{"body": "{text}"}}\n' for text in make_texts(30, 9)))
    command = ["train", "mlm", "--texts", texts, "--text-column", "body", "--held-out", others]
    command += ["-m", bert, "--epochs", 2, "--batch-size", 8, "--device", "cpu"]
    done = run(*command, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    before, _, after = done.out.partition("After training")
    verdict, _, before = before.partition("Before training")
    for table, name in ((before, bert), (after, tmp_path / "out")):
        assert f"{name}"[:20] in table
        assert "mean@1,-1" in table
    assert verdict.startswith("Perplexity on 30 held-out texts: ")
    assert " of the adapted encoder " in verdict
    assert "masked-LM training does not change a pooler" in after
    said = run(*command, "--out", tmp_path / "out", "--json", "--overwrite").json
    assert said["held_out"] == 30
    assert said["after"] < said["before"]
    assert " ".join(verdict.split()) == said["verdict"]["text"]["en"]
    expected = {
        name: Embedder.from_pretrained(path, "mean", device="cpu", precision="float32")
        for name, path in (("before", bert), ("after", tmp_path / "out"))
    }
    for name, embedder in expected.items():
        report = said["compare"][name]
        assert report["model"]["name"] in (str(bert), str(tmp_path / "out"))
        found = {
            row["recipe"]: row["value"]
            for row in report["results"]
            if row["metric"] == "spearman" and row["aggregation"] == "all"
        }
        (row,) = (
            row
            for row in evaluate(embedder, "first_look").results
            if row.metric == "spearman" and row.aggregation == "all"
        )
        assert found["mean"] == pytest.approx(row.value)
        (change,) = (one for one in said["gain"] if one["recipe"] == "mean")
        assert change[name] == pytest.approx(row.value)
    assert said["verdict"]["difference"] == pytest.approx(change["after"] - change["before"])


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (["--texts", "absent.txt"], "absent.txt"),
        (["--held-out", "absent.txt"], "absent.txt"),
        (["--text-column", "body"], "a column was named, and a .txt file has none"),
        (["--epochs", "0"], "epochs is 0.0; expected a number above 0"),
        (["absent.tsv"], "absent.tsv"),
        (["--max-length", "1"], "max_length"),
    ],
)
@pytest.mark.usefixtures("no_training")
def test_wrong_input_before_the_first_step(
    bert: Path,
    tmp_path: Path,
    run: Run,
    wrong: list[str],
    problem: str,
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    command = ["train", "mlm", "--texts", texts, "-m", bert, "--out", tmp_path / "out"]
    assert problem in refused(run(*replaced(command, wrong)))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_korean_texts(bert: Path, tmp_path: Path) -> None:
    """Syllables are told apart: what is learnt is Korean, not [UNK]."""
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list(HANGUL), 6)) for _ in range(120)]
    texts = [f"{text}{text} {number}" for number, text in enumerate(texts)]
    result = train_masked_lm(texts, tmp_path / "out", model=bert, settings=FAST)
    assert result.after < result.before
