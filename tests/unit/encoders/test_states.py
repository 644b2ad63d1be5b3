from __future__ import annotations

from collections.abc import Sequence
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.encoders.states import TokenStates
from embedkit.tokenization.token_batch import TokenBatch


def make_batch(lengths: Sequence[int], first_id: int = 100) -> TokenBatch:
    tokens = sum(lengths)
    return TokenBatch(
        torch.arange(first_id, first_id + tokens),
        torch.tensor([0, *lengths]).cumsum(0),
        torch.zeros(tokens, dtype=torch.bool),
    )


def make_states(lengths: Sequence[int], layers: Sequence[int] = (1,)) -> TokenStates:
    """Hidden state k of token i of the whole row is [i, k]."""
    rows = torch.arange(sum(lengths), dtype=torch.float32)
    return TokenStates(
        {k: torch.stack([rows, torch.full_like(rows, k)], 1) for k in layers}, make_batch(lengths)
    )


# The records check themselves


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 4], "offsets must rise from 0 to the 3 tokens, got [0, 2, 4]"),
        ([0, 2], "offsets must rise from 0 to the 3 tokens, got [0, 2]"),
        ([1, 2, 3], "offsets must rise from 0 to the 3 tokens, got [1, 2, 3]"),
        ([0, 2, 2, 3], "offsets must rise from 0 to the 3 tokens, got [0, 2, 2, 3]"),
        ([0, 2, 1, 3], "offsets must rise from 0 to the 3 tokens, got [0, 2, 1, 3]"),
        ([0], "offsets must be int64 (texts + 1,), got torch.int64 (1,)"),
        ([[0, 3]], "offsets must be int64 (texts + 1,), got torch.int64 (1, 2)"),
        ([0.0, 3.0], "offsets must be int64 (texts + 1,), got torch.float32 (2,)"),
    ],
)
def test_wrong_offsets(offsets: list[object], message: str) -> None:
    with pytest.raises(ValueError, match="offsets") as error:
        TokenBatch(torch.arange(3), torch.tensor(offsets), torch.zeros(3, dtype=torch.bool))
    assert str(error.value) == message


@pytest.mark.parametrize(
    "special", [torch.zeros(3), torch.zeros(2, dtype=torch.bool), torch.ones(3, 1) > 0]
)
def test_wrong_special(special: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"^special must be bool and of the same shape as token_ids$"
    ):
        TokenBatch(torch.arange(3), torch.tensor([0, 3]), special)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (3, 5, 1)])
