"""Names in Markdown are text: in reports (tests/unit/evaluation/report) and in model cards."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tiny
from markdown_it import MarkdownIt

from embedkit import CrossEncoder, Embedder, PairRegressor, Tagger
from embedkit.scoring.regressor_folder import save_head

HOSTILE = "<img src=x onerror=alert(1)>*c*~~d~~"
NOTES = {HOSTILE: f"[e](f) {HOSTILE}"}
PAIRS = [("a cat", "a dog"), ("a cat", "the rain"), ("no", "yes"), ("a sun", "the sun")] * 3


def of_embedder(model: Path, folder: Path) -> None:
    embedder = Embedder(model, "mean/center", prompts={"query": HOSTILE})
    embedder.fit([text for pair in PAIRS for text in pair], source=HOSTILE).save(folder)


def of_head(model: Path, folder: Path) -> None:
    head = PairRegressor(Embedder(model), prompt=HOSTILE).fit(PAIRS, [1.0, 2.0, 3.0, 4.0] * 3)
    save_head(head, folder, notes=NOTES)


def of_cross_encoder(model: Path, folder: Path) -> None:
    replace(CrossEncoder.untrained(model, "cls", (0, 5)), notes=NOTES).save_pretrained(folder)


def of_tagger(model: Path, folder: Path) -> None:
    tagger = Tagger.untrained(model, ["PER", HOSTILE.replace(" ", "")], "word")
    replace(tagger, notes=NOTES).save_pretrained(folder)


@pytest.mark.parametrize("save", [of_embedder, of_head, of_cross_encoder, of_tagger])
def test_markup_in_names_is_text_in_model_cards(
    save: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    model = tiny.make_bert(tmp_path / HOSTILE, layers=1, width=16)
    save(model, tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    page = MarkdownIt("commonmark").enable("strikethrough").render(card.split("---\n", 2)[2])
    assert html.escape(HOSTILE, quote=False) in page
    assert set(re.findall(r"<(\w+)", page)) <= {*("h1", "h2", "p", "ul", "li", "code", "pre")}
