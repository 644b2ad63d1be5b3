from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny
from hooks import fill
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from transformers import AutoModel

from embedkit.encoders.encoder import load_encoder
from embedkit.encoders.states import TokenStates
from embedkit.pooling import POOLINGS
from embedkit.pooling.idf import idf_weights

WIDTH = 16
# What sentence-transformers calls these where its mask hides special tokens.
CONTENT_POOLINGS = {"mean_content": "mean", "max_content": "max"}
TOKEN_POOLINGS = [name for name, row in POOLINGS.items() if row.sentence_transformers]

many_lengths = st.lists(st.integers(1, 512), min_size=1, max_size=6)
seeds = st.integers(0, 2**32 - 1)


def make_states(lengths: Sequence[int], seed: int = 0, shift: float = 0) -> TokenStates:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), WIDTH, generator=generator) + shift
    pooler = torch.randn(len(lengths), WIDTH, generator=generator).tanh()
    batch = tiny.pack([range(n) for n in lengths])
    special = torch.rand(sum(lengths), generator=generator) < 0.3
    weights = torch.rand(max(lengths), generator=generator)
    query = torch.randn(WIDTH, generator=generator)
    batch = replace(batch, special=special)
    return TokenStates({1: rows}, batch, pooler, token_weights=weights, query=query)


def select(states: TokenStates, texts: Sequence[int]) -> TokenStates:
    """The states as they would be had only these texts run, in this order."""
    rows = torch.cat([torch.where(states.batch.segments == text)[0] for text in texts])
    batch = tiny.pack([range(states.batch.lengths[text]) for text in texts])
    batch = replace(batch, special=states.batch.special[rows])
    assert states.pooler_output is not None
    pooler = states.pooler_output[list(texts)]
    return replace(states, layers={1: states.only[rows]}, batch=batch, pooler_output=pooler)


def reduce(name: str, states: TokenStates) -> Tensor:
    return POOLINGS[name].reduce(states)


def pad(states: TokenStates, side: str) -> tuple[Tensor, Tensor]:
    """(texts, longest, width) with 1e3 where there is no token, and the mask (texts, longest)."""
    longest = max(states.batch.lengths)
    padded = torch.full((len(states.batch.lengths), longest, states.only.shape[1]), 1e3)
    mask = torch.zeros(padded.shape[:2], dtype=torch.int64)
    for text, rows in enumerate(states.only.split(states.batch.lengths)):
        where = slice(longest - len(rows), None) if side == "left" else slice(len(rows))
        padded[text, where], mask[text, where] = rows, 1
    return padded, mask


def theirs(
    pooling: Pooling,
    states: TokenStates,
    side: str,
    prompt_length: int = 0,
    *,
    content: bool = False,
) -> Tensor:
    """Their vectors in float64, so that all that differs is our rounding.

    With `content`, their mask hides special tokens.
    """
    padded, mask = pad(states, side)
    if content:
        mask[mask == 1] = (~states.batch.special).long()
    vectors: Tensor = pooling(
        {
            "token_embeddings": padded.double(),
            "attention_mask": mask,
            "prompt_length": prompt_length,
        }
    )["sentence_embedding"]
    return vectors


def assert_close(got: Tensor, expected: Tensor) -> None:
    """Within 1e-6 of the largest value."""
    assert got.shape == expected.shape
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()


# In the head


@pytest.mark.parametrize(
    ("name", "of_three", "of_one"),
    [
        ("cls", 1, 1),
        ("max", 3, 1),
        ("mean", 2, 1),
        ("mean_sqrt_len", 6 / sqrt(3), 1),
        ("weighted_mean", (1 * 1 + 2 * 2 + 3 * 3) / (1 + 2 + 3), 1),
        ("last", 3, 1),
    ],
)
def test_of_token_places(name: str, of_three: float, of_one: float) -> None:
    encoder = tiny.PositionEncoder()
    states = encoder(tiny.pack([[7, 7, 7], [7]]), [2])
    _, places, _ = reduce(name, states).T
    assert places.tolist() == pytest.approx([of_three, of_one])