def test_wrong_hidden_state(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden state 7") as error:
        TokenStates({1: torch.zeros(3, 5), 7: torch.zeros(shape)}, make_batch([3]))
    assert str(error.value) == f"hidden state 7 must have shape (3, dim), got {shape}"


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make_batch([1]).offsets = torch.tensor([0])  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        make_states([1]).first_position = 2  # type: ignore[misc]


# Lengths, segments, positions


def test_a_batch_of_three_texts() -> None:
    batch = make_batch([2, 1, 3])
    assert batch.offsets.tolist() == [0, 2, 3, 6]
    assert batch.lengths == [2, 1, 3]
    assert batch.segments.tolist() == [0, 0, 1, 2, 2, 2]
    assert batch.positions.tolist() == [0, 1, 0, 0, 1, 2]


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_segments_and_positions_of_any_batch(lengths: list[int]) -> None:
    batch = make_batch(lengths)
    pairs = [(text, place) for text, n in enumerate(lengths) for place in range(n)]
    got = zip(batch.segments.tolist(), batch.positions.tolist(), strict=True)
    assert list(got) == pairs
    assert batch.lengths == lengths


def test_to_keeps_the_tokens() -> None:
    batch = make_batch([2, 1])
    moved = batch.to(torch.device("cpu"))
    assert moved.token_ids.tolist() == [100, 101, 102]
    assert (moved.lengths, moved.special.tolist()) == ([2, 1], [False] * 3)


# The average of layers


def test_average_of_layers() -> None:
    batch = make_batch([1, 1])
    layers = {k: torch.tensor([[float(k)], [10.0 * k]]) for k in (0, 1, 2, 6)}
    states = TokenStates(layers, batch, torch.tensor([[5.0], [6.0]]))
    average = states.average((0, 1, 2))
    assert average.only.tolist() == [[1.0], [10.0]]
    assert states.average((0, 6)).only.tolist() == [[3.0], [30.0]]
    assert states.average((6,)).only.tolist() == [[6.0], [60.0]]
    assert average.batch is batch
    assert average.pooler_output is states.pooler_output


def test_average_is_taken_in_float32() -> None:
    one, next_one = torch.tensor([[1.0]]), torch.tensor([[1.0 + 2**-7]])  # neighbours in bfloat16
    states = TokenStates({1: one.bfloat16(), 2: next_one.bfloat16()}, make_batch([1]))
    average = states.average((1, 2)).only
    assert average.dtype == torch.float32
    assert average.item() == 1.0 + 2**-8
    assert states.average((2,)).only.dtype == torch.float32


def test_only_refuses_two_layers() -> None:
    with pytest.raises(
        ValueError, match=r"expected the one layer that average leaves, got \[1, 2\]"
    ):
        _ = make_states([2], layers=(1, 2)).only


# Without the prompt


def test_without_prompt() -> None:
    states = make_states([3, 4], layers=(1, 5)).without_prompt(2)
    assert states.batch.token_ids.tolist() == [102, 105, 106]
    assert states.batch.offsets.tolist() == [0, 1, 3]
    assert states.batch.positions.tolist() == [0, 0, 1]
    assert states.layers[1].tolist() == [[2, 1], [5, 1], [6, 1]]
    assert states.layers[5].tolist() == [[2, 5], [5, 5], [6, 5]]
    assert states.first_position == 3


def test_without_prompt_keeps_special_and_pooler() -> None:
    special = torch.tensor([True, False, True])
    batch = TokenBatch(torch.arange(3), torch.tensor([0, 3]), special)
    pooler = torch.tensor([[0.5]])
    states = TokenStates({0: torch.zeros(3, 1)}, batch, pooler).without_prompt(1)
    assert states.batch.special.tolist() == [False, True]
    assert states.pooler_output is pooler


def test_without_no_prompt_is_the_same() -> None:
    states = make_states([3, 4])
    assert states.without_prompt(0) is states


@settings(deadline=None)
@given(st.lists(st.integers(6, 12), min_size=1, max_size=5), st.integers(0, 3), st.integers(0, 2))
def test_prompts_add_up(lengths: list[int], one: int, two: int) -> None:
    states = make_states(lengths)
    twice, once = states.without_prompt(one).without_prompt(two), states.without_prompt(one + two)
    assert twice.first_position == once.first_position == one + two + 1
    assert torch.equal(twice.only, once.only)
    assert torch.equal(twice.batch.offsets, once.batch.offsets)


def test_a_prompt_as_long_as_a_text() -> None:
    with pytest.raises(ValueError, match="offsets must rise from 0 to the 1 tokens"):
        make_states([2, 3]).without_prompt(2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_states_are_packed(side: str) -> None:
    states = make_states([3, 1, 2])
    hidden, mask, ids = torch.full((3, 3, 2), 1e3), torch.zeros(3, 3), torch.full((3, 3), -1)
    for text, length in enumerate(states.batch.lengths):
        own = slice(3 - length, None) if side == "left" else slice(length)
        rows = states.batch.segments == text
        hidden[text, own], mask[text, own] = states.only[rows], 1
        ids[text, own] = states.batch.token_ids[rows]
    packed = TokenStates.from_padded(hidden, mask, ids)
    assert torch.equal(packed.only, states.only)
    assert torch.equal(packed.batch.token_ids, states.batch.token_ids)
    assert torch.equal(packed.batch.offsets, states.batch.offsets)
    assert not packed.batch.special.any()
