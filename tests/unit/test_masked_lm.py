"""Masked language models in use, compared with transformers' pipeline and a plain loop."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers
from helpers import tiny
from helpers.command import Run, refused

from embedkit import InputError
from embedkit.masked_lm import MaskedLM

TEXTS = [
    "a man reads the book",
    "그는 책을 읽고 있다",
    "",
    "rain",
    "two birds in the park eat it all day",
]


@pytest.fixture(scope="module", params=["bert", "xlm-roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.make_model(
        tmp_path_factory.mktemp("model"), request.param, layers=2, max_positions=40
    )
    config = transformers.AutoConfig.from_pretrained(folder)
    network = transformers.AutoModelForMaskedLM.from_config(config)
    tiny.randomise(network, 1).save_pretrained(folder)
    return folder


@pytest.fixture
def model(folder: Path) -> MaskedLM:
    return MaskedLM.from_pretrained(folder, device="cpu")


def test_fill_mask(folder: Path, model: MaskedLM) -> None:
    """Oracle: transformers' pipeline, with one mask and with two."""
    fill = transformers.pipeline("fill-mask", str(folder), top_k=4, device="cpu")
    mask = fill.tokenizer.mask_token
    for text in (f"a man {mask} the book", f"그는 {mask} 읽고 {mask}."):
        theirs = fill(text)
        theirs = theirs if isinstance(theirs[0], list) else [theirs]
        ours = model.fill_mask(text, 4)
        assert [[one.token_id for one in own] for own in ours] == [
            [one["token"] for one in own] for own in theirs
        ]
        assert [[one.token for one in own] for own in ours] == [
            [one["token_str"] for one in own] for own in theirs
        ]
        for own, expected in zip(ours, theirs, strict=True):
            scores = [one["score"] for one in expected]
            assert [one.probability for one in own] == pytest.approx(scores, rel=1e-4)
    assert sum(one.probability for one in model.fill_mask(f"{mask}", 10_000)[0]) == pytest.approx(1)


def test_pseudo_perplexity(folder: Path, model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a token at a time, with transformers alone."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    total, count = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
        for place in torch.nonzero(ids["special_tokens_mask"][0] == 0).flatten().tolist():
            masked = ids["input_ids"].clone()
            masked[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = network(masked).logits[0, place].double()
            total += float(logits.log_softmax(-1)[ids["input_ids"][0, place]])
            count += 1
    expected = math.exp(-total / count)
    assert model.pseudo_perplexity(TEXTS) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr("embedkit.masked_lm.TOKEN_BUDGET", 20)
    assert model.pseudo_perplexity(TEXTS) == pytest.approx(expected, rel=1e-4)


def test_what_is_refused(model: MaskedLM) -> None:
    mask = model.own_tokenizer.mask_token
    with pytest.raises(
        InputError,
        match=f"has no mask; expected '{mask}', this model's mask token".replace("[", r"\["),
    ):
        model.fill_mask("a man reads")
    with pytest.raises(InputError, match="the text has over"):
        model.fill_mask(f"{mask} " + "a " * 60)
    with pytest.raises(InputError, match="top_k is 0; expected a whole number from 1"):
        model.fill_mask(mask, 0)
    with pytest.raises(InputError, match="the texts have no token that is not special"):
        model.pseudo_perplexity(["", " "])


def test_from_the_command_line(folder: Path, model: MaskedLM, run: Run) -> None:
    mask = model.own_tokenizer.mask_token
    text = f"그는 {mask} 읽고 {mask}"
    printed = run("fill-mask", text, "-m", folder, "--top-k", 2, "--json", "--device", "cpu").json
    assert (printed["text"], printed["model"]) == (text, str(folder))
    assert printed["masks"] == [[one._asdict() for one in own] for own in model.fill_mask(text, 2)]
    table = run("fill-mask", text, "-m", folder, "--device", "cpu").out
    assert "token of mask 1" in table
    assert "token of mask 2" in table
    assert f"{printed['masks'][1][0]['probability']:.4f}" in table
    assert "no mask" in refused(run("fill-mask", "그는", "-m", folder))
    message = refused(run("fill-mask", "[MASK]", "-m", "minilm"))
    assert message.startswith("model 'minilm' has no weights for a masked-LM head (cls.predictions")