def test_max_of_negative_values() -> None:
    rows = torch.tensor([[-3.0, -1.0], [-2.0, -5.0], [-7.0, -7.0]])
    states = TokenStates({0: rows}, tiny.pack([[1, 2], [3]]))
    assert reduce("max", states).tolist() == [[-2, -1], [-7, -7]]


def test_weights_count_the_prompt_that_is_left_out() -> None:
    states = tiny.PositionEncoder()(tiny.pack([[9, 9, 4, 1]]), [1]).without_prompt(2)
    _, _, tokens = reduce("weighted_mean", states).T
    assert tokens.tolist() == pytest.approx([(3 * 4 + 4 * 1) / (3 + 4)])
    assert reduce("cls", states).tolist() == [[1, 3, 4]]


# sentence-transformers is the oracle


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@settings(max_examples=15, deadline=None)
@given(lengths=many_lengths, seed=seeds, shift=st.sampled_from([0.0, 1.0, -5.0]))
@example(lengths=[512], seed=48, shift=0.0)  # a sum in float32, one token at a time, is 1.4e-6 off
def test_as_sentence_transformers(
    name: str, side: str, lengths: list[int], seed: int, shift: float
) -> None:
    states = make_states(lengths, seed, shift)
    pooling = Pooling(WIDTH, POOLINGS[name].sentence_transformers)
    assert_close(reduce(name, states), theirs(pooling, states, side))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TOKEN_POOLINGS)
@settings(max_examples=10, deadline=None)
@given(lengths=many_lengths, prompt=st.integers(1, 6), seed=seeds)
def test_without_the_prompt_as_sentence_transformers(
    name: str, side: str, lengths: list[int], prompt: int, seed: int
) -> None:
    states = make_states([prompt + n for n in lengths], seed)
    pooling = Pooling(WIDTH, POOLINGS[name].sentence_transformers, include_prompt=False)
    got = reduce(name, states.without_prompt(prompt))
    assert_close(got, theirs(pooling, states, side, prompt))


@pytest.mark.parametrize("name", CONTENT_POOLINGS)
@settings(max_examples=25, deadline=None)
@given(lengths=many_lengths, seed=seeds, shift=st.sampled_from([0.0, 1.0, -5.0]))
@example(lengths=[512, 1], seed=48, shift=0.0)
def test_content_as_sentence_transformers_with_special_tokens_masked(
    name: str, lengths: list[int], seed: int, shift: float
) -> None:
    states = make_states(lengths, seed, shift)
    content = ~states.batch.special
    counts = torch.tensor([int(part.sum()) for part in content.split(states.batch.lengths)])
    got = reduce(name, states)
    assert torch.equal(got[counts == 0], torch.zeros(int((counts == 0).sum()), WIDTH))
    if (counts > 0).any():
        expected = theirs(Pooling(WIDTH, CONTENT_POOLINGS[name]), states, "right", content=True)
        assert_close(got[counts > 0], expected[counts > 0])


@settings(max_examples=25, deadline=None)
@given(lengths=many_lengths, seed=seeds)
def test_idf_mean_is_the_formula_of_sif(lengths: list[int], seed: int) -> None:
    states = make_states(lengths, seed)
    assert states.token_weights is not None
    got = reduce("idf_mean", states)
    for text, rows in enumerate(states.only.double().split(lengths)):
        ids = range(lengths[text])
        special = states.batch.special[states.batch.segments == text].tolist()
        terms = [states.token_weights[i] * rows[i] for i in ids if not special[i]]
        expected = torch.stack(terms).mean(0) if terms else torch.zeros(WIDTH).double()
        assert (got[text] - expected).abs().max() <= 1e-6 * max(1, expected.abs().max())


def test_idf_weights() -> None:
    """a / (a + p) with a = 0.001, and 1 for a token that was not seen."""
    weights = idf_weights(np.array([0, 1, 999]))
    assert weights.dtype == np.float32
    assert weights.tolist() == pytest.approx([1, 0.5, 1 / 1000])


def test_a_text_of_special_tokens_only_has_the_zero_vector() -> None:
    states = make_states([2, 3])
    states = replace(states, batch=replace(states.batch, special=torch.ones(5, dtype=torch.bool)))
    for name in ("mean_content", "max_content", "idf_mean"):
        assert torch.equal(reduce(name, states), torch.zeros(2, WIDTH)), name


@settings(max_examples=25, deadline=None)
@given(lengths=many_lengths, seed=seeds)
def test_attention_is_a_softmax_over_tokens(lengths: list[int], seed: int) -> None:
    states = make_states(lengths, seed)
    assert states.query is not None
    rows = [text.double() for text in states.only.split(lengths)]
    expected = torch.stack([(h @ states.query.double()).softmax(0) @ h for h in rows])
    assert (reduce("attention", states) - expected).abs().max() <= 1e-5


def test_attention_needs_a_query() -> None:
    with pytest.raises(ValueError, match=r"^these states have no query$"):
        reduce("attention", replace(make_states([2]), query=None))


def test_idf_mean_needs_weights() -> None:
    states = replace(make_states([2]), token_weights=None)
    with pytest.raises(ValueError, match=r"^these states have no token_weights$"):
        reduce("idf_mean", states)


def test_the_table_has_all_of_their_poolings_in_their_order() -> None:
    names = [row.sentence_transformers for row in POOLINGS.values() if row.sentence_transformers]
    assert names == list(Pooling.POOLING_MODES)
    assert list(POOLINGS)[: len(names)] == TOKEN_POOLINGS
    assert {*CONTENT_POOLINGS, "idf_mean", "pooler"} <= set(POOLINGS)


def test_they_concatenate_old_folders_in_our_order(tmp_path: Path) -> None:
    keys = {row.legacy_key: True for row in reversed(POOLINGS.values()) if row.legacy_key}
    config = json.dumps({"word_embedding_dimension": WIDTH, **keys})
    (tmp_path / "config.json").write_text(config)
    states = make_states([3, 1, 8])
    ours = torch.cat([reduce(name, states) for name in TOKEN_POOLINGS], 1)
    assert_close(ours, theirs(Pooling.load(str(tmp_path)), states, "right"))


def test_the_table_as_markdown() -> None:
    lines = fill("poolings", "en").splitlines()
    assert lines[:2] == ["| pooling | vector of a text | |", "| --- | --- | --- |"]
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == list(POOLINGS)


# The pooler: transformers is the oracle


def test_pooler_as_transformers(tmp_path: Path) -> None:
    folder = tiny.make_bert(tmp_path, layers=2)
    texts = [[2, 17, 40, 3], [2, 3], list(range(5, 105))]
    states = load_encoder(folder)(tiny.pack(texts), [], pooler=True)
    model = AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        expected = torch.cat([model(torch.tensor([text])).pooler_output for text in texts])
    assert (reduce("pooler", states) - expected).abs().max() <= 1e-5


def test_pooler_needs_pooler_output() -> None:
    states = tiny.PositionEncoder()(tiny.pack([[1, 2]]), [3])
    with pytest.raises(ValueError, match=r"^these states were computed without pooler_output$"):
        reduce("pooler", states)


# A text's vector depends on that text alone


@pytest.mark.parametrize("name", POOLINGS)
@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), seed=seeds, data=st.data())
def test_order_neighbours_and_batch_size_change_no_bit(
    name: str, lengths: list[int], seed: int, data: st.DataObject
) -> None:
    states = make_states(lengths, seed)
    texts = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, max_size=12))
    assert torch.equal(reduce(name, select(states, texts)), reduce(name, states)[texts])


@pytest.mark.parametrize("name", POOLINGS)
def test_a_bad_neighbour_does_no_harm(name: str) -> None:
    states = make_states([4, 3, 5])
    states.only[states.batch.segments == 1] = float("nan")
    vectors = reduce(name, states)
    alone = reduce(name, select(states, [0, 2]))
    assert torch.equal(vectors[[0, 2]], alone)
    assert alone.isfinite().all()


@pytest.mark.parametrize("name", POOLINGS)
def test_the_states_are_left_as_they_are(name: str) -> None:
    states = make_states([4, 3, 5])
    before = states.only.clone()
    reduce(name, states)
    assert torch.equal(states.only, before)
